//! Operations, and their histories.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sqlx::{QueryBuilder, SqliteConnection};

use super::{
    LedgerReader,
    class::{Asked, Table},
    operation_page::{OPEN, SELECT_OPERATION, overdue_sql},
    read_json,
};
use crate::{
    domain::{
        call::Release,
        ids::{NotificationId, OperationId, PlatformId, Seq},
        operation::{Deadlines, Flag, Lapse, Links, Operation, State, Transition, operations},
        result::ResultInfo,
    },
    store::{
        StoreError,
        rows::OperationRow,
        sqlite::{
            batch::{instant, json},
            facts,
            projection::{self, held_facts},
            requests::PLACE,
        },
    },
};

impl LedgerReader {
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
        let Some(told) = told_by(&mut connection, fact, now).await? else { return Ok(None) };
        let Some(operation) = told.into_iter().find(|operation| tells(operation, fact)) else { return Ok(None) };
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
        let rows: Vec<OperationSql> = sql.build_query_as().fetch_all(&mut *connection).await?;
        Ok(self.read(connection, rows, now).await?.pop())
    }

    /// The operations of these ids as of `now`.
    pub(super) async fn operations_at(
        &self,
        ids: &BTreeSet<i64>,
        now: Timestamp,
    ) -> Result<BTreeMap<i64, OperationRow>, StoreError> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut sql = QueryBuilder::new(SELECT_OPERATION);
        sql.push(" AND operation.id IN (SELECT value FROM jsonb_each(").push_bind(json(ids)?).push("))");
        let mut connection = self.connection().await?;
        let rows: Vec<OperationSql> = sql.build_query_as().fetch_all(&mut *connection).await?;
        Ok(self.read(&mut connection, rows, now).await?.into_iter().map(|row| (row.id.0.0, row)).collect())
    }

    pub(super) async fn read(
        &self,
        connection: &mut SqliteConnection,
        rows: Vec<OperationSql>,
        now: Timestamp,
    ) -> Result<Vec<OperationRow>, StoreError> {
        let mut duplicates = duplicates(connection, &rows).await?;
        let mut told = told_by_now(connection, &rows, now).await?;
        rows.into_iter()
            .map(|row| {
                let id = OperationId(Seq(row.id));
                let duplicates = duplicates.remove(&id).unwrap_or(0);
                let read = row.read(&self.deadlines, duplicates, now)?;
                Ok(match told.remove(&id) {
                    Some(operation) => OperationRow { flags: operation.flags, links: operation.links, ..read },
                    None => read,
                })
            })
            .collect()
    }

    /// How many operations are overdue by `now`: at the most 10,000.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn overdue(&self, now: Timestamp) -> Result<i64, StoreError> {
        let mut connection = self.connection().await?;
        let open = Asked { states: Some(OPEN.to_vec()), ..Asked::default() };
        let classes = Table::Operation.asked_for(&mut connection, &open).await?;
        let mut sql = overdue_sql(&self.deadlines, &classes, now, MANY_OVERDUE)?;
        Ok(sql.build_query_scalar().fetch_one(&mut *connection).await?)
    }

    /// The states that an operation went through by `now`, oldest first; `None` if there is no such operation.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn history(&self, id: OperationId, now: Timestamp) -> Result<Option<Vec<Transition>>, StoreError> {
        let mut connection = self.connection().await?;
        let fact = NotificationId(id.0);
        let told = told_by(&mut connection, fact, now).await?;
        let operation = told.and_then(|told| told.into_iter().find(|operation| tells(operation, fact)));
        Ok(operation.map(|operation| operation.history_until(now, &self.deadlines)))
    }
}

/// The most overdue operations that are counted.
const MANY_OVERDUE: i64 = 10_000;

#[derive(sqlx::FromRow)]
pub(super) struct OperationSql {
    pub(super) id: i64,
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
    call: i64,
    subject: String,
    lapses_at: Option<i64>,
    settled: bool,
    release: Option<String>,
    requested_at: Option<i64>,
    own_deadline: Option<i64>,
    links: Option<String>,
    requested: bool,
}

