//! Whether an endpoint is there at all: while it is not, one try at a time finds out when it is again.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

/// How long it is left alone at first; doubled after each probe that fails. Short: a bot that comes back has calls to answer.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(5);
/// How many calls must fail, without one success between, until it counts as gone: where no answer came, and where one did.
const UNANSWERED: usize = 3;
const ANSWERED: usize = 16;

/// How a try failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Failure {
    /// What was answered; `None` if nothing was.
    pub(super) status: Option<u16>,
    /// In words.
    pub(super) why: String,
    /// When it wants to be asked again.
    pub(super) retry_after: Option<Duration>,
    /// Nobody listens there.
    pub(super) not_connected: bool,
}

impl Failure {
    /// Whether a bot may have answered this, and not what stands before it.
    fn is_answer(&self) -> bool {
        self.status.is_some_and(|status| !matches!(status, 502..=504))
    }
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Closed,
    Open {
        until: Instant,
        rest: Duration,
    },
    Probing {
        unit: i64,
        rest: Duration,
    },
    Disabled,
}

/// The circuit of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    state: State,
    /// The calls that failed since the last success.
    unanswered: BTreeSet<i64>,
    answered: BTreeSet<i64>,
}

impl Circuit {
    pub(super) const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    pub(super) const fn is_disabled(&self) -> bool {
        matches!(self.state, State::Disabled)
    }

    /// Nothing is sent any more, until [`Self::close`].
    pub(super) fn disable(&mut self) {
        self.state = State::Disabled;
    }

    /// As if nothing had ever failed.
    pub(super) fn close(&mut self) {
        *self = Self::default();
    }

    pub(super) fn succeeded(&mut self) {
        if !self.is_disabled() {
            self.close();
        }
    }

    /// When it may be probed; `None` while it is, or if it is not to be.
    pub(super) const fn probes_at(&self) -> Option<Instant> {
        match self.state {
            State::Open { until, .. } => Some(until),
            State::Closed | State::Probing { .. } | State::Disabled => None,
        }
    }

    /// Whether this unit is sent to find out; then no other is.
    pub(super) fn probes(&mut self, unit: i64, now: Instant) -> bool {
        let State::Open { until, rest } = self.state else { return false };
        let is_time = until <= now;
        if is_time {
            self.state = State::Probing { unit, rest };
        }
        is_time
    }

    /// This unit was not sent after all: another may find out.
    pub(super) fn unprobed(&mut self, unit: i64, until: Instant) {
        if let State::Probing { unit: probe, rest } = self.state
            && probe == unit
        {
            self.state = State::Open { until, rest };
        }
    }

    /// A try of this unit failed; `key` stands for its call.
    pub(super) fn failed(&mut self, unit: i64, key: i64, failure: &Failure, now: Instant) {
        if failure.is_answer() { &mut self.answered } else { &mut self.unanswered }.insert(key);
        // too many, of which it says until when
        let asked = failure.retry_after.filter(|_| failure.status == Some(429)).unwrap_or_default();
        let gone = failure.not_connected || self.unanswered.len() >= UNANSWERED || self.answered.len() >= ANSWERED;
        if failure.is_answer()
            && self.answered.len() < ANSWERED
            && matches!(self.state, State::Probing { unit: probe, .. } if probe == unit)
        {
            // it does not want this one, but it is there
            self.state = State::Closed;
            self.unanswered.clear();
        }
        let rest = match self.state {
            State::Probing { unit: probe, rest } if probe == unit => (rest * 2).min(LONGEST_REST),
            State::Closed if gone || !asked.is_zero() => FIRST_REST,
            State::Closed | State::Open { .. } | State::Probing { .. } | State::Disabled => return,
        };
        self.state = State::Open { until: now + rest.max(asked.min(Duration::from_hours(1))), rest };
    }
}
