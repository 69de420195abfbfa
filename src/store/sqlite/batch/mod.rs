//! One transaction: deliveries in, projections out.
//!
//! 1. [`load`]: the calls that are spoken of, and the facts of the operations that are; unless they are [`known`]
//! 2. [`plan`]: the rows: believe or quarantine, late or not, seal
//! 3. [`insert`]; the unique constraint `notification_once` decides what is a duplicate
//! 4. [`derive`]: what the new facts change, and save it with the change log
//!
//! Where nothing has to be asked, the plan and what it changes are made first, and then all is inserted and saved in one step
//! ([`group`]).
//!
//! Each statement takes all its rows, and statements that follow each other go together ([`rows`](super::rows)). Questions take a list
//! as one JSON parameter.

mod derive;
mod group;
mod insert;
mod known;
mod load;
mod plan;

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use sqlx::SqliteConnection;

pub(super) use self::{
    derive::{Change, Changed, Whose, save_changed},
    group::{Group, Terms},
    known::Known,
    plan::{QUARANTINE, quarantine_subject},
};
use self::{
    derive::{Told, save_and_commit},
    insert::{insert, insert_people, person_row},
    load::{Call, begin},
    plan::{Plan, Planned},
};
use super::{
    facts,
    forwards::keep_heads,
    is_refusal,
    positions::Positions,
    projection,
    rows::Step,
    strays::{followed_by, lead_home},
    work::Job,
};
use crate::{
    domain::{
        ids::{DeliveryId, NotificationId, Seq},
        notification::Disposition,
        operation::State,
    },
    store::{Recorded, RecordedNotification, StoreError, rows::ChangedOperation},
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
    /// Whether the database was asked: what was planned beside it is void.
    pub(super) was_asked: bool,
}

impl Batched {
    /// Adds what was done besides.
    pub(super) fn add(&mut self, more: Self) {
        self.recorded.extend(more.recorded);
        self.kinds.extend(more.kinds);
        self.changed.extend(more.changed);
        self.finals.extend(more.finals);
    }
}

/// Records a group in a transaction of its own. After an error it may still be open.
///
/// `beside` is called while the database works, if the next group may be planned then.
pub(super) async fn record(
    connection: &mut SqliteConnection,
    terms: &Terms,
    positions: &mut Positions,
    group: &mut Group,
    beside: impl FnMut(&mut Positions),
) -> Result<Batched, StoreError> {
    if let Some(guess) = group.guess.take() {
        match guess.record(connection, positions, beside).await {
            Ok(batched) => return Ok(batched),
            Err(StoreError::Database(error)) if is_refusal(&error) => {
                tracing::debug!(%error, "a batch is recorded anew: it is not as had been guessed");
                // most refusals have done so already
                let _rolled_back = sqlx::query("ROLLBACK").execute(&mut *connection).await;
                positions.known.was_wrong(&group.jobs);
            }
            Err(error) => return Err(error),
        }
    }
    let (calls, seen) = begin(connection, &group.jobs).await?;
    positions.see(seen.version);
    positions.no_strays = !seen.strays;
    let mut batched =
        record_step_by_step(connection, Plan::of(&terms.master, positions, calls, &group.jobs)?, terms.grace, &group.jobs)
            .await?;
    batched.was_asked = true;
    Ok(batched)
}

/// Records what can be a copy of what came before, or the answer to a request: within the transaction that [`begin`] began.
async fn record_step_by_step(
    connection: &mut SqliteConnection,
    plan: Plan<'_, '_>,
    grace: Duration,
    jobs: &[Job],
) -> Result<Batched, StoreError> {
    let Plan { positions, mut calls, deliveries, notifications, people, heads, .. } = plan;
    let ids: Vec<i64> = deliveries.iter().map(|delivery| delivery.id).collect();
    let duplicates = insert(connection, deliveries, &notifications).await?;
    if !people.is_empty() {
        let mut step = Step::default();
        insert_people(&mut step, people.iter().map(person_row).collect())?;
        step.execute(connection).await?;
    }
    if !heads.is_empty() {
        let quarantined = |planned: &&Planned<'_>| planned.disposition == Disposition::Quarantined;
        // a delivery that holds what is not believed is nothing to pass on as it is
        let apart: BTreeSet<i64> = notifications.iter().filter(quarantined).map(|planned| planned.delivery).collect();
        let is_new = |planned: &&Planned<'_>| !duplicates.contains(&planned.id) && !apart.contains(&planned.delivery);
        let told = notifications.iter().filter(is_new).map(|planned| planned.delivery).collect();
        keep_heads(connection, &heads, &told).await?;
    }

    let new: Vec<&Planned<'_>> = notifications.iter().filter(|planned| !duplicates.contains(&planned.id)).collect();
    let mut told = Told::default();
    for planned in &new {
        told.add(planned, &mut calls);
    }
    // where requests are known, what is told of the call itself can be the end of one
    let requested = calls.values().filter(|call| call.requested && !call.news.is_empty()).map(|call| call.id).collect();
    let held = facts::of_calls(connection, &requested).await?;
    let derived = told.derive(positions, &mut calls, grace, &held)?;
    let leads: BTreeSet<i64> = if positions.no_strays {
        BTreeSet::new()
    } else {
        let believed = new.iter().filter(|planned| planned.call.is_some());
        believed.flat_map(|planned| followed_by(planned.source, &planned.facts)).collect()
    };
    let recorded = outcomes(jobs, &ids, &notifications, &duplicates);
    if leads.is_empty() && derived.gone.is_empty() {
        save_and_commit(connection, positions, &derived).await?;
        if !duplicates.is_empty() {
            calls.values_mut().for_each(Call::expect_nothing);
        }
        positions.known.learn(&mut calls);
        positions.known.keep(calls);
        return Ok(Batched { recorded, ..derived.batched() });
    }
    projection::save_calls(connection, &derived.calls).await?;
    save_changed(connection, positions, &derived.operations, &derived.gone, &derived.changes).await?;
    let mut batched = Batched { recorded, ..derived.batched() };
    let home = lead_home(connection, positions, &leads).await?;
    sqlx::query("COMMIT").execute(connection).await?;
    // what led a request home has changed calls besides
    positions.known.doubt();
    batched.add(home);
    Ok(batched)
}

fn outcomes(jobs: &[Job], deliveries: &[i64], planned: &[Planned<'_>], duplicates: &BTreeSet<i64>) -> Vec<Recorded> {
    let mut planned = planned.iter();
    jobs.iter()
        .zip(deliveries)
        .map(|(job, delivery)| {
            let notifications = planned
                .by_ref()
                .take(job.delivery.content.count())
                .map(|row| {
                    if duplicates.contains(&row.id) {
                        return RecordedNotification::Duplicate;
                    }
                    RecordedNotification::New(NotificationId(Seq(row.id)), row.disposition)
                })
                .collect();
            Recorded { delivery: DeliveryId(Seq(*delivery)), notifications }
        })
        .collect()
}

/// A column's JSON, or a list as one parameter.
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
