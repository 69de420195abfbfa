//! A unit in the queue, and how long it pauses after a failure.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    domain::ids::Seq,
    store::forwards::{Tries, Unit},
};

/// The pause after the first failure; it doubles with each further one.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// A unit in the queue.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) unit: Arc<Unit>,
    pub(super) tries: Tries,
    pub(super) due: Instant,
    pub(super) flight: Flight,
    /// Whether it may have a row in the ledger, and whether that says how it now stands.
    pub(super) has_row: bool,
    pub(super) told: bool,
}

impl Held {
    /// From when its time counts: positions are microseconds.
    pub(super) fn began(&self) -> Seq {
        self.tries.since.map_or(self.unit.id.0, |since| Seq(since.as_microsecond()))
    }
}

/// Whether a unit is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flight {
    Not,
    ForTheFirstTime,
    Again,
}

/// The pause before the next try: doubled each time, and somewhere between half of that and all of it, so that those which failed
/// together do not come back together. `chance` is between 0 and 1.
pub(super) fn pause(attempts: u32, chance: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(LONGEST_PAUSE).mul_f64(chance.mul_add(0.5, 0.5))
}
