//! The positions of rows, and what the writer knows between its transactions.

use sqlx::SqliteConnection;

use super::{batch::Known, sorting::Sorting};
use crate::{
    domain::{clock::Clock, ids::Seq},
    store::StoreError,
};

/// Gives out positions: the time in microseconds, made strictly increasing.
#[derive(Debug)]
pub(super) struct Positions {
    last: i64,
    clock: Clock,
    /// Whether it is known that no request is a stray: then no notification need be looked at for one.
    pub(super) no_strays: bool,
    /// The calls that were written about last.
    pub(super) known: Known,
    /// What the newest lines of the change log are found by.
    pub(super) sorting: Sorting,
}

impl Positions {
    /// Goes on behind all that the ledger holds.
    pub(super) async fn of(connection: &mut SqliteConnection, clock: Clock) -> Result<Self, StoreError> {
        let last: i64 = sqlx::query_scalar(
            "SELECT max(
                 (SELECT coalesce(max(seq), 0) FROM change),
                 (SELECT coalesce(max(id), 0) FROM delivery),
                 (SELECT coalesce(max(id), 0) FROM notification),
                 (SELECT coalesce(max(id), 0) FROM call),
                 (SELECT coalesce(max(id), 0) FROM rejection),
                 (SELECT coalesce(max(id), 0) FROM request),
                 (SELECT coalesce(max(id), 0) FROM forward),
                 (SELECT coalesce(max(settled_to), 0) FROM forward_target),
                 (SELECT coalesce(max(sorted_to), 0) FROM lookup_segment),
                 (SELECT log_begins_after FROM ledger)
             )",
        )
        .fetch_one(connection)
        .await?;
        Ok(Self { last, clock, no_strays: false, known: Known::default(), sorting: Sorting::default() })
    }

    /// Learns what the database says of the writing of others ([`Known::see`]).
    pub(super) fn see(&mut self, version: i64) {
        if self.known.see(version) {
            self.sorting.begin_anew();
        }
    }

    /// What was written last may have been rolled back.
    pub(super) fn begin_anew(&mut self) {
        self.no_strays = false;
        self.known.begin_anew();
        self.sorting.begin_anew();
    }

    pub(super) fn next(&mut self) -> Seq {
        self.last = self.clock.now().as_microsecond().max(self.last + 1);
        Seq(self.last)
    }
}
