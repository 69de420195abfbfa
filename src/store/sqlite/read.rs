//! Every query of the API, each bounded in rows and in time.
//!
//! Lists are keyset pages over the primary key. Of several conditions the most telling one leads and may use its index;
//! the others carry a unary `+`, which keeps SQLite from choosing a worse one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, SqlitePool, pool::PoolConnection};
use tokio::sync::broadcast;

use super::{
    batch::{QUARANTINE, instant, json, quarantine_subject},
    body_place, call_key_place, delivery_key_place, lookup_hash,
    projection::{held_facts, read_facts},
};
use crate::{
    domain::{
        call::CallStory,
        ids::{DeliveryId, NotificationId, OperationId, PlatformId, RejectionId, Seq},
        notification::Disposition,
        operation::{Deadlines, Flag, Operation, State, Transition, operations},
        rejection::RejectionReason,
        result::ResultInfo,
    },
    store::{
        Changes, MasterKey, StoreError,
        rows::{
            CallFilter, CallRow, ChangedOperation, DeliveryRow, NotificationFilter, NotificationRow, OperationFilter,
            OperationRow, Page, PageRequest, RejectionFilter, RejectionRow,
        },
    },
};

/// How long a query may run.
const QUERY_TIME: Duration = Duration::from_secs(2);
/// How many instructions of SQLite's machine pass between two looks at the clock.
const LOOK_EVERY: i32 = 10_000;

/// Reads the ledger. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LedgerReader {
    pool: SqlitePool,
    master: Arc<MasterKey>,
    deadlines: Arc<Deadlines>,
    changes: Option<Changes>,
}

impl LedgerReader {
    pub(in crate::store) fn new(
        pool: SqlitePool,
        master: Arc<MasterKey>,
        deadlines: Deadlines,
        changes: Option<Changes>,
    ) -> Self {
        Self { pool, master, deadlines: Arc::new(deadlines), changes }
    }

    /// The operations that each commit from now on adds or changes; `None` if the writer is in another process.
    #[must_use]
    pub fn changes(&self) -> Option<broadcast::Receiver<Arc<Vec<ChangedOperation>>>> {
        self.changes.as_ref().map(broadcast::Sender::subscribe)
    }

    pub(super) fn master(&self) -> &MasterKey {
        &self.master
    }

    /// A connection whose statements are stopped when their time is over.
    pub(super) async fn connection(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let end = Instant::now() + QUERY_TIME;
        connection.lock_handle().await?.set_progress_handler(LOOK_EVERY, move || Instant::now() < end);
        Ok(connection)
    }

    /// A connection for upkeep, which may take its time.
    pub(super) async fn patient_connection(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        connection.lock_handle().await?.remove_progress_handler();
        Ok(connection)
    }

