//! Rejections.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::QueryBuilder;

use super::{LedgerReader, newest_first, paged};
use crate::{
    domain::{
        ids::{RejectionId, Seq},
        rejection::RejectionReason,
    },
    store::{
        StoreError,
        rows::{Page, PageRequest, RejectionFilter, RejectionRow},
        sqlite::batch::{instant, json},
    },
};

impl LedgerReader {
    /// A page of rejections, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rejections(&self, filter: &RejectionFilter, page: PageRequest) -> Result<Page<RejectionRow>, StoreError> {
        let mut sql = QueryBuilder::new(SELECT_REJECTION);
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

    /// The rejections of these ids.
    pub(super) async fn rejections_at(&self, ids: &BTreeSet<i64>) -> Result<BTreeMap<i64, RejectionRow>, StoreError> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut sql = QueryBuilder::new(SELECT_REJECTION);
        sql.push(" AND id IN (SELECT value FROM jsonb_each(").push_bind(json(ids)?).push("))");
        let mut connection = self.connection().await?;
        let rows: Vec<RejectionSql> = sql.build_query_as().fetch_all(&mut *connection).await?;
        rows.into_iter().map(|row| row.read().map(|row| (row.id.0.0, row))).collect()
    }
}

const SELECT_REJECTION: &str =
    "SELECT id, at, last_at, count, receiver, reason, peer, key_id, issuer, user_agent FROM rejection WHERE true";

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
