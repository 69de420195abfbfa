//! What the writer remembers of the calls that it wrote about last, so that a batch need not begin with questions to the database.
//!
//! A call that is not remembered is taken for new. Should it not be, or should a batch bring a copy of anything, the database refuses
//! the batch as a whole, by its unique constraints; or because somebody else has written, such as `db erase` ([`nobody_else_sql`]). It
//! is then recorded again, beginning with the questions. So a wrong guess costs time and nothing else, and while guesses are wrong,
//! fewer are made.

use std::collections::{BTreeSet, hash_map::Entry};

use super::load::{Call, CallKey, Calls, Story, about};
use crate::{domain::notification::Fact, store::sqlite::work::Job};

/// How much is remembered at the most: twice as many calls and facts.
const GENERATION: usize = 1024;
/// Of how many facts about one call.
const FACTS: usize = 256;
/// How many batches in a row are made without guessing, at the most.
const MOST_CAREFUL: u32 = 63;

/// The statement that fails if another connection has written since the version that is its parameter ([`Known::see`]).
macro_rules! nobody_else_sql {
    ($version:literal) => {
        concat!("SELECT iif(data_version = ", $version, ", 0, json('not ' || data_version)) FROM pragma_data_version")
    };
}
pub(super) use nobody_else_sql;

/// The calls of the latest commits, as they are in the database.
#[derive(Debug, Default)]
pub(in crate::store::sqlite) struct Known {
    /// What the database says of the writing of others.
    version: Option<i64>,
    /// Of what was learnt in an earlier epoch it is only known that it exists.
    epoch: u64,
    /// The calls spoken of since the generation began, and how many calls and facts that is, about.
    young: Calls,
    weight: usize,
    /// Those that were young before, and were not spoken of since.
    old: Calls,
    /// How many batches were not to guess after the last wrong guess, and how many of them are left.
    careful: u32,
    left: u32,
}

impl Known {
    /// Something else was written than deliveries: the database is to be asked about every call.
    pub(in crate::store::sqlite) const fn doubt(&mut self) {
        self.epoch += 1;
    }

    /// It is not known what was written.
    pub(in crate::store::sqlite) const fn begin_anew(&mut self) {
        self.version = None;
        self.doubt();
    }

    /// Something else was written about these calls.
    pub(in crate::store::sqlite) fn doubt_all(&mut self, calls: &BTreeSet<i64>) {
        let known = self.young.values_mut().chain(self.old.values_mut());
        known.filter(|call| calls.contains(&call.id)).for_each(|call| call.learnt = None);
    }

    /// What was not heard of since this position may be gone.
    pub(in crate::store::sqlite) fn forget_idle(&mut self, since: i64) {
        for calls in [&mut self.young, &mut self.old] {
            calls.retain(|_, call| call.last >= since);
        }
    }

    /// Learns what the database says of the writing of others: what was learnt before they wrote may be wrong.
    pub(super) fn see(&mut self, version: i64) {
        if self.version.replace(version) != Some(version) {
            self.doubt();
        }
    }

    /// The remembered ones among the calls that these deliveries speak of, and as of which writing of others. `None` if the database
    /// is to be asked.
    pub(super) fn of(&mut self, jobs: &[Job]) -> Option<(Calls, i64)> {
        let version = self.version?;
        if self.left > 0 {
            self.left -= 1;
            return None;
        }
        let mut calls = Calls::new();
        let mut is_enough = true;
        for (key, item) in jobs.iter().flat_map(about) {
            let call = match calls.entry(key) {
                Entry::Occupied(taken) => taken.into_mut(),
                Entry::Vacant(place) => match self.take(place.key()) {
                    Some(call) => place.insert(call),
                    None => continue,
                },
            };
            let is_told = call.whole || call.stories.contains_key(&item.subject);
            is_enough &= call.learnt == Some(self.epoch);
            is_enough &= is_told || !matches!(item.facts.fact, Fact::Operation(_));
        }
        if is_enough {
            return Some((calls, version));
        }
        self.young.extend(calls);
        None
    }

    fn take(&mut self, key: &CallKey) -> Option<Call> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    /// A guess was right.
    pub(super) const fn was_right(&mut self) {
        self.careful /= 2;
    }

    /// A guess was wrong.
    pub(super) fn was_wrong(&mut self) {
        self.careful = (2 * self.careful + 1).min(MOST_CAREFUL);
        self.left = self.careful;
    }

    /// Remembers the calls of a batch that was committed.
    pub(super) fn keep(&mut self, calls: Calls) {
        for (key, mut call) in calls {
            self.take(&key);
            // one of which nothing new was told may not have been written
            if call.before.is_none() && call.news.is_empty() {
                continue;
            }
            self.weight += 1 + call.news.len();
            call.rest(self.epoch);
            self.young.insert(key, call);
        }
        if self.weight >= GENERATION {
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
        }
    }
}

impl Call {
    /// After a commit: what it was is what it has become.
    fn rest(&mut self, epoch: u64) {
        // what requests do to a call is not learnt here
        self.learnt = (!self.requested).then_some(epoch);
        self.before = Some(self.story.clone());
        self.last = self.news.pop_last().map_or(self.last, |last| last.0.0);
        self.news.clear();
        let facts: usize = self.stories.values().map(|story| story.before.len()).sum();
        if facts > FACTS {
            self.stories.clear();
            self.whole = false;
        }
    }

    /// After a commit of copies: what was expected of them has not come.
    pub(super) fn expect_nothing(&mut self) {
        self.expected = self.story.clone();
        self.stories.values_mut().for_each(Story::expect_nothing);
    }
}
