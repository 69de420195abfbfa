//! A client of a running service's event feed: what changes, typed, without missing or repeating anything.
//!
//! ```no_run
//! use callback_ledger::client::{Client, Follow, What};
//! use futures_util::{StreamExt, pin_mut};
//!
//! # async fn follow() -> Result<(), Box<dyn std::error::Error>> {
//! let events = Client::new("http://127.0.0.1:8081".parse()?)?.follow(Follow::default()).events();
//! pin_mut!(events);
//! while let Some(event) = events.next().await {
//!     if let What::Operation(operation) = event?.what()? {
//!         println!("{} {}", operation.kind, operation.state);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! It connects again by itself, with the last event that it has handed out. Used by `cli`, and by whoever links this library.

mod events;

use std::time::Duration;

use futures_util::{Stream, stream};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::sleep;
use url::Url;

use self::events::EventReader;
pub use crate::http::view::{
    CallView as Call, ChangeView as Change, GapView as Gap, NotificationView as Notification, OperationView as Operation,
    RejectionView as Rejection, RequestView as Request,
};
use crate::net::{FetchError, HttpClient, Method, OpenAnswer, Request as HttpRequest, Secret};

/// How long the feed may be silent: three of its comments.
const SILENCE: Duration = Duration::from_secs(45);
/// The pause before a new connection.
const PAUSE: Duration = Duration::from_secs(1);
/// The most bytes of a problem document that are read.
const MAX_PROBLEM: usize = 64 * 1024;

/// A client of the private API of a running service.
#[derive(Clone, Debug)]
pub struct Client {
    http: HttpClient,
    base: Url,
    token: Option<Secret>,
}

/// What to follow, and from where on. Empty members do not filter.
#[derive(Clone, Debug, Default)]
pub struct Follow {
    /// Begin behind this event; 0: with the oldest that is kept; `None`: with what happens from now on.
    pub after: Option<i64>,
    /// Of this source.
    pub source: Option<String>,
    /// Of this call.
    pub call_id: Option<String>,
    /// Of this kind of operation, notification or request.
    pub kind: Option<String>,
    /// Of these types: `call`, `operation`, `notification`, `request`, `rejection`.
    pub types: Vec<String>,
}

/// Why nothing more can be followed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The HTTP client could not be set up, or the address may not be asked.
    #[error(transparent)]
    Http(#[from] FetchError),
    /// The address has no such path.
    #[error("not an address of a service")]
    Address(#[source] url::ParseError),
    /// The service refuses it.
    #[error("status {status}: {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Why, in its words.
        detail: String,
    },
    /// An event that is not of a shape that this version knows.
    #[error("an event of type {kind} cannot be read")]
    Shape {
        /// Its type.
        kind: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// An event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its position in the change log.
    pub seq: i64,
    /// Its type.
    pub kind: String,
    /// The API's JSON of what changed, with the member `change`.
    pub data: Value,
}

/// What an event is about, as it stood when the event was sent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum What {
    /// A call.
    Call(Box<Call>),
    /// An operation.
    Operation(Box<Operation>),
    /// A notification.
    Notification(Box<Notification>),
    /// A request.
    Request(Box<Request>),
    /// Who was not let in.
    Rejection(Box<Rejection>),
    /// Retention has removed what was asked for.
    Gap(Gap),
    /// A type that this version does not know.
    Unknown,
}

impl Event {
    /// What it is about.
    ///
    /// # Errors
    /// [`ClientError::Shape`].
    pub fn what(&self) -> Result<What, ClientError> {
        Ok(match self.kind.as_str() {
            "call" => What::Call(Box::new(self.read()?)),
            "operation" => What::Operation(Box::new(self.read()?)),
            "notification" => What::Notification(Box::new(self.read()?)),
            "request" => What::Request(Box::new(self.read()?)),
            "rejection" => What::Rejection(Box::new(self.read()?)),
            "gap" => What::Gap(self.read()?),
            _ => What::Unknown,
        })
    }

    /// The change itself; `None` for a gap.
    #[must_use]
    pub fn change(&self) -> Option<Change> {
        self.data.get("change").and_then(|change| serde_json::from_value(change.clone()).ok())
    }

    fn read<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        let shape = |source| ClientError::Shape { kind: self.kind.clone(), source };
        serde_json::from_value(self.data.clone()).map_err(shape)
    }
}

