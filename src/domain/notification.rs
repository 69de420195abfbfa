//! One item of a delivery, normalised: what a source understood of it, in the ledger's words.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    call::CallFact,
    ids::PlatformId,
    operation::OperationFact,
    people::{NamedPerson, Person},
};

/// One item of a delivery, as its source read it.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// The call that it is about; `None` if it names none.
    pub call: Option<PlatformId>,
    /// What within the call it is about: `""` for the call itself, `operations/<id>`, `participants`, ….
    /// Facts of one subject are one story.
    pub subject: String,
    /// What makes a second copy of it recognisable.
    pub identity: Identity,
    /// Whether the identity alone makes it recognisable, and not only together with call and subject: an event that its sender
    /// has named.
    pub named: bool,
    /// What came, normalised.
    pub facts: Facts,
    /// Whether its type is one that the source knows.
    pub recognized: bool,
    /// Facts about people (names, numbers, dialled tones): kept sealed, never listed.
    pub personal: Option<serde_json::Value>,
    /// Who is in the call and how, by name; the store makes of it the roster of the facts.
    pub people: Vec<NamedPerson>,
}

/// 128 bits that two copies of one notification share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(pub [u8; 16]);

/// The normalised facts of a notification. They are stored beside it, so that nothing ever reads a body again to
/// know what happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The platform's own name of what it is about (`recordOperation`, `call`, `participant`, …).
    pub kind: String,
    /// The Graph `changeType` or the `CloudEvents` type.
    #[serde(rename = "type")]
    pub change: String,
    /// The platform's own time, where it gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Timestamp>,
    /// The platform's own order (of tones, of rosters), where it gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
    /// The `CloudEvents` id, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// The conversation, as the server knows it: several calls can be legs of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_call_id: Option<PlatformId>,
    /// What ties together all that belongs to one conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<PlatformId>,
    /// The recording that it is about, where it names no call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording_id: Option<PlatformId>,
    /// Where we sent the call that it announces, if we did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirected_to: Option<String>,
    /// Who is in the call and how, without names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roster: Vec<Person>,
    /// What it says.
    pub fact: Fact,
}

impl Facts {
    /// Facts that tell no more than this.
    #[must_use]
    pub const fn new(kind: String, change: String, fact: Fact) -> Self {
        Self {
            kind,
            change,
            occurred_at: None,
            sequence: None,
            event_id: None,
            server_call_id: None,
            correlation_id: None,
            recording_id: None,
            redirected_to: None,
            roster: Vec::new(),
            fact,
        }
    }
}

/// What a notification says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fact {
    /// About an operation.
    Operation(Arc<OperationFact>),
    /// About the call.
    Call(CallFact),
    /// About who is in the call: how many.
    Participants(u32),
    /// Something that has no story of its own.
    Other,
}

/// What the ledger did with a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It is part of its story.
    Applied,
    /// It came after the end of its story, and changed no more than marks.
    Late,
    /// A well-formed notification of a type that the source does not know: kept.
    Unrecognized,
    /// Not believed to belong where it claims (another tenant or audience), or unreadable: kept apart.
    Quarantined,
}

impl Disposition {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Applied, Self::Late, Self::Unrecognized, Self::Quarantined];

    /// The name that the API and the store use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Late => "late",
            Self::Unrecognized => "unrecognized",
            Self::Quarantined => "quarantined",
        }
    }

    /// The disposition of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|disposition| disposition.as_str() == name)
    }
}
