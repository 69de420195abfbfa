//! Whether an endpoint is there at all: while it is not, one try at a time finds out when it is again.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

/// How long it is left alone at first; for what has failed before doubled after each probe that fails. Short: a bot that comes back has
/// calls to answer.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(5);
/// The longest rest that a bot may ask for.
const LONGEST_ASKED: Duration = Duration::from_hours(1);
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
    /// Nobody listens there: nothing was sent.
    pub(super) not_connected: bool,
}

impl Failure {
    /// Whether a bot may have answered this, and not what stands before it.
    fn is_answer(&self) -> bool {
        self.status.is_some_and(|status| !matches!(status, 502..=504))
    }

    /// How long the whole endpoint is to be left alone, if its status says that it means that.
    fn asked(&self, statuses: &[u16]) -> Duration {
        let means_it = self.status.is_some_and(|status| statuses.contains(&status));
        self.retry_after.filter(|_| means_it).unwrap_or_default().min(LONGEST_ASKED)
    }
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Closed,
    Open(Rest),
    Probing {
        unit: i64,
        is_new: bool,
        rest: Duration,
    },
    Disabled,
}

/// When the next probe may go.
#[derive(Clone, Copy, Debug)]
struct Rest {
    /// With what has failed before.
    until: Instant,
    /// With what is new: of that it is not known that it fails.
    new_from: Instant,
    length: Duration,
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

    /// When it may be probed, with something new or not; `None` while it is, or if it is not to be.
    pub(super) const fn probes_at(&self, is_new: bool) -> Option<Instant> {
        match self.state {
            State::Open(Rest { until, new_from, .. }) => Some(if is_new { new_from } else { until }),
            State::Closed | State::Probing { .. } | State::Disabled => None,
        }
    }

    /// Whether this unit is sent to find out; then no other is, but for a new one where one that has failed before tries it.
    pub(super) fn probes(&mut self, unit: i64, is_new: bool, now: Instant) -> bool {
        let rest = match self.state {
            State::Open(rest) if (if is_new { rest.new_from } else { rest.until }) <= now => rest.length,
            State::Probing { is_new: false, rest, .. } if is_new => rest,
            State::Closed | State::Open(_) | State::Probing { .. } | State::Disabled => return false,
        };
        self.state = State::Probing { unit, is_new, rest };
        true
    }

    /// This unit was not sent after all: another may find out.
    pub(super) fn unprobed(&mut self, unit: i64, now: Instant) {
        if let State::Probing { unit: probe, rest, .. } = self.state
            && probe == unit
        {
            self.state = State::Open(Rest { until: now, new_from: now, length: rest });
        }
    }

    /// A try of this unit failed; `key` stands for its call.
    pub(super) fn failed(&mut self, unit: i64, key: i64, failure: &Failure, now: Instant) {
        let was_probe = matches!(self.state, State::Probing { unit: probe, .. } if probe == unit);
        if failure.is_answer() {
            self.answered.insert(key);
            if was_probe && self.answered.len() < ANSWERED {
                // it does not want this one, but it is there
                self.state = State::Closed;
                self.unanswered.clear();
            }
        } else {
            self.unanswered.insert(key);
        }
        let (of_all, of_what_failed) = (failure.asked(&[429]), failure.asked(&[429, 503]));
        let gone = failure.not_connected || self.unanswered.len() >= UNANSWERED || self.answered.len() >= ANSWERED;
        let length = match self.state {
            State::Probing { rest, .. } if was_probe => (rest * 2).min(LONGEST_REST),
            State::Closed if gone || !of_all.is_zero() => FIRST_REST,
            State::Open(ref mut rest) => {
                rest.until = rest.until.max(now + of_what_failed);
                rest.new_from = rest.new_from.max(now + of_all);
                return;
            }
            State::Closed | State::Probing { .. } | State::Disabled => return,
        };
        let (until, new_from) = (now + length.max(of_what_failed), now + FIRST_REST.max(of_all));
        self.state = State::Open(Rest { until, new_from, length });
    }
}