    /// Whether the ledger can be read.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        sqlx::query("SELECT 1 FROM ledger").execute(&mut *connection).await?;
        Ok(())
    }

    /// Closes every connection, so that the writer's is the last and leaves no WAL behind.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// A page of operations as of `now`, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn operations(
        &self,
        filter: &OperationFilter,
        page: PageRequest,
        now: Timestamp,
    ) -> Result<Page<OperationRow>, StoreError> {
        let mut sql = QueryBuilder::new(SELECT_OPERATION);
        let mut lead = Lead::default();
        if let Some(call) = &filter.call_id {
            let of_calls = " AND {}operation.call_id IN (SELECT id FROM call AS asked WHERE asked.call_id = ";
            lead.push(&mut sql, of_calls).push_bind(call.as_str()).push(")");
        }
        if let Some(id) = &filter.operation_id {
            lead.push(&mut sql, " AND {}operation_hash = ").push_bind(lookup_hash(id.as_str()));
        }
        if let Some(context) = &filter.context {
            lead.push(&mut sql, " AND {}context_hash = ").push_bind(lookup_hash(context));
        }
        if let Some(overdue) = filter.overdue {
            self.push_overdue(&mut sql, overdue, now)?;
            lead.taken |= overdue;
        }
        match filter.open {
            Some(true) => {
                sql.push(" AND operation.state IN ('requested', 'accepted', 'running')");
                lead.taken = true;
            }
            Some(false) => {
                sql.push(" AND +operation.state NOT IN ('requested', 'accepted', 'running')");
            }
            None => {}
        }
        if let Some(subcode) = filter.subcode {
            lead.push(&mut sql, " AND {}subcode = ").push_bind(subcode);
        }
        if let Some(state) = filter.state {
            lead.push(&mut sql, " AND {}operation.state = ").push_bind(state.as_str());
        }
        if let Some(kind) = &filter.kind {
            lead.push(&mut sql, " AND {}kind = ").push_bind(kind);
        }
        if let Some(source) = &filter.source {
            sql.push(" AND +source = ").push_bind(source);
        }
        times(&mut sql, "operation.id", "operation.first_seen_at", filter.since, filter.until);
        newest_first(&mut sql, "operation.id", page);

        let mut connection = self.connection().await?;
        let rows: Vec<OperationSql> = sql.build_query_as().fetch_all(&mut *connection).await?;
        let rows = rows.into_iter().map(|row| row.read(&self.deadlines, now)).collect::<Result<Vec<_>, _>>()?;
        Ok(paged(rows, page, |row| row.id.0))
    }

    /// One operation as of `now`, by its id or by the id of any fact that has become a part of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn operation(&self, id: OperationId, now: Timestamp) -> Result<Option<OperationRow>, StoreError> {
        let mut connection = self.connection().await?;
        if let Some(row) = self.operation_row(&mut connection, id, now).await? {
            return Ok(Some(row));
        }
        let fact = NotificationId(id.0);
        let Some(told) = told_by(&mut connection, fact).await? else { return Ok(None) };
        let Some(operation) = told.into_iter().find(|operation| operation.facts.contains(&fact)) else { return Ok(None) };
        self.operation_row(&mut connection, operation.id, now).await
    }

    async fn operation_row(
        &self,
        connection: &mut SqliteConnection,
        id: OperationId,
        now: Timestamp,
    ) -> Result<Option<OperationRow>, StoreError> {
        let mut sql = QueryBuilder::new(SELECT_OPERATION);
        sql.push(" AND operation.id = ").push_bind(id.0.0);
        let row: Option<OperationSql> = sql.build_query_as().fetch_optional(connection).await?;
        row.map(|row| row.read(&self.deadlines, now)).transpose()
    }

    /// The states that an operation went through, oldest first; `None` if there is no such operation.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn history(&self, id: OperationId) -> Result<Option<Vec<Transition>>, StoreError> {
        let mut connection = self.connection().await?;
        let fact = NotificationId(id.0);
        let told = told_by(&mut connection, fact).await?;
        let operation = told.and_then(|told| told.into_iter().find(|operation| operation.facts.contains(&fact)));
        Ok(operation.map(|operation| operation.history))
    }

    /// A page of calls, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn calls(&self, filter: &CallFilter, page: PageRequest) -> Result<Page<CallRow>, StoreError> {
        let mut sql = QueryBuilder::new(SELECT_CALL);
        if let Some(state) = &filter.state {
            sql.push(" AND call.state = ").push_bind(state);
        }
        if let Some(source) = &filter.source {
            sql.push(" AND +call.source = ").push_bind(source);
        }
        times(&mut sql, "call.id", "call.first_seen_at", filter.since, filter.until);
        newest_first(&mut sql, "call.id", page);
        let mut connection = self.connection().await?;
        let rows: Vec<CallSql> = sql.build_query_as().fetch_all(&mut *connection).await?;
        let rows = rows.into_iter().map(CallSql::read).collect::<Result<Vec<_>, _>>()?;
        Ok(paged(rows, page, |row| row.id))
    }

    /// The calls with this platform id, one per source at the most.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn call(&self, call_id: &PlatformId) -> Result<Vec<CallRow>, StoreError> {
        let mut sql = QueryBuilder::new(SELECT_CALL);
        sql.push(" AND call.call_id = ").push_bind(call_id.as_str());
        let mut connection = self.connection().await?;
        let rows: Vec<CallSql> = sql.build_query_as().fetch_all(&mut *connection).await?;
        rows.into_iter().map(CallSql::read).collect()
    }

    /// Everything that was believed about a call, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn timeline(&self, call_id: &PlatformId, page: PageRequest) -> Result<Page<NotificationRow>, StoreError> {
        let mut sql = QueryBuilder::new(SELECT_NOTIFICATION);
        sql.push(" AND notification.call_id IN (SELECT id FROM call AS asked WHERE asked.call_id = ")
            .push_bind(call_id.as_str())
            .push(")");
        if let Some(after) = page.after {
            sql.push(" AND +notification.id > ").push_bind(after.0);
        }
        sql.push(" ORDER BY notification.id LIMIT ").push_bind(i64::from(page.limit) + 1);
        self.notification_page(sql, page).await
    }

    /// A page of notifications, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn notifications(
        &self,
        filter: &NotificationFilter,
        page: PageRequest,
    ) -> Result<Page<NotificationRow>, StoreError> {
        let mut sql = QueryBuilder::new(SELECT_NOTIFICATION);
        let mut lead = Lead::default();
        if let Some(call) = &filter.call_id {
            let calls = " AND (notification.call_id IN (SELECT id FROM call AS asked WHERE asked.call_id = ";
            sql.push(calls).push_bind(call.as_str());
            sql.push(") OR (notification.call_id = 0 AND notification.subject = ").push_bind(quarantine_subject(call)).push("))");
            lead.taken = true;
        }
        if let Some(disposition) = filter.disposition {
            let lead_or_not = if disposition == Disposition::Applied { " AND +disposition = " } else { " AND {}disposition = " };
            lead.push(&mut sql, lead_or_not).push_bind(disposition.as_str());
            if disposition != Disposition::Applied {
                // Lets SQLite see that the partial index holds them all.
                sql.push(" AND disposition <> 'applied'");
            }
        }
        if let Some(kind) = &filter.kind {
            lead.push(&mut sql, " AND {}kind = ").push_bind(kind);
        }
        if let Some(source) = &filter.source {
            sql.push(" AND +delivery.source = ").push_bind(source);
        }
        times(&mut sql, "notification.id", "notification.received_at", filter.since, filter.until);
        newest_first(&mut sql, "notification.id", page);
        self.notification_page(sql, page).await
    }

    async fn notification_page(
        &self,
        mut sql: QueryBuilder<Sqlite>,
        page: PageRequest,
    ) -> Result<Page<NotificationRow>, StoreError> {
        let mut connection = self.connection().await?;
        let rows: Vec<NotificationSql> = sql.build_query_as().fetch_all(&mut *connection).await?;
        let told = tellers(&mut connection, &rows).await?;
        let rows = rows.into_iter().map(|row| row.read(&told)).collect::<Result<Vec<_>, _>>()?;
        Ok(paged(rows, page, |row| row.id.0))
    }

    /// One notification.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn notification(&self, id: NotificationId) -> Result<Option<NotificationRow>, StoreError> {
        let mut sql = QueryBuilder::new(SELECT_NOTIFICATION);
        sql.push(" AND notification.id = ").push_bind(id.0.0);
        let page = PageRequest { after: None, limit: 1 };
        Ok(self.notification_page(sql, page).await?.rows.pop())
    }

    /// The delivery that brought a notification, as received; `None` if there is no such notification.
    ///
    /// # Errors
    /// [`StoreError`], also if the body does not open.
    pub async fn delivery_of(&self, id: NotificationId) -> Result<Option<DeliveryRow>, StoreError> {
        type Row = (i64, Option<i64>, Option<Vec<u8>>, Option<Vec<u8>>);
        let mut connection = self.connection().await?;
        let row: Option<Row> = sqlx::query_as(
            "SELECT delivery.id, sealed_for, coalesce(delivery.data_key, call.data_key), body
             FROM notification
             JOIN delivery ON delivery.id = delivery_id
             LEFT JOIN call ON call.id = sealed_for
             WHERE notification.id = ?1",
        )
        .bind(id.0.0)
        .fetch_optional(&mut *connection)
        .await?;
        let Some((delivery, sealed_for, data_key, body)) = row else { return Ok(None) };
        let place = sealed_for.map_or_else(|| delivery_key_place(delivery), call_key_place);
        let body = match (data_key, body) {
            (Some(data_key), Some(body)) => {
                Some(self.master.data_key(&place, &data_key)?.open(&body_place(delivery), &body)?.to_vec())
            }
            _ => None,
        };
        Ok(Some(DeliveryRow { body }))
    }

    /// A page of rejections, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rejections(&self, filter: &RejectionFilter, page: PageRequest) -> Result<Page<RejectionRow>, StoreError> {
        let mut sql = QueryBuilder::new(
            "SELECT id, at, last_at, count, receiver, reason, peer, key_id, issuer, user_agent FROM rejection WHERE true",
        );
        if let Some(reason) = filter.reason {
            sql.push(" AND reason = ").push_bind(reason.as_str());
        }
        if let Some(receiver) = &filter.receiver {
            sql.push(" AND receiver = ").push_bind(receiver);
        }
        if let Some(since) = filter.since {
            sql.push(" AND last_at >= ").push_bind(since.as_millisecond());
        }
        newest_first(&mut sql, "id", page);
        let mut connection = self.connection().await?;
        let rows: Vec<RejectionSql> = sql.build_query_as().fetch_all(&mut *connection).await?;
        let rows = rows.into_iter().map(RejectionSql::read).collect::<Result<Vec<_>, _>>()?;
        Ok(paged(rows, page, |row| row.id.0))
    }

    /// Open, and open for longer than its kind may be. The open ones are few, and have an index of their own.
    fn push_overdue(&self, sql: &mut QueryBuilder<Sqlite>, overdue: bool, now: Timestamp) -> Result<(), StoreError> {
        let milliseconds = |allowed: &Duration| i64::try_from(allowed.as_millis()).unwrap_or(i64::MAX / 2);
        let by_kind: BTreeMap<&str, i64> =
            self.deadlines.by_kind.iter().map(|(kind, allowed)| (kind.as_str(), milliseconds(allowed))).collect();
        sql.push(if overdue { " AND (" } else { " AND NOT (+" })
            .push("operation.state IN ('requested', 'accepted', 'running') AND operation.first_seen_at + coalesce(")
            .push("(SELECT allowed.value FROM json_each(")
            .push_bind(json(&by_kind)?)
            .push(") AS allowed WHERE allowed.key = operation.kind), ")
            .push_bind(milliseconds(&self.deadlines.default))
            .push(") <= ")
            .push_bind(now.as_millisecond())
            .push(")");
        Ok(())
    }
}

