//! 4. What the new facts change in operations and calls, and the change log.

use std::{collections::BTreeMap, time::Duration};

use sqlx::SqliteConnection;

use super::{
    Batched,
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
            projection::{self, Gone, SavedCall, SavedOperation},
            rows::{Cell, IS_ROW, Rows, Step},
            sorting::Found,
        },
    },
};

/// What a batch has made of calls and operations, on its way to their rows.
pub(super) struct Derived {
    pub(super) calls: Vec<SavedCall>,
    pub(super) operations: Vec<SavedOperation>,
    pub(super) gone: Gone,
    pub(super) changes: Vec<Change>,
    told: Vec<ChangedOperation>,
    finals: Vec<State>,
    kinds: Vec<Option<String>>,
}

impl Derived {
    /// What is to be told of it, but for what was recorded.
    pub(super) fn batched(self) -> Batched {
        Batched { changed: self.told, kinds: self.kinds, finals: self.finals, ..Batched::default() }
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
            data_key: call.data_key.clone(),
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
    for ((source, call_id), call) in calls {
        let (lapse, whose) = (call.lapse()?, Whose { call: call.id, source, call_id });
        if let Some(held) = held.get(&call.id) {
            let (before, after) = (held.without(&call.news).told(lapse.as_ref()), held.told(lapse.as_ref()));
            differing.compare(positions, whose, before, after);
            continue;
        }
        for (subject, story) in call.stories.iter_mut().filter(|(_, story)| !story.new.is_empty()) {
            let told =
                |facts: &[HeldFact]| operations(facts, lapse.as_ref()).into_iter().map(|told| (subject.clone(), told)).collect();
            let before = told(&story.before);
            story.before.append(&mut story.new);
            differing.compare(positions, whose, before, told(&story.before));
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
    let mut step = Step::default();
    projection::add_calls(&mut step, projection::call_rows(&derived.calls)?)?;
    projection::add_operations(&mut step, projection::operation_rows(&derived.operations)?)?;
    let mut lines = Lines::of(&derived.changes);
    let found = lines.take_found();
    insert_lines(&mut step, "", lines, committed_at(positions))?;
    let slice = positions.sorting.add_slice(&mut step, &found)?;
    step.sql("COMMIT").end();
    step.execute(connection).await?;
    positions.sorting.written(slice);
    positions.sorting.come(found);
    Ok(())
}

/// What is to be written and told because operations are no longer what they were.
#[derive(Default)]
pub(in crate::store::sqlite) struct Changed {
    pub(in crate::store::sqlite) saved: Vec<SavedOperation>,
    pub(in crate::store::sqlite) gone: Gone,
    pub(in crate::store::sqlite) changes: Vec<Change>,
    pub(in crate::store::sqlite) told: Vec<ChangedOperation>,
    pub(in crate::store::sqlite) finals: Vec<State>,
}

/// The call that operations belong to.
#[derive(Clone, Copy, Debug)]
pub(in crate::store::sqlite) struct Whose<'a> {
    pub(in crate::store::sqlite) call: i64,
    pub(in crate::store::sqlite) source: &'a str,
    pub(in crate::store::sqlite) call_id: &'a PlatformId,
}

impl Changed {
    /// Adds what differs between two states of the same operations, each with its subject.
    pub(in crate::store::sqlite) fn compare(
        &mut self,
        positions: &mut Positions,
        whose: Whose<'_>,
        before: Vec<(String, Operation)>,
        after: Vec<(String, Operation)>,
    ) {
        let before: BTreeMap<_, _> = before.into_iter().map(|(_, operation)| (operation.id, operation)).collect();
        for was in before.values().filter(|was| !after.iter().any(|(_, told)| told.id == was.id)) {
            self.gone.operation(was);
        }
        for (subject, operation) in after {
            let was = before.get(&operation.id);
            if was == Some(&operation) {
                continue;
            }
            if operation.state.is_final() && !was.is_some_and(|was: &Operation| was.state.is_final()) {
                self.finals.push(operation.state);
            }
            self.told.push(ChangedOperation {
                id: operation.id,
                call_id: whose.call_id.clone(),
                context: operation.context.clone(),
            });
            let saved = SavedOperation::new((whose.call, whose.source), subject, operation);
            // what it is found by is told once
            let is_found = was.is_some_and(|was| saved.is_found_like(was));
            if let Some(was) = was.filter(|_| !is_found) {
                self.gone.lookups(was, saved.found_by);
            }
            self.changes.push(Change::operation(positions, &saved, is_found));
            self.saved.push(saved);
        }
    }
}

/// What a notification's line says that it is about.
const NOTIFICATION: &str = "notification";

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
        Self { call, token_hash: planned.token_hash, ..Self::of(planned.id, NOTIFICATION, state) }
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

/// Saves what operations have become, removes what is no more, and adds the lines that tell of it to the change log, within a
/// transaction. If that is rolled back, nothing is to be remembered ([`Positions::begin_anew`]).
pub(in crate::store::sqlite) async fn save_changed(
    connection: &mut SqliteConnection,
    positions: &mut Positions,
    saved: &[SavedOperation],
    gone: &Gone,
    changes: &[Change],
) -> Result<(), StoreError> {
    positions.sorting.forget(&gone.lookups);
    projection::save_operations(connection, saved, gone).await?;
    if changes.is_empty() {
        return Ok(());
    }
    let (mut step, mut lines) = (Step::default(), Lines::of(changes));
    positions.sorting.come(lines.take_found());
    insert_lines(&mut step, "", lines, committed_at(positions))?;
    step.execute(connection).await?;
    Ok(())
}

/// Lines of the change log on their way to their rows: of three kinds, each without the columns that it leaves empty.
#[derive(Debug, Default)]
pub(super) struct Lines {
    notifications: Rows<4>,
    operations: Rows<6>,
    others: Rows<4>,
    found: Found,
}

impl Lines {
    pub(super) fn of(changes: &[Change]) -> Self {
        let mut lines = Self::default();
        for change in changes {
            lines.push(change);
        }
        lines
    }

    pub(super) fn push(&mut self, change: &Change) {
        let Change { seq, kind, call, operation, state, found_by, token_hash } = *change;
        let state = state.map_or(Cell::Null, Cell::word);
        match (operation, kind) {
            (Some(operation), _) => {
                self.found.operation(seq, operation, found_by);
                let found_by = (found_by.0.into(), found_by.1.into());
                self.operations.push([seq.into(), call.into(), state, operation.into(), found_by.0, found_by.1]);
            }
            (None, NOTIFICATION) => {
                self.found.other(seq, token_hash);
                self.notifications.push([seq.into(), call.into(), state, token_hash.into()]);
            }
            (None, kind) => {
                self.found.other(seq, None);
                self.others.push([seq.into(), call.into(), state, Cell::word(kind)]);
            }
        }
    }

    /// How many cells they take in a statement, with the slice of what is being sorted that they take along.
    pub(super) fn cells(&self) -> usize {
        self.notifications.cells() + self.operations.cells() + self.others.cells() + 2 * self.found.slice()
    }

    /// What they are found by, to be remembered once they are committed.
    pub(super) fn take_found(&mut self) -> Found {
        std::mem::take(&mut self.found)
    }
}

/// Adds the statement that writes lines of the change log, as of this time (in milliseconds).
pub(super) fn insert_lines(step: &mut Step, or: &str, lines: Lines, at: i64) -> Result<(), StoreError> {
    let Lines { notifications, operations, others, .. } = lines;
    let mut notifications = notifications.by_statement();
    let (mut operations, mut others) = (operations.by_statement(), others.by_statement());
    loop {
        let (notifications, operations, others) = (notifications.next(), operations.next(), others.next());
        if notifications.is_none() && operations.is_none() && others.is_none() {
            return Ok(());
        }
        step.sql("INSERT ")
            .sql(or)
            .sql(" INTO change (seq, call_id, state, at, type, operation_id, operation_hash, context_hash, token_hash) SELECT");
        let mut union = Union { step, at, next: "" };
        union.select(notifications, "'notification', NULL, NULL, NULL, column4")?;
        union.select(operations, "'operation', column4, column5, column6, NULL")?;
        union.select(others, "column4, NULL, NULL, NULL, NULL")?;
        step.end();
    }
}

/// Lines of several kinds, in one selection.
struct Union<'s> {
    step: &'s mut Step,
    at: i64,
    next: &'static str,
}

impl Union<'_> {
    fn select<const COLUMNS: usize>(&mut self, rows: Option<Rows<COLUMNS>>, others: &str) -> Result<(), StoreError> {
        let Some(rows) = rows else { return Ok(()) };
        let next = std::mem::replace(&mut self.next, " UNION ALL SELECT");
        self.step.sql(next).sql(" column1, column2, column3, ").bind(self.at)?.sql(", ").sql(others).sql(" FROM ");
        self.step.values(rows)?.sql(IS_ROW);
        Ok(())
    }
}

/// In milliseconds.
pub(super) fn committed_at(positions: &mut Positions) -> i64 {
    positions.next().0 / 1000
}
