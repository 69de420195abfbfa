//! Calls.

use std::collections::BTreeMap;

use sqlx::QueryBuilder;

use super::{LedgerReader, newest_first, paged, read_json, times};
use crate::{
    domain::{
        call::CallStory,
        ids::{PlatformId, Seq},
        operation::State,
    },
    store::{
        StoreError,
        rows::{CallFilter, CallRow, Page, PageRequest},
        sqlite::batch::instant,
    },
};

impl LedgerReader {
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
}

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
