//! Deliveries that go into one commit together, and what is made of them without asking the database.
//!
//! That is planned delivery by delivery, as they come: while the commit before them is on its way, as though it had come to its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use sqlx::SqliteConnection;

use super::{
    Batched,
    derive::{Lines, Told, committed_at, insert_lines},
    insert::{delivery_row, insert_deliveries, insert_notifications, insert_people, notification_row, person_row},
    load::Calls,
    outcomes,
    plan::Plan,
};
use crate::store::{
    MasterKey, StoreError,
    sqlite::{
        positions::Positions,
        projection,
        rows::{Rows, Step},
        work::Job,
    },
};

/// On what terms deliveries are recorded.
pub(in crate::store::sqlite) struct Terms {
    pub(in crate::store::sqlite) master: Arc<MasterKey>,
    /// For how long what is open in a call that has ended may still be heard of.
    pub(in crate::store::sqlite) grace: Duration,
}

/// The most notifications in one commit, and the most bytes of its bodies; but for those of a single delivery. More of them would make
/// little difference, and their statements, which are kept prepared, larger.
const NOTIFICATIONS: usize = 256;
const BYTES: usize = 8 * 1024 * 1024;

/// Deliveries that go into one commit.
#[derive(Default)]
pub(in crate::store::sqlite) struct Group {
    pub(in crate::store::sqlite) jobs: Vec<Job>,
    notifications: usize,
    bytes: usize,
    /// `None` if the database is to be asked.
    pub(super) guess: Option<Guess>,
}

impl Group {
    /// One whose deliveries are to be recorded by asking the database.
    pub(in crate::store::sqlite) fn asking(jobs: Vec<Job>) -> Self {
        Self { jobs, ..Self::default() }
    }

    /// Adds a delivery. Gives it back if it does not go with those that are there.
    pub(in crate::store::sqlite) fn add(&mut self, job: Job, terms: &Terms, positions: Option<&mut Positions>) -> Option<Job> {
        let mut positions = positions.filter(|positions| positions.no_strays);
        let notifications = self.notifications + job.delivery.content.count();
        let bytes = self.bytes + job.delivery.body.len();
        if self.jobs.is_empty() {
            let version = positions.as_mut().and_then(|positions| positions.known.as_of());
            self.guess = version.filter(|_| notifications <= NOTIFICATIONS).map(Guess::as_of);
        } else if notifications > NOTIFICATIONS || bytes > BYTES {
            return Some(job);
        }
        if self.guess.is_some() && !self.plan(&job, terms, positions) {
            if !self.jobs.is_empty() {
                return Some(job);
            }
            self.ask();
        }
        (self.notifications, self.bytes) = (notifications, bytes);
        self.jobs.push(job);
        None
    }

    /// Plans a delivery; whether it can be.
    fn plan(&mut self, job: &Job, terms: &Terms, positions: Option<&mut Positions>) -> bool {
        let (Some(guess), Some(positions)) = (&mut self.guess, positions) else { return false };
        if job.delivery.head.is_some() {
            return false;
        }
        let Some(calls) = positions.known.lend(job, &mut guess.calls) else { return false };
        match guess.add(job, calls, terms, positions) {
            Ok(true) => {}
            Ok(false) => self.ask(),
            Err(error) => {
                // asking the database finds out which delivery it is
                tracing::debug!(%error, "a delivery cannot be planned");
                self.ask();
            }
        }
        true
    }

    /// What was guessed is void.
    pub(in crate::store::sqlite) fn ask(&mut self) {
        self.guess = None;
    }
}

/// What is made of deliveries, given that what is remembered of their calls is all there is, that the others are new, and that
/// nothing is a copy.
#[derive(Default)]
pub(super) struct Guess {
    /// What the database says of the writing of others ([`Known::see`](super::Known::see)).
    version: i64,
    calls: Calls,
    deliveries: Rows<11>,
    notifications: Rows<14>,
    people: Rows<2>,
    saved_calls: Rows<16>,
    operations: Rows<23>,
    lines: Lines,
    batched: Batched,
}

impl Guess {
    fn as_of(version: i64) -> Self {
        Self { version, ..Self::default() }
    }

    /// Adds a delivery, given the calls that it speaks of as far as they are known. False if it takes more than this can do: then it
    /// is void.
    fn add(&mut self, job: &Job, calls: Calls, terms: &Terms, positions: &mut Positions) -> Result<bool, StoreError> {
        let jobs = std::slice::from_ref(job);
        let plan = Plan::of(&terms.master, positions, calls, jobs)?;
        let Plan { positions, mut calls, deliveries, notifications, people, .. } = plan;
        let ids: Vec<i64> = deliveries.iter().map(|delivery| delivery.id).collect();
        let recorded = outcomes(jobs, &ids, &notifications, &BTreeSet::new());
        for delivery in deliveries {
            self.deliveries.push(delivery_row(delivery)?);
        }
        let mut told = Told::default();
        for planned in &notifications {
            told.add(planned, &mut calls);
            self.notifications.push(notification_row(planned)?);
        }
        for person in &people {
            self.people.push(person_row(person));
        }
        let derived = told.derive(positions, &mut calls, terms.grace, &BTreeMap::new())?;
        if !derived.gone.is_empty() {
            return Ok(false);
        }
        for call in &derived.calls {
            self.saved_calls.push(projection::call_row(call)?);
        }
        for operation in &derived.operations {
            self.operations.push(projection::operation_row(operation)?);
        }
        for change in &derived.changes {
            self.lines.push(change);
        }
        self.batched.add(Batched { recorded, ..derived.batched() });
        positions.known.learn(&mut calls);
        self.calls.extend(calls);
        Ok(true)
    }

    fn cells(&self) -> usize {
        self.deliveries.cells()
            + self.notifications.cells()
            + self.people.cells()
            + self.saved_calls.cells()
            + self.operations.cells()
            + self.lines.cells()
    }

    /// Records it in one step to the database. `beside` is called while that works.
    pub(super) async fn record(
        mut self,
        connection: &mut SqliteConnection,
        positions: &mut Positions,
        mut beside: impl FnMut(&mut Positions),
    ) -> Result<Batched, StoreError> {
        let mut step = Step::with_cells(self.cells());
        step.sql("BEGIN IMMEDIATE").end();
        insert_deliveries(&mut step, "OR ROLLBACK", self.deliveries, Some(self.version))?;
        insert_notifications(&mut step, "OR ROLLBACK", self.notifications, "")?;
        insert_people(&mut step, self.people)?;
        projection::add_calls(&mut step, self.saved_calls)?;
        projection::add_operations(&mut step, self.operations)?;
        let found = self.lines.take_found();
        insert_lines(&mut step, "OR ROLLBACK", self.lines, committed_at(positions))?;
        let slice = positions.sorting.add_slice(&mut step, &found)?;
        step.sql("COMMIT").end();
        // those who come next build on it; should it fail, they are not as planned
        positions.known.keep(self.calls);
        let mut execution = pin!(step.execute(connection));
        poll_fn(|context| {
            let polled = execution.as_mut().poll(context);
            if polled.is_pending() {
                beside(positions);
            }
            polled
        })
        .await?;
        positions.known.was_right();
        positions.sorting.written(slice);
        positions.sorting.come(found);
        Ok(self.batched)
    }
}
