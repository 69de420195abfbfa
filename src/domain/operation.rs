//! The law of the ledger: facts in, the life of an operation out.
//!
//! What is said about an operation is a function of the *set* of facts held about it and of the instant
//! asked for. In which order the facts came, and how often, changes marks (`late`, `corrected`), ids and times of
//! receipt, and nothing else. [`operations`] is that function (`operation/law.rs`); stores only load, call and save.
//!
//! Where facts disagree:
//!
//! 1. Evidence ranks: what was notified counts before what was inferred.
//! 2. Of notified final states that contradict each other, `failed` counts before `canceled` before `completed`,
//!    and the operation is marked `conflict`.
//! 3. An inferred final state yields to a notified one that says otherwise, leaves the history, and the operation
//!    is marked `corrected`.
//! 4. A state that is not final never follows a final one; it takes its place before it in the history.
//! 5. Where a subject recurs (a tag that the caller may use again), its facts are put in the platform's order, and what stands
//!    behind an end belongs to the next operation.
//! 6. A request belongs to the operation that its answer names, else to the one of its kind and tag, if there is no doubt. What the
//!    platform answered counts before what was inferred and behind what was notified.
//! 7. What is still open when its call has ended for good ([`Lapse`]) has failed; that is inferred, see rule 3. Of what only failure
//!    is told ([`SILENT`]), silence says that it was done.
//! 8. What a roster shows to be done has completed; that is inferred, too.

mod law;
mod links;
mod requests;
mod rosters;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    ids::{NotificationId, OperationId, PlatformId, RequestId},
    notification::{Fact, Facts, Identity},
    result::ResultInfo,
};

pub use law::operations;
pub use requests::{BEGINNINGS, CallFacts};
pub use rosters::HeldRoster;

/// The kind of an operation whose type nobody has told.
pub const UNTYPED: &str = "commsOperation";

/// The kinds of which no notification tells that they were done: rosters do, as far as they are told.
pub const SILENT: &[&str] = &["hold", "unhold", "mute"];

/// Where an operation stands, in the order of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// We know that a bot asked.
    Requested,
    /// The platform said yes, nothing else yet.
    Accepted,
    /// Under way.
    Running,
    /// Ended as asked.
    Completed,
    /// Ended otherwise.
    Failed,
    /// Ended because somebody canceled it.
    Canceled,
    /// The platform said no to the request.
    Refused,
}

impl State {
    /// All of them, in order.
    pub const ALL: [Self; 7] =
        [Self::Requested, Self::Accepted, Self::Running, Self::Completed, Self::Failed, Self::Canceled, Self::Refused];

    /// What an operation of this kind that stands here has come to when its call has ended for good (rule 7).
    #[must_use]
    pub fn lapsed(self, kind: &str) -> Self {
        if self <= Self::Accepted && SILENT.contains(&kind) { Self::Completed } else { Self::Failed }
    }

    /// The name that the API and the store use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Accepted => "accepted",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Refused => "refused",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing comes after it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Requested | Self::Accepted | Self::Running => false,
            Self::Completed | Self::Failed | Self::Canceled | Self::Refused => true,
        }
    }

    /// Which of two contradicting final states counts: the greater.
    const fn weight(self) -> u8 {
        match self {
            Self::Requested | Self::Accepted | Self::Running => 0,
            Self::Refused => 1,
            Self::Completed => 2,
            Self::Canceled => 3,
            Self::Failed => 4,
        }
    }
}

/// What one notification says about an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationFact {
    /// The platform's id of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<PlatformId>,
    /// The platform's name of its kind; `None` if the notification does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The caller's own tag, as it was spelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Where it stands.
    pub state: State,
    /// Whether the state was concluded rather than told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inferred: bool,
    /// Whether another operation may follow under the same subject (rule 5).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recurs: bool,
    /// Whether it brings a tone that somebody dialled. Which one is a personal fact.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tone: bool,
    /// Why.
    #[serde(default, skip_serializing_if = "ResultInfo::is_empty")]
    pub result: ResultInfo,
}

/// A fact that the ledger holds, with what the ledger itself knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldFact {
    /// The notification that says it.
    pub id: NotificationId,
    /// When that came.
    pub received_at: Timestamp,
    /// Whether it came after the end.
    pub late: bool,
    /// When it happened, by the platform's clock.
    pub occurred_at: Option<Timestamp>,
    /// The sender's name of the event.
    pub event_id: Option<String>,
    /// What makes the notification recognisable.
    pub identity: Identity,
    /// What it says.
    pub fact: Arc<OperationFact>,
}

/// Where a fact stands among those of a subject that recurs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The platform's time, in units of 100 ns.
    ticks: Option<i128>,
    /// What ends something stands behind what does not.
    ends: bool,
    event_id: Option<String>,
    /// Decides between events that are called the same, or not at all.
    identity: Identity,
}

impl HeldFact {
    /// What a notification says about an operation; `None` if it is about something else.
    #[must_use]
    pub fn of(id: NotificationId, identity: Identity, received_at: Timestamp, late: bool, facts: &Facts) -> Option<Self> {
        let Fact::Operation(fact) = &facts.fact else { return None };
        let (occurred_at, event_id) = (facts.occurred_at, facts.event_id.clone());
        Some(Self { id, received_at, late, occurred_at, event_id, identity, fact: Arc::clone(fact) })
    }

