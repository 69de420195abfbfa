//! 4. What the new facts change in operations and calls, and the change log.

use std::{collections::BTreeMap, time::Duration};

use sqlx::SqliteConnection;

use super::{
    Batched, hex,
    insert::Rows,
    load::{Call, Calls},
    plan::Planned,
};
use crate::{
    domain::{
        call::CallState,
        ids::PlatformId,
        notification::Fact,
        operation::{CallFacts, HeldFact, Operation, State, operations},
    },
    store::{
        StoreError,
        rows::ChangedOperation,
        sqlite::{
            positions::Positions,
            projection::{self, SavedCall, SavedOperation, save_calls_sql, save_operations_sql},
        },
    },
};

/// The statement that writes lines of the change log, with its parameters: JSON of [`Lines`], and the time. Two kinds of rows,
/// because each column of a row costs as much as all that is done with it.
macro_rules! insert_changes_sql {
    ($or:literal, $rows:literal, $at:literal) => {
        concat!(
            "INSERT ",
            $or,
            " INTO change (seq, at, type, call_id, state, operation_id, operation_hash, context_hash, token_hash)
             SELECT value ->> 0, ",
            $at,
            ", value ->> 1, value ->> 2, value ->> 3, NULL, NULL, NULL, value ->> 4 FROM jsonb_each(",
            $rows,
            ", '$[0]')
             UNION ALL
             SELECT value ->> 0, ",
            $at,
            ", 'operation', value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, NULL FROM jsonb_each(",
            $rows,
            ", '$[1]')"
        )
    };
}

pub(super) use insert_changes_sql;

/// What a batch has made of calls and operations, on its way to their rows.
pub(super) struct Derived {
    pub(super) calls: Vec<SavedCall>,
    pub(super) operations: Vec<SavedOperation>,
    /// Operations that are no more.
    pub(super) gone: Vec<i64>,
    pub(super) changes: Vec<Change>,
    told: Vec<ChangedOperation>,
    finals: Vec<State>,
    kinds: Vec<Option<String>>,
}

impl Derived {
    /// What is to be told of it, but for what was recorded.
    pub(super) fn batched(self) -> Batched {
        let (changed, kinds, finals, lines) = (self.told, self.kinds, self.finals, self.changes.len());
        Batched { changed, kinds, finals, lines, ..Batched::default() }
    }
}

/// What a batch tells, as it is added to the calls that it is about.
#[derive(Default)]
pub(super) struct Told {
    changes: Vec<Change>,
    kinds: Vec<Option<String>>,
}

impl Told {
    /// Adds what is new.
    pub(super) fn add(&mut self, planned: &Planned<'_>, calls: &mut Calls) {
        planned.tell(calls);
        self.changes.push(Change::notification(planned));
        self.kinds.push(planned.recognized.then(|| planned.facts.kind.clone()));
    }

    /// What that changes. Of calls of which requests are known, `held` is all that is told.
    pub(super) fn derive(
        self,
        positions: &mut Positions,
        calls: &mut Calls,
        grace: Duration,
        held: &BTreeMap<i64, CallFacts>,
    ) -> Result<Derived, StoreError> {
        let Self { mut changes, kinds } = self;
        for call in calls.values_mut() {
            call.fix_lapse(grace);
        }
        let saved = changed_calls(positions, calls, &mut changes);
        let Changed { saved: operations, gone, changes: of_operations, told, finals } =
            changed_operations(positions, calls, held)?;
        changes.extend(of_operations);
        Ok(Derived { calls: saved, operations, gone, changes, told, finals, kinds })
    }
}

