//! A notification came in: admit, read, record.
//!
//! The use case behind the public listener, without HTTP. `http` hands over what it got of a request, step by step, and
//! turns a [`NotAccepted`] into a status; `app` builds one [`Receiver`] per configured path.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    auth::{Admission, Authenticator, Refusal},
    domain::{
        clock::Clock,
        delivery::{Content, Correlation, Delivery},
        rejection::{Rejection, RejectionReason},
    },
    source::{Answers, Inbound, NotificationSource, Reply},
    store::{Ledger, RecordError, Recorded},
};

/// One public callback path.
#[derive(Debug)]
pub struct Receiver {
    /// The path.
    pub path: String,
    /// Who sends to it.
    pub source: &'static dyn NotificationSource,
    /// Whom it believes.
    pub authenticator: Authenticator,
    /// What to answer where the sender asks.
    pub answers: Answers,
    /// The most bytes of a body.
    pub max_body_bytes: usize,
    /// Where what it accepts is remembered.
    pub ledger: Ledger,
    /// Where "now" comes from.
    pub clock: Clock,
}

/// What is known of a caller before anybody believes it. Texts are tame.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Every `Authorization` header, as it came.
    pub authorization: Vec<Vec<u8>>,
    /// The peer's address.
    pub peer: Option<String>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// The headers by which the platform's support finds the delivery again.
    pub correlation: Correlation,
    /// When the head of the request had been read.
    pub received_at: Timestamp,
}

/// A delivery that is on the disk.
#[derive(Debug)]
pub struct Accepted {
    /// What to answer.
    pub reply: Reply,
    /// What became of its notifications.
    pub recorded: Recorded,
}

/// Every reason not to accept a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAccepted {
    /// Not let in; the caller learns no more than that.
    Rejected(RejectionReason),
    /// Let in, but not readable as the source's envelope: kept in quarantine.
    Unreadable(String),
    /// The keys cannot be had, so nobody can be believed: our trouble.
    CannotCheck {
        /// When to try again.
        retry_after: Duration,
    },
    /// The ledger cannot take it: our trouble.
    NotRecorded(RecordError),
}

impl Receiver {
    /// Step 2: finds out who calls.
    ///
    /// # Errors
    /// [`NotAccepted::Rejected`], which is noted, or [`NotAccepted::CannotCheck`].
    pub async fn admit(&self, caller: &Caller) -> Result<Admission, NotAccepted> {
        let authorization: Vec<&[u8]> = caller.authorization.iter().map(Vec::as_slice).collect();
        match self.authenticator.admit(&authorization).await {
            Ok(admission) => Ok(admission),
            Err(Refusal::Unavailable { retry_after }) => {
                tracing::warn!(receiver.path = %self.path, "nobody can be believed: the issuer's keys cannot be had");
                Err(NotAccepted::CannotCheck { retry_after })
            }
            Err(Refusal::Rejected(rejected)) => {
                Err(self.reject(caller, rejected.reason, rejected.unverified_key_id, rejected.unverified_issuer))
            }
        }
    }

    /// Step 3 went wrong: the body is over the limit.
    #[must_use]
    pub fn too_large(&self, caller: &Caller, admission: &Admission) -> NotAccepted {
        let issuer = Some(admission.issuer().to_owned());
        self.reject(caller, RejectionReason::TooLarge, Some(admission.key_id().to_owned()), issuer)
    }

    fn reject(&self, caller: &Caller, reason: RejectionReason, key_id: Option<String>, issuer: Option<String>) -> NotAccepted {
        tracing::warn!(
            receiver.path = %self.path,
            peer = caller.peer,
            key.id = key_id,
            unverified_issuer = issuer,
            reason = reason.as_str(),
            "a callback was not let in"
        );
        self.ledger.note_rejection(Rejection {
            at: caller.received_at,
            receiver: self.path.clone(),
            reason,
            peer: caller.peer.clone(),
            unverified_key_id: key_id,
            unverified_issuer: issuer,
            user_agent: caller.user_agent.clone(),
        });
        NotAccepted::Rejected(reason)
    }

    /// Steps 4 and 5: reads an admitted body and records it. When this returns `Ok`, it is on the disk.
    ///
    /// # Errors
    /// [`NotAccepted::Unreadable`] once the body is in quarantine, or [`NotAccepted::NotRecorded`].
    pub async fn accept(&self, admission: &Admission, caller: Caller, body: Vec<u8>) -> Result<Accepted, NotAccepted> {
        let inbound = Inbound { body: &body, correlation: &caller.correlation, answers: &self.answers };
        let (content, answer) = match self.source.read(&inbound) {
            Ok(reading) => (Content::Read(reading.notifications), Ok(reading.reply)),
            Err(unreadable) => (Content::Unreadable, Err(unreadable.to_string())),
        };
        let call = match &content {
            Content::Read(items) => items.iter().find_map(|item| item.call.clone()),
            Content::Unreadable => None,
        };
        let delivery = Delivery {
            source: self.source.name(),
            received_at: caller.received_at,
            correlation: caller.correlation,
            body,
            content,
        };
        let received_at = delivery.received_at;
        let recorded = self.ledger.record(admission, delivery).await.map_err(NotAccepted::NotRecorded)?;
        tracing::info!(
            receiver.path = %self.path,
            source.name = self.source.name(),
            delivery.id = %recorded.delivery,
            notification.id = recorded.first_new().map(tracing::field::display),
            notifications = recorded.notifications.len(),
            call.id = call.as_ref().map(tracing::field::display),
            duration_ms = self.clock.now().as_millisecond() - received_at.as_millisecond(),
            outcome = if answer.is_ok() { recorded.outcome() } else { "quarantined" },
            "a delivery was recorded"
        );
        match answer {
            Ok(reply) => Ok(Accepted { reply, recorded }),
            Err(why) => Err(NotAccepted::Unreadable(why)),
        }
    }

    /// The present instant.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