// ---- the building of lists

/// The first condition may use its index, the others may not.
#[derive(Default)]
struct Lead {
    taken: bool,
}

impl Lead {
    /// Pushes a condition in which `{}` stands before the column.
    fn push<'q>(&mut self, sql: &'q mut QueryBuilder<Sqlite>, condition: &'static str) -> &'q mut QueryBuilder<Sqlite> {
        let (before, after) = condition.split_once("{}").unwrap_or((condition, ""));
        sql.push(before).push(if self.taken { "+" } else { "" }).push(after);
        self.taken = true;
        sql
    }
}

/// Ids are microseconds at the writer, times are milliseconds at the door: an id is never before its time, and follows
/// it within the queue's patience. The slack allows for a clock that was set back meanwhile.
const SLACK: Duration = Duration::from_mins(1);

fn times(
    sql: &mut QueryBuilder<Sqlite>,
    id: &'static str,
    time: &'static str,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) {
    if let Some(since) = since {
        let from = since.checked_sub(SLACK).unwrap_or(Timestamp::MIN);
        sql.push(" AND ").push(id).push(" >= ").push_bind(from.as_microsecond());
        sql.push(" AND +").push(time).push(" >= ").push_bind(since.as_millisecond());
    }
    if let Some(until) = until {
        let to = until.checked_add(SLACK).unwrap_or(Timestamp::MAX);
        sql.push(" AND ").push(id).push(" < ").push_bind(to.as_microsecond());
        sql.push(" AND +").push(time).push(" < ").push_bind(until.as_millisecond());
    }
}

