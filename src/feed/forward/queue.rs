//! Which unit is sent next: in commit order within a call, calls beside each other, failures after a pause.
//!
//! Pure: it is told what came and how a try went, and asked what to do now. Every unit that is not settled is in here: those that were
//! never tried, those whose try failed, and those that wait behind one of these because they are about the same call.

mod held;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use self::held::{Flight, Held, pause};
use super::circuit::{Circuit, Failure};
use crate::{
    domain::ids::Seq,
    store::forwards::{ForwardState, Tries, Unit},
};

/// The longest pause that a bot may ask for.
const LONGEST_ASKED: Duration = Duration::from_hours(1);
/// How many units may be here without a row, and how many in all: then no more of the log is read until some are settled.
const UNTRIED: usize = 1024;
const HELD: usize = 20_000;

/// What is not settled yet, of one target.
#[derive(Debug)]
pub(super) struct Queue {
    held: BTreeMap<i64, Held>,
    by_call: HashMap<i64, BTreeSet<i64>>,
    /// Those that could be sent at once: the first of all their calls, and never tried.
    fresh: BTreeSet<i64>,
    /// The first of all their calls, to be tried again when they are due.
    again: BTreeSet<(Instant, i64)>,
    /// Those that the target's position may not pass: without a row, as far as is known.
    rowless: BTreeSet<i64>,
    in_flight: usize,
    in_flight_again: usize,
    concurrency: usize,
    circuit: Circuit,
    /// What was settled and has a row, and what was given up: not told yet.
    settled: Vec<Arc<Unit>>,
    dead: Vec<(Arc<Unit>, Tries)>,
    /// The deliveries of what was settled or given up, whose headers are not needed any more.
    done: Vec<Arc<Unit>>,
}

/// What there is to tell the ledger.
#[derive(Debug, Default)]
pub(super) struct News {
    /// What is not settled, as it now stands, and what was given up.
    pub(super) rows: Vec<(Unit, ForwardState, Tries)>,
    /// What is settled and had a row.
    pub(super) settled: Vec<Arc<Unit>>,
    /// Everything that is settled or given up.
    pub(super) done: Vec<Arc<Unit>>,
}

impl News {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.settled.is_empty() && self.done.is_empty()
    }
}

impl Queue {
    pub(super) fn new(concurrency: usize) -> Self {
        Self {
            held: BTreeMap::new(),
            by_call: HashMap::new(),
            fresh: BTreeSet::new(),
            again: BTreeSet::new(),
            rowless: BTreeSet::new(),
            in_flight: 0,
            in_flight_again: 0,
            concurrency,
            circuit: Circuit::default(),
            settled: Vec::new(),
            dead: Vec::new(),
            done: Vec::new(),
        }
    }

    pub(super) const fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    pub(super) const fn circuit_mut(&mut self) -> &mut Circuit {
        &mut self.circuit
    }

    /// Whether something waits that was never tried and could be sent.
    pub(super) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Whether there is room for more of the log.
    pub(super) fn has_room(&self) -> bool {
        self.held.len() < HELD && self.rowless.len() < UNTRIED
    }

    /// The oldest unit here.
    pub(super) fn oldest(&self) -> Option<Seq> {
        self.held.keys().next().copied().map(Seq)
    }

    /// Everything before this position is settled or has a row, once the news have been told; `read_to`: nothing older is left.
    pub(super) fn settled_to(&self, read_to: Seq) -> Seq {
        self.rowless.first().map_or(read_to, |first| Seq(first - 1).min(read_to))
    }

    pub(super) fn contains(&self, unit: Seq) -> bool {
        self.held.contains_key(&unit.0)
    }

    /// Takes a unit in. One that has a row was tried before, or waits behind such a one.
    pub(super) fn admit(&mut self, unit: Unit, row: Option<Tries>, due: Instant) {
        let id = unit.id.0.0;
        let has_row = row.is_some();
        if !has_row {
            self.rowless.insert(id);
        }
        for call in &unit.calls {
            // what it comes before was the first until now
            let of_call = self.by_call.entry(call.0).or_default();
            let next = of_call.range(id..).next().copied();
            of_call.insert(id);
            if let Some(next) = next {
                self.unschedule(next);
            }
        }
        let (unit, tries) = (Arc::new(unit), row.unwrap_or_default());
        let held = Held { unit, tries, due, flight: Flight::Not, has_row, told: true };
        self.held.insert(id, held);
        self.schedule(id);
    }

