//! Rejections on their way to the ledger: a bounded ring in memory, so that a flood of bad tokens never stands in the
//! queue of good deliveries. Repeats are counted, what does not fit is dropped and counted, and a crash loses what was
//! not yet flushed.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use crate::domain::rejection::Rejection;

/// How many different rejections are held between two flushes.
const CAPACITY: usize = 512;

/// A rejection and its repeats.
#[derive(Clone, Debug)]
pub(super) struct Repeated {
    /// The first of them.
    pub(super) first: Rejection,
    /// How many there were.
    pub(super) count: i64,
    /// When the last came.
    pub(super) last_at: Timestamp,
}

/// The ring.
#[derive(Debug)]
pub(super) struct RejectionRing {
    waiting: Mutex<Waiting>,
    wanted: Notify,
    /// The flushes that have begun, counted; and the last that is over.
    begun: AtomicU64,
    over: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: VecDeque<Repeated>,
    dropped: u64,
}

impl Default for RejectionRing {
    fn default() -> Self {
        Self { waiting: Mutex::default(), wanted: Notify::new(), begun: AtomicU64::new(0), over: watch::Sender::new(0) }
    }
}

impl RejectionRing {
    /// Notes a rejection.
    pub(super) fn push(&self, rejection: Rejection) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = waiting.entries.iter_mut().find(|known| is_repeat(&known.first, &rejection)) {
            known.count += 1;
            known.last_at = rejection.at;
        } else if waiting.entries.len() < CAPACITY {
            let last_at = rejection.at;
            waiting.entries.push_back(Repeated { first: rejection, count: 1, last_at });
        } else {
            waiting.dropped += 1;
        }
    }

    /// Takes what waits, and how many had to be dropped.
    pub(super) fn take(&self) -> (Vec<Repeated>, u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        (waiting.entries.drain(..).collect(), std::mem::take(&mut waiting.dropped))
    }

    /// Resolves when somebody wants a flush.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Begins a flush: what is noted from here on may have to wait for the next.
    pub(super) fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Says that a flush is over.
    pub(super) fn done(&self, flush: u64) {
        self.over.send_replace(flush);
    }

    /// Waits for the end of a flush that begins after this call, up to `patience`.
    pub(super) async fn flushed(&self, patience: Duration) {
        let next = self.begun.load(Ordering::SeqCst) + 1;
        let mut over = self.over.subscribe();
        self.wanted.notify_one();
        // Elapsed: the reader then sees what was flushed before.
        let _elapsed = tokio::time::timeout(patience, over.wait_for(|flush| *flush >= next)).await;
    }
}

fn is_repeat(known: &Rejection, next: &Rejection) -> bool {
    known.reason == next.reason
        && known.receiver == next.receiver
        && known.peer == next.peer
        && known.unverified_key_id == next.unverified_key_id
        && known.unverified_issuer == next.unverified_issuer
        && known.user_agent == next.user_agent
}
