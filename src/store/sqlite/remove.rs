//! What goes for good, and all that hangs on it: for retention, and for who asks to be forgotten.

use sqlx::SqliteConnection;

use super::batch::json;
use crate::{
    domain::call::CallStory,
    store::{StoreError, removal::Removed},
};

/// What is to go.
#[derive(Debug, Default)]
pub(super) struct Doomed {
    /// Calls, by position, with all that was told and asked of them.
    pub(super) calls: Vec<i64>,
    /// Notifications that belong to no call.
    pub(super) loose: Vec<i64>,
}

impl Doomed {
    pub(super) const fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.loose.is_empty()
    }
}

/// Removes it, within the open transaction. The calls themselves stay, emptied, as erased at `erased_at`, if that is given.
pub(super) async fn remove(
    connection: &mut SqliteConnection,
    doomed: &Doomed,
    erased_at: Option<i64>,
) -> Result<Removed, StoreError> {
    let (calls, loose) = (json(&doomed.calls)?, json(&doomed.loose)?);
    let told: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT id, delivery_id FROM notification WHERE call_id IN (SELECT value FROM json_each(?1)) AND call_id <> 0
         UNION
         SELECT id, delivery_id FROM notification WHERE id IN (SELECT value FROM json_each(?2)) AND +call_id = 0",
    )
    .bind(&calls)
    .bind(&loose)
    .fetch_all(&mut *connection)
    .await?;
    let (notifications, mut deliveries): (Vec<i64>, Vec<i64>) = told.into_iter().unzip();
    deliveries.sort_unstable();
    deliveries.dedup();
    let gone = |result: sqlx::sqlite::SqliteQueryResult| result.rows_affected();
    let mut removed = Removed::default();
    for (sql, count) in [
        ("DELETE FROM operation WHERE call_id IN (SELECT value FROM json_each(?1))", Some(&mut removed.operations)),
        (
            "DELETE FROM answer
             WHERE request_id IN (SELECT id FROM request WHERE call_id IN (SELECT value FROM json_each(?1)))",
            None,
        ),
        (
            "DELETE FROM stray
             WHERE request_id IN (SELECT id FROM request WHERE call_id IN (SELECT value FROM json_each(?1)))",
            None,
        ),
        ("DELETE FROM request WHERE call_id IN (SELECT value FROM json_each(?1))", Some(&mut removed.requests)),
        ("DELETE FROM forward WHERE call_id IN (SELECT value FROM json_each(?1))", None),
    ] {
        let rows = gone(sqlx::query(sql).bind(&calls).execute(&mut *connection).await?);
        if let Some(count) = count {
            *count = rows;
        }
    }
    let (notifications, deliveries) = (json(&notifications)?, json(&deliveries)?);
    let sql = "DELETE FROM notification WHERE id IN (SELECT value FROM json_each(?1))";
    removed.notifications = gone(sqlx::query(sql).bind(notifications).execute(&mut *connection).await?);
    removed.bodies = remove_deliveries(connection, &deliveries).await?;
    removed.calls = if let Some(at) = erased_at {
        empty_calls(connection, &calls, at).await?
    } else {
        let sql = "DELETE FROM call WHERE id IN (SELECT value FROM json_each(?1))";
        gone(sqlx::query(sql).bind(&calls).execute(&mut *connection).await?)
    };
    Ok(removed)
}

/// Deliveries that brought nothing else go; of the others the body does, because it speaks of what is to be forgotten. Says how many
/// bodies that were.
async fn remove_deliveries(connection: &mut SqliteConnection, deliveries: &str) -> Result<u64, StoreError> {
    let bodies: i64 =
        sqlx::query_scalar("SELECT count(*) FROM delivery WHERE id IN (SELECT value FROM json_each(?1)) AND body IS NOT NULL")
            .bind(deliveries)
            .fetch_one(&mut *connection)
            .await?;
    for sql in [
        "DELETE FROM delivery_head WHERE delivery_id IN (SELECT value FROM json_each(?1))",
        "DELETE FROM forward WHERE delivery_id IN (SELECT value FROM json_each(?1))",
        // a delivery's notifications have the ids right behind its own
        "DELETE FROM delivery
         WHERE id IN (SELECT value FROM json_each(?1))
           AND NOT EXISTS (
               SELECT 1 FROM notification
               WHERE notification.id > delivery.id
                 AND notification.id < coalesce((SELECT min(next.id) FROM delivery AS next WHERE next.id > delivery.id),
                                                9223372036854775807)
                 AND notification.delivery_id = delivery.id)",
        "UPDATE delivery SET body = NULL, data_key = NULL, sealed_for = NULL, correlation = NULL
         WHERE id IN (SELECT value FROM json_each(?1))",
    ] {
        sqlx::query(sql).bind(deliveries).execute(&mut *connection).await?;
    }
    Ok(u64::try_from(bodies).unwrap_or(0))
}

/// Takes from calls their keys and all that was derived of them.
async fn empty_calls(connection: &mut SqliteConnection, calls: &str, at: i64) -> Result<u64, StoreError> {
    let emptied = sqlx::query(
        "UPDATE call
         SET data_key = NULL, erased_at = ?2, story = ?3, state = NULL, chain_id = NULL, correlation_hash = NULL,
             server_call_hash = NULL, connected_hash = NULL, lapses_at = NULL, settled = 0, requested = 0
         WHERE id IN (SELECT value FROM json_each(?1))",
    )
    .bind(calls)
    .bind(at)
    .bind(json(&CallStory::default())?)
    .execute(&mut *connection)
    .await?;
    // of no use to anybody any more, and the hash of a tag can be guessed; there is no index for who asks so seldom
    sqlx::query("DELETE FROM change WHERE call_id IN (SELECT value FROM json_each(?1))").bind(calls).execute(connection).await?;
    Ok(emptied.rows_affected())
}
