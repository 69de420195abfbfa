//! 3. What came goes in; the unique constraint `notification_once` decides what is a duplicate.

use std::collections::BTreeSet;

use sqlx::SqliteConnection;

use super::{
    hex, json,
    known::add_nobody_else,
    plan::{Planned, PlannedDelivery},
};
use crate::store::{
    StoreError,
    sqlite::{
        classes::Class,
        rows::{Cell, IS_ROW, Rows, Step},
    },
};

/// Adds the statement that inserts deliveries. It fails if others have written `since` this version, if one is given.
pub(super) fn insert_deliveries(step: &mut Step, or: &str, rows: Rows<11>, since: Option<i64>) -> Result<(), StoreError> {
    for rows in rows.by_statement() {
        step.sql("INSERT ").sql(or).sql(
            " INTO delivery
                 (id, received_at, source, receiver, audience, tenant_id, token_hash, correlation, sealed_for, data_key, body) ",
        );
        step.select("delivery", rows)?;
        if let Some(version) = since {
            step.sql(" AND ");
            add_nobody_else(step, version)?;
        }
        step.end();
    }
    Ok(())
}

/// Adds the statement that inserts notifications.
pub(super) fn insert_notifications(step: &mut Step, or: &str, rows: Rows<14>, conflict: &str) -> Result<(), StoreError> {
    for rows in rows.by_statement() {
        step.sql("INSERT ").sql(or).sql(
            " INTO notification
                 (id, delivery_id, call_id, subject, identity, received_at, kind, disposition, facts, personal, source, named, item,
                  class_hash) ",
        );
        step.select("notification", rows)?.sql(conflict).end();
    }
    Ok(())
}

/// Adds the statement that inserts who is in which call.
pub(super) fn insert_people(step: &mut Step, rows: Rows<2>) -> Result<(), StoreError> {
    for rows in rows.by_statement() {
        step.sql("INSERT INTO person (call_id, token) SELECT column1, unhex(column2) FROM ");
        step.values(rows)?.sql(IS_ROW).sql(" ON CONFLICT DO NOTHING").end();
    }
    Ok(())
}

pub(super) fn delivery_row(planned: PlannedDelivery<'_>) -> Result<[Cell; 11], StoreError> {
    let PlannedDelivery { id, source, receiver, received_at, audience, tenant_id, token_hash, .. } = planned;
    let PlannedDelivery { correlation, sealed_for, data_key, body, .. } = planned;
    Ok([
        id.into(),
        received_at.into(),
        Cell::word(source),
        receiver.into(),
        audience.into(),
        tenant_id.into(),
        token_hash.into(),
        correlation.map(json).transpose()?.into(),
        sealed_for.into(),
        data_key.into(),
        body.into(),
    ])
}

pub(super) fn notification_row(planned: &Planned<'_>) -> Result<[Cell; 14], StoreError> {
    let class = Class { source: planned.source, kind: Some(&planned.facts.kind), ..Class::default() };
    Ok([
        planned.id.into(),
        planned.delivery.into(),
        planned.call.as_ref().map_or(0, |(call, _)| *call).into(),
        planned.subject.as_str().into(),
        planned.identity.to_vec().into(),
        planned.received_at.as_millisecond().into(),
        if planned.recognized { Cell::word(&planned.facts.kind) } else { planned.facts.kind.as_str().into() },
        Cell::word(planned.disposition.as_str()),
        json(&planned.facts)?.into(),
        planned.personal.clone().into(),
        Cell::word(planned.source),
        planned.named.into(),
        planned.item.into(),
        class.hash().into(),
    ])
}

pub(super) fn person_row((call, token): &(i64, String)) -> [Cell; 2] {
    [(*call).into(), token.as_str().into()]
}

/// Inserts what is new, counts what is not on the row that it repeats, and returns the ids that were not needed.
///
/// One step to the database for all tables: each costs the writer a change of threads and back.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    deliveries: Vec<PlannedDelivery<'_>>,
    planned: &[Planned<'_>],
) -> Result<BTreeSet<i64>, StoreError> {
    let (mut step, count) = (Step::default(), deliveries.len() + planned.len());
    let deliveries = deliveries.into_iter().map(delivery_row).collect::<Result<_, _>>()?;
    insert_deliveries(&mut step, "", deliveries, None)?;
    let notifications = planned.iter().map(notification_row).collect::<Result<_, _>>()?;
    let copies = " ON CONFLICT (call_id, subject, identity) DO NOTHING ON CONFLICT (identity) WHERE named = 1 DO NOTHING";
    insert_notifications(&mut step, "", notifications, copies)?;
    let inserted = step.execute(&mut *connection).await?;
    if usize::try_from(inserted).is_ok_and(|inserted| inserted == count) {
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