fn newest_first(sql: &mut QueryBuilder<Sqlite>, id: &'static str, page: PageRequest) {
    if let Some(after) = page.after {
        sql.push(" AND ").push(id).push(" < ").push_bind(after.0);
    }
    sql.push(" ORDER BY ").push(id).push(" DESC LIMIT ").push_bind(i64::from(page.limit) + 1);
}

/// One row more than the limit was asked for: if it came, there is a next page.
fn paged<T>(mut rows: Vec<T>, page: PageRequest, position: impl Fn(&T) -> Seq) -> Page<T> {
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = if more { rows.last().map(position) } else { None };
    Page { rows, next }
}

fn read_json<T: serde::de::DeserializeOwned + Default>(
    table: &'static str,
    column: &'static str,
    id: i64,
    text: Option<&str>,
) -> Result<T, StoreError> {
    let Some(text) = text else { return Ok(T::default()) };
    serde_json::from_str(text).map_err(|_error| StoreError::Inconsistent { table, column, id })
}

// ---- operations

const SELECT_OPERATION: &str = "SELECT operation.id, call.source, call.receiver, call.tenant_id, call.call_id,
        operation_id, kind, context, operation.state, result, accepted_at, started_at, finished_at,
        operation.first_seen_at, updated_at, flags, notifications,
        (SELECT coalesce(sum(duplicates), 0)
         FROM notification
         WHERE notification.call_id = operation.call_id AND notification.subject = operation.subject) AS duplicates
 FROM operation
 JOIN call ON call.id = operation.call_id
 WHERE true";

