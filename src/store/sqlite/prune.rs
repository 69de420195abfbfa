//! Prune: what retention takes away, in steps that a server beside us does not feel.

use jiff::Timestamp;
use sqlx::{Connection, SqliteConnection};

use super::{open_beside, retention::prune_log};
use crate::store::{OpenError, Options, StoreError};

/// How many deliveries lose their bodies in one transaction.
const PRUNED_AT_ONCE: i64 = 500;
/// How many lines of the change log go in one transaction.
const LINES_AT_ONCE: i64 = 5000;

pub(in crate::store) async fn prune(options: &Options, before: Timestamp, dry_run: bool) -> Result<u64, OpenError> {
    let mut connection = open_beside(options).await?;
    if dry_run {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM delivery WHERE received_at < ?1 AND body IS NOT NULL")
            .bind(before.as_millisecond())
            .fetch_one(&mut connection)
            .await
            .map_err(StoreError::from)?;
        return Ok(u64::try_from(count).unwrap_or(0));
    }
    let mut pruned = 0;
    loop {
        let some = prune_some(&mut connection, before).await.map_err(StoreError::from)?;
        if some == 0 {
            break;
        }
        pruned += some;
    }
    // positions are microseconds
    while prune_log(&mut connection, before.as_microsecond(), LINES_AT_ONCE).await?.lines > 0 {}
    Ok(pruned)
}

async fn prune_some(connection: &mut SqliteConnection, before: Timestamp) -> Result<u64, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let ids: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM delivery WHERE received_at < ?1 AND body IS NOT NULL ORDER BY id LIMIT ?2")
            .bind(before.as_millisecond())
            .bind(PRUNED_AT_ONCE)
            .fetch_all(&mut *transaction)
            .await?;
    let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(0) };
    // A delivery's notifications have the ids right behind its own.
    sqlx::query(
        "UPDATE notification
         SET personal = NULL
         WHERE id > ?1 AND received_at < ?2 AND personal IS NOT NULL
           AND id < coalesce((SELECT min(id) FROM delivery WHERE id > ?3), 9223372036854775807)",
    )
    .bind(first)
    .bind(before.as_millisecond())
    .bind(last)
    .execute(&mut *transaction)
    .await?;
    let pruned =
        sqlx::query("UPDATE delivery SET body = NULL WHERE id BETWEEN ?1 AND ?2 AND received_at < ?3 AND body IS NOT NULL")
            .bind(first)
            .bind(last)
            .bind(before.as_millisecond())
            .execute(&mut *transaction)
            .await?
            .rows_affected();
    transaction.commit().await?;
    Ok(pruned)
}
