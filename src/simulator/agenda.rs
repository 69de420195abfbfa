//! What is going to happen, in its order.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// Things to come. Of two at one time the one that was entered first comes first.
#[derive(Debug)]
pub(super) struct Agenda<T> {
    entries: BTreeMap<(Timestamp, u64), T>,
    count: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), count: 0 }
    }
}

impl<T> Agenda<T> {
    /// Enters something.
    pub fn at(&mut self, time: Timestamp, what: T) {
        self.count += 1;
        self.entries.insert((time, self.count), what);
    }

    /// Takes the next thing that has come by now, and when it was to happen.
    pub fn pop(&mut self, now: Timestamp) -> Option<(Timestamp, T)> {
        let entry = self.entries.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((time, _), what) = entry.remove_entry();
        Some((time, what))
    }

    /// When the next thing comes.
    pub fn next(&self) -> Option<Timestamp> {
        self.entries.keys().next().map(|(time, _)| *time)
    }
}
