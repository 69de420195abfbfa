//! The derivation: the rules of [`super`], in code.

use std::{cmp::Reverse, collections::BTreeMap};

use jiff::Timestamp;

use super::{Cause, Flag, HeldFact, HeldRoster, Lapse, Links, Operation, State, Transition, UNTYPED};
use crate::domain::{
    ids::OperationId,
    request::{HeldAnswer, HeldRequest},
    result::ResultInfo,
};

/// The operations that the facts of one subject tell where no request is known, given how their call ended, if it did: one as
/// soon as there is a fact, and, where the subject recurs, one more behind each end (rule 5).
#[must_use]
pub fn operations(facts: &[HeldFact], lapse: Option<&Lapse>) -> Vec<Operation> {
    pieces(facts).into_iter().filter_map(|piece| operation(&piece, None, None, lapse)).collect()
}

/// The facts of one subject, those of each operation together (rule 5), in the order of their receipt.
pub(super) fn pieces(facts: &[HeldFact]) -> Vec<Vec<&HeldFact>> {
    let mut facts: Vec<&HeldFact> = facts.iter().collect();
    facts.sort_by_cached_key(|held| held.place());
    let recurs = facts.iter().any(|held| held.fact.recurs);
    let mut pieces: Vec<Vec<&HeldFact>> =
        if recurs { facts.split_inclusive(|held| held.fact.state.is_final()).map(<[_]>::to_vec).collect() } else { vec![facts] };
    for piece in &mut pieces {
        piece.sort_by_key(|held| held.id);
    }
    pieces
}

