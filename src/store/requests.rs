//! A bot's requests, on their way into the ledger.

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::{Ledger, ROOM_WAIT, RecordError, sqlite::work::Work};
use crate::domain::{
    ids::{OperationId, PlatformId, RequestId},
    people::NamedPerson,
    request::{AnswerFacts, RequestFacts},
    trust::Asking,
};

/// A request on its way into the ledger.
#[derive(Clone, Debug)]
pub struct NewRequest {
    /// The source whose platform is asked.
    pub source: &'static str,
    /// The call that it is about; `None` if it begins one.
    pub call: Option<PlatformId>,
    /// When it came.
    pub requested_at: Timestamp,
    /// What makes a second copy of it recognisable, if its sender gave it a key.
    pub idempotency: Option<[u8; 16]>,
    /// Whom it is about, and how they are once it is done.
    pub shows: Option<NamedPerson>,
    /// What it says.
    pub facts: RequestFacts,
}

/// A request that is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requested {
    /// Its id.
    pub request: RequestId,
    /// The operation that it begins.
    pub operation: OperationId,
    /// Whether it was new; else its key was known.
    pub is_new: bool,
    /// Whether what is known under its key is the same.
    pub is_same: bool,
}

impl Ledger {
    /// Records a request: when this returns `Ok`, it is on the disk.
    ///
    /// # Errors
    /// [`RecordError`]; then nothing of it was kept.
    pub async fn request(&self, _by: &impl Asking, request: NewRequest) -> Result<Requested, RecordError> {
        let (reply, answer) = oneshot::channel();
        self.enqueue(Work::Request { request, reply }).await?;
        answer.await.map_err(|_gone| RecordError::Closed)?
    }

    /// Records what came back for a request, and which call it has begun, if it has; the first answer counts.
    ///
    /// # Errors
    /// [`RecordError`]; then nothing of it was kept.
    pub async fn answer(
        &self,
        request: RequestId,
        at: Timestamp,
        facts: AnswerFacts,
        call: Option<PlatformId>,
    ) -> Result<(), RecordError> {
        let (reply, answer) = oneshot::channel();
        self.enqueue(Work::Answer { request, at, facts, call, reply }).await?;
        answer.await.map_err(|_gone| RecordError::Closed)?
    }

    pub(super) async fn enqueue(&self, work: Work) -> Result<(), RecordError> {
        let place = tokio::time::timeout(ROOM_WAIT, self.queue.reserve()).await.map_err(|_elapsed| RecordError::Busy)?;
        place.map_err(|_closed| RecordError::Closed)?.send(work);
        Ok(())
    }
}
