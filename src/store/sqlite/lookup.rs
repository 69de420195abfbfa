//! How operations are found by their ids and contexts, without an index of random keys to be written with each of them.
//!
//! The change log says what a new operation is found by. Its lines are sorted into segments (`lookup`), some thousands at a time
//! ([`sorting`](super::sorting)). A search looks through the lines that are not sorted yet, of which there are never many, and then
//! into every segment, newest first. Full ones are merged, so that there are never many of them either ([`merging`](super::merging)).
//! What a token brought is found in the same way.
//!
//! Lines that do not count as sorted may have entries in a segment already. That does no harm: an entry is a hint, whoever
//! follows it compares.

mod forget;

use aws_lc_rs::digest;
use sqlx::{Connection, QueryBuilder, Sqlite, SqliteConnection};

pub(super) use self::forget::{Going, forget, of_operations};
use super::batch::json;
use crate::{domain::ids::PlatformId, store::StoreError};

/// 64 bits by which an id is found (`operation.operation_hash`, `operation.context_hash`). GUIDs hash alike in every spelling.
pub(super) fn hash(id: &str) -> Option<i64> {
    hash_of(&PlatformId::parse(id)?)
}

/// The same of an id in its one spelling.
pub(super) fn hash_of(id: &PlatformId) -> Option<i64> {
    let digest = digest::digest(&digest::SHA256, id.as_str().as_bytes());
    digest.as_ref().first_chunk::<8>().map(|bytes| i64::from_be_bytes(*bytes))
}

/// Which lines of the change log are not sorted yet.
macro_rules! unsorted_sql {
    () => {
        "change.seq > (SELECT coalesce(max(sorted_to), 0) FROM lookup_segment)"
    };
}

use unsorted_sql;

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
const AT_ONCE: [usize; 2] = [2, usize::MAX];

impl Part {
    /// The lines, with which every search begins.
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

/// How many lines of the change log the database sorts at a time.
const LINES: i64 = 4096;
/// How many entries a segment has when it is full, about: more of them make more pages to write, fewer of them more to be merged.
const ENTRIES: i64 = 262_144;

/// What [`step`] did.
#[derive(Debug)]
pub(super) struct Done {
    /// Whether it sorted anything.
    pub(super) is_any: bool,
    /// Whether no line is left.
    pub(super) is_all: bool,
}

/// Sorts the next lines; if there are but few, only if they are to be sorted all the same.
pub(super) async fn step(connection: &mut SqliteConnection, also_few: bool) -> Result<Done, StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let (from, to, count) = next_lines(&mut transaction).await?;
    let is_few = count < LINES;
    if is_few && !also_few {
        return Ok(Done { is_any: false, is_all: false });
    }
    if count > 0 {
        sort(&mut transaction, from, to).await?;
    }
    transaction.commit().await?;
    Ok(Done { is_any: count > 0, is_all: is_few })
}

/// Sorts whatever lines there are up to this one, within the open transaction: they are about to go. Says whether there were any.
pub(super) async fn sort_until(connection: &mut SqliteConnection, line: i64) -> Result<bool, StoreError> {
    let mut is_any = false;
    loop {
        let (from, to, count) = next_lines(connection).await?;
        if count == 0 || from >= line {
            return Ok(is_any);
        }
        sort(connection, from, to.min(line)).await?;
        is_any = true;
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

/// Entries are about to be written into the last segment, which speaks of these operations from now on, the oldest and the newest.
pub(super) async fn begin_run(connection: &mut SqliteConnection, operations: Option<(i64, i64)>) -> Result<(), StoreError> {
    let segment = open_segment(connection).await?;
    widen(connection, segment, operations).await
}

/// So many entries have been written, all that the lines up to this one are found by.
pub(super) async fn end_run(
    connection: &mut SqliteConnection,
    operations: Option<(i64, i64)>,
    entries: usize,
    line: i64,
) -> Result<(), StoreError> {
    let segment: i64 = sqlx::query_scalar("SELECT max(id) FROM lookup_segment").fetch_one(&mut *connection).await?;
    // whatever was sorted meanwhile, because it was to go from the log, may have begun another segment
    widen(connection, segment, operations).await?;
    sqlx::query("UPDATE lookup_segment SET sorted_to = max(sorted_to, ?2), entries = entries + ?3 WHERE id = ?1")
        .bind(segment)
        .bind(line)
        .bind(i64::try_from(entries).unwrap_or(i64::MAX))
        .execute(connection)
        .await?;
    Ok(())
}

/// This segment speaks of these operations as well from now on, the oldest and the newest.
pub(super) async fn widen(
    connection: &mut SqliteConnection,
    segment: i64,
    operations: Option<(i64, i64)>,
) -> Result<(), StoreError> {
    let Some((oldest, newest)) = operations else { return Ok(()) };
    sqlx::query(
        "UPDATE lookup_segment
         SET oldest = min(coalesce(oldest, ?2), ?2), newest = max(coalesce(newest, ?3), ?3)
         WHERE id = ?1",
    )
    .bind(segment)
    .bind(oldest)
    .bind(newest)
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

/// The operations that are not found by their ids or not by their contexts (20 at the most), but for those that are to be erased.
pub(super) const LOST: &str = concat!(
    lost_sql!("NOT EXISTS (SELECT 1 FROM call WHERE call.id = operation.call_id AND erased_at > operation.first_seen_at)"),
    " LIMIT 20"
);

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
