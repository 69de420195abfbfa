//! Nothing acknowledged is lost: the real process, killed under load again and again, and ended in good order under load.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use callback_ledger::store::{LedgerReader, rebuild, verify};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    app::graph,
    child::{Served, token},
    ledger::options,
};

/// How often the process is killed: `CALLBACK_LEDGER_KILLS` for the long form.
fn kills() -> usize {
    std::env::var("CALLBACK_LEDGER_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

const CLIENTS: usize = 8;

/// Clients that post notifications, each of its own operation, some of them twice, and keep what was acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Clone, Default)]
struct Acknowledged(Arc<Mutex<BTreeSet<usize>>>);

fn operation(n: usize) -> Value {
    let id = format!("operation-{n}");
    let data = json!({ "@odata.type": "#microsoft.graph.playPromptOperation", "id": id, "status": "completed" });
    graph("deleted", &format!("calls/call-{}/operations/{id}", n % 7), &data)
}

impl Load {
    fn start(url: &str, token: &str, next: &Arc<AtomicUsize>, acknowledged: &Acknowledged) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
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

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
    }
}

/// Every acknowledged notification is there exactly once.
async fn holds(private: &str, acknowledged: &Acknowledged) {
    let client = Client::builder().no_proxy().build().unwrap();
    let mut found = Vec::new();
    let mut next = Some("/v1/operations?limit=250".to_owned());
    while let Some(path) = next {
        let page: Value = client.get(format!("{private}{path}")).send().await.unwrap().text().await.unwrap().parse().unwrap();
        for row in page["value"].as_array().unwrap() {
            assert_eq!((&row["notifications"], &row["state"]), (&json!(1), &json!("completed")), "{row}");
            found.push(row["operationId"].as_str().unwrap().strip_prefix("operation-").unwrap().parse::<usize>().unwrap());
        }
        next = page["nextLink"].as_str().map(str::to_owned);
    }
    let distinct: BTreeSet<usize> = found.iter().copied().collect();
    assert_eq!(found.len(), distinct.len(), "an operation stands twice");
    let lost: Vec<usize> = acknowledged.0.lock().unwrap().difference(&distinct).copied().collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_under_load_loses_nothing_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let token = token(folder.path());
    let (next, acknowledged) = (Arc::new(AtomicUsize::new(0)), Acknowledged::default());
    let mut random = fastrand::Rng::new();
    for _ in 0..kills() {
        let served = Served::start(folder.path());
        holds(&served.private, &acknowledged).await;
        let before = acknowledged.0.lock().unwrap().len();
        let load = Load::start(&served.public, &token, &next, &acknowledged);
        // A moment under load: at least one answer, then any instant.
        while acknowledged.0.lock().unwrap().len() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.u64(0..150))).await;
        served.sigkill();
        load.end().await;
    }
    let served = Served::start(folder.path());
    holds(&served.private, &acknowledged).await;
    served.sigkill();

    assert!(acknowledged.0.lock().unwrap().len() >= kills());
    let options = options(folder.path().join("test.db"));
    assert_eq!(rebuild(&options).await.unwrap(), []);
    assert_eq!(verify(&LedgerReader::open(&options).await.unwrap()).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_asked_to_end_under_load_ends_in_time_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let token = token(folder.path());
    let (next, acknowledged) = (Arc::new(AtomicUsize::new(0)), Acknowledged::default());
    let served = Served::start(folder.path());
    let load = Load::start(&served.public, &token, &next, &acknowledged);
    let wait = format!("{}/v1/operations/wait?context=never&timeout=60", served.private);
    let waiting =
        tokio::spawn(async move { Client::builder().no_proxy().build().unwrap().get(wait).send().await.map(|a| a.status()) });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (code, took) = tokio::task::spawn_blocking(|| served.sigterm()).await.unwrap();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(10), "it took {took:?}");
    load.end().await;
    assert_eq!(waiting.await.unwrap().unwrap(), StatusCode::SERVICE_UNAVAILABLE, "an open wait is answered");

    let served = Served::start(folder.path());
    holds(&served.private, &acknowledged).await;
}
