//! How operations are found by their ids and contexts, without an index of random keys to be written with each of them.
//!
//! The change log says what a new operation is found by. Here its lines are sorted into segments (`lookup`), some thousands at a time,
//! between commits. A search looks through the lines that are not sorted yet, of which there are never many, and then into every
//! segment, newest first. What a token brought is found in the same way.

use aws_lc_rs::digest;
use sqlx::{Connection, QueryBuilder, Sqlite, SqliteConnection};

use super::batch::json;
use crate::{domain::ids::PlatformId, store::StoreError};

/// 64 bits by which an id is found (`operation.operation_hash`, `operation.context_hash`). GUIDs hash alike in every spelling.
pub(super) fn hash(id: &str) -> Option<i64> {
    let id = PlatformId::parse(id)?;
    let digest = digest::digest(&digest::SHA256, id.as_str().as_bytes());
    digest.as_ref().first_chunk::<8>().map(|bytes| i64::from_be_bytes(*bytes))
}

/// Which lines of the change log are not sorted yet.
macro_rules! unsorted_sql {
    () => {
        "change.seq > (SELECT coalesce(max(sorted_to), 0) FROM lookup_segment)"
    };
}

// ---- looking

/// A part of all there is to look through.
#[derive(Debug)]
pub(super) struct Part {
    /// `None` for the lines that are not sorted yet.
    segments: Option<Vec<i64>>,
    /// Neither it nor a part behind it speaks of a newer operation.
    pub(super) newest: i64,
}

/// How many segments are looked into at once: the newest two by themselves, because they often fill a page.
const AT_ONCE: [usize; 3] = [2, 62, usize::MAX];

impl Part {
    /// The lines, with which every search begins: what is sorted meanwhile is then found in a segment.
    pub(super) const fn lines() -> Self {
        Self { segments: None, newest: i64::MAX }
    }

    /// What there is besides the lines, newest first.
    pub(super) async fn segments(connection: &mut SqliteConnection) -> Result<Vec<Self>, StoreError> {
        let segments: Vec<(i64, i64)> =
            sqlx::query_as("SELECT id, newest FROM lookup_segment WHERE newest IS NOT NULL ORDER BY newest DESC")
                .fetch_all(connection)
                .await?;
        let (mut rest, mut parts) = (segments.as_slice(), Vec::new());
        for many in AT_ONCE {
            let (now, later) = rest.split_at_checked(many).unwrap_or((rest, &[]));
            rest = later;
            if let Some((_, newest)) = now.first() {
                parts.push(Self { segments: Some(now.iter().map(|(id, _)| *id).collect()), newest: *newest });
            }
        }
        Ok(parts)
    }

    /// Pushes a selection of the operations that may have this hash as the one of their id or of their context (`column`).
    pub(super) fn push<'q>(
        &self,
        sql: &'q mut QueryBuilder<Sqlite>,
        column: &'static str,
        hash: Option<i64>,
    ) -> Result<&'q mut QueryBuilder<Sqlite>, StoreError> {
        let Some(segments) = &self.segments else {
            sql.push(concat!("SELECT operation_id FROM change WHERE ", unsorted_sql!(), " AND change."));
            return Ok(sql.push(column).push(" = ").push_bind(hash));
        };
        sql.push("SELECT lookup.operation FROM json_each(").push_bind(json(segments)?);
        sql.push(") AS segment CROSS JOIN lookup ON lookup.segment = segment.value AND lookup.hash = ").push_bind(hash);
        Ok(sql)
    }
}

/// Pushes a selection of the notifications that may have this hash as the one of the token that brought them.
pub(super) fn push_brought_by(sql: &mut QueryBuilder<Sqlite>, hash: i64) -> &mut QueryBuilder<Sqlite> {
    sql.push(concat!("SELECT seq FROM change WHERE ", unsorted_sql!(), " AND change.token_hash = ")).push_bind(hash);
    sql.push(" UNION SELECT lookup.operation FROM lookup_segment AS segment");
    sql.push(" CROSS JOIN lookup ON lookup.segment = segment.id AND lookup.hash = ").push_bind(hash)
}

