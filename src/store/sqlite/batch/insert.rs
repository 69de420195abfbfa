//! 3. What came goes in; the unique constraint `notification_once` decides what is a duplicate.

use std::collections::BTreeSet;

use serde::Serialize;
use sqlx::SqliteConnection;

use super::{
    hex, json,
    plan::{Planned, PlannedDelivery},
};
use crate::store::StoreError;

/// The statement that inserts deliveries, with its parameters: JSON of [`delivery_row`]s, and the sealed bodies one behind the other.
macro_rules! insert_deliveries_sql {
    ($or:literal, $rows:literal, $bodies:literal) => {
        concat!(
            "INSERT ",
            $or,
            " INTO delivery (id, source, receiver, received_at, audience, tenant_id, token_hash, correlation, sealed_for,
                                   data_key, body)
             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, nullif(value -> 7, 'null'), value ->> 8,
                    unhex(value ->> 9), substr(",
            $bodies,
            ", value ->> 10, value ->> 11)
             FROM jsonb_each(",
            $rows,
            ")"
        )
    };
}
pub(super) use insert_deliveries_sql;

/// The statement that inserts notifications, with its parameter: JSON of [`notification_row`]s.
macro_rules! insert_notifications_sql {
    ($or:literal, $rows:literal) => {
        concat!(
            "INSERT ",
            $or,
            " INTO notification
                 (id, delivery_id, call_id, subject, identity, received_at, kind, disposition, facts, personal,
                  source, named, item)
             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4), value ->> 5, value ->> '$[7].kind',
                    value ->> 6, value -> 7, unhex(value ->> 8), value ->> '$[9][0]', value ->> '$[9][1]',
                    value ->> '$[9][2]'
             FROM jsonb_each(",
            $rows,
            ")
             WHERE true"
        )
    };
}
pub(super) use insert_notifications_sql;

/// The statement that inserts who is in which call, with its parameter: JSON of pairs.
macro_rules! insert_people_sql {
    ($rows:literal) => {
        concat!(
            "INSERT INTO person (call_id, token) SELECT value ->> 0, unhex(value ->> 1) FROM jsonb_each(",
            $rows,
            ") WHERE true
             ON CONFLICT DO NOTHING"
        )
    };
}
pub(super) use insert_people_sql;

pub(super) fn delivery_row(planned: &PlannedDelivery<'_>) -> impl Serialize {
    let PlannedDelivery { id, source, receiver, received_at, audience, tenant_id, token_hash, correlation, .. } = planned;
    let PlannedDelivery { sealed_for, data_key, body_at, body_length, .. } = planned;
    (id, source, receiver, received_at, audience, tenant_id, token_hash, correlation, sealed_for, data_key, body_at, body_length)
}

pub(super) fn notification_row(planned: &Planned<'_>) -> impl Serialize {
    let call = planned.call.as_ref().map_or(0, |(call, _)| *call);
    let (at, disposition) = (planned.received_at.as_millisecond(), planned.disposition.as_str());
    let personal = planned.personal.as_deref().map(hex);
    let whose = (planned.source, planned.named, planned.item);
    let Planned { id, delivery, subject, identity, facts, .. } = planned;
    (id, delivery, call, subject, hex(identity), at, disposition, facts, personal, whose)
}

/// Rows as one parameter, written one by one.
#[derive(Debug, Default)]
pub(super) struct Rows(String);

impl Rows {
    pub(super) fn push(&mut self, row: &impl Serialize) -> Result<(), StoreError> {
        self.0.push(if self.0.is_empty() { '[' } else { ',' });
        self.0.push_str(&json(row)?);
        Ok(())
    }

    /// As JSON.
    pub(super) fn finish(mut self) -> String {
        self.0.push_str(if self.0.is_empty() { "[]" } else { "]" });
        self.0
    }
}

/// Inserts what is new, counts what is not on the row that it repeats, and returns the ids that were not needed.
///
/// One step to the database for all tables: each costs the writer a change of threads and back.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    deliveries: &[PlannedDelivery<'_>],
    bodies: Vec<u8>,
    planned: &[Planned<'_>],
) -> Result<BTreeSet<i64>, StoreError> {
    let inserted = sqlx::query(concat!(
        insert_deliveries_sql!("OR ABORT", "$1", "$2"),
        ";",
        insert_notifications_sql!("OR ABORT", "$3"),
        " ON CONFLICT (call_id, subject, identity) DO NOTHING
          ON CONFLICT (identity) WHERE named = 1 DO NOTHING",
    ))
    .bind(json(&deliveries.iter().map(delivery_row).collect::<Vec<_>>())?)
    .bind(bodies)
    .bind(json(&planned.iter().map(notification_row).collect::<Vec<_>>())?)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    if usize::try_from(inserted).is_ok_and(|inserted| inserted == deliveries.len() + planned.len()) {
        return Ok(BTreeSet::new());
    }
    count_duplicates(connection, planned).await
}

async fn count_duplicates(connection: &mut SqliteConnection, planned: &[Planned<'_>]) -> Result<BTreeSet<i64>, StoreError> {
    let ids: Vec<i64> = planned.iter().map(|row| row.id).collect();
    let new: Vec<i64> = sqlx::query_scalar("SELECT id FROM notification WHERE id IN (SELECT value FROM jsonb_each(?1))")
        .bind(json(&ids)?)
        .fetch_all(&mut *connection)
        .await?;
    let new: BTreeSet<i64> = new.into_iter().collect();
    let repeats: Vec<&Planned<'_>> = planned.iter().filter(|row| !new.contains(&row.id)).collect();
    let of = |named: bool| -> Vec<_> {
        let rows = repeats.iter().filter(|row| row.named == named);
        rows.map(|row| {
            (row.call.as_ref().map_or(0, |(call, _)| *call), &row.subject, hex(&row.identity), row.received_at.as_millisecond())
        })
        .collect()
    };
    let (unnamed, named) = (of(false), of(true));
    if !named.is_empty() {
        sqlx::query(
            "UPDATE notification
             SET duplicates = duplicates + repeats.count,
                 last_duplicate_at = max(coalesce(last_duplicate_at, 0), repeats.last)
             FROM (
                 SELECT unhex(value ->> 2) AS identity, count(*) AS count, max(value ->> 3) AS last
                 FROM jsonb_each(?1)
                 GROUP BY 1
             ) AS repeats
             WHERE notification.named = 1 AND notification.identity = repeats.identity",
        )
        .bind(json(&named)?)
        .execute(&mut *connection)
        .await?;
    }
    sqlx::query(
        "UPDATE notification
         SET duplicates = duplicates + repeats.count,
             last_duplicate_at = max(coalesce(last_duplicate_at, 0), repeats.last)
         FROM (
             SELECT value ->> 0 AS call_id, value ->> 1 AS subject, unhex(value ->> 2) AS identity,
                    count(*) AS count, max(value ->> 3) AS last
             FROM jsonb_each(?1)
             GROUP BY 1, 2, 3
         ) AS repeats
         WHERE notification.call_id = repeats.call_id
           AND notification.subject = repeats.subject
           AND notification.identity = repeats.identity",
    )
    .bind(json(&unnamed)?)
    .execute(&mut *connection)
    .await?;

    let kept: BTreeSet<i64> = planned.iter().filter(|row| new.contains(&row.id)).map(|row| row.delivery).collect();
    let empty: BTreeSet<i64> = repeats.iter().map(|row| row.delivery).filter(|delivery| !kept.contains(delivery)).collect();
    sqlx::query("DELETE FROM delivery WHERE id IN (SELECT value FROM jsonb_each(?1))")
        .bind(json(&empty)?)
        .execute(connection)
        .await?;
    Ok(repeats.into_iter().map(|row| row.id).collect())
}
