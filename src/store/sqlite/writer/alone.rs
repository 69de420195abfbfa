//! What is committed alone: requests and their answers, whose sender waits for them one by one, and what forwarders tell and leave.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use sqlx::Connection;

use super::Writer;
use crate::{
    domain::{
        ids::{PlatformId, RequestId},
        request::AnswerFacts,
    },
    store::{
        NewRequest, RecordError, Requested, StoreError,
        forwards::Progress,
        sqlite::{batch::Batched, forwards, requests},
    },
};

impl Writer {
    pub(super) async fn commit_request(&mut self, request: &NewRequest) -> Result<Requested, RecordError> {
        match self.try_request(request).await {
            Ok((batched, requested)) => {
                self.set_writable(true);
                self.tell(Duration::ZERO, 0, batched);
                Ok(requested)
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    async fn try_request(&mut self, request: &NewRequest) -> Result<(Batched, Requested), StoreError> {
        let master = Arc::clone(&self.terms.master);
        let (connection, positions) = self.connect().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        positions.known.doubt();
        let recorded = requests::record_request(&mut transaction, &master, positions, request).await?;
        transaction.commit().await?;
        Ok(recorded)
    }

    pub(super) async fn commit_answer(
        &mut self,
        request: RequestId,
        at: Timestamp,
        facts: &AnswerFacts,
        call: Option<&PlatformId>,
    ) -> Result<(), RecordError> {
        match self.try_answer(request, at, facts, call).await {
            Ok(batched) => {
                self.set_writable(true);
                self.tell(Duration::ZERO, 0, batched);
                Ok(())
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    async fn try_answer(
        &mut self,
        request: RequestId,
        at: Timestamp,
        facts: &AnswerFacts,
        call: Option<&PlatformId>,
    ) -> Result<Batched, StoreError> {
        let master = Arc::clone(&self.terms.master);
        let (connection, positions) = self.connect().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        positions.known.doubt();
        let batched = requests::record_answer(&mut transaction, &master, positions, request, at, facts, call).await?;
        transaction.commit().await?;
        Ok(batched)
    }

    pub(super) async fn commit_progress(&mut self, progress: &Progress) -> Result<(), RecordError> {
        match self.try_progress(progress).await {
            Ok(()) => {
                self.set_writable(true);
                Ok(())
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    async fn try_progress(&mut self, progress: &Progress) -> Result<(), StoreError> {
        let (connection, positions) = self.connect().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        forwards::progress(&mut transaction, positions, progress).await?;
        Ok(transaction.commit().await?)
    }

    /// Forgets the tokens of deliveries to be forwarded, once they have expired.
    pub(super) async fn forget_tokens(&mut self) {
        while *self.writable.borrow() {
            match self.try_forget_tokens().await {
                Ok(more) if more && self.jobs.is_empty() => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(error = %error, "expired tokens could not be forgotten yet");
                    self.disconnect();
                    return;
                }
            }
        }
    }

    async fn try_forget_tokens(&mut self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let (connection, _positions) = self.connect().await?;
        forwards::forget_expired(connection, now).await
    }
}