/// A selection of the operations that may have a hash (its parameter) as the one of their id or of their context (its column).
macro_rules! found_sql {
    ($hash:literal, $column:literal) => {
        concat!(
            "SELECT operation_id FROM change
             WHERE change.seq > (SELECT coalesce(max(sorted_to), 0) FROM lookup_segment) AND change.",
            $column,
            " = ",
            $hash,
            " UNION
             SELECT lookup.operation FROM lookup_segment AS segment
             CROSS JOIN lookup ON lookup.segment = segment.id AND lookup.hash = ",
            $hash
        )
    };
}
pub(super) use found_sql;

// ---- sorting

/// How many lines of the change log are sorted at a time. A search looks through as many, and a few more.
const LINES: i64 = 4096;
/// How many lines may come before the next step: half as many as it sorts, so that what has piled up becomes less.
const LINES_A_STEP: usize = 2048;
/// How many entries a segment has, about. More of them make fewer segments to look into, and more pages for a step to write.
const ENTRIES: i64 = 32_768;

/// When the next step is due.
#[derive(Debug)]
pub(super) struct Steps {
    /// How many lines have come since the last.
    lines: usize,
    /// Whether the last did something, so that there may be more to be done.
    more: bool,
}

impl Steps {
    /// Nothing is known of what the last process left.
    pub(super) const fn new() -> Self {
        Self { lines: 0, more: true }
    }

    /// The change log has so many new lines.
    pub(super) const fn come(&mut self, lines: usize) {
        self.lines += lines;
    }

    pub(super) const fn is_due(&self) -> bool {
        self.lines >= LINES_A_STEP
    }

    /// Whether a step is worth its while when there is nothing else to do.
    pub(super) const fn is_welcome(&self) -> bool {
        self.more
    }

    pub(super) const fn done(&mut self, more: bool) {
        *self = Self { lines: 0, more };
    }
}

/// Sorts the next lines, if there are enough of them. Whether it did.
pub(super) async fn step(connection: &mut SqliteConnection) -> Result<bool, StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let (from, to, count) = next_lines(&mut transaction).await?;
    if count < LINES {
        return Ok(false);
    }
    sort(&mut transaction, from, to).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Sorts whatever lines there are up to this one, within the open transaction: they are about to go.
pub(super) async fn sort_until(connection: &mut SqliteConnection, line: i64) -> Result<(), StoreError> {
    loop {
        let (from, to, count) = next_lines(connection).await?;
        if count == 0 || from >= line {
            return Ok(());
        }
        sort(connection, from, to.min(line)).await?;
    }
}

/// Behind which line the next ones begin, up to where they go, and how many they are.
async fn next_lines(connection: &mut SqliteConnection) -> Result<(i64, i64, i64), StoreError> {
    let sql = "SELECT sorted_to, coalesce(max(seq), 0), count(seq)
               FROM (SELECT coalesce(max(sorted_to), 0) AS sorted_to FROM lookup_segment)
               LEFT JOIN (SELECT seq FROM change
                          WHERE seq > (SELECT coalesce(max(sorted_to), 0) FROM lookup_segment)
                          ORDER BY seq
                          LIMIT ?1)";
    Ok(sqlx::query_as(sql).bind(LINES).fetch_one(connection).await?)
}

async fn sort(connection: &mut SqliteConnection, from: i64, to: i64) -> Result<(), StoreError> {
    let segment = open_segment(connection).await?;
    let sorted = sqlx::query(
        "INSERT OR IGNORE INTO lookup (segment, hash, operation)
         SELECT ?1, operation_hash, operation_id FROM change WHERE seq > ?2 AND seq <= ?3 AND operation_hash IS NOT NULL
         UNION
         SELECT ?1, context_hash, operation_id FROM change WHERE seq > ?2 AND seq <= ?3 AND context_hash IS NOT NULL
         UNION
         SELECT ?1, token_hash, seq FROM change WHERE seq > ?2 AND seq <= ?3 AND token_hash IS NOT NULL
         ORDER BY 2, 3",
    )
    .bind(segment)
    .bind(from)
    .bind(to)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    sqlx::query(
        "UPDATE lookup_segment
         SET sorted_to = ?3, entries = entries + ?4,
             oldest = coalesce(min(lookup_segment.oldest, told.oldest), lookup_segment.oldest, told.oldest),
             newest = coalesce(max(lookup_segment.newest, told.newest), lookup_segment.newest, told.newest)
         FROM (SELECT min(operation_id) AS oldest, max(operation_id) AS newest
               FROM change
               WHERE seq > ?2 AND seq <= ?3 AND (operation_hash IS NOT NULL OR context_hash IS NOT NULL)) AS told
         WHERE id = ?1",
    )
    .bind(segment)
    .bind(from)
    .bind(to)
    .bind(i64::try_from(sorted).unwrap_or(i64::MAX))
    .execute(connection)
    .await?;
    Ok(())
}

