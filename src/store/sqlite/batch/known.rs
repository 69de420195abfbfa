//! What the writer remembers of the calls that it wrote about last, so that a batch need not begin with questions to the database.
//!
//! A call that is not remembered is taken for new. Should it not be, or should a batch bring a copy of anything, the database refuses
//! the batch as a whole, by its unique constraints; or because somebody else has written, such as `db erase` ([`add_nobody_else`]). It
//! is then recorded again, beginning with the questions. So a wrong guess costs time and nothing else, and while guesses are wrong,
//! fewer are made.

use std::collections::BTreeSet;

use super::load::{Call, CallKey, Calls, Story, about};
use crate::{
    domain::notification::{Fact, Notification},
    store::{
        StoreError,
        sqlite::{rows::Step, work::Job},
    },
};

/// How much is remembered at the most: twice as many calls and facts about their operations.
const GENERATION: usize = 2048;
/// Of how many facts about one call.
const FACTS: usize = 256;
/// How many batches in a row are made without guessing, at the most.
const MOST_CAREFUL: u32 = 63;

/// Adds a condition that is always met; unless another connection has written since this version ([`Known::see`]): then the statement
/// fails.
pub(super) fn add_nobody_else(step: &mut Step, version: i64) -> Result<(), StoreError> {
    step.sql("(SELECT iif(data_version = ").bind(version)?;
    step.sql(", true, json('not ' || data_version)) FROM pragma_data_version)");
    Ok(())
}

/// The calls of the latest commits, as they are in the database.
#[derive(Debug, Default)]
pub(in crate::store::sqlite) struct Known {
    /// What the database says of the writing of others.
    version: Option<i64>,
    /// Of what was learnt in an earlier epoch it is only known that it exists.
    epoch: u64,
    /// The calls spoken of since the generation began, and how many calls and facts that is.
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
        self.weight = self.young.values().map(|call| call.weight).sum();
    }

    /// Learns what the database says of the writing of others: what was learnt before they wrote may be wrong, and is not to outlive
    /// its erasing. Whether that has changed.
    pub(in crate::store::sqlite) fn see(&mut self, version: i64) -> bool {
        let has_changed = self.version.replace(version) != Some(version);
        if has_changed {
            self.young.clear();
            self.old.clear();
            self.weight = 0;
        }
        has_changed
    }

    /// As of which writing of others things are remembered.
    pub(in crate::store::sqlite) const fn version(&self) -> Option<i64> {
        self.version
    }

    /// As of which writing of others the calls are remembered. `None` if nothing is to be guessed now.
    pub(super) fn as_of(&mut self) -> Option<i64> {
        let version = self.version?;
        if self.left > 0 {
            self.left -= 1;
            return None;
        }
        Some(version)
    }

    /// The remembered ones among the calls that this delivery speaks of; those of a group that is not recorded yet come first.
    /// `None` if the database is to be asked.
    pub(super) fn lend(&mut self, job: &Job, group: &mut Calls) -> Option<Calls> {
        let is_enough = |(key, item): (CallKey, &Notification)| {
            let call = group.get(&key).or_else(|| self.young.get(&key)).or_else(|| self.old.get(&key));
            let is_asked = matches!(item.facts.fact, Fact::Operation(_));
            let is_told = |call: &Call| !is_asked || call.whole || call.stories.contains_key(&item.subject);
            call.is_none_or(|call| call.learnt == Some(self.epoch) && is_told(call))
        };
        if !about(job).all(is_enough) {
            return None;
        }
        let mut lent = Calls::default();
        for (key, _) in about(job) {
            if let Some(call) = group.remove(&key).or_else(|| self.take(&key)) {
                lent.insert(key, call);
            }
        }
        Some(lent)
    }

    fn take(&mut self, key: &CallKey) -> Option<Call> {
        let young = self.young.remove(key);
        self.weight -= young.as_ref().map_or(0, |call| call.weight);
        young.or_else(|| self.old.remove(key))
    }

    /// A guess was right.
    pub(super) const fn was_right(&mut self) {
        self.careful /= 2;
    }

    /// What was guessed of these deliveries was wrong.
    pub(super) fn was_wrong(&mut self, jobs: &[Job]) {
        for (key, _) in jobs.iter().flat_map(about) {
            self.take(&key);
        }
        self.careful = (2 * self.careful + 1).min(MOST_CAREFUL);
        self.left = self.careful;
    }

    /// Makes of calls what is remembered of them once what they were told is committed.
    pub(super) fn learn(&self, calls: &mut Calls) {
        // one of which nothing new was told may not have been written
        calls.retain(|_, call| call.before.is_some() || !call.news.is_empty());
        for call in calls.values_mut() {
            call.rest(self.epoch);
        }
    }

    /// Remembers calls, as they were learnt.
    pub(super) fn keep(&mut self, calls: Calls) {
        for (key, call) in calls {
            self.take(&key);
            self.weight += call.weight;
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
        self.weight = 1 + facts;
        if facts > FACTS {
            self.stories.clear();
            self.whole = false;
            self.weight = 1;
        }
    }

    /// After a commit of copies: what was expected of them has not come.
    pub(super) fn expect_nothing(&mut self) {
        self.expected = self.story.clone();
        self.stories.values_mut().for_each(Story::expect_nothing);
    }
}