    /// Where it stands among the facts of a subject that recurs.
    #[must_use]
    pub fn place(&self) -> Place {
        Place {
            ticks: self.occurred_at.map(|at| at.as_nanosecond() / 100),
            ends: self.fact.state.is_final(),
            event_id: self.event_id.clone(),
            identity: self.identity,
        }
    }
}

/// The end of a call after which the platform says no more about its operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lapse {
    /// The notification that told it.
    pub by: NotificationId,
    /// When that was received.
    pub at: Timestamp,
    /// When the grace period for what is still under way is over.
    pub due: Timestamp,
    /// Whether that is so by now.
    pub over: bool,
}

impl Lapse {
    /// Why an operation that was open then has ended.
    #[must_use]
    pub fn result() -> ResultInfo {
        ResultInfo { reason: Some("callDisconnected".to_owned()), ..ResultInfo::default() }
    }

    /// When an operation that was first seen then has ended: with its call, or at once.
    #[must_use]
    pub fn ended_at(&self, first_seen_at: Timestamp) -> Timestamp {
        self.at.max(first_seen_at)
    }

    /// Whether the grace period was over before the ledger got this.
    fn precedes(&self, fact: &HeldFact) -> bool {
        self.due.as_microsecond() <= fact.id.0.0
    }
}

/// A mark on an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Flag {
    /// No request for it is known.
    Unrequested,
    /// It was asked for, and the platform's answer was lost.
    Unanswered,
    /// Notified facts contradict each other; all are kept.
    Conflict,
    /// A fact came after the end.
    Late,
    /// The state was concluded rather than told.
    Inferred,
    /// A conclusion was put right by a notification.
    Corrected,
    /// Several requests, or several operations, could be meant.
    Ambiguous,
}

/// The life of an operation, as told by the facts about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Named after the fact that was received first.
    pub id: OperationId,
    /// The platform's id.
    pub operation_id: Option<PlatformId>,
    /// The platform's name of its kind.
    pub kind: String,
    /// The caller's own tag.
    pub context: Option<String>,
    /// Where it stands.
    pub state: State,
    /// Why it ended; `None` while it is open.
    pub result: Option<ResultInfo>,
    /// The request that began it.
    pub request: Option<RequestId>,
    /// When that was written down.
    pub requested_at: Option<Timestamp>,
    /// By when the caller wants it to have ended.
    pub deadline: Option<Timestamp>,
    /// What it has to do with others.
    pub links: Links,
    /// When the platform's yes was received.
    pub accepted_at: Option<Timestamp>,
    /// When word came that it runs.
    pub started_at: Option<Timestamp>,
    /// When word came of its end.
    pub finished_at: Option<Timestamp>,
    /// When the first fact was received.
    pub first_seen_at: Timestamp,
    /// When the last fact was received.
    pub updated_at: Timestamp,
    /// Its marks, in their order.
    pub flags: Vec<Flag>,
    /// The notifications that tell it, in the order of their receipt.
    pub facts: Vec<NotificationId>,
    /// The states it went through, in their order.
    pub history: Vec<Transition>,
}

/// What an operation has to do with others of its call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Links {
    /// The operation that canceled it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canceled_by: Option<OperationId>,
    /// What it canceled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cancels: Vec<OperationId>,
    /// What it could have canceled and what ended otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub escaped: Vec<OperationId>,
    /// Those that could be meant, where it cannot be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<OperationId>,
}

/// What brought the word of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A notification.
    Notification(NotificationId),
    /// The request itself.
    Request(RequestId),
    /// The answer to a request.
    Response(RequestId),
    /// That time was over, and nobody had told its end.
    Deadline,
}

/// A step in the life of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state before; `None` at the first.
    pub from: Option<State>,
    /// The state after.
    pub to: State,
    /// When word of it was received.
    pub at: Timestamp,
    /// What brought the word first.
    pub cause: Cause,
    /// What a reader must know to trust this line.
    pub note: Option<String>,
}

impl Operation {
    /// The states passed by `now`, and, if its time was over before word of its end came, when that was.
    #[must_use]
    pub fn history_until(self, now: Timestamp, deadlines: &Deadlines) -> Vec<Transition> {
        let since = self.requested_at.unwrap_or(self.first_seen_at);
        let deadline = self.deadline.unwrap_or_else(|| deadlines.deadline(&self.kind, since));
        let mut history = self.history;
        let in_time = history.last().is_some_and(|step| step.to.is_final() && step.at <= deadline);
        let behind = history.iter().position(|step| step.at > deadline).unwrap_or(history.len());
        let before = behind.checked_sub(1).and_then(|at| history.get(at)).map(|step| step.to);
        if let Some(state) = before.filter(|_| !in_time && deadline <= now) {
            let note = Some("overdue: no word of its end had come".to_owned());
            history.insert(behind, Transition { from: Some(state), to: state, at: deadline, cause: Cause::Deadline, note });
        }
        history
    }
}

/// How long an operation may stay open before it is overdue, by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For kinds that are not named.
    pub default: Duration,
    /// For the kinds that are.
    pub by_kind: BTreeMap<String, Duration>,
}

impl Deadlines {
    /// When an open operation of this kind, first seen then, is overdue.
    #[must_use]
    pub fn deadline(&self, kind: &str, first_seen_at: Timestamp) -> Timestamp {
        let allowed = *self.by_kind.get(kind).unwrap_or(&self.default);
        first_seen_at.checked_add(allowed).unwrap_or(Timestamp::MAX)
    }
}
