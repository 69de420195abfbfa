//! Calls.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sqlx::{QueryBuilder, Sqlite};

use super::{
    Lead, LedgerReader, among,
    class::{Asked, Table, Walk},
    is_full, newest_first, paged, read_json, times,
};
use crate::{
    domain::{
        call::CallStory,
        ids::{PlatformId, Seq},
        operation::State,
    },
    store::{
        StoreError,
        rows::{CallFilter, CallRow, Page, PageRequest},
        sqlite::batch::{instant, json},
    },
};

impl LedgerReader {
    /// A page of calls as of `now`, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn calls(&self, filter: &CallFilter, page: PageRequest, now: Timestamp) -> Result<Page<CallRow>, StoreError> {
        let mut connection = self.connection().await?;
        let asked = Asked {
            source: filter.source.as_deref(),
            states: filter.state.as_deref().map(|state| vec![state]),
            since: filter.since,
            until: filter.until,
            ..Asked::default()
        };
        let mut rows: Vec<CallSql> = Vec::new();
        if asked.is_for_classes() {
            let mut walk = Walk::begin(&mut connection, Table::Call, &asked, page).await?;
            while !is_full(&rows, page)
                && let Some(ids) = walk.next(&mut connection).await?
            {
                rows.extend(page_sql(filter, page, Some(&ids)).build_query_as::<CallSql>().fetch_all(&mut *connection).await?);
            }
        } else {
            rows = page_sql(filter, page, None).build_query_as().fetch_all(&mut *connection).await?;
        }
        let rows = rows.into_iter().map(|row| row.read(now)).collect::<Result<Vec<_>, _>>()?;
        Ok(paged(rows, page, |row| row.id))
    }

    /// The calls with this platform id as of `now`, one per source at the most.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn call(&self, call_id: &PlatformId, now: Timestamp) -> Result<Vec<CallRow>, StoreError> {
        let mut sql = QueryBuilder::new(SELECT_CALL);
        sql.push(" AND call.call_id = ").push_bind(call_id.as_str());
        let mut connection = self.connection().await?;
        let rows: Vec<CallSql> = sql.build_query_as().fetch_all(&mut *connection).await?;
        rows.into_iter().map(|row| row.read(now)).collect()
    }

    /// The calls at these positions as of `now`.
    pub(super) async fn calls_at(&self, ids: &BTreeSet<i64>, now: Timestamp) -> Result<BTreeMap<i64, CallRow>, StoreError> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut sql = QueryBuilder::new(SELECT_CALL);
        sql.push(" AND call.id IN (SELECT value FROM jsonb_each(").push_bind(json(ids)?).push("))");
        let mut connection = self.connection().await?;
        let rows: Vec<CallSql> = sql.build_query_as().fetch_all(&mut *connection).await?;
        rows.into_iter().map(|row| row.read(now).map(|row| (row.id.0, row))).collect()
    }
}

/// The calls that match, of those at these positions (a JSON array).
fn page_sql(filter: &CallFilter, page: PageRequest, ids: Option<&str>) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new(SELECT_CALL);
    if let Some(ids) = ids {
        among(&mut sql, &mut Lead::default(), " AND {}call.id IN ", ids);
    }
    if let Some(state) = &filter.state {
        sql.push(" AND +call.state = ").push_bind(state.clone());
    }
    if let Some(source) = &filter.source {
        sql.push(" AND +call.source = ").push_bind(source.clone());
    }
    times(&mut sql, "call.id", "call.first_seen_at", filter.since, filter.until);
    newest_first(&mut sql, "call.id", page);
    sql
}

const SELECT_CALL: &str = "SELECT call.id, source, call_id, receiver, tenant_id, first_seen_at, story,
        (SELECT json_group_array(other.call_id ORDER BY other.id)
         FROM (SELECT id, call_id, source, audience FROM call AS related WHERE related.chain_id = call.chain_id
               UNION
               SELECT id, call_id, source, audience FROM call AS related WHERE related.correlation_hash = call.correlation_hash
               UNION
               SELECT id, call_id, source, audience FROM call AS related WHERE related.server_call_hash = call.server_call_hash
               ORDER BY id
               LIMIT 50) AS other
         WHERE other.id <> call.id AND (other.audience = call.audience OR other.source <> call.source)) AS related,
        (SELECT json_group_object(state, number)
         FROM (SELECT state || ' ' || kind AS state, count(*) AS number
               FROM operation
               WHERE operation.call_id = call.id
               GROUP BY state, kind)) AS operations,
        (SELECT count(*) FROM notification WHERE notification.call_id = call.id) AS notifications,
        settled = 0 AND lapses_at IS NOT NULL AS unsettled, lapses_at
 FROM call
 WHERE substr(call_id, 1, 8) <> 'request/'";

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
    unsettled: bool,
    lapses_at: Option<i64>,
}

impl CallSql {
    fn read(self, now: Timestamp) -> Result<CallRow, StoreError> {
        let id = self.id;
        let lapsed = self.unsettled && self.lapses_at.is_some_and(|at| at <= now.as_millisecond());
        let written: BTreeMap<String, i64> = read_json("call", "operations", id, Some(&self.operations))?;
        let mut operations: BTreeMap<State, i64> = BTreeMap::new();
        for (state, number) in written {
            let Some((state, kind)) = state.split_once(' ') else { continue };
            let Some(state) = State::parse(state) else { continue };
            let by_now = if lapsed && !state.is_final() { state.lapsed(kind) } else { state };
            *operations.entry(by_now).or_default() += number;
        }
        Ok(CallRow {
            id: Seq(id),
            source: self.source,
            call_id: PlatformId::parse(&self.call_id).ok_or(StoreError::Inconsistent { table: "call", column: "call_id", id })?,
            receiver: self.receiver,
            tenant_id: self.tenant_id,
            first_seen_at: instant("call", id, self.first_seen_at)?,
            story: read_json::<CallStory>("call", "story", id, Some(&self.story))?,
            related_calls: read_json("call", "related", id, Some(&self.related))?,
            operations: operations.into_iter().collect(),
            notifications: self.notifications,
        })
    }
}
