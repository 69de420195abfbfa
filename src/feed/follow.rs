//! Follows the change log from a position on: nothing is missed, nothing comes twice.
//!
//! A follower keeps a position, and no queue is kept for it: it reads the log, is woken when that has grown, and reads on. However
//! slow it is, it holds one page.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, watch},
    time::sleep,
};

use super::LOOK_EVERY;
use crate::{
    domain::{clock::Clock, ids::Seq},
    store::{
        LedgerReader, StoreError,
        log::{ChangeFilter, ChangeRow, LogPage},
    },
};

/// How many followers read at the same moment: the others' questions are to find a reader, too.
const READING: usize = 2;
/// The pause after a step through lines none of which matched, so that one who looks for a needle leaves time to the others.
const BREATH: Duration = Duration::from_millis(1);

/// Where followers begin. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Feed {
    reader: LedgerReader,
    clock: Clock,
    reading: Arc<Semaphore>,
}

/// Somebody who follows.
#[derive(Debug)]
pub struct Follower {
    feed: Feed,
    filter: ChangeFilter,
    after: Seq,
    growth: Option<watch::Receiver<()>>,
}

/// What a follower gets.
#[derive(Clone, Debug)]
pub enum Followed {
    /// The next lines, at least one.
    Changes(Vec<ChangeRow>),
    /// Retention has removed what was asked for.
    Gap {
        /// What was asked for last.
        after: Seq,
        /// What is left begins behind this position.
        resumes_after: Seq,
    },
}

impl Feed {
    /// The feed of this ledger.
    #[must_use]
    pub fn new(reader: LedgerReader, clock: Clock) -> Self {
        Self { reader, clock, reading: Arc::new(Semaphore::new(READING)) }
    }

    /// Begins behind `after`, else with what is written from now on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn follow(&self, filter: ChangeFilter, after: Option<Seq>) -> Result<Follower, StoreError> {
        let growth = self.reader.growth();
        let after = match after {
            Some(after) => after,
            None => self.reader.end_of_log().await?,
        };
        Ok(Follower { feed: self.clone(), filter, after, growth })
    }
}

impl Follower {
    /// Where it stands.
    #[must_use]
    pub const fn after(&self) -> Seq {
        self.after
    }

    /// Waits for what comes next. Nothing is lost if this future is dropped.
    ///
    /// # Errors
    /// [`StoreError`]; it may be asked again.
    pub async fn next(&mut self) -> Result<Followed, StoreError> {
        loop {
            if let Some(growth) = &mut self.growth {
                growth.mark_unchanged();
            }
            match self.read().await? {
                LogPage::Gone(resumes_after) => {
                    let after = std::mem::replace(&mut self.after, resumes_after);
                    return Ok(Followed::Gap { after, resumes_after });
                }
                LogPage::Lines { rows, read_to, more } => {
                    self.after = read_to;
                    if !rows.is_empty() {
                        return Ok(Followed::Changes(rows));
                    }
                    if more { sleep(BREATH).await } else { self.grown().await }
                }
            }
        }
    }

    async fn read(&self) -> Result<LogPage, StoreError> {
        // never closed
        let _turn = self.feed.reading.acquire().await;
        self.feed.reader.log(self.after, &self.filter, self.feed.clock.now()).await
    }

    async fn grown(&mut self) {
        match &mut self.growth {
            // the writer is gone: whoever serves the follower ends it
            Some(growth) => {
                if growth.changed().await.is_err() {
                    sleep(LOOK_EVERY).await;
                }
            }
            None => sleep(LOOK_EVERY).await,
        }
    }
}
