//! How the derived rows are loaded and saved. Shared by the writer and by `db rebuild`.

use std::sync::Arc;

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::{
    batch::{instant, json},
    classes::Class,
    lookup::{self, Going},
    rows::{Cell, Rows, Step},
};
use crate::{
    domain::{
        call::{CallState, CallStory, Release},
        ids::{NotificationId, PlatformId, Seq},
        notification::{Facts, Identity},
        operation::{HeldFact, Lapse, Links, Operation},
    },
    store::StoreError,
};

/// Adds the statement that saves what operations have become.
pub(super) fn add_operations(step: &mut Step, rows: Rows<23>) -> Result<(), StoreError> {
    for rows in rows.by_statement() {
        step.sql(
            "INSERT INTO operation
                 (id, call_id, subject, operation_id, operation_hash, kind, context, context_hash, state, result, subcode,
                  accepted_at, started_at, finished_at, first_seen_at, updated_at, flags, notifications, requested_at,
                  deadline, links, source, class_hash) ",
        );
        step.select("operation", rows)?.sql(
            " ON CONFLICT (id) DO UPDATE SET
                 call_id = excluded.call_id, subject = excluded.subject,
                 operation_id = excluded.operation_id, operation_hash = excluded.operation_hash, kind = excluded.kind,
                 context = excluded.context, context_hash = excluded.context_hash, state = excluded.state,
                 result = excluded.result, subcode = excluded.subcode, accepted_at = excluded.accepted_at,
                 started_at = excluded.started_at, finished_at = excluded.finished_at,
                 first_seen_at = excluded.first_seen_at, updated_at = excluded.updated_at, flags = excluded.flags,
                 notifications = excluded.notifications, source = excluded.source, requested_at = excluded.requested_at,
                 deadline = excluded.deadline, links = excluded.links, class_hash = excluded.class_hash",
        );
        step.end();
    }
    Ok(())
}

/// Adds the statement that saves calls.
pub(super) fn add_calls(step: &mut Step, rows: Rows<16>) -> Result<(), StoreError> {
    for rows in rows.by_statement() {
        step.sql(
            "INSERT INTO call
                 (id, call_id, source, receiver, audience, tenant_id, first_seen_at, data_key, state, chain_id, story,
                  correlation_hash, server_call_hash, lapses_at, connected_hash, class_hash) ",
        );
        step.select("call", rows)?.sql(
            " ON CONFLICT (id) DO UPDATE SET
                 state = excluded.state, chain_id = excluded.chain_id, story = excluded.story,
                 correlation_hash = excluded.correlation_hash, server_call_hash = excluded.server_call_hash,
                 connected_hash = excluded.connected_hash, class_hash = excluded.class_hash,
                 lapses_at = coalesce(lapses_at, excluded.lapses_at),
                 receiver = CASE WHEN audience = '' THEN excluded.receiver ELSE receiver END,
                 tenant_id = CASE WHEN audience = '' THEN excluded.tenant_id ELSE tenant_id END,
                 audience = CASE WHEN audience = '' THEN excluded.audience ELSE audience END",
        );
        step.end();
    }
    Ok(())
}

/// An operation on its way to its row.
#[derive(Clone, Debug)]
pub(super) struct SavedOperation {
    pub(super) call: i64,
    /// Of the call.
    pub(super) source: String,
    pub(super) subject: String,
    pub(super) operation: Operation,
    /// Hashes of its id and of its context.
    pub(super) found_by: (Option<i64>, Option<i64>),
}

impl SavedOperation {
    pub(super) fn new((call, source): (i64, &str), subject: String, operation: Operation) -> Self {
        let found_by = found_by_of(&operation);
        Self { call, source: source.to_owned(), subject, operation, found_by }
    }

    /// Whether this, which it was before, is found by the same.
    pub(super) fn is_found_like(&self, was: &Operation) -> bool {
        was.operation_id == self.operation.operation_id && was.context == self.operation.context
    }
}

/// By what an operation is found: hashes of its id and of its context.
fn found_by_of(operation: &Operation) -> (Option<i64>, Option<i64>) {
    (operation.operation_id.as_ref().and_then(lookup::hash_of), operation.context.as_deref().and_then(lookup::hash))
}