#[derive(sqlx::FromRow)]
struct OperationSql {
    id: i64,
    source: String,
    receiver: String,
    tenant_id: Option<String>,
    call_id: String,
    operation_id: Option<String>,
    kind: String,
    context: Option<String>,
    state: String,
    result: Option<String>,
    accepted_at: Option<i64>,
    started_at: Option<i64>,
    finished_at: Option<i64>,
    first_seen_at: i64,
    updated_at: i64,
    flags: String,
    notifications: i64,
    duplicates: i64,
}

impl OperationSql {
    fn read(self, deadlines: &Deadlines, now: Timestamp) -> Result<OperationRow, StoreError> {
        let id = self.id;
        let wrong = |column| StoreError::Inconsistent { table: "operation", column, id };
        let time = |at: Option<i64>| at.map(|at| instant("operation", id, at)).transpose();
        let state = State::parse(&self.state).ok_or_else(|| wrong("state"))?;
        let first_seen_at = instant("operation", id, self.first_seen_at)?;
        let deadline = (!state.is_final()).then(|| deadlines.deadline(&self.kind, first_seen_at));
        Ok(OperationRow {
            id: OperationId(Seq(id)),
            source: self.source,
            receiver: self.receiver,
            tenant_id: self.tenant_id,
            call_id: PlatformId::parse(&self.call_id).ok_or_else(|| wrong("call_id"))?,
            operation_id: self.operation_id.as_deref().and_then(PlatformId::parse),
            kind: self.kind,
            context: self.context,
            state,
            result: read_json::<Option<ResultInfo>>("operation", "result", id, self.result.as_deref())?,
            accepted_at: time(self.accepted_at)?,
            started_at: time(self.started_at)?,
            finished_at: time(self.finished_at)?,
            first_seen_at,
            updated_at: instant("operation", id, self.updated_at)?,
            flags: read_json::<Vec<Flag>>("operation", "flags", id, Some(&self.flags))?,
            notifications: self.notifications,
            duplicates: self.duplicates,
            deadline,
            overdue: deadline.is_some_and(|deadline| deadline <= now),
        })
    }
}

/// The operations that the facts around one notification tell; `None` if it tells none.
async fn told_by(connection: &mut SqliteConnection, fact: NotificationId) -> Result<Option<Vec<Operation>>, StoreError> {
    let subject: Option<(i64, String)> =
        sqlx::query_as("SELECT call_id, subject FROM notification WHERE id = ?1 AND call_id <> 0")
            .bind(fact.0.0)
            .fetch_optional(&mut *connection)
            .await?;
    let Some(subject) = subject else { return Ok(None) };
    let held: Vec<_> = held_facts(connection, &json(&[subject])?).await?.into_iter().map(|(_, _, held)| held).collect();
    Ok(Some(operations(&held)))
}

/// Which operation each of these notifications tells.
async fn tellers(
    connection: &mut SqliteConnection,
    rows: &[NotificationSql],
) -> Result<BTreeMap<NotificationId, OperationId>, StoreError> {
    let subjects: BTreeSet<(i64, &str)> =
        rows.iter().filter(|row| row.call != 0).map(|row| (row.call, row.subject.as_str())).collect();
    let mut stories: BTreeMap<(i64, String), Vec<_>> = BTreeMap::new();
    for (call, subject, held) in held_facts(connection, &json(&subjects)?).await? {
        stories.entry((call, subject)).or_default().push(held);
    }
    Ok(stories
        .values()
        .flat_map(|held| operations(held))
        .flat_map(|operation| operation.facts.into_iter().map(move |fact| (fact, operation.id)))
        .collect())
}

// ---- calls

const SELECT_CALL: &str = "SELECT call.id, source, call_id, receiver, tenant_id, first_seen_at, story,
        (SELECT json_group_array(other.call_id ORDER BY other.id)
         FROM (SELECT id, call_id
               FROM call AS related
               WHERE related.chain_id = call.chain_id AND related.id <> call.id
               ORDER BY id
               LIMIT 50) AS other) AS related,
        (SELECT json_group_object(state, number)
         FROM (SELECT state, count(*) AS number
               FROM operation
               WHERE operation.call_id = call.id
               GROUP BY state)) AS operations,
        (SELECT count(*) FROM notification WHERE notification.call_id = call.id) AS notifications
 FROM call
 WHERE true";