/// The calls that are to be saved.
fn changed_calls(positions: &mut Positions, calls: &Calls, changes: &mut Vec<Change>) -> Vec<SavedCall> {
    let mut saved = Vec::new();
    for ((source, call_id), call) in calls {
        // a call of which a batch brings nothing but a copy of another's event does not begin with it
        if call.news.is_empty() || call.before.as_ref() == Some(&call.story) {
            continue;
        }
        if call.before.as_ref().is_none_or(|before| before.state() != call.story.state()) {
            changes.push(Change::call(positions, call));
        }
        saved.push(SavedCall {
            id: call.id,
            source: (*source).to_owned(),
            call_id: call_id.clone(),
            receiver: call.receiver.clone(),
            audience: call.audience.clone(),
            tenant: call.tenant.clone(),
            first_seen_at: call.first_seen_at.as_millisecond(),
            data_key: call.data_key.as_deref().map(hex),
            lapses_at: call.lapses_at,
            story: call.story.clone(),
        });
    }
    saved
}

/// The operations that are to be saved, and those that are no more.
fn changed_operations(
    positions: &mut Positions,
    calls: &mut Calls,
    held: &BTreeMap<i64, CallFacts>,
) -> Result<Changed, StoreError> {
    let mut differing = Changed::default();
    for ((_, call_id), call) in calls {
        let lapse = call.lapse()?;
        if let Some(held) = held.get(&call.id) {
            let (before, after) = (held.without(&call.news).told(lapse.as_ref()), held.told(lapse.as_ref()));
            differing.compare(positions, (call.id, Some(call_id)), before, after);
            continue;
        }
        for (subject, story) in call.stories.iter_mut().filter(|(_, story)| !story.new.is_empty()) {
            let told =
                |facts: &[HeldFact]| operations(facts, lapse.as_ref()).into_iter().map(|told| (subject.clone(), told)).collect();
            let before = told(&story.before);
            story.before.append(&mut story.new);
            differing.compare(positions, (call.id, Some(call_id)), before, told(&story.before));
        }
    }
    Ok(differing)
}

/// Saves what a batch has made of calls and operations, with the lines of the change log, and commits: one step to the database.
pub(super) async fn save_and_commit(
    connection: &mut SqliteConnection,
    positions: &mut Positions,
    derived: &Derived,
) -> Result<(), StoreError> {
    sqlx::query(concat!(
        save_calls_sql!("$1"),
        ";",
        save_operations_sql!("$2"),
        ";",
        insert_changes_sql!("OR ABORT", "$3", "$4"),
        "; COMMIT"
    ))
    .bind(projection::call_rows(&derived.calls)?)
    .bind(projection::operation_rows(&derived.operations)?)
    .bind(Lines::of(&derived.changes)?.finish())
    .bind(committed_at(positions))
    .execute(connection)
    .await?;
    Ok(())
}

/// What is to be written and told because operations are no longer what they were.
#[derive(Default)]
pub(in crate::store::sqlite) struct Changed {
    pub(in crate::store::sqlite) saved: Vec<SavedOperation>,
    pub(in crate::store::sqlite) gone: Vec<i64>,
    pub(in crate::store::sqlite) changes: Vec<Change>,
    pub(in crate::store::sqlite) told: Vec<ChangedOperation>,
    pub(in crate::store::sqlite) finals: Vec<State>,
}

impl Changed {
    /// Adds what differs between two states of the same operations, each with its subject.
    pub(in crate::store::sqlite) fn compare(
        &mut self,
        positions: &mut Positions,
        (call, call_id): (i64, Option<&PlatformId>),
        before: Vec<(String, Operation)>,
        after: Vec<(String, Operation)>,
    ) {
        let before: BTreeMap<_, _> = before.into_iter().map(|(_, operation)| (operation.id, operation)).collect();
        self.gone.extend(before.keys().filter(|id| !after.iter().any(|(_, told)| told.id == **id)).map(|id| id.0.0));
        for (subject, operation) in after {
            let was = before.get(&operation.id);
            if was == Some(&operation) {
                continue;
            }
            if operation.state.is_final() && !was.is_some_and(|was: &Operation| was.state.is_final()) {
                self.finals.push(operation.state);
            }
            if let Some(call_id) = call_id {
                self.told.push(ChangedOperation {
                    id: operation.id,
                    call_id: call_id.clone(),
                    context: operation.context.clone(),
                });
            }
            let saved = SavedOperation::new(call, subject, operation);
            // what it is found by is told once
            let is_found = was.is_some_and(|was| saved.is_found_like(was));
            self.changes.push(Change::operation(positions, &saved, is_found));
            self.saved.push(saved);
        }
    }
}

