//! The service as a test meets it: real listeners on free ports, a ledger in a folder of its own, an issuer that signs.

use std::{path::PathBuf, time::Instant};

use callback_ledger::{
    app::{App, Surroundings, known_sources},
    auth::KeySettings,
    config::Config,
    domain::clock::Clock,
    source::source,
};
use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::fake_issuer::{AUDIENCE, FakeIssuer, NOW};

/// A running service.
pub struct TestApp {
    pub issuer: FakeIssuer,
    pub client: Client,
    pub public: String,
    pub private: String,
    pub folder: TempDir,
    settings: Settings,
    stop: CancellationToken,
    serving: Option<JoinHandle<std::io::Result<()>>>,
}

/// What a test may want otherwise.
#[derive(Clone)]
pub struct Settings {
    /// The source of the one receiver, at its usual path.
    pub source: &'static str,
    /// Environment variables of the configuration, without their prefix: `("PUBLIC__MAX_BODY_BYTES", "2048")`.
    pub env: Vec<(&'static str, String)>,
    /// Further lines of the one receiver's section.
    pub receiver: String,
    /// Further sections.
    pub sections: String,
    /// How keys are fetched.
    pub keys: KeySettings,
    /// Where "now" comes from: [`running_clock`] unless told.
    pub clock: fn() -> Clock,
}

impl Default for Settings {
    fn default() -> Self {
        let (env, receiver, sections) = (Vec::new(), String::new(), String::new());
        Self { source: "graph", env, receiver, sections, keys: KeySettings::default(), clock: running_clock }
    }
}

/// A clock that starts at the instant the issuer's tokens are made for, and runs.
pub fn running_clock() -> Clock {
    let start = Instant::now();
    Clock::from_fn(move || Timestamp::from_second(NOW).unwrap() + SignedDuration::try_from(start.elapsed()).unwrap())
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answered {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Answered {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(&self.body)))
    }
}

pub async fn send(request: RequestBuilder) -> Answered {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Answered { status, headers, body: response.bytes().await.unwrap().to_vec() }
}

impl TestApp {
    pub async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    /// Starts with a receiver of this source.
    pub async fn of(source: &'static str) -> Self {
        Self::start_with(Settings { source, ..Settings::default() }).await
    }

    /// Starts, and waits until it is ready.
    pub async fn start_with(settings: Settings) -> Self {
        let app = Self::start_without_keys(FakeIssuer::start().await, settings).await;
        app.until_ready().await;
        app
    }

    /// Starts beside an issuer that may be failing, and does not wait for its keys.
    pub async fn start_without_keys(issuer: FakeIssuer, settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let empty = String::new();
        let stop = CancellationToken::new();
        let mut app = Self { issuer, client, public: empty.clone(), private: empty, folder, settings, stop, serving: None };
        app.serve().await;
        app
    }

    async fn serve(&mut self) {
        let file = self.folder.path().join("test.toml");
        let (receiver, sections) = (&self.settings.receiver, &self.settings.sections);
        let toml = format!(
            "[[receiver]]\npath = \"{}\"\nsource = \"{}\"\naudience = [\"{AUDIENCE}\"]\nissuers = [\"{}\"]\nmetadata = [\"{}\"]\n{receiver}\n{sections}\n",
            self.path(),
            self.settings.source,
            self.issuer.issuer(),
            self.issuer.metadata_url()
        );
        std::fs::write(&file, toml).unwrap();
        let mut env = vec![
            ("CALLBACK_LEDGER__PUBLIC__BIND".to_owned(), "127.0.0.1:0".to_owned()),
            ("CALLBACK_LEDGER__PRIVATE__BIND".to_owned(), "127.0.0.1:0".to_owned()),
            ("CALLBACK_LEDGER__LEDGER__URL".to_owned(), format!("sqlite://{}", self.ledger().display())),
        ];
        env.extend(self.settings.env.iter().map(|(name, value)| (format!("CALLBACK_LEDGER__{name}"), value.clone())));
        let config = Config::load(Some(&file), env).unwrap().for_service(&known_sources()).unwrap();
        let surroundings = Surroundings { clock: (self.settings.clock)(), keys: self.settings.keys, ..Surroundings::default() };
        let app = App::build(&config, surroundings).await.unwrap();
        self.public = format!("http://{}", app.public_address().unwrap());
        self.private = format!("http://{}", app.private_address().unwrap());
        self.stop = CancellationToken::new();
        self.serving = Some(tokio::spawn(app.run_until(self.stop.clone().cancelled_owned())));
    }

