//! The law of the ledger: facts in, the life of an operation out.
//!
//! What is said about an operation is a function of the *set* of facts held about it and of the instant
//! asked for. In which order the facts came, and how often, changes marks (`late`, `corrected`), ids and times of
//! receipt, and nothing else. [`operations`] is that function; stores only load, call and save.
//!
//! Where facts disagree:
//!
//! 1. Evidence ranks: what was notified counts before what was inferred.
//! 2. Of notified final states that contradict each other, `failed` counts before `canceled` before `completed`,
//!    and the operation is marked `conflict`.
//! 3. An inferred final state yields to a notified one that says otherwise, leaves the history, and the operation
//!    is marked `corrected`.
//! 4. A state that is not final never follows a final one; it takes its place before it in the history.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    ids::{NotificationId, OperationId, PlatformId},
    result::ResultInfo,
};

/// The kind of an operation whose type nobody has told.
pub const UNTYPED: &str = "commsOperation";

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
    /// What it says.
    pub fact: OperationFact,
}

/// A mark on an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Flag {
    /// No request for it is known.
    Unrequested,
    /// Notified facts contradict each other; all are kept.
    Conflict,
    /// A fact came after the end.
    Late,
    /// The state was concluded rather than told.
    Inferred,
    /// A conclusion was put right by a notification.
    Corrected,
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

/// A step in the life of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state before; `None` at the first.
    pub from: Option<State>,
    /// The state after.
    pub to: State,
    /// When word of it was received.
    pub at: Timestamp,
    /// The notification that brought the word first.
    pub cause: NotificationId,
    /// What a reader must know to trust this line.
    pub note: Option<String>,
}

/// The operations that the facts of one subject tell. Graph gives each operation a subject of its own, so there is
/// one as soon as there is a fact.
#[must_use]
pub fn operations(facts: &[HeldFact]) -> Vec<Operation> {
    operation(facts).into_iter().collect()
}

fn operation(facts: &[HeldFact]) -> Option<Operation> {
    let mut facts: Vec<&HeldFact> = facts.iter().collect();
    facts.sort_by_key(|held| held.id);
    let first = *facts.first()?;
    let ending = ending(&facts);
    let history = history(&facts, ending);
    let reached = |state: State| history.iter().find(|step| step.to == state).map(|step| step.at);

    Some(Operation {
        id: OperationId(first.id.0),
        operation_id: facts.iter().filter_map(|held| held.fact.operation_id.clone()).min(),
        kind: kind(&facts),
        context: ending
            .and_then(|held| held.fact.context.clone())
            .or_else(|| facts.iter().filter_map(|held| held.fact.context.clone()).min()),
        state: history.last().map_or(first.fact.state, |step| step.to),
        result: ending.map(|held| held.fact.result.clone()),
        accepted_at: reached(State::Accepted),
        started_at: reached(State::Running),
        finished_at: ending.map(|held| held.received_at),
        first_seen_at: facts.iter().map(|held| held.received_at).min().unwrap_or(first.received_at),
        updated_at: facts.iter().map(|held| held.received_at).max().unwrap_or(first.received_at),
        flags: flags(&facts, ending),
        facts: facts.iter().map(|held| held.id).collect(),
        history,
    })
}

/// The fact that decides how it ended (rules 1 and 2); of equal ones the first received.
fn ending<'a>(facts: &[&'a HeldFact]) -> Option<&'a HeldFact> {
    facts.iter().copied().filter(|held| held.fact.state.is_final()).max_by_key(|held| {
        (!held.fact.inferred, held.fact.state.weight(), &held.fact.result, &held.fact.context, Reverse(held.id))
    })
}

/// The most telling kind: any name counts before the untyped one.
fn kind(facts: &[&HeldFact]) -> String {
    facts
        .iter()
        .filter_map(|held| held.fact.kind.as_deref())
        .min_by_key(|kind| (*kind == UNTYPED, *kind))
        .unwrap_or(UNTYPED)
        .to_owned()
}

fn flags(facts: &[&HeldFact], ending: Option<&HeldFact>) -> Vec<Flag> {
    let mut flags = vec![Flag::Unrequested];
    if !contradictions(facts, ending).is_empty() {
        flags.push(Flag::Conflict);
    }
    if facts.iter().any(|held| held.late) {
        flags.push(Flag::Late);
    }
    if ending.is_some_and(|held| held.fact.inferred) {
        flags.push(Flag::Inferred);
    }
    if corrected(facts, ending).is_some() {
        flags.push(Flag::Corrected);
    }
    flags
}