/// A row of the change log.
#[derive(Debug)]
pub(in crate::store::sqlite) struct Change {
    seq: i64,
    kind: &'static str,
    call: Option<i64>,
    operation: Option<i64>,
    state: Option<&'static str>,
    /// By what the operation is found: hashes of its id and of its context.
    found_by: (Option<i64>, Option<i64>),
    /// By what the notification is found: a hash of the token that brought it.
    token_hash: Option<i64>,
}

impl Change {
    const fn of(seq: i64, kind: &'static str, state: Option<&'static str>) -> Self {
        Self { seq, kind, call: None, operation: None, state, found_by: (None, None), token_hash: None }
    }

    /// A notification's position is its place in the log.
    pub(super) fn notification(planned: &Planned<'_>) -> Self {
        let state = match &planned.facts.fact {
            Fact::Operation(fact) => Some(fact.state.as_str()),
            Fact::Call(fact) => fact.state.map(CallState::as_str),
            Fact::Participants(_) | Fact::Other => None,
        };
        let call = planned.call.as_ref().map(|(call, _)| *call);
        Self { call, token_hash: planned.token_hash, ..Self::of(planned.id, "notification", state) }
    }

    /// A request's position is its place in the log.
    pub(in crate::store::sqlite) const fn request(id: i64, call: i64) -> Self {
        Self { call: Some(call), ..Self::of(id, "request", None) }
    }

    fn operation(positions: &mut Positions, saved: &SavedOperation, is_found: bool) -> Self {
        Self {
            call: Some(saved.call),
            operation: Some(saved.operation.id.0.0),
            found_by: if is_found { (None, None) } else { saved.found_by },
            ..Self::of(positions.next().0, "operation", Some(saved.operation.state.as_str()))
        }
    }

    fn call(positions: &mut Positions, call: &Call) -> Self {
        let state = call.story.state().map(CallState::as_str);
        Self { call: Some(call.id), ..Self::of(positions.next().0, "call", state) }
    }
}

pub(in crate::store::sqlite) async fn insert_changes(
    connection: &mut SqliteConnection,
    positions: &mut Positions,
    changes: &[Change],
) -> Result<(), StoreError> {
    if changes.is_empty() {
        return Ok(());
    }
    sqlx::query(insert_changes_sql!("OR ABORT", "$1", "$2"))
        .bind(Lines::of(changes)?.finish())
        .bind(committed_at(positions))
        .execute(connection)
        .await?;
    Ok(())
}

/// Lines of the change log on their way to their rows.
#[derive(Debug, Default)]
pub(super) struct Lines {
    others: Rows,
    operations: Rows,
    pub(super) count: usize,
}

impl Lines {
    pub(super) fn of(changes: &[Change]) -> Result<Self, StoreError> {
        let mut lines = Self::default();
        for change in changes {
            lines.push(change)?;
        }
        Ok(lines)
    }

    pub(super) fn push(&mut self, change: &Change) -> Result<(), StoreError> {
        let Change { seq, kind, call, operation, state, found_by, token_hash } = change;
        self.count += 1;
        match operation {
            Some(operation) => self.operations.push(&(seq, call, state, operation, found_by.0, found_by.1)),
            None => self.others.push(&(seq, kind, call, state, token_hash)),
        }
    }

    /// As JSON.
    pub(super) fn finish(self) -> String {
        format!("[{},{}]", self.others.finish(), self.operations.finish())
    }
}

/// In milliseconds.
pub(super) fn committed_at(positions: &mut Positions) -> i64 {
    positions.next().0 / 1000
}
