//! What leads to operations and notifications goes with them.
//!
//! Entries go from the segments, and the lines of the change log that are not sorted yet say no longer what theirs would be: whoever
//! sorted them afterwards would write the entries after all.

use sqlx::SqliteConnection;

use super::unsorted_sql;
use crate::store::{StoreError, sqlite::batch::json};

/// What is to go in the open transaction, while the rows that it leads to are still there.
#[derive(Clone, Copy, Debug)]
pub(in crate::store::sqlite) enum Going {
    /// Whatever leads to an operation of these calls, by position.
    Calls,
    /// Whatever leads to these notifications, by position.
    Notifications,
    /// These, each a hash with the operation that it leads to.
    Lookups,
}

/// Removes the entries that lead to the operations of some calls by one of their hashes.
macro_rules! of_calls_sql {
    ($hash:literal) => {
        concat!(
            "DELETE FROM lookup WHERE (segment, hash, operation) IN (
                 SELECT segment.id, operation.",
            $hash,
            ", operation.id
                 FROM operation
                 JOIN lookup_segment AS segment ON operation.id BETWEEN segment.oldest AND segment.newest
                 WHERE operation.call_id IN (SELECT value FROM json_each(?1)) AND operation.",
            $hash,
            " IS NOT NULL)"
        )
    };
}

const CALLS: [&str; 3] = [
    of_calls_sql!("operation_hash"),
    of_calls_sql!("context_hash"),
    concat!(
        "UPDATE change SET operation_hash = NULL, context_hash = NULL
         WHERE ",
        unsorted_sql!(),
        " AND call_id IN (SELECT value FROM json_each(?1)) AND operation_id IS NOT NULL"
    ),
];

/// Entries of a line of the log are in the first segment that was sorted as far; or in one before it, where some had been written
/// already when that was full, or into which they have moved.
const NOTIFICATIONS: [&str; 2] = [
    "DELETE FROM lookup WHERE (segment, hash, operation) IN (
         SELECT segment.id, token_hash, notification.id
         FROM notification
         JOIN delivery ON delivery.id = delivery_id
         JOIN lookup_segment AS segment
             ON segment.id <= coalesce((SELECT min(id) FROM lookup_segment WHERE sorted_to >= notification.id), 9223372036854775807)
         WHERE notification.id IN (SELECT value FROM json_each(?1)) AND token_hash IS NOT NULL)",
    concat!(
        "UPDATE change SET token_hash = NULL WHERE ",
        unsorted_sql!(),
        " AND seq IN (SELECT value FROM json_each(?1)) AND token_hash IS NOT NULL"
    ),
];

/// Takes one hash from the lines that would lead by it; an operation's lines lie behind its own position.
macro_rules! lookups_sql {
    ($hash:literal) => {
        concat!(
            "UPDATE change SET ",
            $hash,
            " = NULL
             WHERE seq > max((SELECT coalesce(max(sorted_to), 0) FROM lookup_segment),
                             (SELECT min(value ->> 1) FROM json_each(?1)))
               AND (",
            $hash,
            ", operation_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))"
        )
    };
}

const LOOKUPS: [&str; 3] = [
    "DELETE FROM lookup WHERE (segment, hash, operation) IN (
         SELECT segment.id, gone.value ->> 0, gone.value ->> 1
         FROM json_each(?1) AS gone
         JOIN lookup_segment AS segment ON gone.value ->> 1 BETWEEN segment.oldest AND segment.newest)",
    lookups_sql!("operation_hash"),
    lookups_sql!("context_hash"),
];

impl Going {
    const fn statements(self) -> &'static [&'static str] {
        match self {
            Self::Calls => &CALLS,
            Self::Notifications => &NOTIFICATIONS,
            Self::Lookups => &LOOKUPS,
        }
    }
}

/// Takes it away: `which` is a JSON array. What the writer remembers of lines that are not sorted yet is the caller's to forget.
pub(in crate::store::sqlite) async fn forget(
    connection: &mut SqliteConnection,
    going: Going,
    which: &str,
) -> Result<(), StoreError> {
    for sql in going.statements() {
        sqlx::query(*sql).bind(which).execute(&mut *connection).await?;
    }
    Ok(())
}

/// What leads to these operations, each hash with the operation.
pub(in crate::store::sqlite) async fn of_operations(
    connection: &mut SqliteConnection,
    operations: &[i64],
) -> Result<Vec<(i64, i64)>, StoreError> {
    let sql = "SELECT hash, id
               FROM (SELECT operation_hash AS hash, id FROM operation WHERE id IN (SELECT value FROM json_each(?1))
                     UNION
                     SELECT context_hash, id FROM operation WHERE id IN (SELECT value FROM json_each(?1)))
               WHERE hash IS NOT NULL";
    Ok(sqlx::query_as(sql).bind(json(operations)?).fetch_all(connection).await?)
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Connection};

    use super::*;
    use crate::store::sqlite::MIGRATIONS;

    #[tokio::test]
    async fn no_table_that_grows_is_looked_through() -> Result<(), Box<dyn std::error::Error>> {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await?;
        MIGRATIONS.run(&mut connection).await?;
        for sql in [Going::Calls, Going::Notifications, Going::Lookups].iter().flat_map(|going| going.statements()) {
            let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
            let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(explain).bind("[]").fetch_all(&mut connection).await?;
            for (.., step) in plan {
                let is_small = step.contains("VIRTUAL TABLE") || step.ends_with(" segment");
                assert!(!step.starts_with("SCAN") || is_small, "{step}\n{sql}");
            }
        }
        Ok(())
    }
}
