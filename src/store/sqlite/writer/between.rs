//! What the writer does between commits: nobody waits for it, and what cannot be done now will be tried again.

use std::time::Duration;

use sqlx::Connection;

use super::{
    super::{batch::Batched, checkpoint, merging, rejections, settle, sorting::Sorting},
    Writer, open,
};
use crate::store::{StoreError, rejections::Repeated, removal::Removed};

impl Writer {
    /// About so many pages were written: copies back what is left of the write-ahead log, if it is time.
    pub(super) async fn copy_log_back(&mut self, pages: usize) {
        if self.checkpointer.wrote(pages)
            && let Some(connection) = &mut self.connection
            && let Err(error) = checkpoint::now(connection).await
        {
            // what ails it will be noticed by the next commit
            tracing::debug!(%error, "the write-ahead log could not be copied back");
        }
    }

    /// Whether others have written, such as `db erase`: what is remembered of an erased call, its key among it, goes from memory as well.
    pub(super) async fn notice_others(&mut self) {
        let (Some(connection), Some(positions)) = (&mut self.connection, &mut self.positions) else { return };
        match sqlx::query_scalar("SELECT data_version FROM pragma_data_version").fetch_one(connection).await {
            Ok(version) => positions.see(version),
            // what ails it will be noticed by the next commit
            Err(error) => tracing::debug!(%error, "it could not be seen whether others have written"),
        }
    }

    pub(super) fn sorting(&self) -> Option<&Sorting> {
        self.positions.as_ref().map(|positions| &positions.sorting)
    }

    /// Nobody waits for it, and nothing depends on it: it will be tried again.
    pub(super) async fn sort_lookups(&mut self, is_idle: bool) {
        let sorted = match self.connect().await {
            Ok((connection, positions)) => positions.sorting.step(connection, positions.known.version(), is_idle).await,
            Err(error) => Err(error),
        };
        if let Err(error) = sorted {
            // what ails it will be noticed by the next commit
            tracing::debug!(%error, "lookups could not be sorted");
            self.disconnect();
            if let Some(positions) = &mut self.positions {
                positions.sorting.give_up();
            }
        }
    }

    /// Nobody waits for it: it will be tried again.
    pub(super) async fn merge_lookups(&mut self) {
        let merged = match open(&mut self.connection, &mut self.positions, &self.connect, &self.clock).await {
            Ok((connection, _positions)) => self.merging.step(connection).await,
            Err(error) => Err(error),
        };
        match merged {
            Ok(true) => self.copy_log_back(merging::PAGES).await,
            Ok(false) => self.merging.rest(),
            Err(error) => {
                // what ails it will be noticed by the next commit
                tracing::debug!(%error, "lookups could not be merged");
                self.disconnect();
                self.merging.rest();
            }
        }
    }

    /// A step of retention. Nobody waits for it: it will be tried again.
    pub(super) async fn retain(&mut self) {
        if let Err(error) = self.try_retain().await {
            // what ails it will be noticed by the next commit
            tracing::warn!(%error, "what has been kept for long enough could not be removed yet");
            self.retention.rest();
            self.disconnect();
        }
    }

    async fn try_retain(&mut self) -> Result<(), StoreError> {
        self.connect().await?;
        let now = self.clock.now();
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let step = self.retention.step(connection, now).await?;
        if step.removed.calls + step.removed.notifications > 0
            && let (Some(positions), Some(since)) = (&mut self.positions, self.retention.latest(now))
        {
            positions.known.forget_idle(since);
            positions.sorting.removed_before(since);
        }
        if step.has_sorted
            && let Some(positions) = &mut self.positions
        {
            positions.sorting.begin_anew();
        }
        if step.removed != Removed::default() {
            tracing::debug!(removed = ?step.removed, "removed what has been kept for long enough");
        }
        Ok(())
    }

    /// Writes down what the passing of time has decided; readers have known since.
    pub(super) async fn settle(&mut self) {
        while *self.writable.borrow() {
            match self.try_settle().await {
                Ok(Some(settled)) => self.tell(Duration::ZERO, 0, settled),
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(error = %error, "operations that ended with their calls could not be written down yet");
                    self.disconnect();
                    return;
                }
            }
            if !self.jobs.is_empty() {
                return; // deliveries wait: go on at the next tick
            }
        }
    }

    async fn try_settle(&mut self) -> Result<Option<Batched>, StoreError> {
        let now = self.clock.now();
        let (connection, positions) = self.connect().await?;
        let due = settle::due(connection, now).await?;
        if due.is_empty() {
            return Ok(None);
        }
        positions.known.doubt_all(&due.iter().map(|call| call.id).collect());
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let settled = settle::settle(&mut transaction, positions, &due).await?;
        transaction.commit().await?;
        Ok(Some(settled))
    }

    /// Rejections wait while the ledger cannot be written: the ring is bounded, and good deliveries come first.
    pub(super) async fn flush_rejections(&mut self) {
        let flush = self.rejections.begin();
        if !*self.writable.borrow() {
            self.rejections.done(flush);
            return;
        }
        let (rejections, dropped) = self.rejections.take();
        if dropped > 0 {
            tracing::warn!(dropped, "more rejections than the ledger keeps: some were only counted");
        }
        if !rejections.is_empty() {
            match self.write_rejections(&rejections).await {
                Ok(()) => {
                    self.changes.log.send_replace(());
                }
                Err(error) => {
                    tracing::warn!(error = %error, lost = rejections.len(), "rejections could not be written");
                    self.set_writable(false);
                    self.disconnect();
                }
            }
        }
        self.rejections.done(flush);
    }

    async fn write_rejections(&mut self, rejections: &[Repeated]) -> Result<(), StoreError> {
        let (connection, positions) = self.connect().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        rejections::write(&mut transaction, positions, rejections).await?;
        Ok(transaction.commit().await?)
    }
}
