//! What a bot asked a platform to do, and what the platform answered.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    ids::{PlatformId, RequestId},
    operation::State,
    people::Person,
    result::ResultInfo,
};

/// A request, as it was understood before it was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestFacts {
    /// The platform's name of it: `record`, `addParticipant`, ….
    pub name: String,
    /// The kind of the operation that it begins: `recordOperation`, `addParticipant`, ….
    pub kind: String,
    /// The caller's own tag, as it was spelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// How the ledger knows of it.
    pub via: Via,
    /// By when the caller wants it to have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// What it takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancels: Option<Cancels>,
    /// The operation of another request that it acts on, where it names no call: a recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acts_on: Option<PlatformId>,
    /// The conversation that it is about, where it names that instead of a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<PlatformId>,
    /// Whom it is about, and how a roster shows them once it is done; for requests of whose success nothing else tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shows: Option<Person>,
}

/// How the ledger knows of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Via {
    /// It was written down before it was sent: nothing that came earlier can be its doing.
    Gateway,
    /// The bot said so, when it liked.
    Registered,
}

/// What a request takes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cancels {
    /// What plays and records in its call: all that is queued, or the one under way.
    Media {
        /// The kinds that it takes back.
        kinds: Vec<String>,
        /// Whether those in the queue, too.
        all: bool,
    },
    /// An invitation.
    Invitation(PlatformId),
}

/// What a platform answered to a request, or that its answer was lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnswerFacts {
    /// Whether it never left: no notification can be its doing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never_sent: bool,
    /// The HTTP status; `None` if the answer was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Where the operation stands by it; `None` if the answer was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// The ids of operations that it names: in its body, in its `Location`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operation_ids: Vec<PlatformId>,
    /// The invitation that it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invitation_id: Option<PlatformId>,
    /// Why.
    #[serde(default, skip_serializing_if = "ResultInfo::is_empty")]
    pub result: ResultInfo,
}

/// A request that the ledger holds, with what the ledger itself knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRequest {
    /// Its position.
    pub id: RequestId,
    /// When it was written down.
    pub at: Timestamp,
    /// What it says.
    pub facts: RequestFacts,
    /// What came back, once something did.
    pub answer: Option<HeldAnswer>,
}

/// An answer that the ledger holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldAnswer {
    /// When it came.
    pub at: Timestamp,
    /// What it says.
    pub facts: AnswerFacts,
}

impl HeldRequest {
    /// The state that the answer told.
    #[must_use]
    pub fn answered(&self) -> Option<State> {
        self.answer.as_ref()?.facts.state
    }

    /// Whether an operation that notifications tell can be its doing for all that was answered. A failure of the platform's own
    /// (5xx) leaves open what it has done.
    #[must_use]
    pub fn may_have_begun(&self, after_a_failure_too: bool) -> bool {
        let Some(AnswerFacts { never_sent, status, state, .. }) = self.answer.as_ref().map(|answer| &answer.facts) else {
            return true;
        };
        let failed = status.is_some_and(|status| status >= 500);
        !never_sent && (*state != Some(State::Refused) || (failed && after_a_failure_too))
    }

    /// The operation that the answer names first.
    #[must_use]
    pub fn operation_id(&self) -> Option<PlatformId> {
        self.answer.as_ref()?.facts.operation_ids.first().cloned()
    }

    /// Whether it was sent, but nobody knows what the platform answered.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.facts.status.is_none())
    }
}
