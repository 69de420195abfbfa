//! How each sender writes: bytes in, facts out. Pure; no source knows another, nor who calls it.
//!
//! `receive` picks a source by the receiver's configuration, hands it an authenticated body and records what it read.
//! To add a source: one folder here, one line in [`SOURCES`], its fixtures in `tests/fixtures/<name>`, its section in
//! `config/default.toml`.

pub mod acs;
mod cloud_events;
mod codes;
pub mod event_grid;
pub mod graph;
mod identity;
mod json;
mod redact;
mod refusal;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use serde_json::{Value, value::RawValue};

pub use self::redact::{SECRETS, redacted};
use crate::domain::{
    delivery::Correlation,
    ids::PlatformId,
    notification::Notification,
    people::NamedPerson,
    request::{AnswerFacts, Cancels},
    trust::TrustDefaults,
};

/// Every kind of sender that we understand.
pub static SOURCES: &[&dyn NotificationSource] = &[&graph::Graph, &acs::Acs, &event_grid::EventGrid];

/// The source of this name.
#[must_use]
pub fn source(name: &str) -> Option<&'static dyn NotificationSource> {
    SOURCES.iter().copied().find(|source| source.name() == name)
}

/// A kind of sender that we understand.
pub trait NotificationSource: fmt::Debug + Sync {
    /// The name that configuration, API and metrics use.
    fn name(&self) -> &'static str;

    /// The path that its senders are usually given: where development mode receives it.
    fn usual_path(&self) -> &'static str;

    /// Whom its receivers believe unless they are configured otherwise.
    fn trust_defaults(&self) -> TrustDefaults;

    /// Reads a body that came from an authenticated caller.
    ///
    /// # Errors
    /// [`Unreadable`] if the body is not this source's envelope. What is strange inside a well-formed envelope is not
    /// an error: it comes back as a notification that is not `recognized`.
    fn read(&self, inbound: &Inbound<'_>) -> Result<Reading, Unreadable>;

    /// The item at this place of a body that it has read, as it was written; `None` if there is none.
    fn item(&self, body: &[u8], place: usize) -> Option<Box<RawValue>>;

    /// Whether this is an answer that its senders understand where they ask for a decision.
    fn is_decision(&self, _answer: &Value) -> bool {
        false
    }

    /// What a result code means, in plain words; `None` if nobody has documented it.
    fn meaning(&self, code: Option<i64>, subcode: Option<i64>) -> Option<&'static str>;

    /// The operation that a request of this name (or of this kind) begins, and what it takes back; `None` for a request that
    /// begins none.
    fn asks_for(&self, _request: &str) -> Option<Asked> {
        None
    }

    /// What a request that a bot sends to the platform asks for; `None` if it is none of those that begin an operation.
    fn outgoing(&self, _request: &Outgoing<'_>) -> Option<Understood> {
        None
    }

    /// What the platform's answer says of the operation that a request of this name asked for.
    fn answered(&self, _request: &str, _answer: &Answered<'_>) -> Answer {
        Answer::default()
    }

    /// The largest body that it sends, in bytes; `None` if it leaves that to the configuration.
    fn max_body_bytes(&self) -> Option<usize> {
        None
    }

    /// Whether its senders ask by `OPTIONS` before they send ("HTTP 1.1 Web Hooks for Event Delivery" of `CloudEvents`, §4).
    fn asks_first(&self) -> bool {
        false
    }
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The kind of the operation that it begins.
    pub kind: &'static str,
    /// What it takes back, as far as its name tells.
    pub cancels: Option<Cancels>,
}

/// A request that a bot sends to the platform.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// The path at the platform.
    pub path: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// What a request asks for, as its source read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Understood {
    /// The platform's name of it.
    pub name: &'static str,
    /// The kind of the operation that it begins.
    pub kind: &'static str,
    /// The call that it is about; `None` if it begins one.
    pub call: Option<PlatformId>,
    /// The conversation that it is about, where it names that instead of a call.
    pub conversation: Option<PlatformId>,
    /// The operation of another request that it acts on, where it names no call.
    pub acts_on: Option<PlatformId>,
    /// Whom it is about, and how they are once it is done, where only a roster tells that.
    pub shows: Option<NamedPerson>,
    /// The caller's own tag.
    pub context: Option<String>,
    /// What it takes back.
    pub cancels: Option<Cancels>,
    /// Whether the platform recognises a second copy of it by its `Repeatability-Request-ID`, so that it may be sent again.
    pub repeatable: bool,
}

/// What a platform answered.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// The status.
    pub status: u16,
    /// The `Location` header.
    pub location: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

/// What an answer says, as its source read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Of the operation.
    pub facts: AnswerFacts,
    /// The call that the request has begun.
    pub call: Option<PlatformId>,
}

/// What a source gets to read.
#[derive(Clone, Copy, Debug)]
pub struct Inbound<'a> {
    /// The body as received.
    pub body: &'a [u8],
    /// What the request's head says of it.
    pub head: &'a Head,
    /// The headers that identify the delivery.
    pub correlation: &'a Correlation,
    /// What the operator wants answered where the sender asks.
    pub answers: &'a Answers,
}

/// What the head of a request says of its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// The attributes of a `CloudEvents` event whose body is its data alone: the headers `ce-<name>`, decoded, by name.
    pub attributes: BTreeMap<String, String>,
}

/// What the operator wants answered where the sender asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// To a participant who wants to join a call that is recorded by policy.
    pub participant_joining: JoinAnswer,
}

/// The answer to a participant who wants to join.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum JoinAnswer {
    /// Let in.
    #[default]
    Accept,
    /// Keep out, for this reason (`none`, `busy`, `forbidden`).
    Reject(String),
}

/// What a source read.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The items, in their order.
    pub notifications: Vec<Notification>,
    /// What to answer once they are recorded.
    pub reply: Reply,
}

/// What a sender expects to be answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Nothing but that it is recorded, and is being worked on (202).
    Accepted,
    /// Nothing but that it is recorded (200).
    Done,
    /// That it should speak the newer protocol instead.
    SpeakGraph,
    /// That it should send the incoming call there (302).
    Elsewhere(String),
    /// A JSON document.
    Json(Value),
    /// A decision: this one, unless the bot decides in time.
    Decision(Value),
}

/// An authenticated body that is not the source's envelope.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);
