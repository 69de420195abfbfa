//! One transaction: deliveries in, projections out.
//!
//! 1. [`load`]: the calls that are spoken of, and the facts of the operations that are
//! 2. [`plan`]: the rows: believe or quarantine, late or not, seal
//! 3. [`insert`]; the unique constraint `notification_once` decides what is a duplicate
//! 4. [`derive`]: what the new facts change, and save it with the change log
//!
//! Each statement takes the whole batch as one JSON parameter, and statements that follow each other go together: a step to the
//! database costs two changes of threads, a row hardly anything. `jsonb_each`
//! hands out parsed rows, where `json_each` would write each out as text for every column to parse again.

mod derive;
mod insert;
mod load;
mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;
use sqlx::SqliteConnection;

pub(super) use self::{
    derive::{Change, Changed, insert_changes},
    plan::{QUARANTINE, quarantine_subject},
};
use self::{
    derive::{changed_calls, changed_operations, save_and_commit},
    insert::insert,
    load::begin,
    plan::{Plan, Planned, PlannedDelivery},
};
use super::{
    forwards::keep_heads,
    positions::Positions,
    projection,
    strays::{followed_by, lead_home},
    work::Job,
};
use crate::{
    domain::{
        delivery::Content,
        ids::{DeliveryId, NotificationId, Seq},
        notification::{Disposition, Fact},
        operation::State,
    },
    store::{MasterKey, Recorded, RecordedNotification, StoreError, rows::ChangedOperation},
};

/// What a batch did.
#[derive(Debug, Default)]
pub(super) struct Batched {
    /// For each job, in order.
    pub(super) recorded: Vec<Recorded>,
    /// The operations that it added or changed.
    pub(super) changed: Vec<ChangedOperation>,
    /// The kinds of the new notifications; `None` if unrecognized.
    pub(super) kinds: Vec<Option<String>>,
    /// The final states that operations reached.
    pub(super) finals: Vec<State>,
    /// How many lines of the change log.
    pub(super) lines: usize,
}

impl Batched {
    /// Adds what was done to operations besides.
    pub(super) fn add(&mut self, more: Self) {
        self.changed.extend(more.changed);
        self.finals.extend(more.finals);
        self.lines += more.lines;
    }
}

/// Records `jobs` in a transaction of its own. After an error it may still be open.
pub(super) async fn record(
    connection: &mut SqliteConnection,
    master: &MasterKey,
    grace: Duration,
    positions: &mut Positions,
    jobs: &[Job],
) -> Result<Batched, StoreError> {
    let (mut calls, stories) = begin(connection, jobs).await?;
    let mut plan = Plan {
        master,
        positions,
        calls: &mut calls,
        stories,
        deliveries: Vec::new(),
        bodies: Vec::new(),
        notifications: Vec::new(),
        people: Vec::new(),
        heads: Vec::new(),
    };
    for job in jobs {
        plan.take(job)?;
    }
    let Plan { mut stories, deliveries, bodies, notifications, people, heads, .. } = plan;
    let duplicates = insert(connection, &deliveries, bodies, &notifications).await?;
    if !people.is_empty() {
        sqlx::query(
            "INSERT INTO person (call_id, token) SELECT value ->> 0, unhex(value ->> 1) FROM jsonb_each(?1) WHERE true
             ON CONFLICT DO NOTHING",
        )
        .bind(json(&people)?)
        .execute(&mut *connection)
        .await?;
    }
    if !heads.is_empty() {
        let quarantined = |planned: &&Planned<'_>| planned.disposition == Disposition::Quarantined;
        // a delivery that holds what is not believed is nothing to pass on as it is
        let apart: BTreeSet<i64> = notifications.iter().filter(quarantined).map(|planned| planned.delivery).collect();
        let is_new = |planned: &&Planned<'_>| !duplicates.contains(&planned.id) && !apart.contains(&planned.delivery);
        let told = notifications.iter().filter(is_new).map(|planned| planned.delivery).collect();
        keep_heads(connection, &heads, &told).await?;
    }

    let mut batched = Batched { recorded: outcomes(jobs, &deliveries, &notifications, &duplicates), ..Batched::default() };
    let mut changes: Vec<Change> = Vec::new();
    // by call: where requests are known, what is told of the call itself can be the end of one
    let mut of_calls: BTreeMap<i64, BTreeSet<NotificationId>> = BTreeMap::new();
    for planned in notifications.iter().filter(|planned| !duplicates.contains(&planned.id)) {
        planned.tell(&mut calls, &mut stories);
        if let (Some((call, _)), Fact::Call(_) | Fact::Participants(_)) = (planned.call, &planned.facts.fact) {
            of_calls.entry(call).or_default().insert(NotificationId(Seq(planned.id)));
        }
        batched.kinds.push(planned.recognized.then(|| planned.facts.kind.clone()));
        changes.push(Change::notification(planned));
    }
    for call in calls.values_mut() {
        call.fix_lapse(grace);
    }
    let saved_calls = changed_calls(positions, &calls, &mut changes);
    let (saved, gone) =
        changed_operations(connection, positions, &calls, (stories, of_calls), &mut batched, &mut changes).await?;
    let new = notifications.iter().filter(|planned| !duplicates.contains(&planned.id) && planned.call.is_some());
    let leads: BTreeSet<i64> = if positions.no_strays {
        BTreeSet::new()
    } else {
        new.flat_map(|planned| followed_by(planned.source, &planned.facts)).collect()
    };
    batched.lines = changes.len();
    if leads.is_empty() && gone.is_empty() {
        save_and_commit(connection, positions, &saved_calls, &saved, &changes).await?;
        return Ok(batched);
    }
    projection::save_calls(connection, &saved_calls).await?;
    projection::save_operations(connection, &saved, &gone).await?;
    insert_changes(connection, positions, &changes).await?;
    batched.add(lead_home(connection, positions, &leads).await?);
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(batched)
}

fn outcomes(
    jobs: &[Job],
    deliveries: &[PlannedDelivery<'_>],
    planned: &[Planned<'_>],
    duplicates: &BTreeSet<i64>,
) -> Vec<Recorded> {
    let mut planned = planned.iter();
    jobs.iter()
        .zip(deliveries)
        .map(|(job, delivery)| {
            let count = match &job.delivery.content {
                Content::Read(items) => items.len(),
                Content::Unreadable => 1,
            };
            let notifications = planned
                .by_ref()
                .take(count)
                .map(|row| {
                    if duplicates.contains(&row.id) {
                        return RecordedNotification::Duplicate;
                    }
                    RecordedNotification::New(NotificationId(Seq(row.id)), row.disposition)
                })
                .collect();
            Recorded { delivery: DeliveryId(Seq(delivery.id)), notifications }
        })
        .collect()
}

/// One parameter for a whole batch.
pub(super) fn json(rows: &(impl Serialize + ?Sized)) -> Result<String, StoreError> {
    serde_json::to_string(rows).map_err(|error| StoreError::Database(sqlx::Error::Encode(Box::new(error))))
}

/// Bytes inside a JSON parameter, for `unhex`.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            text.extend(DIGITS.get(usize::from(nibble)).copied().map(char::from));
        }
    }
    text
}

/// A stored time, in milliseconds.
pub(super) fn instant(table: &'static str, id: i64, milliseconds: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(milliseconds).map_err(|_error| StoreError::Inconsistent { table, column: "time", id })
}
