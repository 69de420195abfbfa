//! How the derived rows are loaded and saved. Shared by the writer and by `db rebuild`.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::SqliteConnection;

use super::{
    batch::{instant, json},
    lookup,
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

/// The statement that saves what operations have become, with its parameter: JSON of [`operation_row`]s.
macro_rules! save_operations_sql {
    ($rows:literal) => {
        concat!(
            "INSERT INTO operation
             (id, call_id, subject, operation_id, operation_hash, kind, context, context_hash, state, result, subcode,
              accepted_at, started_at, finished_at, first_seen_at, updated_at, flags, notifications, source,
              requested_at, deadline, links)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7,
                value ->> 8, nullif(value -> 9, 'null'), value ->> '$[9].subcode', value ->> '$[10][0]',
                value ->> '$[10][1]', value ->> '$[10][2]', value ->> '$[10][3]', value ->> '$[10][4]', value -> 11,
                value ->> 12, (SELECT source FROM call WHERE id = value ->> 1),
                value ->> '$[13][0]', value ->> '$[13][1]', nullif(value -> '$[13][2]', 'null')
         FROM jsonb_each(",
            $rows,
            ")
         WHERE true
         ON CONFLICT (id) DO UPDATE SET
             call_id = excluded.call_id, subject = excluded.subject,
             operation_id = excluded.operation_id, operation_hash = excluded.operation_hash, kind = excluded.kind,
             context = excluded.context, context_hash = excluded.context_hash, state = excluded.state,
             result = excluded.result, subcode = excluded.subcode, accepted_at = excluded.accepted_at,
             started_at = excluded.started_at, finished_at = excluded.finished_at,
             first_seen_at = excluded.first_seen_at, updated_at = excluded.updated_at, flags = excluded.flags,
             notifications = excluded.notifications, source = excluded.source, requested_at = excluded.requested_at,
             deadline = excluded.deadline, links = excluded.links"
        )
    };
}
pub(super) use save_operations_sql;

/// The statement that saves calls, with its parameter: JSON of [`call_row`]s.
macro_rules! save_calls_sql {
    ($rows:literal) => {
        concat!(
            "INSERT INTO call
             (id, source, call_id, receiver, audience, tenant_id, first_seen_at, data_key, state, chain_id, story,
              correlation_hash, server_call_hash, lapses_at, connected_hash)
         SELECT value ->> 0, value ->> '$[1][0]', value ->> '$[1][1]', value ->> '$[1][2]', value ->> '$[1][3]',
                value ->> '$[1][4]', value ->> 2, unhex(value ->> 3), value ->> 4, value ->> '$[5].chainId', value -> 5,
                value ->> '$[6][0]', value ->> '$[6][1]', value ->> '$[6][2]', value ->> '$[6][3]'
         FROM jsonb_each(",
            $rows,
            ")
         WHERE true
         ON CONFLICT (id) DO UPDATE SET
             state = excluded.state, chain_id = excluded.chain_id, story = excluded.story,
             correlation_hash = excluded.correlation_hash, server_call_hash = excluded.server_call_hash,
             connected_hash = excluded.connected_hash,
             lapses_at = coalesce(lapses_at, excluded.lapses_at),
             receiver = CASE WHEN audience = '' THEN excluded.receiver ELSE receiver END,
             tenant_id = CASE WHEN audience = '' THEN excluded.tenant_id ELSE tenant_id END,
             audience = CASE WHEN audience = '' THEN excluded.audience ELSE audience END"
        )
    };
}
pub(super) use save_calls_sql;

/// An operation on its way to its row.
#[derive(Clone, Debug)]
pub(super) struct SavedOperation {
    pub(super) call: i64,
    pub(super) subject: String,
    pub(super) operation: Operation,
    /// Hashes of its id and of its context.
    pub(super) found_by: (Option<i64>, Option<i64>),
}

impl SavedOperation {
    pub(super) fn new(call: i64, subject: String, operation: Operation) -> Self {
        let id = operation.operation_id.as_ref().map(PlatformId::as_str);
        let found_by = (id.and_then(lookup::hash), operation.context.as_deref().and_then(lookup::hash));
        Self { call, subject, operation, found_by }
    }

    /// Whether this, which it was before, is found by the same.
    pub(super) fn is_found_like(&self, was: &Operation) -> bool {
        was.operation_id == self.operation.operation_id && was.context == self.operation.context
    }
}

/// A call on its way to its row. The left half is written once, the story again and again.
#[derive(Debug)]
pub(super) struct SavedCall {
    pub(super) id: i64,
    pub(super) source: String,
    pub(super) call_id: PlatformId,
    pub(super) receiver: String,
    pub(super) audience: String,
    pub(super) tenant: Option<String>,
    pub(super) first_seen_at: i64,
    pub(super) data_key: Option<String>,
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

/// Saves what operations have become, and removes those that have become a part of others.
pub(super) async fn save_operations(
    connection: &mut SqliteConnection,
    saved: &[SavedOperation],
    gone: &[i64],
) -> Result<(), StoreError> {
    if !gone.is_empty() {
        sqlx::query("DELETE FROM operation WHERE id IN (SELECT value FROM jsonb_each(?1))")
            .bind(json(gone)?)
            .execute(&mut *connection)
            .await?;
    }
    if saved.is_empty() {
        return Ok(());
    }
    sqlx::query(save_operations_sql!("?1")).bind(operation_rows(saved)?).execute(connection).await?;
    Ok(())
}

pub(super) fn operation_rows(saved: &[SavedOperation]) -> Result<String, StoreError> {
    json(&saved.iter().map(operation_row).collect::<Result<Vec<_>, _>>()?)
}

pub(super) fn operation_row(saved: &SavedOperation) -> Result<Box<RawValue>, StoreError> {
    let SavedOperation { call, subject, operation, found_by } = saved;
    let milliseconds = |time: Option<Timestamp>| time.map(Timestamp::as_millisecond);
    let id = operation.operation_id.as_ref().map(PlatformId::as_str);
    let context = operation.context.as_deref();
    let times = (
        milliseconds(operation.accepted_at),
        milliseconds(operation.started_at),
        milliseconds(operation.finished_at),
        operation.first_seen_at.as_millisecond(),
        operation.updated_at.as_millisecond(),
    );
    let links = Some(&operation.links).filter(|links| **links != Links::default());
    let row = (
        operation.id.0,
        call,
        subject,
        id,
        found_by.0,
        &operation.kind,
        context,
        found_by.1,
        operation.state.as_str(),
        &operation.result,
        times,
        &operation.flags,
        operation.facts.len(),
        (milliseconds(operation.requested_at), milliseconds(operation.deadline), links),
    );
    serde_json::value::to_raw_value(&row).map_err(|error| StoreError::Database(sqlx::Error::Encode(Box::new(error))))
}

/// Saves new calls, and what has become of known ones.
pub(super) async fn save_calls(connection: &mut SqliteConnection, saved: &[SavedCall]) -> Result<(), StoreError> {
    if saved.is_empty() {
        return Ok(());
    }
    sqlx::query(save_calls_sql!("?1")).bind(call_rows(saved)?).execute(connection).await?;
    Ok(())
}

pub(super) fn call_rows(saved: &[SavedCall]) -> Result<String, StoreError> {
    json(&saved.iter().map(call_row).collect::<Vec<_>>())
}

pub(super) fn call_row(call: &SavedCall) -> impl Serialize {
    let whose = (&call.source, &call.call_id, &call.receiver, &call.audience, &call.tenant);
    let state = call.story.state().map(CallState::as_str);
    let conversation = (call.story.correlation_id.as_ref(), call.story.server_call_id.as_ref());
    let hash = |id: Option<&PlatformId>| id.and_then(|id| lookup::hash(id.as_str()));
    let connected = hash(call.story.connected_as.as_ref());
    let derived = (hash(conversation.0), hash(conversation.1), call.lapses_at, connected);
    (call.id, whose, call.first_seen_at, &call.data_key, state, &call.story, derived)
}