    /// What is to be sent now, if anything: what was never tried goes first, so that what fails does not hold up the rest.
    pub(super) fn next(&mut self, now: Instant) -> Option<Arc<Unit>> {
        if self.in_flight >= self.concurrency {
            return None;
        }
        let (fresh, again) = (self.fresh.first().copied(), self.again.first().copied());
        let id = if self.circuit.is_closed() {
            let room = self.in_flight_again < (self.concurrency / 2).max(1);
            let again = again.filter(|(due, _)| room && *due <= now).map(|(_, id)| id);
            match (fresh, again) {
                // of those that failed one at a time, however much is new
                (Some(_), Some(again)) if self.in_flight_again == 0 => again,
                (fresh, again) => fresh.or(again)?,
            }
        } else {
            let new = fresh.filter(|id| self.circuit.probes(*id, true, now));
            new.or_else(|| again.map(|(_, id)| id).filter(|id| self.circuit.probes(*id, false, now)))?
        };
        self.unschedule(id);
        let held = self.held.get_mut(&id)?;
        held.flight = if held.tries.attempts > 0 { Flight::Again } else { Flight::ForTheFirstTime };
        self.in_flight += 1;
        self.in_flight_again += usize::from(held.flight == Flight::Again);
        Some(Arc::clone(&held.unit))
    }

    /// When [`Self::next`] is to be asked again, if nothing else happens before.
    pub(super) fn wakes(&self) -> Option<Instant> {
        if self.in_flight >= self.concurrency {
            return None;
        }
        if !self.circuit.is_closed() {
            let fresh = self.circuit.probes_at(true).filter(|_| !self.fresh.is_empty());
            let again = self.circuit.probes_at(false).filter(|_| !self.again.is_empty());
            return fresh.into_iter().chain(again).min();
        }
        let room = self.in_flight_again < (self.concurrency / 2).max(1);
        self.again.first().map(|(due, _)| *due).filter(|_| room)
    }

    /// It was delivered, or is not to be.
    pub(super) fn settle(&mut self, id: Seq) {
        let Some(held) = self.remove(id.0) else { return };
        if held.has_row {
            self.settled.push(Arc::clone(&held.unit));
        }
        self.done.push(held.unit);
    }

    /// It answered: what was sent has arrived, so the endpoint is there.
    pub(super) fn delivered(&mut self, id: Seq) {
        self.circuit.succeeded();
        self.settle(id);
    }

    /// A try failed now; whether it is the last one.
    pub(super) fn failed(&mut self, id: Seq, failure: &Failure, (now, at): (Instant, Timestamp), give_up: bool) {
        let call = self.held.get(&id.0).and_then(|held| held.unit.calls.first());
        self.circuit.failed(id.0, call.map_or(-id.0, |call| call.0), failure, now);
        let Some(held) = self.held.get_mut(&id.0) else { return };
        let tries = &mut held.tries;
        if failure.not_connected && tries.attempts == 0 && !give_up {
            // nothing was sent, so it is as new as it was
            let flight = std::mem::replace(&mut held.flight, Flight::Not);
            self.landed(flight);
            self.schedule(id.0);
            return;
        }
        tries.attempts = tries.attempts.saturating_add(1);
        tries.attempted_at = Some(at);
        (tries.status, tries.error) = (failure.status, Some(failure.why.clone()));
        if give_up {
            self.give_up(id);
            return;
        }
        let pause = pause(tries.attempts, fastrand::f64()).max(failure.retry_after.unwrap_or_default().min(LONGEST_ASKED));
        tries.next_at = at.checked_add(pause).ok();
        held.due = now + pause;
        held.told = false;
        let flight = std::mem::replace(&mut held.flight, Flight::Not);
        self.landed(flight);
        self.schedule(id.0);
    }

    /// It is not tried any more.
    pub(super) fn give_up(&mut self, id: Seq) {
        let Some(mut held) = self.remove(id.0) else { return };
        held.tries.next_at = None;
        held.tries.error.get_or_insert_with(|| "it was never tried: the endpoint could not be reached".to_owned());
        self.dead.push((Arc::clone(&held.unit), held.tries));
        self.done.push(held.unit);
    }

    /// It cannot be sent at all.
    pub(super) fn refuse(&mut self, id: Seq, why: String, (now, at): (Instant, Timestamp)) {
        self.circuit.unprobed(id.0, now);
        if let Some(held) = self.held.get_mut(&id.0) {
            held.tries = Tries { attempted_at: Some(at), error: Some(why), status: None, ..std::mem::take(&mut held.tries) };
            self.give_up(id);
        }
    }

    /// It was not tried after all.
    pub(super) fn put_back(&mut self, id: Seq, due: Instant) {
        self.circuit.unprobed(id.0, due);
        let Some(held) = self.held.get_mut(&id.0) else { return };
        held.due = due;
        let flight = std::mem::replace(&mut held.flight, Flight::Not);
        self.landed(flight);
        self.schedule(id.0);
    }

    /// It is not to be tried any more, nor listed.
    pub(super) fn skip(&mut self, unit: Unit) {
        if self.contains(unit.id.0) {
            self.settle(unit.id.0);
        } else {
            self.settled.push(Arc::new(unit));
        }
    }

    /// Gives up what was recorded before `before` and is not on its way just now, and says what that was.
    pub(super) fn give_up_older(&mut self, before: Seq) -> Vec<Arc<Unit>> {
        let is_old = |held: &&Held| held.flight == Flight::Not && held.began() < before;
        let old: Vec<Arc<Unit>> =
            self.held.range(..before.0).map(|(_, held)| held).filter(is_old).map(|held| Arc::clone(&held.unit)).collect();
        for unit in &old {
            self.give_up(unit.id.0);
        }
        old
    }