impl OperationSql {
    fn read(self, deadlines: &Deadlines, duplicates: i64, now: Timestamp) -> Result<OperationRow, StoreError> {
        let id = self.id;
        let wrong = |column| StoreError::Inconsistent { table: "operation", column, id };
        let time = |at: Option<i64>| at.map(|at| instant("operation", id, at)).transpose();
        let state = State::parse(&self.state).ok_or_else(|| wrong("state"))?;
        let lapse = read_lapse(self.call, self.release.as_deref(), self.lapses_at, self.settled, now)?;
        let first_seen_at = instant("operation", id, self.first_seen_at)?;
        let requested_at = time(self.requested_at)?;
        let allowed = || deadlines.deadline(&self.kind, requested_at.unwrap_or(first_seen_at));
        let deadline = if state.is_final() { None } else { Some(time(self.own_deadline)?.unwrap_or_else(allowed)) };
        let row = OperationRow {
            id: OperationId(Seq(id)),
            source: self.source,
            receiver: self.receiver,
            tenant_id: self.tenant_id,
            call_id: PlatformId::parse(&self.call_id).filter(|id| !id.as_str().starts_with(PLACE)),
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
            duplicates,
            requested_at,
            links: read_json::<Links>("operation", "links", id, self.links.as_deref())?,
            deadline,
            overdue: deadline.is_some_and(|deadline| deadline <= now),
        };
        Ok(match lapse {
            Some(lapse) if lapse.over && !state.is_final() => lapsed(row, &lapse),
            _ => row,
        })
    }
}

/// What is told by now of these operations, where their calls have ended for good without anybody having written down what that
/// means for what they have to do with each other: by call, for one can have ended another.
async fn told_by_now(
    connection: &mut SqliteConnection,
    rows: &[OperationSql],
    now: Timestamp,
) -> Result<BTreeMap<OperationId, Operation>, StoreError> {
    let mut lapses = BTreeMap::new();
    for row in rows.iter().filter(|row| row.requested && !row.settled) {
        let lapse = read_lapse(row.call, row.release.as_deref(), row.lapses_at, row.settled, now)?;
        lapses.extend(lapse.filter(|lapse| lapse.over).map(|lapse| (row.call, lapse)));
    }
    let held = facts::of_calls(connection, &lapses.keys().copied().collect()).await?;
    let told = held.iter().flat_map(|(call, facts)| facts.told(lapses.get(call)));
    Ok(told.map(|(_, operation)| (operation.id, operation)).collect())
}

/// Whether this notification or request is a part of it.
fn tells(operation: &Operation, fact: NotificationId) -> bool {
    operation.facts.contains(&fact) || operation.request.is_some_and(|request| request.0 == fact.0)
}

/// The operation that has ended with its call, where that has not been written down yet.
fn lapsed(mut row: OperationRow, lapse: &Lapse) -> OperationRow {
    let ended_at = lapse.ended_at(row.first_seen_at);
    row.flags.push(Flag::Inferred);
    row.flags.sort_unstable();
    OperationRow {
        state: row.state.lapsed(&row.kind),
        result: Some(Lapse::result()),
        finished_at: Some(ended_at),
        updated_at: row.updated_at.max(ended_at),
        deadline: None,
        overdue: false,
        ..row
    }
}

/// How a call ended, if that ends what is open in it; whether it is over by `now`, written down or not.
pub(in crate::store::sqlite) fn read_lapse(
    call: i64,
    release: Option<&str>,
    lapses_at: Option<i64>,
    settled: bool,
    now: Timestamp,
) -> Result<Option<Lapse>, StoreError> {
    let release = read_json::<Option<Release>>("call", "story", call, release)?;
    let over = settled || lapses_at.is_some_and(|at| at <= now.as_millisecond());
    projection::lapse(call, release.as_ref(), lapses_at, over)
}

