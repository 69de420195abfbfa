//! What waits in the queue for the writer.

use std::sync::Arc;

use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    task::unconstrained,
};

use crate::{
    domain::{
        delivery::Delivery,
        ids::{PlatformId, RequestId},
        request::AnswerFacts,
        trust::Admitted,
    },
    store::{NewRequest, RecordError, Recorded, Requested, courier::Courier, forwards::Progress},
};

/// A delivery in the queue.
pub(in crate::store) struct Job {
    pub(super) receiver: Arc<str>,
    pub(super) audience: Arc<str>,
    pub(super) tenant: Option<Arc<str>>,
    /// Of the token that brought it.
    pub(super) token_hash: Option<i64>,
    pub(super) delivery: Delivery,
    reply: oneshot::Sender<Result<Recorded, RecordError>>,
    courier: Option<Courier>,
    /// Given back when the job is done: the queue is bounded in bytes.
    _room: OwnedSemaphorePermit,
}

impl Job {
    pub(in crate::store) fn new(
        admitted: &impl Admitted,
        token_hash: Option<i64>,
        mut delivery: Delivery,
        room: OwnedSemaphorePermit,
        reply: oneshot::Sender<Result<Recorded, RecordError>>,
    ) -> Self {
        // Rows keep milliseconds: what is derived now must be what is derived from the rows.
        let milliseconds = Timestamp::from_millisecond(delivery.received_at.as_millisecond());
        delivery.received_at = milliseconds.unwrap_or(delivery.received_at);
        Self {
            receiver: admitted.receiver().into(),
            audience: admitted.audience().into(),
            tenant: admitted.tenant().map(Into::into),
            token_hash,
            delivery,
            reply,
            courier: Courier::here(),
            _room: room,
        }
    }

    /// Who takes the answer to the thread that waits for it.
    pub(in crate::store) const fn courier(&self) -> Option<&Courier> {
        self.courier.as_ref()
    }

    pub(in crate::store) fn answer(self, answer: Result<Recorded, RecordError>) {
        // The caller may have hung up; what is committed stays committed.
        let _gone = self.reply.send(answer);
    }
}

/// What waits in the queue.
pub(in crate::store) enum Work {
    Delivery(Job),
    Request {
        request: NewRequest,
        reply: oneshot::Sender<Result<Requested, RecordError>>,
    },
    Answer {
        request: RequestId,
        at: Timestamp,
        facts: AnswerFacts,
        call: Option<PlatformId>,
        reply: oneshot::Sender<Result<(), RecordError>>,
    },
    Progress {
        progress: Progress,
        reply: oneshot::Sender<Result<(), RecordError>>,
    },
}

/// The next that is in the queue by now, without waiting for more.
///
/// Not by `try_recv`: while somebody is just sending, that parks the thread, and uses up the wake-up that its own `block_on` is to get
/// from the database. If nobody sends anything more, the writer would then sleep for good.
pub(in crate::store) fn at_hand(jobs: &mut mpsc::Receiver<Work>) -> Option<Work> {
    unconstrained(jobs.recv()).now_or_never().flatten()
}
