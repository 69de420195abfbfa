//! The change log, as it is followed: lines in the order of their positions, each with what it is about as that now stands.
//!
//! Rejections have no line of their own in `change`: their table is bounded, and its rows are lines by themselves.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::LedgerReader;
use crate::{
    domain::ids::{OperationId, PlatformId, Seq},
    store::{
        StoreError,
        log::{ChangeFilter, ChangeKind, ChangeRow, Changed, LogPage},
        sqlite::batch::instant,
    },
};

/// How many lines are looked through in one step, and how many are handed out: a follower holds no more of the log than that.
const LOOKED_AT: usize = 1000;
const HANDED_OUT: usize = 64;

impl LedgerReader {
    /// The position behind which nothing has been written yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_of_log(&self) -> Result<Seq, StoreError> {
        let mut connection = self.connection().await?;
        let end: i64 = sqlx::query_scalar(
            "SELECT max((SELECT coalesce(max(seq), 0) FROM change),
                        (SELECT coalesce(max(id), 0) FROM rejection),
                        (SELECT log_begins_after FROM ledger))",
        )
        .fetch_one(&mut *connection)
        .await?;
        Ok(Seq(end))
    }

    /// The next lines behind `after` that match, as of `now`: at most 64 of them, out of at most 1000 that are looked through.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn log(&self, after: Seq, filter: &ChangeFilter, now: Timestamp) -> Result<LogPage, StoreError> {
        let mut connection = self.connection().await?;
        let lines = lines(&mut connection, after).await?;
        // Asked for last: what is removed meanwhile is noticed.
        let begins_after: i64 = sqlx::query_scalar("SELECT log_begins_after FROM ledger").fetch_one(&mut *connection).await?;
        if begins_after > after.0 {
            return Ok(LogPage::Gone(Seq(begins_after)));
        }
        let looked_at = lines.len();
        let last = lines.last().map_or(after.0, |line| line.seq);
        let mut matching: Vec<Line> = lines.into_iter().filter(|line| line.may_match(filter)).collect();
        let truncated = matching.len() > HANDED_OUT;
        matching.truncate(HANDED_OUT);
        let read_to = Seq(if truncated { matching.last().map_or(last, |line| line.seq) } else { last });
        drop(connection);
        let mut rows = self.told(matching, now).await?;
        rows.retain(|row| matches(&row.what, filter));
        Ok(LogPage::Lines { rows, read_to, more: truncated || looked_at == LOOKED_AT })
    }

    /// These lines with what they are about, as it now stands. Lines about what was erased are left out.
    async fn told(&self, lines: Vec<Line>, now: Timestamp) -> Result<Vec<ChangeRow>, StoreError> {
        let of = |kind: ChangeKind, id: fn(&Line) -> Option<i64>| -> BTreeSet<i64> {
            lines.iter().filter(|line| line.kind == kind.as_str()).filter_map(id).collect()
        };
        let seq = |line: &Line| Some(line.seq);
        let calls = self.calls_at(&of(ChangeKind::Call, |line| line.call), now).await?;
        let mut operations = self.operations_at(&of(ChangeKind::Operation, |line| line.operation_id), now).await?;
        let notifications = self.notifications_at(&of(ChangeKind::Notification, seq)).await?;
        let requests = self.requests_in(&of(ChangeKind::Request, |line| line.call)).await?;
        let rejections = self.rejections_at(&of(ChangeKind::Rejection, seq)).await?;
        let mut rows = Vec::with_capacity(lines.len());
        for line in lines {
            let kind = ChangeKind::parse(&line.kind);
            let kind = kind.ok_or(StoreError::Inconsistent { table: "change", column: "type", id: line.seq })?;
            let what = match kind {
                ChangeKind::Call => line.call.and_then(|call| calls.get(&call)).map(|row| Changed::Call(Box::new(row.clone()))),
                ChangeKind::Operation => {
                    let id = line.operation_id.unwrap_or_default();
                    if !operations.contains_key(&id) {
                        // it has been found to be one with another, which answers for it
                        operations.extend(self.operation(OperationId(Seq(id)), now).await?.map(|row| (id, row)));
                    }
                    operations.get(&id).map(|row| Changed::Operation(Box::new(row.clone())))
                }
                ChangeKind::Notification => notifications.get(&line.seq).map(|row| Changed::Notification(Box::new(row.clone()))),
                ChangeKind::Request => requests.get(&line.seq).map(|row| Changed::Request(Box::new(row.clone()))),
                ChangeKind::Rejection => rejections.get(&line.seq).map(|row| Changed::Rejection(Box::new(row.clone()))),
            };
            let at = instant("change", line.seq, line.at)?;
            rows.extend(what.map(|what| ChangeRow { seq: Seq(line.seq), at, state: line.state, what }));
        }
        Ok(rows)
    }
}

#[derive(sqlx::FromRow)]
struct Line {
    seq: i64,
    at: i64,
    kind: String,
    operation_id: Option<i64>,
    state: Option<String>,
    call: Option<i64>,
    call_id: Option<String>,
    source: Option<String>,
    what: Option<String>,
}

/// The next lines, with what they can be told apart by.
async fn lines(connection: &mut SqliteConnection, after: Seq) -> Result<Vec<Line>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT line.seq, line.at, line.type AS kind, line.operation_id, line.state, call.id AS call, call.call_id,
                coalesce(call.source, notification.source) AS source,
                coalesce(operation.kind, notification.kind, request.facts ->> 'kind') AS what
         FROM (
             SELECT seq, at, type, call_id, operation_id, state
             FROM (SELECT seq, at, type, call_id, operation_id, state FROM change WHERE seq > ?1 ORDER BY seq LIMIT ?2)
             UNION ALL
             SELECT id, last_at, 'rejection', NULL, NULL, NULL
             FROM (SELECT id, last_at FROM rejection WHERE id > ?1 ORDER BY id LIMIT ?2)
             ORDER BY 1
             LIMIT ?2
         ) AS line
         LEFT JOIN operation ON operation.id = line.operation_id
         LEFT JOIN notification ON line.type = 'notification' AND notification.id = line.seq
         LEFT JOIN request ON line.type = 'request' AND request.id = line.seq
         LEFT JOIN call ON call.id = coalesce(operation.call_id, request.call_id, line.call_id)
         ORDER BY line.seq",
    )
    .bind(after.0)
    .bind(i64::try_from(LOOKED_AT).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?)
}

impl Line {
    /// Whether it matches as far as the line itself tells: an operation that has become one with another, or that is of a request
    /// without a call, has to be looked at.
    fn may_match(&self, filter: &ChangeFilter) -> bool {
        let kind = ChangeKind::parse(&self.kind);
        let unsure = kind == Some(ChangeKind::Operation) && self.what.is_none();
        let told = |wanted: Option<&str>, held: Option<&str>| wanted.is_none_or(|wanted| held == Some(wanted));
        let about = filter.about.is_empty() || kind.is_some_and(|kind| filter.about.contains(&kind));
        let call = filter.call_id.as_ref().map(PlatformId::as_str);
        about
            && told(filter.source.as_deref(), self.source.as_deref())
            && (unsure || (told(call, self.call_id.as_deref()) && told(filter.kind.as_deref(), self.what.as_deref())))
    }
}

/// Whether what a line is about matches, now that it is known.
fn matches(what: &Changed, filter: &ChangeFilter) -> bool {
    let Changed::Operation(row) = what else { return true };
    filter.kind.as_ref().is_none_or(|kind| *kind == row.kind)
        && filter.call_id.as_ref().is_none_or(|call| Some(call) == row.call_id.as_ref())
}