/// How many second copies came of what tells each of these operations.
async fn duplicates(connection: &mut SqliteConnection, rows: &[OperationSql]) -> Result<BTreeMap<OperationId, i64>, StoreError> {
    let subjects: BTreeSet<(i64, &str)> = rows.iter().map(|row| (row.call, row.subject.as_str())).collect();
    let repeated: Vec<(i64, String, i64, i64)> = sqlx::query_as(
        "SELECT notification.call_id, subject, notification.id, duplicates
         FROM jsonb_each(?1) AS asked
         CROSS JOIN notification
             ON notification.call_id = asked.value ->> 0 AND notification.subject = asked.value ->> 1
         WHERE duplicates > 0",
    )
    .bind(json(&subjects)?)
    .fetch_all(&mut *connection)
    .await?;
    let subjects = repeated.iter().map(|(call, subject, ..)| (*call, subject.as_str())).collect();
    let told = tellers(connection, &subjects).await?;
    let mut sums = BTreeMap::new();
    for (_, _, id, count) in repeated {
        if let Some(operation) = told.get(&NotificationId(Seq(id))) {
            *sums.entry(*operation).or_insert(0) += count;
        }
    }
    Ok(sums)
}

/// The operations of the call around one notification or request, by `now`; `None` if it tells none.
async fn told_by(
    connection: &mut SqliteConnection,
    fact: NotificationId,
    now: Timestamp,
) -> Result<Option<Vec<Operation>>, StoreError> {
    type Row = (i64, String, Option<String>, Option<i64>, bool, bool);
    let row: Option<Row> = sqlx::query_as(
        "SELECT call.id, about.subject, story -> '$.release', lapses_at, settled, requested
         FROM (SELECT call_id, subject FROM notification WHERE id = ?1
               UNION ALL
               SELECT call_id, '' FROM request WHERE id = ?1) AS about
         JOIN call ON call.id = about.call_id",
    )
    .bind(fact.0.0)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((call, subject, release, lapses_at, settled, requested)) = row else { return Ok(None) };
    let lapse = read_lapse(call, release.as_deref(), lapses_at, settled, now)?;
    if requested {
        let held = facts::of_calls(connection, &BTreeSet::from([call])).await?.remove(&call).unwrap_or_default();
        return Ok(Some(held.told(lapse.as_ref()).into_iter().map(|(_, operation)| operation).collect()));
    }
    let held = held_facts(connection, &json(&[(call, subject)])?).await?;
    let held: Vec<_> = held.into_iter().map(|(_, _, held)| held).collect();
    Ok(Some(operations(&held, lapse.as_ref())))
}

/// Which operation each notification tells, among those of these subjects (`(call, subject)`).
pub(super) async fn tellers(
    connection: &mut SqliteConnection,
    subjects: &BTreeSet<(i64, &str)>,
) -> Result<BTreeMap<NotificationId, OperationId>, StoreError> {
    let mut told = BTreeMap::new();
    if subjects.is_empty() {
        return Ok(told);
    }
    let mut tell = |operation: Operation| told.extend(operation.facts.iter().map(|fact| (*fact, operation.id)));
    let calls: BTreeSet<i64> = subjects.iter().map(|(call, _)| *call).collect();
    let requested: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM call WHERE id IN (SELECT value FROM jsonb_each(?1)) AND requested = 1")
            .bind(json(&calls)?)
            .fetch_all(&mut *connection)
            .await?;
    let requested: BTreeSet<i64> = requested.into_iter().collect();
    for held in facts::of_calls(connection, &requested).await?.into_values() {
        held.told(None).into_iter().for_each(|(_, operation)| tell(operation));
    }
    let alone: BTreeSet<_> = subjects.iter().filter(|(call, _)| !requested.contains(call)).collect();
    let mut stories: BTreeMap<(i64, String), Vec<_>> = BTreeMap::new();
    for (call, subject, held) in held_facts(connection, &json(&alone)?).await? {
        stories.entry((call, subject)).or_default().push(held);
    }
    stories.values().flat_map(|held| operations(held, None)).for_each(tell);
    Ok(told)
}
