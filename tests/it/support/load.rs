//! Load: clients that post as fast as they are answered.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use super::app::graph;

/// How often the process is killed: `CALLBACK_LEDGER_KILLS` for the long form, else so often.
pub fn kills(usually: usize) -> usize {
    std::env::var("CALLBACK_LEDGER_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(usually)
}

const CLIENTS: usize = 8;

/// Clients that post notifications, each of its own operation, some of them twice, and keep what was acknowledged.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Clone, Default)]
pub struct Acknowledged(pub Arc<Mutex<BTreeSet<usize>>>);

fn operation(n: usize) -> Value {
    let id = format!("operation-{n}");
    let data = json!({ "@odata.type": "#microsoft.graph.playPromptOperation", "id": id, "status": "completed" });
    graph("deleted", &format!("calls/call-{}/operations/{id}", n % 7), &data)
}

impl Load {
    pub fn start(url: &str, token: &str, next: &Arc<AtomicUsize>, acknowledged: &Acknowledged) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = Client::builder().no_proxy().timeout(Duration::from_mins(1)).build().unwrap();
        let clients = (0..CLIENTS)
            .map(|_| {
                let (stop, next, acknowledged) = (Arc::clone(&stop), Arc::clone(next), acknowledged.clone());
                let (client, url, token) = (client.clone(), format!("{url}/api/calls"), token.to_owned());
                tokio::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        for _ in 0..=usize::from(n.is_multiple_of(5)) {
                            let posted = client.post(&url).bearer_auth(&token).body(operation(n).to_string()).send().await;
                            match posted {
                                Ok(answer) if answer.status() == StatusCode::ACCEPTED => {
                                    acknowledged.0.lock().unwrap().insert(n);
                                }
                                Ok(answer) => assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE),
                                Err(_dead) => return,
                            }
                        }
                    }
                })
            })
            .collect();
        Self { stop, clients }
    }

    pub async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
    }
}
