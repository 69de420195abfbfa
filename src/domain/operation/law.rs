//! The derivation: the rules of [`super`], in code.

use std::{cmp::Reverse, collections::BTreeMap};

use jiff::Timestamp;

use super::{Flag, HeldFact, Lapse, Operation, State, Transition, UNTYPED};
use crate::domain::ids::OperationId;

/// The operations that the facts of one subject tell, given how their call ended, if it did: one as soon as there is a
/// fact, and, where the subject recurs, one more behind each end (rule 5).
#[must_use]
pub fn operations(facts: &[HeldFact], lapse: Option<&Lapse>) -> Vec<Operation> {
    let mut facts: Vec<&HeldFact> = facts.iter().collect();
    if !facts.iter().any(|held| held.fact.recurs) {
        return operation(facts, lapse).into_iter().collect();
    }
    facts.sort_by_cached_key(|held| held.place());
    facts.split_inclusive(|held| held.fact.state.is_final()).filter_map(|piece| operation(piece.to_vec(), lapse)).collect()
}

fn operation(mut facts: Vec<&HeldFact>, lapse: Option<&Lapse>) -> Option<Operation> {
    facts.sort_by_key(|held| held.id);
    let first = *facts.first()?;
    let first_seen_at = facts.iter().map(|held| held.received_at).min().unwrap_or(first.received_at);
    let ending = ending(&facts);
    let lapsed = lapse.filter(|lapse| lapse.over && ending.is_none());
    let ended_at = ending.map(|held| held.received_at).or_else(|| lapsed.map(|lapse| lapse.ended_at(first_seen_at)));
    let history = history(&facts, ending, lapsed.zip(ended_at));
    let reached = |state: State| history.iter().find(|step| step.to == state).map(|step| step.at);

    Some(Operation {
        id: OperationId(first.id.0),
        operation_id: facts.iter().filter_map(|held| held.fact.operation_id.clone()).min(),
        kind: kind(&facts),
        context: ending
            .and_then(|held| held.fact.context.clone())
            .or_else(|| facts.iter().filter_map(|held| held.fact.context.clone()).min()),
        state: history.last().map_or(first.fact.state, |step| step.to),
        result: ending.map(|held| held.fact.result.clone()).or_else(|| lapsed.map(|_| Lapse::result())),
        accepted_at: reached(State::Accepted),
        started_at: reached(State::Running),
        finished_at: ended_at,
        first_seen_at,
        updated_at: facts.iter().map(|held| held.received_at).chain(ended_at).max().unwrap_or(first.received_at),
        flags: flags(&facts, ending, lapse),
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

fn flags(facts: &[&HeldFact], ending: Option<&HeldFact>, lapse: Option<&Lapse>) -> Vec<Flag> {
    let mut flags = vec![Flag::Unrequested];
    if !contradictions(facts, ending).is_empty() {
        flags.push(Flag::Conflict);
    }
    if facts.iter().any(|held| held.late) {
        flags.push(Flag::Late);
    }
    if ending.map_or(lapse.is_some_and(|lapse| lapse.over), |held| held.fact.inferred) {
        flags.push(Flag::Inferred);
    }
    if corrected(facts, ending).is_some() || has_outlived(lapse, facts, ending) {
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

/// Whether it was taken for failed with its call until word came that it ended otherwise (rules 3 and 6).
fn has_outlived(lapse: Option<&Lapse>, facts: &[&HeldFact], ending: Option<&HeldFact>) -> bool {
    let (Some(lapse), Some(ending)) = (lapse, ending) else { return false };
    let otherwise = !ending.fact.inferred && ending.fact.state != State::Failed;
    otherwise && lapse.precedes(ending) && facts.iter().any(|held| held.id < ending.id)
}

/// The states passed, in the order of a life (rule 4), each with the notification that brought it first.
fn history(facts: &[&HeldFact], ending: Option<&HeldFact>, lapsed: Option<(&Lapse, Timestamp)>) -> Vec<Transition> {
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
    if let Some((lapse, at)) = lapsed {
        let note = Some("inferred: its call was over, and no word came of how it ended".to_owned());
        steps.push(Transition { from, to: State::Failed, at, cause: lapse.by, note });
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
    use super::*;
    use crate::domain::{
        ids::{NotificationId, PlatformId, Seq},
        notification::Identity,
        operation::OperationFact,
        result::ResultInfo,
    };

    fn held(id: i64, state: State, inferred: bool) -> HeldFact {
        HeldFact {
            id: NotificationId(Seq(id)),
            received_at: Timestamp::from_millisecond(id).unwrap(),
            late: false,
            occurred_at: None,
            event_id: None,
            identity: Identity([0; 16]),
            fact: OperationFact {
                operation_id: PlatformId::parse("o"),
                kind: None,
                context: None,
                state,
                inferred,
                recurs: false,
                tone: false,
                result: ResultInfo::default(),
            },
        }
    }

    fn told(facts: &[HeldFact]) -> Vec<Operation> {
        operations(facts, None)
    }

    #[test]
    fn contradicting_notifications_leave_the_graver_one_and_a_conflict() {
        let told = told(&[held(1, State::Completed, false), held(2, State::Failed, false), held(3, State::Canceled, false)]);
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
            let told = told(&facts);
            assert_eq!(told[0].state, State::Canceled);
            assert_eq!(told[0].flags, [Flag::Unrequested, Flag::Corrected]);
            assert_eq!(told[0].history.iter().map(|step| step.to).collect::<Vec<_>>(), [State::Canceled]);
        }
    }

    #[test]
    fn a_running_that_comes_last_takes_its_place_before_the_end() {
        let told = told(&[held(1, State::Completed, false), held(2, State::Running, false)]);
        let steps: Vec<_> = told[0].history.iter().map(|step| (step.from, step.to)).collect();
        assert_eq!(steps, [(None, State::Running), (Some(State::Running), State::Completed)]);
        assert_eq!(told[0].state, State::Completed);
    }

    #[test]
    fn no_facts_tell_no_operation() {
        assert_eq!(told(&[]), []);
    }
}