impl Client {
    /// A client of the service whose private listener is there: https, or http on this machine.
    ///
    /// # Errors
    /// [`ClientError::Http`] when TLS cannot be set up.
    pub fn new(base: Url) -> Result<Self, ClientError> {
        Ok(Self { http: HttpClient::new()?, base, token: None })
    }

    /// The same with a token of the private API.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(Secret::new(format!("Bearer {token}")));
        self
    }

    /// Follows what changes. Nothing is asked before the first [`Following::next`].
    #[must_use]
    pub fn follow(&self, what: Follow) -> Following {
        Following { client: self.clone(), after: what.after, what, open: None, reader: EventReader::default() }
    }
}

/// Somebody who follows.
#[derive(Debug)]
pub struct Following {
    client: Client,
    what: Follow,
    after: Option<i64>,
    open: Option<OpenAnswer>,
    reader: EventReader,
}

/// What a follower hears.
#[derive(Clone, Debug)]
pub enum Heard {
    /// The feed is open.
    Connected,
    /// An event.
    Event(Event),
    /// The connection broke, or could not be made; the next call tries again after a second.
    Interrupted(String),
}

impl Following {
    /// Waits for what comes next.
    ///
    /// # Errors
    /// [`ClientError`], if to ask again would not help.
    pub async fn next(&mut self) -> Result<Heard, ClientError> {
        loop {
            if let Some(event) = self.reader.next() {
                self.after = event.id.or(self.after);
                let (Some(seq), Some(data)) = (event.id, event.data) else { continue };
                let data =
                    serde_json::from_str(&data).map_err(|source| ClientError::Shape { kind: event.kind.clone(), source })?;
                return Ok(Heard::Event(Event { seq, kind: event.kind, data }));
            }
            let Some(open) = &mut self.open else { return self.connect().await };
            match open.more().await {
                Ok(Some(bytes)) => self.reader.push(&bytes),
                Ok(None) => return Ok(self.interrupted("the service has ended the stream").await),
                Err(error) => return Ok(self.interrupted(&error.to_string()).await),
            }
        }
    }

    /// The events alone.
    pub fn events(self) -> impl Stream<Item = Result<Event, ClientError>> {
        stream::try_unfold(self, async |mut following| {
            loop {
                if let Heard::Event(event) = following.next().await? {
                    return Ok(Some((event, following)));
                }
            }
        })
    }

    async fn interrupted(&mut self, why: &str) -> Heard {
        self.open = None;
        // what has not come whole comes again
        self.reader = EventReader::default();
        sleep(PAUSE).await;
        Heard::Interrupted(why.to_owned())
    }

    async fn connect(&mut self) -> Result<Heard, ClientError> {
        let url = self.url()?;
        let last = self.after.map(|after| after.to_string());
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(self.client.token.iter().map(|token| ("authorization", token.expose())));
        headers.extend(last.iter().map(|last| ("last-event-id", last.as_str())));
        let request =
            HttpRequest { method: Method::Get, url: &url, headers: &headers, body: Vec::new(), timeout: SILENCE, max_bytes: 0 };
        let answer = match self.client.http.open(request).await {
            Ok(answer) => answer,
            Err(error @ (FetchError::TimedOut | FetchError::NotConnected(_) | FetchError::Unreachable(_))) => {
                return Ok(self.interrupted(&error.to_string()).await);
            }
            Err(error) => return Err(error.into()),
        };
        match answer.status {
            200 => {
                self.open = Some(answer);
                Ok(Heard::Connected)
            }
            status @ (408 | 429 | 500..) => Ok(self.interrupted(&format!("status {status}: {}", problem(answer).await)).await),
            status => Err(ClientError::Refused { status, detail: problem(answer).await }),
        }
    }

    fn url(&self) -> Result<Url, ClientError> {
        let mut url = self.client.base.join("/v1/events").map_err(ClientError::Address)?;
        let types = Some(self.what.types.join(",")).filter(|types| !types.is_empty());
        let Follow { source, call_id, kind, .. } = &self.what;
        let asked = [("source", source), ("callId", call_id), ("kind", kind), ("type", &types)];
        url.query_pairs_mut().extend_pairs(asked.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))));
        Ok(url)
    }
}

/// What a problem document says.
async fn problem(answer: OpenAnswer) -> String {
    let body = answer.rest(MAX_PROBLEM).await.unwrap_or_default();
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    problem.get("detail").and_then(Value::as_str).unwrap_or("the answer says no more").to_owned()
}