/// How an operation ended.
#[derive(Clone, Copy)]
enum End<'a> {
    Told(&'a HeldFact),
    Answered(&'a HeldRequest, &'a HeldAnswer, State),
    Shown(&'a HeldRoster),
    Lapsed(&'a Lapse, Timestamp, State),
}

impl<'a> End<'a> {
    /// Evidence ranks: notification, answer, inference (rules 1, 3, 6 and 8).
    fn of(
        told: Option<&'a HeldFact>,
        request: Option<&'a HeldRequest>,
        shown: Option<&'a HeldRoster>,
        lapse: Option<&'a Lapse>,
        (since, lapsing): (Timestamp, State),
    ) -> Option<Self> {
        let answered = request.and_then(|request| {
            let answer = request.answer.as_ref()?;
            Some(Self::Answered(request, answer, answer.facts.state.filter(|state| state.is_final())?))
        });
        let lapsed = lapse.filter(|lapse| lapse.over).map(|lapse| Self::Lapsed(lapse, lapse.ended_at(since), lapsing));
        let notified = told.filter(|held| !held.fact.inferred).map(Self::Told);
        notified.or(answered).or_else(|| told.map(Self::Told)).or(shown.map(Self::Shown)).or(lapsed)
    }

    fn state(self) -> State {
        match self {
            Self::Told(held) => held.fact.state,
            Self::Answered(_, _, state) | Self::Lapsed(_, _, state) => state,
            Self::Shown(_) => State::Completed,
        }
    }

    fn at(self) -> Timestamp {
        match self {
            Self::Told(held) => held.received_at,
            Self::Answered(_, answer, _) => answer.at,
            Self::Shown(roster) => roster.received_at,
            Self::Lapsed(_, at, _) => at,
        }
    }

    fn result(self) -> ResultInfo {
        match self {
            Self::Told(held) => held.fact.result.clone(),
            Self::Answered(_, answer, _) => answer.facts.result.clone(),
            Self::Shown(_) => ResultInfo { reason: Some("shownInRoster".to_owned()), ..ResultInfo::default() },
            Self::Lapsed(..) => Lapse::result(),
        }
    }

    fn is_inferred(self) -> bool {
        match self {
            Self::Told(held) => held.fact.inferred,
            Self::Answered(..) => false,
            Self::Shown(_) | Self::Lapsed(..) => true,
        }
    }

    fn cause(self) -> Cause {
        match self {
            Self::Told(held) => Cause::Notification(held.id),
            Self::Answered(request, ..) => Cause::Response(request.id),
            Self::Shown(roster) => Cause::Notification(roster.id),
            Self::Lapsed(lapse, ..) => Cause::Notification(lapse.by),
        }
    }
}

/// The life that these facts (in the order of their receipt) and this request, which a roster shows to be done, tell; `None` if
/// there are neither facts nor a request.
pub(super) fn operation(
    facts: &[&HeldFact],
    request: Option<&HeldRequest>,
    shown: Option<&HeldRoster>,
    lapse: Option<&Lapse>,
) -> Option<Operation> {
    let seen = facts.iter().map(|held| (held.id.0, held.received_at)).chain(request.map(|request| (request.id.0, request.at)));
    let (id, _) = seen.clone().min()?;
    let (_, first_seen_at) = seen.clone().min_by_key(|(_, at)| *at)?;
    let ending = ending(facts);
    let kind = kind(facts, request);
    let open = lapse.and_then(|_| history(facts, request, ending, None).last().map(|step| step.to));
    let lapsing = open.unwrap_or(State::Requested).lapsed(&kind);
    let end = End::of(ending, request, shown, lapse, (first_seen_at, lapsing));
    let history = history(facts, request, ending, end);
    let reached = |state: State| history.iter().find(|step| step.to == state).map(|step| step.at);
    let answered_at = request.and_then(|request| Some(request.answer.as_ref()?.at));
    let told_id = facts.iter().filter_map(|held| held.fact.operation_id.clone()).min();

    Some(Operation {
        id: OperationId(id),
        operation_id: told_id.or_else(|| request.and_then(HeldRequest::operation_id)),
        kind,
        context: ending
            .and_then(|held| held.fact.context.clone())
            .or_else(|| facts.iter().filter_map(|held| held.fact.context.clone()).min())
            .or_else(|| request?.facts.context.clone()),
        state: history.last().map_or(State::Requested, |step| step.to),
        result: end.map(End::result),
        request: request.map(|request| request.id),
        requested_at: request.map(|request| request.at),
        deadline: request.and_then(|request| request.facts.deadline),
        links: Links::default(),
        accepted_at: reached(State::Accepted),
        started_at: reached(State::Running),
        finished_at: end.map(End::at),
        first_seen_at,
        updated_at: seen.map(|(_, at)| at).chain(answered_at).chain(end.map(End::at)).max()?,
        flags: flags(facts, (request, shown), ending, end, lapse),
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

/// The most telling kind: any name counts before the untyped one, and what was told before what was asked.
fn kind(facts: &[&HeldFact], request: Option<&HeldRequest>) -> String {
    let told = facts.iter().filter_map(|held| held.fact.kind.as_deref()).min_by_key(|kind| (*kind == UNTYPED, *kind));
    let asked = request.map(|request| request.facts.kind.as_str());
    told.filter(|kind| *kind != UNTYPED).or(asked).or(told).unwrap_or(UNTYPED).to_owned()
}

fn flags(
    facts: &[&HeldFact],
    (request, shown): (Option<&HeldRequest>, Option<&HeldRoster>),
    ending: Option<&HeldFact>,
    end: Option<End<'_>>,
    lapse: Option<&Lapse>,
) -> Vec<Flag> {
    let answered_otherwise = match (end, request.and_then(HeldRequest::answered)) {
        (Some(End::Told(held)), Some(answered)) => !held.fact.inferred && answered.is_final() && answered != held.fact.state,
        _ => false,
    };
    let shown_otherwise = match (shown, end) {
        (Some(roster), Some(End::Told(held))) => {
            roster.id < held.id && held.fact.state != State::Completed && !held.fact.inferred
        }
        _ => false,
    };
    let corrected = corrected(facts, ending).is_some()
        || answered_otherwise
        || shown_otherwise
        || has_outlived(lapse, facts, request, ending);
    [
        (Flag::Unrequested, request.is_none()),
        (Flag::Unanswered, request.is_some_and(HeldRequest::is_unanswered)),
        (Flag::Conflict, !contradictions(facts, ending).is_empty()),
        (Flag::Late, facts.iter().any(|held| held.late)),
        (Flag::Inferred, end.is_some_and(End::is_inferred)),
        (Flag::Corrected, corrected),
    ]
    .into_iter()
    .filter_map(|(flag, is_set)| is_set.then_some(flag))
    .collect()
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

/// Whether it was taken for failed with its call until word came that it ended otherwise (rules 3 and 7).
fn has_outlived(lapse: Option<&Lapse>, facts: &[&HeldFact], request: Option<&HeldRequest>, ending: Option<&HeldFact>) -> bool {
    let (Some(lapse), Some(ending)) = (lapse, ending) else { return false };
    let otherwise = !ending.fact.inferred && ending.fact.state != State::Failed;
    let seen = facts.iter().any(|held| held.id < ending.id) || request.is_some_and(|request| request.id.0 < ending.id.0);
    otherwise && lapse.precedes(ending) && seen
}

/// The states passed, in the order of a life (rule 4), each with what brought word of it first.
fn history(
    facts: &[&HeldFact],
    request: Option<&HeldRequest>,
    ending: Option<&HeldFact>,
    end: Option<End<'_>>,
) -> Vec<Transition> {
    let mut passed: BTreeMap<State, (Timestamp, Cause)> = BTreeMap::new();
    let mut pass = |state: State, at: Timestamp, cause: Cause| {
        let first = passed.entry(state).or_insert((at, cause));
        *first = (*first).min((at, cause));
    };
    for held in facts.iter().filter(|held| !held.fact.state.is_final()) {
        pass(held.fact.state, held.received_at, Cause::Notification(held.id));
    }
    if let Some(request) = request {
        pass(State::Requested, request.at, Cause::Request(request.id));
        if let (Some(answer), Some(state)) = (&request.answer, request.answered().filter(|state| !state.is_final())) {
            pass(state, answer.at, Cause::Response(request.id));
        }
    }
    let mut steps = Vec::with_capacity(passed.len() + 1);
    let mut from = None;
    for (state, (at, cause)) in passed {
        steps.push(Transition { from, to: state, at, cause, note: None });
        from = Some(state);
    }
    if let Some(end) = end {
        let note = match end {
            End::Told(held) => note(facts, held),
            End::Answered(..) => ending.map(|held| format!("answered; {} had been inferred", held.fact.state.as_str())),
            End::Shown(_) => Some("inferred: a roster shows it".to_owned()),
            End::Lapsed(..) => Some("inferred: its call was over, and no word came of how it ended".to_owned()),
        };
        steps.push(Transition { from, to: end.state(), at: end.at(), cause: end.cause(), note });
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
    use std::sync::Arc;

    use super::*;
    use crate::domain::{
        ids::{NotificationId, PlatformId, Seq},
        notification::Identity,
        operation::OperationFact,
    };

    fn held(id: i64, state: State, inferred: bool) -> HeldFact {
        HeldFact {
            id: NotificationId(Seq(id)),
            received_at: Timestamp::from_millisecond(id).unwrap(),
            late: false,
            occurred_at: None,
            event_id: None,
            identity: Identity([0; 16]),
            fact: Arc::new(OperationFact {
                operation_id: PlatformId::parse("o"),
                kind: None,
                context: None,
                state,
                inferred,
                recurs: false,
                tone: false,
                result: ResultInfo::default(),
            }),
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