#[derive(sqlx::FromRow)]
struct CallSql {
    id: i64,
    source: String,
    call_id: String,
    receiver: String,
    tenant_id: Option<String>,
    first_seen_at: i64,
    story: String,
    related: String,
    operations: String,
    notifications: i64,
}

impl CallSql {
    fn read(self) -> Result<CallRow, StoreError> {
        let id = self.id;
        let operations: BTreeMap<String, i64> = read_json("call", "operations", id, Some(&self.operations))?;
        Ok(CallRow {
            id: Seq(id),
            source: self.source,
            call_id: PlatformId::parse(&self.call_id).ok_or(StoreError::Inconsistent { table: "call", column: "call_id", id })?,
            receiver: self.receiver,
            tenant_id: self.tenant_id,
            first_seen_at: instant("call", id, self.first_seen_at)?,
            story: read_json::<CallStory>("call", "story", id, Some(&self.story))?,
            related_calls: read_json("call", "related", id, Some(&self.related))?,
            operations: operations.iter().filter_map(|(state, number)| Some((State::parse(state)?, *number))).collect(),
            notifications: self.notifications,
        })
    }
}

// ---- notifications

const SELECT_NOTIFICATION: &str = "SELECT notification.id, delivery_id, delivery.source, delivery.receiver,
        notification.received_at, notification.call_id AS call, call.call_id, subject, disposition, facts, duplicates,
        last_duplicate_at, correlation
 FROM notification
 JOIN delivery ON delivery.id = delivery_id
 LEFT JOIN call ON call.id = notification.call_id
 WHERE true";

#[derive(sqlx::FromRow)]
struct NotificationSql {
    id: i64,
    delivery_id: i64,
    source: String,
    receiver: String,
    received_at: i64,
    call: i64,
    call_id: Option<String>,
    subject: String,
    disposition: String,
    facts: String,
    duplicates: i64,
    last_duplicate_at: Option<i64>,
    correlation: Option<String>,
}

impl NotificationSql {
    fn read(self, told: &BTreeMap<NotificationId, OperationId>) -> Result<NotificationRow, StoreError> {
        let id = NotificationId(Seq(self.id));
        let wrong = |column| StoreError::Inconsistent { table: "notification", column, id: self.id };
        let claimed = || self.subject.strip_prefix(QUARANTINE);
        Ok(NotificationRow {
            id,
            delivery: DeliveryId(Seq(self.delivery_id)),
            call_id: self.call_id.as_deref().or_else(claimed).and_then(PlatformId::parse),
            source: self.source,
            receiver: self.receiver,
            received_at: instant("notification", self.id, self.received_at)?,
            operation: told.get(&id).copied(),
            disposition: Disposition::parse(&self.disposition).ok_or_else(|| wrong("disposition"))?,
            facts: read_facts(self.id, &self.facts)?,
            duplicates: self.duplicates,
            correlation: read_json("delivery", "correlation", self.delivery_id, self.correlation.as_deref())?,
            last_duplicate_at: self.last_duplicate_at.map(|at| instant("notification", self.id, at)).transpose()?,
        })
    }
}

// ---- rejections

#[derive(sqlx::FromRow)]
struct RejectionSql {
    id: i64,
    at: i64,
    last_at: i64,
    count: i64,
    receiver: String,
    reason: String,
    peer: Option<String>,
    key_id: Option<String>,
    issuer: Option<String>,
    user_agent: Option<String>,
}

impl RejectionSql {
    fn read(self) -> Result<RejectionRow, StoreError> {
        let reason = RejectionReason::parse(&self.reason);
        Ok(RejectionRow {
            id: RejectionId(Seq(self.id)),
            at: instant("rejection", self.id, self.at)?,
            last_at: instant("rejection", self.id, self.last_at)?,
            count: self.count,
            receiver: self.receiver,
            reason: reason.ok_or(StoreError::Inconsistent { table: "rejection", column: "reason", id: self.id })?,
            peer: self.peer,
            key_id: self.key_id,
            unverified_issuer: self.issuer,
            user_agent: self.user_agent,
        })
    }
}