/// The last segment; a new one if that is full, or there is none.
async fn open_segment(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    let last: Option<(i64, i64, i64)> =
        sqlx::query_as("SELECT id, sorted_to, entries FROM lookup_segment ORDER BY id DESC LIMIT 1")
            .fetch_optional(&mut *connection)
            .await?;
    let (last, sorted_to, entries) = last.unwrap_or((0, 0, ENTRIES));
    if entries < ENTRIES {
        return Ok(last);
    }
    sqlx::query("INSERT INTO lookup_segment (id, sorted_to, entries) VALUES (?1, ?2, 0)")
        .bind(last + 1)
        .bind(sorted_to)
        .execute(connection)
        .await?;
    Ok(last + 1)
}

// ---- upkeep

/// Operations that are not found by what they are to be found by, of those that meet a condition.
macro_rules! lost_sql {
    ($of:literal) => {
        concat!("SELECT id FROM operation WHERE ", $of, " AND (", lost_sql!(by "operation_hash"), " OR ", lost_sql!(by "context_hash"), ")")
    };
    (by $column:literal) => {
        concat!(
            $column,
            " IS NOT NULL AND (",
            $column,
            ", operation.id) NOT IN (SELECT change.",
            $column,
            ", operation_id FROM change WHERE ",
            unsorted_sql!(),
            " AND change.",
            $column,
            " IS NOT NULL)
              AND NOT EXISTS (
                  SELECT 1 FROM lookup_segment AS of
                  CROSS JOIN lookup ON segment = of.id AND hash = operation.",
            $column,
            " AND lookup.operation = operation.id
                  WHERE operation.id BETWEEN of.oldest AND of.newest)"
        )
    };
}

/// The operations that are not found by their ids or not by their contexts (20 at the most).
pub(super) const LOST: &str = concat!(lost_sql!("true"), " LIMIT 20");

/// Makes those of these calls' operations (a JSON array) be found that are not; returns them.
pub(super) async fn mend(connection: &mut SqliteConnection, calls: &str) -> Result<Vec<i64>, StoreError> {
    let lost: Vec<i64> = sqlx::query_scalar(lost_sql!("call_id IN (SELECT value FROM json_each(?1))"))
        .bind(calls)
        .fetch_all(&mut *connection)
        .await?;
    if lost.is_empty() {
        return Ok(lost);
    }
    let (segment, ids) = (open_segment(connection).await?, json(&lost)?);
    for sql in [
        "INSERT OR IGNORE INTO lookup (segment, hash, operation)
         SELECT ?1, operation_hash, id FROM operation
         WHERE id IN (SELECT value FROM json_each(?2)) AND operation_hash IS NOT NULL
         UNION
         SELECT ?1, context_hash, id FROM operation
         WHERE id IN (SELECT value FROM json_each(?2)) AND context_hash IS NOT NULL",
        "UPDATE lookup_segment
         SET oldest = coalesce(min(lookup_segment.oldest, lost.oldest), lost.oldest),
             newest = coalesce(max(lookup_segment.newest, lost.newest), lost.newest)
         FROM (SELECT min(value) AS oldest, max(value) AS newest FROM json_each(?2)) AS lost
         WHERE id = ?1",
    ] {
        sqlx::query(sql).bind(segment).bind(&ids).execute(&mut *connection).await?;
    }
    Ok(lost)
}