/// A call on its way to its row. The left half is written once, the story again and again.
#[derive(Debug)]
pub(super) struct SavedCall {
    pub(super) id: i64,
    pub(super) source: String,
    pub(super) call_id: PlatformId,
    pub(super) receiver: Arc<str>,
    pub(super) audience: Arc<str>,
    pub(super) tenant: Option<Arc<str>>,
    pub(super) first_seen_at: i64,
    pub(super) data_key: Option<Vec<u8>>,
    /// When what is open in it counts as failed (milliseconds); what is stored stays.
    pub(super) lapses_at: Option<i64>,
    pub(super) story: CallStory,
}

/// How a call ended, if that ends what is open in it.
pub(super) fn lapse(
    call: i64,
    release: Option<&Release>,
    lapses_at: Option<i64>,
    over: bool,
) -> Result<Option<Lapse>, StoreError> {
    let (Some(release), Some(lapses_at)) = (release, lapses_at) else { return Ok(None) };
    Ok(Some(Lapse { by: NotificationId(release.by), at: release.at, due: instant("call", call, lapses_at)?, over }))
}

/// The facts about operations that are held for `subjects`, a JSON array of `[call, subject]`.
pub(super) async fn held_facts(
    connection: &mut SqliteConnection,
    subjects: &str,
) -> Result<Vec<(i64, String, HeldFact)>, StoreError> {
    let rows: Vec<HeldRow> = sqlx::query_as(
        "SELECT notification.call_id, subject, notification.id, identity, received_at, disposition = 'late', facts
         FROM jsonb_each(?1) AS asked
         CROSS JOIN notification
             ON notification.call_id = asked.value ->> 0 AND notification.subject = asked.value ->> 1
         WHERE disposition <> 'quarantined'",
    )
    .bind(subjects)
    .fetch_all(connection)
    .await?;
    rows.into_iter().filter_map(|row| read_held(row).transpose()).collect()
}

/// A stored notification: its call, its subject, and what it says.
pub(super) type HeldRow = (i64, String, i64, Vec<u8>, i64, bool, String);

pub(super) fn read_held(row: HeldRow) -> Result<Option<(i64, String, HeldFact)>, StoreError> {
    let (call, subject, id, identity, received_at, late, facts) = row;
    Ok(held_fact(id, &identity, received_at, late, &facts)?.map(|fact| (call, subject, fact)))
}

/// A stored notification as a fact about an operation; `None` if it is about something else.
pub(super) fn held_fact(
    id: i64,
    identity: &[u8],
    received_at: i64,
    late: bool,
    facts: &str,
) -> Result<Option<HeldFact>, StoreError> {
    let wrong = || StoreError::Inconsistent { table: "notification", column: "identity", id };
    let identity = Identity(identity.try_into().map_err(|_length| wrong())?);
    let received_at = instant("notification", id, received_at)?;
    Ok(HeldFact::of(NotificationId(Seq(id)), identity, received_at, late, &read_facts(id, facts)?))
}

/// The normalised facts of a stored notification.
pub(super) fn read_facts(id: i64, facts: &str) -> Result<Facts, StoreError> {
    serde_json::from_str(facts).map_err(|_error| StoreError::Inconsistent { table: "notification", column: "facts", id })
}

/// What is no more because of what has become of operations.
#[derive(Debug, Default)]
pub(super) struct Gone {
    /// Operations that have become a part of others.
    pub(super) operations: Vec<i64>,
    /// Lookups that led to one of these, or to an operation by what is no longer its id or its context: each hash with the operation.
    pub(super) lookups: Vec<(i64, i64)>,
}

impl Gone {
    pub(super) const fn is_empty(&self) -> bool {
        self.operations.is_empty() && self.lookups.is_empty()
    }

    /// An operation is no more.
    pub(super) fn operation(&mut self, operation: &Operation) {
        self.operations.push(operation.id.0.0);
        self.lookups(operation, (None, None));
    }

