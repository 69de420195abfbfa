//! A calling platform in miniature: what a bot asks of it, it does to calls that nobody is in, and tells by signed callbacks.
//!
//! ```text
//!  request ─► Platform::ask ─► reply now          graph/  acs/   calls, operations, queues; no I/O, time handed in
//!                   │
//!                agenda ─► Platform::due ─► callbacks ─► Mischief ─► Postman ─► the bot's callback URL
//! ```
//!
//! So that a bot, its ledger and everything between them run on one machine without an account. Behaves as the platform's
//! reference documents it; where that says nothing, as callbacks that were seen in the wild do. [`Mischief`] makes it as unpunctual as
//! the wild is. Called by `http::platform`, put together by `app`.

pub mod acs;
mod agenda;
pub mod graph;
mod ids;
mod mischief;
mod postman;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::mischief::{Dice, Failure};
pub use self::{
    ids::Ids,
    mischief::{Chance, Mischief},
    postman::{Postman, Sent},
};
use crate::domain::clock::Clock;

/// How quickly things happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// What takes a moment: to connect, to tell a roster.
    pub latency: Duration,
    /// How long people speak, prompts play and telephones ring.
    pub media: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { latency: Duration::from_millis(50), media: Duration::from_secs(2) }
    }
}

/// A request to the platform.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// The method, in capitals.
    pub method: String,
    /// The path.
    pub path: String,
    /// The query, without its question mark.
    pub query: String,
    /// Lower-case names and values.
    pub headers: BTreeMap<String, String>,
    /// The body; null if there is none.
    pub body: Value,
}

/// What the platform answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body; `None`: empty.
    pub body: Option<Value>,
}

impl Reply {
    fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: None }
    }

    fn json(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body: Some(body) }
    }

    fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// A callback on its way to the bot.
