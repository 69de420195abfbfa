//! What has been forwarded: how it is written down.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::{batch::json, positions::Positions};
use crate::{
    domain::ids::DeliveryId,
    store::{
        StoreError,
        forwards::{ForwardState, Progress, TargetRow, Tries, Unit},
    },
};

/// Makes these targets known: one that is new begins with what is recorded from now on.
pub(super) async fn know_targets(connection: &mut SqliteConnection, names: &[String]) -> Result<(), StoreError> {
    if names.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO forward_target (name, settled_to)
         SELECT value, (SELECT coalesce(max(id), 0) FROM notification) FROM json_each(?1) WHERE true
         ON CONFLICT (name) DO NOTHING",
    )
    .bind(json(names)?)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes down what a forwarder has got done, within the open transaction.
pub(super) async fn progress(
    connection: &mut SqliteConnection,
    positions: &mut Positions,
    progress: &Progress,
) -> Result<(), StoreError> {
    let Progress { name, target, rows, settled, heads } = progress;
    if let Some(target) = target {
        save_target(connection, target).await?;
    }
    if !rows.is_empty() {
        save_rows(connection, positions, name, rows).await?;
    }
    if !settled.is_empty() {
        let units: Vec<i64> = settled.iter().map(|unit| unit.0.0).collect();
        sqlx::query(
            "UPDATE forward SET state = 'settled', next_at = NULL
             WHERE target = ?1 AND unit IN (SELECT value FROM jsonb_each(?2))",
        )
        .bind(name)
        .bind(json(&units)?)
        .execute(&mut *connection)
        .await?;
    }
    sqlx::query(
        "DELETE FROM forward
         WHERE state = 'settled' AND target = ?1 AND unit <= (SELECT settled_to FROM forward_target WHERE name = ?1)",
    )
    .bind(name)
    .execute(&mut *connection)
    .await?;
    forget_heads(connection, name, heads).await
}

async fn save_target(connection: &mut SqliteConnection, target: &TargetRow) -> Result<(), StoreError> {
    sqlx::query("UPDATE forward_target SET settled_to = max(settled_to, ?2), disabled_at = ?3 WHERE name = ?1")
        .bind(&target.name)
        .bind(target.settled_to.0)
        .bind(target.disabled_at.map(Timestamp::as_millisecond))
        .execute(connection)
        .await?;
    Ok(())
}

async fn save_rows(
    connection: &mut SqliteConnection,
    positions: &mut Positions,
    target: &str,
    rows: &[(Unit, ForwardState, Tries)],
) -> Result<(), StoreError> {
    let mut values = Vec::with_capacity(rows.len());
    for (unit, state, tries) in rows {
        let others = unit.calls.get(1..).filter(|others| !others.is_empty());
        let what = (unit.id.0.0, unit.delivery.0.0, &unit.source, &unit.kind, unit.calls.first(), others, unit.whole);
        let at = |time: Option<Timestamp>| time.map(Timestamp::as_millisecond);
        let how = (
            state.as_str(),
            tries.attempts,
            at(tries.attempted_at),
            at(tries.next_at),
            tries.status,
            &tries.error,
            at(tries.since),
        );
        values.push((positions.next(), what, how));
    }
    sqlx::query(
        "INSERT INTO forward (id, target, unit, delivery_id, source, kind, call_id, other_calls, whole,
                              state, attempts, attempted_at, next_at, status, error, since)
         SELECT value ->> 0, ?1, value ->> '$[1][0]', value ->> '$[1][1]', value ->> '$[1][2]', value ->> '$[1][3]',
                value ->> '$[1][4]', nullif(value -> '$[1][5]', 'null'), value ->> '$[1][6]', value ->> '$[2][0]', value ->> '$[2][1]',
                value ->> '$[2][2]', value ->> '$[2][3]', value ->> '$[2][4]', value ->> '$[2][5]', value ->> '$[2][6]'
         FROM json_each(?2)
         -- what was erased meanwhile does not come back
         WHERE EXISTS (SELECT 1 FROM notification WHERE notification.id = value ->> '$[1][0]')
         ON CONFLICT (target, unit) DO UPDATE
         SET state = excluded.state, attempts = excluded.attempts, attempted_at = excluded.attempted_at,
             next_at = excluded.next_at, status = excluded.status, error = excluded.error, since = excluded.since",
    )
    .bind(target)
    .bind(json(&values)?)
    .execute(connection)
    .await?;
    Ok(())
}

async fn forget_heads(connection: &mut SqliteConnection, target: &str, heads: &[DeliveryId]) -> Result<(), StoreError> {
    if heads.is_empty() {
        return Ok(());
    }
    let heads: Vec<i64> = heads.iter().map(|delivery| delivery.0.0).collect();
    let heads = json(&heads)?;
    sqlx::query(
        "DELETE FROM delivery_head
         WHERE delivery_id IN (SELECT value FROM jsonb_each(?2)) AND targets = json_array(?1)",
    )
    .bind(target)
    .bind(&heads)
    .execute(&mut *connection)
    .await?;
    // what other targets are still to get
    sqlx::query(
        "UPDATE delivery_head
         SET targets = (SELECT json_group_array(value) FROM json_each(targets) WHERE value <> ?1)
         WHERE delivery_id IN (SELECT value FROM jsonb_each(?2))",
    )
    .bind(target)
    .bind(heads)
    .execute(connection)
    .await?;
    Ok(())
}

/// How many expired headers go in one transaction: deliveries wait for it.
const HEADS_AT_ONCE: i64 = 5000;

/// Forgets headers whose token has expired, and says whether there may be more.
pub(super) async fn forget_expired(connection: &mut SqliteConnection, now: Timestamp) -> Result<bool, StoreError> {
    let expired: Option<i64> =
        sqlx::query_scalar("SELECT min(expires_at) FROM delivery_head").fetch_one(&mut *connection).await?;
    if expired.is_none_or(|expired| expired > now.as_millisecond()) {
        return Ok(false);
    }
    let forgotten = sqlx::query(
        "DELETE FROM delivery_head
         WHERE delivery_id IN (SELECT delivery_id FROM delivery_head WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
    )
    .bind(now.as_millisecond())
    .bind(HEADS_AT_ONCE)
    .execute(connection)
    .await?;
    Ok(i64::try_from(forgotten.rows_affected()).is_ok_and(|forgotten| forgotten == HEADS_AT_ONCE))
}

/// Headers on their way to their rows: of which delivery, sealed.
#[derive(Debug)]
pub(super) struct SealedHead<'j> {
    pub(super) delivery: i64,
    pub(super) expires_at: i64,
    pub(super) targets: &'j [String],
    pub(super) sealed: Vec<u8>,
}

/// Keeps the headers of those deliveries that brought something `new`.
pub(super) async fn keep_heads(
    connection: &mut SqliteConnection,
    heads: &[SealedHead<'_>],
    new: &BTreeSet<i64>,
) -> Result<(), StoreError> {
    let mut sealed = Vec::new();
    let mut rows = Vec::new();
    for head in heads.iter().filter(|head| new.contains(&head.delivery)) {
        rows.push((head.delivery, head.expires_at, head.targets, sealed.len() + 1, head.sealed.len()));
        sealed.extend_from_slice(&head.sealed);
    }
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO delivery_head (delivery_id, expires_at, targets, head)
         SELECT value ->> 0, value ->> 1, value -> 2, substr(?2, value ->> 3, value ->> 4)
         FROM jsonb_each(?1)",
    )
    .bind(json(&rows)?)
    .bind(sealed)
    .execute(connection)
    .await?;
    Ok(())
}