    /// It was given up, and is to be tried again: its time begins anew.
    pub(super) fn revive(&mut self, unit: Unit, tries: Tries, (now, at): (Instant, Timestamp)) {
        let id = unit.id.0;
        if self.contains(id) {
            return;
        }
        self.admit(unit, Some(Tries { since: Some(at), next_at: Some(at), ..tries }), now);
        if let Some(held) = self.held.get_mut(&id.0) {
            held.told = false;
        }
    }

    /// Whether its time is over that began before this position.
    pub(super) fn is_older(&self, id: Seq, before: Seq) -> bool {
        self.held.get(&id.0).is_some_and(|held| held.began() < before)
    }

    /// It is due at once.
    pub(super) fn hasten(&mut self, id: Seq, (now, at): (Instant, Timestamp)) {
        let Some(held) = self.held.get_mut(&id.0).filter(|held| held.flight == Flight::Not) else { return };
        let before = (held.due, id.0);
        held.due = now;
        held.tries.next_at = Some(at);
        held.told = false;
        self.again.remove(&before);
        self.schedule(id.0);
    }

    /// What the ledger has to be told: rows for what failed, and for what waits behind that or behind too much else of its call.
    pub(super) fn news(&mut self) -> News {
        let dead = std::mem::take(&mut self.dead);
        let mut rows: Vec<_> =
            dead.into_iter().map(|(unit, tries)| (Arc::unwrap_or_clone(unit), ForwardState::Dead, tries)).collect();
        let behind: BTreeSet<i64> = self
            .by_call
            .values()
            .filter(|of_call| of_call.first().and_then(|id| self.held.get(id)).is_some_and(|held| held.tries.attempts > 0))
            .flat_map(|of_call| of_call.iter().copied())
            .collect();
        // where one call has so much to say that it would fill the queue, the others are not to wait for it
        let is_full = self.rowless.len() >= UNTRIED / 4 * 3;
        let firsts: BTreeSet<i64> = self.by_call.values().filter_map(|of_call| of_call.first().copied()).collect();
        for (id, held) in &mut self.held {
            let waits = is_full && !firsts.contains(id) && !held.unit.calls.is_empty();
            let is_new = !held.has_row && (held.tries.attempts > 0 || waits || behind.contains(id));
            if is_new || !held.told {
                (held.has_row, held.told) = (true, true);
                self.rowless.remove(id);
                rows.push((Unit::clone(&held.unit), ForwardState::Waiting, held.tries.clone()));
            }
        }
        News { rows, settled: std::mem::take(&mut self.settled), done: std::mem::take(&mut self.done) }
    }

    /// The news could not be told: they are told again.
    pub(super) fn untold(&mut self, news: News) {
        for (unit, state, tries) in news.rows {
            match (state, self.held.get_mut(&unit.id.0.0)) {
                (ForwardState::Dead, _) => self.dead.push((Arc::new(unit), tries)),
                (ForwardState::Waiting, Some(held)) => {
                    // it may have a row by now, or an older one, so it keeps its mark; but nothing may pass it
                    held.told = false;
                    self.rowless.insert(unit.id.0.0);
                }
                (ForwardState::Waiting, None) => self.settled.push(Arc::new(unit)),
            }
        }
        self.settled.extend(news.settled);
        self.done.extend(news.done);
    }

    fn landed(&mut self, flight: Flight) {
        self.in_flight -= usize::from(flight != Flight::Not);
        self.in_flight_again -= usize::from(flight == Flight::Again);
    }

    fn remove(&mut self, id: i64) -> Option<Held> {
        self.unschedule(id);
        let held = self.held.remove(&id)?;
        self.rowless.remove(&id);
        self.landed(held.flight);
        for call in &held.unit.calls {
            let Some(of_call) = self.by_call.get_mut(&call.0) else { continue };
            of_call.remove(&id);
            let first = of_call.first().copied();
            if first.is_none() {
                self.by_call.remove(&call.0);
            }
            if let Some(first) = first {
                self.schedule(first);
            }
        }
        Some(held)
    }

    /// Puts it where it is found when its turn comes, if it is the first of all its calls.
    fn schedule(&mut self, id: i64) {
        let Some(held) = self.held.get(&id).filter(|held| held.flight == Flight::Not) else { return };
        let is_first = |call: &Seq| self.by_call.get(&call.0).and_then(BTreeSet::first) == Some(&id);
        if !held.unit.calls.iter().all(is_first) {
            return;
        }
        if held.tries.attempts == 0 {
            self.fresh.insert(id);
        } else {
            self.again.insert((held.due, id));
        }
    }

    fn unschedule(&mut self, id: i64) {
        if let Some(held) = self.held.get(&id) {
            self.fresh.remove(&id);
            self.again.remove(&(held.due, id));
        }
    }
}