    /// What an operation was found by, unless it still is.
    pub(super) fn lookups(&mut self, was: &Operation, found_by: (Option<i64>, Option<i64>)) {
        let still = [found_by.0, found_by.1];
        let (by_id, by_context) = found_by_of(was);
        let gone = [by_id, by_context].into_iter().flatten().filter(|hash| !still.contains(&Some(*hash)));
        self.lookups.extend(gone.map(|hash| (hash, was.id.0.0)));
    }
}

/// Saves what operations have become, and removes what is no more.
pub(super) async fn save_operations(
    connection: &mut SqliteConnection,
    saved: &[SavedOperation],
    gone: &Gone,
) -> Result<(), StoreError> {
    if !gone.lookups.is_empty() {
        lookup::forget(connection, Going::Lookups, &json(&gone.lookups)?).await?;
    }
    if !gone.operations.is_empty() {
        sqlx::query("DELETE FROM operation WHERE id IN (SELECT value FROM jsonb_each(?1))")
            .bind(json(&gone.operations)?)
            .execute(&mut *connection)
            .await?;
    }
    if saved.is_empty() {
        return Ok(());
    }
    let mut step = Step::default();
    add_operations(&mut step, operation_rows(saved)?)?;
    step.execute(connection).await?;
    Ok(())
}

pub(super) fn operation_rows(saved: &[SavedOperation]) -> Result<Rows<23>, StoreError> {
    saved.iter().map(operation_row).collect()
}

pub(super) fn operation_row(saved: &SavedOperation) -> Result<[Cell; 23], StoreError> {
    let SavedOperation { call, source, subject, operation, found_by } = saved;
    let milliseconds = |time: Option<Timestamp>| Cell::from(time.map(Timestamp::as_millisecond));
    let links = Some(&operation.links).filter(|links| **links != Links::default());
    let state = operation.state.as_str();
    let subcode = operation.result.as_ref().and_then(|result| result.subcode);
    let class = Class { source, state: Some(state), subcode, kind: Some(&operation.kind) };
    Ok([
        operation.id.0.0.into(),
        (*call).into(),
        subject.as_str().into(),
        operation.operation_id.as_ref().into(),
        found_by.0.into(),
        Cell::word(&operation.kind),
        operation.context.as_deref().into(),
        found_by.1.into(),
        Cell::word(state),
        operation.result.as_ref().map(json).transpose()?.into(),
        subcode.into(),
        milliseconds(operation.accepted_at),
        milliseconds(operation.started_at),
        milliseconds(operation.finished_at),
        operation.first_seen_at.as_millisecond().into(),
        operation.updated_at.as_millisecond().into(),
        Cell::word(&json(&operation.flags)?),
        operation.facts.len().into(),
        milliseconds(operation.requested_at),
        milliseconds(operation.deadline),
        links.map(json).transpose()?.into(),
        Cell::word(source),
        class.hash().into(),
    ])
}

/// Saves new calls, and what has become of known ones.
pub(super) async fn save_calls(connection: &mut SqliteConnection, saved: &[SavedCall]) -> Result<(), StoreError> {
    if saved.is_empty() {
        return Ok(());
    }
    let mut step = Step::default();
    add_calls(&mut step, call_rows(saved)?)?;
    step.execute(connection).await?;
    Ok(())
}

pub(super) fn call_rows(saved: &[SavedCall]) -> Result<Rows<16>, StoreError> {
    saved.iter().map(call_row).collect()
}

pub(super) fn call_row(call: &SavedCall) -> Result<[Cell; 16], StoreError> {
    let hash = |id: Option<&PlatformId>| Cell::from(id.and_then(lookup::hash_of));
    let state = call.story.state().map(CallState::as_str);
    Ok([
        call.id.into(),
        (&call.call_id).into(),
        Cell::word(&call.source),
        (&call.receiver).into(),
        (&call.audience).into(),
        call.tenant.as_ref().into(),
        call.first_seen_at.into(),
        call.data_key.clone().into(),
        state.map_or(Cell::Null, Cell::word),
        call.story.chain_id.as_deref().into(),
        json(&call.story)?.into(),
        hash(call.story.correlation_id.as_ref()),
        hash(call.story.server_call_id.as_ref()),
        call.lapses_at.into(),
        hash(call.story.connected_as.as_ref()),
        Class { source: &call.source, state, ..Class::default() }.hash().into(),
    ])
}
