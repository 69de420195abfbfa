//! A service with a simulated platform behind its gateway, whose time passes only when a test says so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use callback_ledger::{
    app::platform::{Listener, Played, Simulation, SimulatorApp},
    auth::DevIssuer,
    domain::clock::Clock,
    simulator::{Mischief, Pace, Simulator},
};
use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    app::{Answered, Settings, TestApp, send},
    fake_issuer::{AUDIENCE, FakeIssuer, NOW, TENANT},
};

/// What a moment takes, and what plays and rings, in the time of the platform.
pub const LATENCY: Duration = Duration::from_millis(50);
pub const MEDIA: Duration = Duration::from_secs(2);
pub const PACE: Pace = Pace { latency: LATENCY, media: MEDIA };

pub struct World {
    pub app: TestApp,
    pub simulator: Simulator,
    /// The platform's own address.
    pub platform: String,
    issuer: Arc<DevIssuer>,
    hands: Arc<AtomicI64>,
    stop: CancellationToken,
}

impl World {
    pub async fn graph() -> Self {
        Self::start(Played::Graph, PACE, Mischief::default()).await
    }

    pub async fn acs() -> Self {
        Self::start(Played::Acs, PACE, Mischief::default()).await
    }

    pub async fn start(played: Played, pace: Pace, mischief: Mischief) -> Self {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let base = listener.base().to_owned();
        let receiver = |path: &str, source: &str| {
            format!(
                "[[receiver]]\npath = \"{path}\"\nsource = \"{source}\"\naudience = [\"{AUDIENCE}\"]\ntenants = [\"{TENANT}\"]\nissuers = [\"{}\"]\nmetadata = [\"{base}/.well-known/openid-configuration\"]\n",
                DevIssuer::ISSUER
            )
        };
        let receivers = match played {
            Played::Graph => vec![receiver("/platform/calls", "graph")],
            Played::Acs => vec![
                receiver("/platform/callbacks", "acs"),
                receiver("/platform/override", "acs"),
                receiver("/platform/events", "event-grid"),
            ],
        };
        let sections =
            format!("[gateway]\nallow_private_upstreams = true\ngraph = \"{base}\"\nacs = \"{base}\"\n{}", receivers.concat());
        let app = TestApp::start_without_keys(FakeIssuer::start().await, Settings { sections, ..Settings::default() }).await;
        let hands = Arc::new(AtomicI64::new(NOW * 1_000_000));
        let read = Arc::clone(&hands);
        let clock = Clock::from_fn(move || Timestamp::from_microsecond(read.load(Ordering::SeqCst)).unwrap());
        let webhook = match played {
            Played::Graph => format!("{}/platform/calls", app.public),
            Played::Acs => format!("{}/platform/events", app.public),
        };
        let issuer = Arc::new(DevIssuer::create().unwrap());
        let simulation = Simulation {
            played,
            listener,
            issuer: Arc::clone(&issuer),
            audience: AUDIENCE.to_owned(),
            tenant: TENANT.to_owned(),
            webhook: webhook.parse().unwrap(),
            pace,
            remote_callbacks: false,
            mischief,
            clock,
        };
        let built = SimulatorApp::build(simulation).unwrap();
        let (simulator, stop) = (built.simulator().clone(), CancellationToken::new());
        tokio::spawn(built.run_until(stop.clone()));
        app.until_ready().await;
        Self { app, simulator, platform: base, issuer, hands, stop }
    }

    /// A request of the bot's, through the gateway.
    pub async fn send(&self, method: Method, path: &str, body: &Value) -> Answered {
        let request = self.app.client.request(method, format!("{}/gateway/{path}", self.app.private));
        let request = request.header("content-type", "application/json").header("authorization", "Bearer the-bots");
        send(request.body(body.to_string())).await
    }

    /// One that must succeed, and what it is answered.
    pub async fn ask(&self, path: &str, body: &Value) -> Answered {
        let answered = self.send(Method::POST, path, body).await;
        assert!(answered.status.is_success(), "{path}: {} {}", answered.status, String::from_utf8_lossy(&answered.body));
        answered
    }

    /// A token of the platform's.
    pub fn token(&self) -> String {
        let mut claims = serde_json::Map::new();
        claims.insert("aud".to_owned(), AUDIENCE.into());
        claims.insert("tid".to_owned(), TENANT.into());
        let now = Timestamp::from_microsecond(self.hands.load(Ordering::SeqCst)).unwrap();
        self.issuer.mint(claims, now).unwrap()
    }

    /// What people do.
    pub async fn people(&self, what: &str, body: &Value) -> Value {
        let request = self.app.client.post(format!("{}/simulator/{what}", self.platform)).body(body.to_string());
        let answered = send(request).await;
        assert!(answered.status.is_success(), "{what}: {}", answered.status);
        self.idle().await;
        if answered.body.is_empty() { Value::Null } else { answered.json() }
    }

    /// Lets time pass at the platform, and waits until it has posted what happened by then.
    pub async fn pass(&self, time: Duration) {
        self.pass_without_rest(time).await;
        self.idle().await;
    }

    /// Lets time pass at the platform; what happened by then may still be on its way.
    pub async fn pass_without_rest(&self, time: Duration) {
        self.hands.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
        self.simulator.wake();
        self.caught_up().await;
    }

    /// Waits until the platform has done what is to be done by now.
    pub async fn caught_up(&self) {
        for _ in 0..30_000 {
            if self.simulator.has_caught_up().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("the platform does not catch up");
    }

    pub async fn moment(&self) {
        self.pass(LATENCY).await;
    }

    pub async fn idle(&self) {
        for _ in 0..12_000 {
            if self.simulator.is_idle().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the platform does not come to rest");
    }

    /// A call that the bot has made at Graph, established.
    pub async fn graph_call(&self) -> String {
        let body = json!({ "callbackUri": format!("{}/platform/calls", self.app.public), "targets": [] });
        let created = self.ask("graph/v1.0/communications/calls", &body).await;
        assert_eq!(created.status, StatusCode::CREATED);
        self.moment().await;
        self.moment().await;
        created.json()["id"].as_str().unwrap().to_owned()
    }

    /// A call that the bot has made at Communication Services, connected.
    pub async fn acs_call(&self) -> String {
        let target = json!({ "kind": "communicationUser", "communicationUser": { "id": "8:acs:caller" } });
        let body = json!({ "callbackUri": format!("{}/platform/callbacks", self.app.public), "targets": [target], "operationContext": "call" });
        let created = self.ask("acs/calling/callConnections?api-version=2025-06-15", &body).await;
        assert_eq!(created.status, StatusCode::CREATED);
        self.moment().await;
        created.json()["callConnectionId"].as_str().unwrap().to_owned()
    }

    /// The one operation with this context.
    pub async fn tagged(&self, context: &str) -> Value {
        let mut found = self.app.list(&format!("/v1/operations?context={context}")).await;
        assert_eq!(found.len(), 1, "{context}: {found:#?}");
        found.remove(0)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