#[derive(Clone, Debug, PartialEq)]
pub struct Callback {
    /// The platform's name of it: a second copy has the same.
    pub id: String,
    /// Where it goes.
    pub to: Url,
    /// What it is about: callbacks of one lane follow one another.
    pub lane: String,
    /// Names and values beside the usual ones.
    pub headers: Vec<(&'static str, String)>,
    /// The claims of its token beside the usual ones.
    pub claims: Vec<(&'static str, String)>,
    /// What it says.
    pub body: Value,
}

/// The state of a platform: its calls and what goes on in them. Time is handed in, so that a life can be told without waiting.
pub trait Platform: Send {
    /// Does what is asked.
    fn ask(&mut self, ask: &Ask, now: Timestamp) -> Reply;

    /// What the people outside do: an incoming call, a key that is pressed, a receiver that is put down.
    fn people(&mut self, what: &str, body: &Value, now: Timestamp) -> Option<Reply>;

    /// What has happened until now, and is to be told.
    fn due(&mut self, now: Timestamp) -> Vec<Callback>;

    /// When the next thing happens.
    fn next(&self) -> Option<Timestamp>;

    /// How this platform says that it has failed.
    fn failure(&mut self, status: u16, now: Timestamp) -> Reply;
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// An answer.
    Reply(Reply),
    /// The connection breaks before the answer is whole.
    Broken,
}

/// A running platform. Cheap to clone.
#[derive(Clone)]
pub struct Simulator(Arc<Inner>);

struct Inner {
    platform: Mutex<Box<dyn Platform>>,
    dice: Mutex<Dice>,
    wake: Notify,
    postman: Postman,
    mischief: Mischief,
    clock: Clock,
}

impl Simulator {
    /// A platform that has not begun yet.
    #[must_use]
    pub fn new(platform: Box<dyn Platform>, postman: Postman, mischief: Mischief, clock: Clock) -> Self {
        let dice = Mutex::new(Dice::new(&mischief));
        Self(Arc::new(Inner { platform: Mutex::new(platform), dice, wake: Notify::new(), postman, mischief, clock }))
    }

    /// What the platform does with a request.
    pub async fn ask(&self, ask: &Ask) -> Outcome {
        let failure = self.0.dice.lock().await.failure();
        let mut platform = self.0.platform.lock().await;
        let now = self.0.clock.now();
        if let Some(Failure::Before(status)) = failure {
            return Outcome::Reply(platform.failure(status, now));
        }
        let reply = platform.ask(ask, now);
        let first = if self.0.mischief.callback_before_response { self.post_due(&mut platform).await } else { Vec::new() };
        let instead = matches!(failure, Some(Failure::After)).then(|| platform.failure(500, now));
        drop(platform);
        self.0.wake.notify_one();
        for posted in first {
            posted.await;
        }
        match failure {
            Some(Failure::Broken) => Outcome::Broken,
            _ => Outcome::Reply(instead.unwrap_or(reply)),
        }
    }

    /// What people do; `None` if there is no such thing.
    pub async fn people(&self, what: &str, body: &Value) -> Option<Reply> {
        let reply = self.0.platform.lock().await.people(what, body, self.0.clock.now());
        self.0.wake.notify_one();
        reply
    }

    /// Looks at the clock again: for clocks that jump.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Whether nothing that was to happen by now is left to happen; callbacks may still be on their way.
    pub async fn has_caught_up(&self) -> bool {
        let next = self.0.platform.lock().await.next();
        next.is_none_or(|next| next > self.0.clock.now())
    }

    /// Whether all that has happened by now has been posted.
    pub async fn is_idle(&self) -> bool {
        // in this order: what happens is handed over before it has happened for others
        self.has_caught_up().await && self.0.postman.is_idle()
    }

    /// How many requests have come.
    pub async fn asked(&self) -> u64 {
        self.0.dice.lock().await.requests
    }

    /// What was posted and how it was answered, the oldest first, as far as it is remembered.
    #[must_use]
    pub fn sent(&self) -> Vec<Sent> {
        self.0.postman.sent()
    }

    /// Lets things happen until it is stopped.
    pub async fn run_until(&self, stop: CancellationToken) {
        loop {
            let next = {
                let mut platform = self.0.platform.lock().await;
                self.post_due(&mut platform).await;
                platform.next()
            };
            let pause = next.map_or(Duration::MAX, |next| {
                Duration::try_from(next.duration_since(self.0.clock.now())).unwrap_or(Duration::ZERO)
            });
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Hands over what has happened by now, before anybody else can look; what comes back ends when each has been posted.
    async fn post_due(&self, platform: &mut Box<dyn Platform>) -> Vec<impl Future<Output = ()> + use<>> {
        let now = self.0.clock.now();
        let mut dice = self.0.dice.lock().await;
        let plans: Vec<_> = platform.due(now).into_iter().flat_map(|callback| dice.plans(callback)).collect();
        plans.into_iter().map(|plan| self.0.postman.post(plan, now)).collect()
    }
}

impl std::fmt::Debug for Simulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulator").field("mischief", &self.0.mischief).finish_non_exhaustive()
    }
}

/// From how many calls on those that have ended are forgotten.
const MANY: usize = 1000;

/// How both platforms say no.
fn error(status: u16, code: &str, message: &str, inner: Value) -> Reply {
    let mut error = json!({ "code": code, "message": message });
    if !inner.is_null()
        && let Some(error) = error.as_object_mut()
    {
        error.insert("innerError".to_owned(), inner);
    }
    Reply::json(status, json!({ "error": error }))
}

/// A text of a body.
fn text<'b>(body: &'b Value, name: &str) -> Option<&'b str> {
    body.get(name).and_then(Value::as_str)
}

/// Where callbacks may go: anywhere by https, and to this machine.
fn callback_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    (url.scheme() == "https" || crate::net::is_loopback(&url)).then_some(url)
}

/// So much later; at the end of time if that is sooner.
fn after(now: Timestamp, pause: Duration) -> Timestamp {
    now.checked_add(pause).unwrap_or(Timestamp::MAX)
}