/// The notified final states that contradict the one that counts.
fn contradictions(facts: &[&HeldFact], ending: Option<&HeldFact>) -> Vec<State> {
    let Some(ending) = ending else { return Vec::new() };
    let mut states: Vec<State> = facts
        .iter()
        .map(|held| &held.fact)
        .filter(|fact| fact.state.is_final() && fact.inferred == ending.fact.inferred && fact.state != ending.fact.state)
        .map(|fact| fact.state)
        .collect();
    states.sort_unstable();
    states.dedup();
    states
}

/// The inferred final state that a notified one put right (rule 3).
fn corrected(facts: &[&HeldFact], ending: Option<&HeldFact>) -> Option<State> {
    let ending = ending.filter(|held| !held.fact.inferred)?;
    facts
        .iter()
        .map(|held| &held.fact)
        .filter(|fact| fact.state.is_final() && fact.inferred && fact.state != ending.fact.state)
        .map(|fact| fact.state)
        .min()
}

/// The states passed, in the order of a life (rule 4), each with the notification that brought it first.
fn history(facts: &[&HeldFact], ending: Option<&HeldFact>) -> Vec<Transition> {
    let mut passed: BTreeMap<State, &HeldFact> = BTreeMap::new();
    for held in facts.iter().filter(|held| !held.fact.state.is_final()) {
        passed.entry(held.fact.state).or_insert(held);
    }
    let mut steps = Vec::with_capacity(passed.len() + 1);
    let mut from = None;
    for (state, held) in passed {
        steps.push(Transition { from, to: state, at: held.received_at, cause: held.id, note: None });
        from = Some(state);
    }
    if let Some(held) = ending {
        let note = note(facts, held);
        steps.push(Transition { from, to: held.fact.state, at: held.received_at, cause: held.id, note });
    }
    steps
}

fn note(facts: &[&HeldFact], ending: &HeldFact) -> Option<String> {
    let mut notes = Vec::new();
    if ending.fact.inferred {
        notes.push("inferred: the platform removed the operation without naming its status".to_owned());
    }
    let others: Vec<&str> = contradictions(facts, Some(ending)).into_iter().map(State::as_str).collect();
    if !others.is_empty() {
        notes.push(format!("contradicted: another notification says {}", others.join(", ")));
    }
    if let Some(state) = corrected(facts, Some(ending)) {
        notes.push(format!("corrected: {} had been inferred", state.as_str()));
    }
    (!notes.is_empty()).then(|| notes.join("; "))
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
    use super::*;
    use crate::domain::ids::Seq;

    fn held(id: i64, state: State, inferred: bool) -> HeldFact {
        HeldFact {
            id: NotificationId(Seq(id)),
            received_at: Timestamp::from_millisecond(id).unwrap(),
            late: false,
            fact: OperationFact {
                operation_id: PlatformId::parse("o"),
                kind: None,
                context: None,
                state,
                inferred,
                result: ResultInfo::default(),
            },
        }
    }

    #[test]
    fn contradicting_notifications_leave_the_graver_one_and_a_conflict() {
        let told =
            operations(&[held(1, State::Completed, false), held(2, State::Failed, false), held(3, State::Canceled, false)]);
        assert_eq!(told[0].state, State::Failed);
        assert_eq!(told[0].flags, [Flag::Unrequested, Flag::Conflict]);
        assert_eq!(told[0].history.len(), 1);
        assert_eq!(told[0].history[0].note.as_deref(), Some("contradicted: another notification says completed, canceled"));
    }

    #[test]
    fn an_inference_yields_to_a_notification_and_leaves_the_history() {
        for facts in [
            [held(1, State::Completed, true), held(2, State::Canceled, false)],
            [held(2, State::Completed, true), held(1, State::Canceled, false)],
        ] {
            let told = operations(&facts);
            assert_eq!(told[0].state, State::Canceled);
            assert_eq!(told[0].flags, [Flag::Unrequested, Flag::Corrected]);
            assert_eq!(told[0].history.iter().map(|step| step.to).collect::<Vec<_>>(), [State::Canceled]);
        }
    }

    #[test]
    fn a_running_that_comes_last_takes_its_place_before_the_end() {
        let told = operations(&[held(1, State::Completed, false), held(2, State::Running, false)]);
        let steps: Vec<_> = told[0].history.iter().map(|step| (step.from, step.to)).collect();
        assert_eq!(steps, [(None, State::Running), (Some(State::Running), State::Completed)]);
        assert_eq!(told[0].state, State::Completed);
    }

    #[test]
    fn no_facts_tell_no_operation() {
        assert_eq!(operations(&[]), []);
    }
}
