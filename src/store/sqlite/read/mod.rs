//! Every query of the API, each bounded in rows and in time.
//!
//! Lists are keyset pages over the primary key. Of several conditions the most telling one leads and may use its index: a call; an id or
//! a context ([`super::lookup`]); source, kind, state and subcode ([`class`]). The others carry a unary `+`, which keeps SQLite from
//! choosing a worse one.

mod calls;
mod class;
mod forwards;
mod log;
mod notifications;
mod operation_page;
mod operation_search;
mod operations;
mod rejections;

pub(super) use self::operations::read_lapse;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use sqlx::{QueryBuilder, Sqlite, SqlitePool, pool::PoolConnection};
use tokio::sync::{broadcast, watch};

use crate::{
    domain::{ids::Seq, operation::Deadlines},
    store::{
        Changes, MasterKey, StoreError,
        rows::{ChangedOperation, Page, PageRequest},
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
        self.changes.as_ref().map(|changes| changes.operations.subscribe())
    }

    /// Changes whenever the change log has grown; `None` if the writer is in another process.
    #[must_use]
    pub fn growth(&self) -> Option<watch::Receiver<()>> {
        self.changes.as_ref().map(|changes| changes.log.subscribe())
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
}

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

/// The ids that these times allow: from the first on, below the second.
fn bounds(since: Option<Timestamp>, until: Option<Timestamp>) -> (i64, i64) {
    let from = since.map_or(i64::MIN, |since| since.checked_sub(SLACK).unwrap_or(Timestamp::MIN).as_microsecond());
    let to = until.map_or(i64::MAX, |until| until.checked_add(SLACK).unwrap_or(Timestamp::MAX).as_microsecond());
    (from, to)
}

fn times(
    sql: &mut QueryBuilder<Sqlite>,
    id: &'static str,
    time: &'static str,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) {
    let (from, to) = bounds(since, until);
    if let Some(since) = since {
        sql.push(" AND ").push(id).push(" >= ").push_bind(from);
        sql.push(" AND +").push(time).push(" >= ").push_bind(since.as_millisecond());
    }
    if let Some(until) = until {
        sql.push(" AND ").push(id).push(" < ").push_bind(to);
        sql.push(" AND +").push(time).push(" < ").push_bind(until.as_millisecond());
    }
}

/// The condition that a row is one of these (a JSON array of positions).
fn among(sql: &mut QueryBuilder<Sqlite>, lead: &mut Lead, condition: &'static str, ids: &str) {
    lead.push(sql, condition).push("(SELECT value FROM json_each(").push_bind(ids.to_owned()).push("))");
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

/// Whether there are rows enough for [`paged`].
fn is_full<T>(rows: &[T], page: PageRequest) -> bool {
    usize::try_from(page.limit).is_ok_and(|limit| rows.len() > limit)
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
