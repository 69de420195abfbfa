//! How a platform misbehaves: callbacks that come late, in another order, twice or never, and requests that fail. Every roll of the
//! dice follows from the seed.

use std::{str::FromStr, time::Duration};

use super::Callback;

/// A probability.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Chance(f64);

impl Chance {
    /// It never happens.
    pub const NEVER: Self = Self(0.0);
    /// It always happens.
    pub const ALWAYS: Self = Self(1.0);
}

/// A text that is no probability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a probability is a number from 0 to 1")]
pub struct NotAChance;

impl FromStr for Chance {
    type Err = NotAChance;

    fn from_str(text: &str) -> Result<Self, NotAChance> {
        let chance: f64 = text.parse().map_err(|_error| NotAChance)?;
        if (0.0..=1.0).contains(&chance) { Ok(Self(chance)) } else { Err(NotAChance) }
    }
}

/// What may go wrong.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mischief {
    /// Each callback is held back for up to so long.
    pub delay: Duration,
    /// How likely a callback leaves its place in the line.
    pub reorder: Chance,
    /// How likely a callback comes a second time.
    pub duplicate: Chance,
    /// How likely a callback never comes.
    pub drop: Chance,
    /// Whether what has happened by then is told before the request is answered.
    pub callback_before_response: bool,
    /// How likely a request fails: before it is done, or after, or so that its answer is lost.
    pub fail_rate: Chance,
    /// What all this follows from.
    pub seed: u64,
}

/// How a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It is not done, and answered with this status.
    Before(u16),
    /// It is done, and answered with a 500.
    After,
    /// It is done, and the answer breaks off.
    Broken,
}

/// When and how to post a callback.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) callback: Callback,
    /// How long to hold it back.
    pub(super) pause: Duration,
    /// Whether it waits for those before it in its lane.
    pub(super) in_line: bool,
}

/// The longest that a callback which leaves its line is held back, if no delay says otherwise.
const OUT_OF_LINE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Dice {
    /// What becomes of requests does not hang on how many callbacks came between them.
    of_requests: fastrand::Rng,
    of_callbacks: fastrand::Rng,
    /// How many requests have come.
    pub requests: u64,
    mischief: Mischief,
}

impl Dice {
    pub fn new(mischief: &Mischief) -> Self {
        let (of_requests, of_callbacks) = (fastrand::Rng::with_seed(mischief.seed), fastrand::Rng::with_seed(!mischief.seed));
        Self { of_requests, of_callbacks, requests: 0, mischief: mischief.clone() }
    }

    /// Whether and how the next request fails.
    pub fn failure(&mut self) -> Option<Failure> {
        self.requests += 1;
        if self.of_requests.f64() >= self.mischief.fail_rate.0 {
            return None;
        }
        self.of_requests.choice([Failure::Before(503), Failure::Before(429), Failure::After, Failure::Broken])
    }

    /// How often and when a callback is posted. Each rolls as often, so that what is dropped does not hang on what else may happen.
    pub fn plans(&mut self, callback: Callback) -> Vec<Plan> {
        let Mischief { delay, reorder, duplicate, drop, .. } = self.mischief;
        let [dropped, reordered, paused, doubled, paused_again] = [(); 5].map(|()| self.of_callbacks.f64());
        if dropped < drop.0 {
            tracing::info!(lane = callback.lane, "a callback is dropped");
            return Vec::new();
        }
        let out_of_line = delay.max(OUT_OF_LINE);
        let in_line = reordered >= reorder.0;
        let pause = if in_line { delay } else { out_of_line }.mul_f64(paused);
        let mut plans = vec![Plan { callback: callback.clone(), pause, in_line }];
        if doubled < duplicate.0 {
            plans.push(Plan { callback, pause: out_of_line.mul_f64(paused_again), in_line: false });
        }
        plans
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_chance_is_a_number_from_nothing_to_certainty() {
        assert_eq!("0.25".parse(), Ok(Chance(0.25)));
        assert_eq!(("0".parse(), "1".parse()), (Ok(Chance::NEVER), Ok(Chance::ALWAYS)));
        for none in ["", "-0.1", "1.1", "NaN", "often"] {
            assert_eq!(none.parse::<Chance>(), Err(NotAChance), "{none}");
        }
    }

    #[test]
    fn what_is_dropped_follows_from_the_seed_and_from_nothing_else() {
        let half: Chance = "0.5".parse().unwrap();
        let callback = Callback {
            id: String::new(),
            to: "http://127.0.0.1/".parse().unwrap(),
            lane: String::new(),
            headers: Vec::new(),
            claims: Vec::new(),
            body: Value::Null,
        };
        let dropped = |mischief: &Mischief| -> Vec<bool> {
            let mut dice = Dice::new(mischief);
            (0..64).map(|_| dice.plans(callback.clone()).is_empty()).collect()
        };
        let orderly = Mischief { drop: half, seed: 7, ..Mischief::default() };
        let wild = Mischief { duplicate: half, reorder: half, delay: Duration::from_secs(1), ..orderly.clone() };
        assert_eq!(dropped(&orderly), dropped(&wild));
        assert_ne!(dropped(&orderly), dropped(&Mischief { seed: 8, ..orderly }));
    }
}
