//! What goes for good, and all that hangs on it: for retention, and for who asks to be forgotten.

use sqlx::SqliteConnection;

use super::{
    batch::json,
    classes::{self, Table},
    lookup::{self, Going},
};
use crate::{
    domain::call::CallStory,
    store::{StoreError, removal::Removed},
};

/// The most notifications that go in one transaction: those who record wait for it.
pub(super) const AT_ONCE: i64 = 500;

/// What is to go.
#[derive(Debug, Default)]
pub(super) struct Doomed {
    /// Calls, by position, with all that was told and asked of them.
    pub(super) calls: Vec<i64>,
    /// Notifications, by themselves.
    pub(super) notifications: Vec<i64>,
}

impl Doomed {
    pub(super) const fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.notifications.is_empty()
    }
}

/// The oldest notifications of a call, so many that the rest can go with it at once; none if that can be now.
pub(super) async fn too_many(connection: &mut SqliteConnection, call: i64) -> Result<Vec<i64>, StoreError> {
    let oldest: Vec<i64> = sqlx::query_scalar("SELECT id FROM notification WHERE call_id = ?1 ORDER BY id LIMIT ?2")
        .bind(call)
        .bind(AT_ONCE + 1)
        .fetch_all(connection)
        .await?;
    let fits = i64::try_from(oldest.len()).unwrap_or(i64::MAX) <= AT_ONCE;
    Ok(if fits { Vec::new() } else { oldest })
}

/// Removes it, within the open transaction. The calls themselves stay, emptied, as erased at `erased_at`, if that is given.
pub(super) async fn remove(
    connection: &mut SqliteConnection,
    doomed: &Doomed,
    erased_at: Option<i64>,
) -> Result<Removed, StoreError> {
    if doomed.is_empty() {
        return Ok(Removed::default());
    }
    let calls = json(&doomed.calls)?;
    let told: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT id, delivery_id FROM notification WHERE call_id IN (SELECT value FROM json_each(?1)) AND call_id <> 0
         UNION
         SELECT id, delivery_id FROM notification WHERE id IN (SELECT value FROM json_each(?2))",
    )
    .bind(&calls)
    .bind(json(&doomed.notifications)?)
    .fetch_all(&mut *connection)
    .await?;
    let (notifications, mut deliveries): (Vec<i64>, Vec<i64>) = told.into_iter().unzip();
    deliveries.sort_unstable();
    deliveries.dedup();
    let (notifications, deliveries) = (json(&notifications)?, json(&deliveries)?);
    lookup::forget(connection, Going::Notifications, &notifications).await?;
    lookup::forget(connection, Going::Calls, &calls).await?;
    let mut removed = Removed::default();
    for (sql, bound, count) in [
        ("DELETE FROM operation WHERE call_id IN (SELECT value FROM json_each(?1))", &calls, Some(&mut removed.operations)),
        (
            "DELETE FROM answer
             WHERE request_id IN (SELECT id FROM request WHERE call_id IN (SELECT value FROM json_each(?1)))",
            &calls,
            None,
        ),
        (
            "DELETE FROM stray
             WHERE request_id IN (SELECT id FROM request WHERE call_id IN (SELECT value FROM json_each(?1)))",
            &calls,
            None,
        ),
        ("DELETE FROM request WHERE call_id IN (SELECT value FROM json_each(?1))", &calls, Some(&mut removed.requests)),
        ("DELETE FROM person WHERE call_id IN (SELECT value FROM json_each(?1))", &calls, None),
        ("DELETE FROM forward WHERE call_id IN (SELECT value FROM json_each(?1))", &calls, None),
        (
            "DELETE FROM forward
             WHERE target IN (SELECT name FROM forward_target) AND unit IN (SELECT value FROM json_each(?1))",
            &notifications,
            None,
        ),
        (
            "DELETE FROM notification WHERE id IN (SELECT value FROM json_each(?1))",
            &notifications,
            Some(&mut removed.notifications),
        ),
    ] {
        let rows = sqlx::query(sql).bind(bound).execute(&mut *connection).await?.rows_affected();
        if let Some(count) = count {
            *count = rows;
        }
    }
    removed.bodies = remove_deliveries(connection, &deliveries).await?;
    removed.calls = if let Some(at) = erased_at {
        empty_calls(connection, &calls, at).await?
    } else {
        let sql = "DELETE FROM call WHERE id IN (SELECT value FROM json_each(?1))";
        sqlx::query(sql).bind(&calls).execute(&mut *connection).await?.rows_affected()
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
        // a delivery's notifications have the ids right behind its own
        "DELETE FROM delivery
         WHERE id IN (SELECT value FROM json_each(?1))
           AND NOT EXISTS (
               SELECT 1 FROM notification
               WHERE notification.id > delivery.id
                 AND notification.id < coalesce((SELECT min(next.id) FROM delivery AS next WHERE next.id > delivery.id),
                                                9223372036854775807)
                 AND notification.delivery_id = delivery.id)",
        "UPDATE delivery SET body = NULL, data_key = NULL, sealed_for = NULL WHERE id IN (SELECT value FROM json_each(?1))",
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
             server_call_hash = NULL, connected_hash = NULL, lapses_at = NULL, settled = 0, requested = 0, class_hash = NULL
         WHERE id IN (SELECT value FROM json_each(?1))",
    )
    .bind(calls)
    .bind(at)
    .bind(json(&CallStory::default())?)
    .execute(&mut *connection)
    .await?;
    while classes::fill_some(connection, Table::Call).await? > 0 {}
    Ok(emptied.rows_affected())
}

/// Removes deliveries that told of no call, with what they told.
pub(super) async fn remove_loose(connection: &mut SqliteConnection, deliveries: &[i64]) -> Result<Removed, StoreError> {
    if deliveries.is_empty() {
        return Ok(Removed::default());
    }
    let deliveries = json(deliveries)?;
    let notifications: Vec<i64> = sqlx::query_scalar(
        "SELECT notification.id
         FROM json_each(?1) AS asked
         JOIN notification ON notification.id > asked.value
           AND notification.id < coalesce((SELECT min(next.id) FROM delivery AS next WHERE next.id > asked.value),
                                          9223372036854775807)
         WHERE notification.call_id = 0",
    )
    .bind(&deliveries)
    .fetch_all(&mut *connection)
    .await?;
    let mut removed = remove(connection, &Doomed { calls: Vec::new(), notifications }, None).await?;
    removed.bodies += remove_deliveries(connection, &deliveries).await?;
    Ok(removed)
}
