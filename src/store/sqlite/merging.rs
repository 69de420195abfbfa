//! How segments of the lookups stay few.
//!
//! A search looks into every segment, and each may cost it a page from the disk. So a full one moves into the one before it, unless that
//! is several times as large: however many entries there are, a handful of segments remain, and each entry has been moved about as often
//! as there are segments. That is done some thousands of entries at a time, the smallest segment first, so that small ones do not wait
//! behind a large one; at any moment an entry is in one segment, its own or one before it.

use sqlx::{Connection, SqliteConnection};

use super::lookup;
use crate::store::StoreError;

/// How many entries are moved at a time: some 15 milliseconds, for which those who record may have to wait.
const ENTRIES: i64 = 4096;
/// The most steps that are taken in a second, whether deliveries come or not. They keep up with 10,000 new entries a second; where more
/// come for hours, there are more segments until fewer do.
const STEPS_A_SECOND: u32 = 10;
/// How many times as large the earlier one of two segments is, if they are to stay two: less makes more segments, and more of it more
/// pages to write for each entry that is moved.
const LARGER: i64 = 4;

/// About how many pages a step writes.
pub(super) const PAGES: usize = 100;

/// How much may be done.
#[derive(Debug, Default)]
pub(super) struct Merging {
    /// Steps that may be taken in this second.
    allowance: u32,
}

impl Merging {
    /// A second has passed.
    pub(super) const fn tick(&mut self) {
        self.allowance = STEPS_A_SECOND;
    }

    /// Whether a step may be taken now.
    pub(super) const fn is_due(&self) -> bool {
        self.allowance > 0
    }

    /// Nothing is done before the next second.
    pub(super) const fn rest(&mut self) {
        self.allowance = 0;
    }

    /// Takes a step, and says whether there was anything to do.
    pub(super) async fn step(&mut self, connection: &mut SqliteConnection) -> Result<bool, StoreError> {
        self.allowance = self.allowance.saturating_sub(1);
        if next(connection).await?.is_none() {
            return Ok(false);
        }
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let Some(next) = next(&mut transaction).await? else { return Ok(false) };
        next.step(&mut transaction, ENTRIES).await?;
        transaction.commit().await?;
        Ok(true)
    }
}

/// A segment that is to move into the one before it.
#[derive(Debug)]
struct Move {
    from: i64,
    into: i64,
    /// The oldest and the newest operation that it speaks of.
    operations: Option<(i64, i64)>,
}

/// Of those that are to move the smallest, and of several the oldest. The last segment is still being filled.
async fn next(connection: &mut SqliteConnection) -> Result<Option<Move>, StoreError> {
    let full: Vec<(i64, i64, Option<i64>, Option<i64>)> = sqlx::query_as(
        "SELECT id, entries, oldest, newest FROM lookup_segment
         WHERE id < (SELECT max(id) FROM lookup_segment)
         ORDER BY id",
    )
    .fetch_all(connection)
    .await?;
    let neighbours = full.iter().zip(full.iter().skip(1));
    let due = neighbours.filter(|((_, before, ..), (_, entries, ..))| *before < entries.saturating_mul(LARGER));
    let smallest = due.min_by_key(|(_, (_, entries, ..))| *entries);
    Ok(smallest.map(|((into, ..), (from, _, oldest, newest))| Move { from: *from, into: *into, operations: oldest.zip(*newest) }))
}

impl Move {
    /// Moves the next so many entries, within the open transaction; with the last of them the segment is gone.
    async fn step(&self, connection: &mut SqliteConnection, entries: i64) -> Result<(), StoreError> {
        let Self { from, into, operations } = *self;
        lookup::widen(connection, into, operations).await?;
        let sql = "SELECT hash, operation FROM lookup WHERE segment = ?1 ORDER BY hash, operation LIMIT 1 OFFSET ?2";
        let more: Option<(i64, i64)> = sqlx::query_as(sql).bind(from).bind(entries - 1).fetch_optional(&mut *connection).await?;
        let up_to = more.unwrap_or((i64::MAX, i64::MAX));
        for sql in [
            "INSERT OR IGNORE INTO lookup (segment, hash, operation)
             SELECT ?2, hash, operation FROM lookup
             WHERE segment = ?1 AND (hash, operation) <= (?3, ?4)
             ORDER BY hash, operation",
            "DELETE FROM lookup WHERE segment = ?1 AND (hash, operation) <= (?3, ?4)",
        ] {
            sqlx::query(sql).bind(from).bind(into).bind(up_to.0).bind(up_to.1).execute(&mut *connection).await?;
        }
        if more.is_some() {
            return Ok(());
        }
        for sql in [
            "UPDATE lookup_segment
             SET entries = lookup_segment.entries + moved.entries, sorted_to = moved.sorted_to
             FROM lookup_segment AS moved
             WHERE lookup_segment.id = ?2 AND moved.id = ?1",
            "DELETE FROM lookup_segment WHERE id = ?1",
        ] {
            sqlx::query(sql).bind(from).bind(into).execute(&mut *connection).await?;
        }
        Ok(())
    }
}