    pub async fn until_ready(&self) {
        for _ in 0..400 {
            if self.get("/readyz").await.status == StatusCode::OK {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        panic!("not ready: {}", self.get("/readyz").await.json());
    }

    /// Stops in good order and starts again on the same ledger.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.serve().await;
        self.until_ready().await;
    }

    /// From the next start on with these further sections.
    pub fn configure(&mut self, sections: &str) {
        sections.clone_into(&mut self.settings.sections);
    }

    pub async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(serving) = self.serving.take() {
            serving.await.unwrap().unwrap();
        }
    }

    pub fn ledger(&self) -> PathBuf {
        self.folder.path().join("test.db")
    }

    /// The receiver's path.
    pub fn path(&self) -> &'static str {
        source(self.settings.source).unwrap().usual_path()
    }

    /// A POST to the receiver, with nothing on it yet.
    pub fn callback(&self) -> RequestBuilder {
        self.client.post(format!("{}{}", self.public, self.path())).header("content-type", "application/json")
    }

    /// Posts a body with a good token.
    pub async fn post(&self, body: impl Into<reqwest::Body>) -> Answered {
        send(self.callback().bearer_auth(self.issuer.token().sign()).body(body)).await
    }

    /// Posts a body with a good token and this message id.
    pub async fn post_message(&self, message_id: &str, body: &Value) -> Answered {
        let request = self.callback().bearer_auth(self.issuer.token().sign());
        send(request.header("X-Microsoft-Skype-Message-ID", message_id).body(body.to_string())).await
    }

    /// Asks the private API.
    pub async fn get(&self, path: &str) -> Answered {
        send(self.client.get(format!("{}{path}", self.private))).await
    }

    /// Asks the private API for a list that must be answered.
    pub async fn list(&self, path: &str) -> Vec<Value> {
        let answered = self.get(path).await;
        assert_eq!(answered.status, StatusCode::OK, "{path}: {}", String::from_utf8_lossy(&answered.body));
        answered.json()["value"].as_array().unwrap().clone()
    }

    /// The rejections, as soon as there are so many in all. Repeats that were written down by themselves are counted together.
    pub async fn rejections(&self, count: usize) -> Vec<Value> {
        let (count, mut told) = (u64::try_from(count).unwrap(), Vec::new());
        for _ in 0..2400 {
            told.clear();
            for rejection in self.list("/v1/rejections?limit=250").await {
                let same =
                    |told: &&mut Value| ["reason", "receiver", "peer", "userAgent"].iter().all(|key| told[key] == rejection[key]);
                match told.iter_mut().find(same) {
                    Some(told) => told["count"] = (told["count"].as_u64().unwrap() + rejection["count"].as_u64().unwrap()).into(),
                    None => told.push(rejection),
                }
            }
            if told.iter().map(|rejection| rejection["count"].as_u64().unwrap()).sum::<u64>() == count {
                return told;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        panic!("never {count} rejections: {told:#?}");
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A Graph body with one item.
pub fn graph(change: &str, resource: &str, data: &Value) -> Value {
    serde_json::json!({
        "@odata.type": "#microsoft.graph.commsNotifications",
        "value": [{
            "@odata.type": "#microsoft.graph.commsNotification",
            "changeType": change,
            "resourceUrl": format!("/communications/{resource}"),
            "resourceData": data,
        }]
    })
}

/// An event of Call Automation or Event Grid in the `CloudEvents` schema, alone in its batch.
pub fn call_event(kind: &str, id: &str, data: &Value) -> Value {
    let connection = data["callConnectionId"].as_str().unwrap_or("none");
    serde_json::json!([{
        "id": id,
        "source": format!("calling/callConnections/{connection}"),
        "type": kind,
        "data": data,
        "time": "2026-01-01T00:00:00.1234567+00:00",
        "specversion": "1.0",
        "datacontenttype": "application/json",
        "subject": format!("calling/callConnections/{connection}"),
    }])
}
