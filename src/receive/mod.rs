//! A notification came in: admit, read, record.
//!
//! The use case behind the public listener, without HTTP. `http` hands over what it got of a request, step by step, and
//! turns a [`NotAccepted`] into a status; `app` builds one [`Receiver`] per configured path.

mod redirect;

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    auth::{Admission, Authenticator, Refusal},
    domain::{
        clock::Clock,
        delivery::{Content, Correlation, Delivery},
        rejection::{Rejection, RejectionReason},
        text::tame,
        trust::Admitted,
    },
    net::Secret,
    source::{Answers, Head, Inbound, NotificationSource, Reading, Reply},
    store::{Ledger, RecordError, Recorded},
};

pub use self::redirect::Redirect;

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
    /// Who may ask to send.
    pub greetings: Greetings,
    /// The incoming calls that another region is to answer.
    pub redirects: Vec<Redirect>,
    /// The most bytes of a body.
    pub max_body_bytes: usize,
    /// Where what it accepts is remembered.
    pub ledger: Ledger,
    /// Where "now" comes from.
    pub clock: Clock,
}

/// Who may ask to send, and how much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Greetings {
    /// The origins; `*`: any.
    pub allowed_origins: Vec<String>,
    /// Requests a minute; `None`: as many as the sender likes.
    pub allowed_rate: Option<u32>,
}

/// The answer to a sender that asked whether it may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Its origin.
    pub origin: String,
    /// Requests a minute; `None`: as many as it likes.
    pub rate: Option<u32>,
}

/// Why a sender that asked is not to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotGreeted {
    /// Senders of this source do not ask.
    NotAsked,
    /// It does not know the secret.
    NotAccepted(NotAccepted),
    /// It did not say who it is.
    NoOrigin,
    /// It is not on the list.
    OriginNotAllowed,
}

/// What is known of a caller before anybody believes it. Texts are tame.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Every `Authorization` header, as it came.
    pub authorization: Vec<Vec<u8>>,
    /// The secret in the query.
    pub secret: Option<Secret>,
    /// What the head says of the body.
    pub head: Head,
    /// The peer's address.
    pub peer: Option<String>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// The `X-Microsoft-Skype-Caller-Region` header: where who calls is.
    pub region: Option<String>,
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
        match self.authenticator.admit(&authorization, caller.secret.as_ref().map(Secret::expose)).await {
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
        let told = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        self.reject(caller, RejectionReason::TooLarge, told(admission.key_id()), told(admission.issuer()))
    }

    /// A sender asks whether it may send (`OPTIONS`): the origin that it names is on the list, and it knows the secret, if there
    /// is one. A token comes with what it then sends.
    ///
    /// # Errors
    /// [`NotGreeted`]; a wrong secret is noted.
    pub fn greet(&self, caller: &Caller, origin: Option<&str>) -> Result<Greeting, NotGreeted> {
        if !self.source.asks_first() {
            return Err(NotGreeted::NotAsked);
        }
        if let Err(reason) = self.authenticator.check_secret(caller.secret.as_ref().map(Secret::expose)) {
            return Err(NotGreeted::NotAccepted(self.reject(caller, reason, None, None)));
        }
        let origin = origin.ok_or(NotGreeted::NoOrigin)?;
        let allowed = self.greetings.allowed_origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin));
        if !allowed {
            tracing::warn!(receiver.path = %self.path, origin = tame(origin), "a sender that is not on the list asked to send");
            return Err(NotGreeted::OriginNotAllowed);
        }
        Ok(Greeting { origin: origin.to_owned(), rate: self.greetings.allowed_rate })
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
        let inbound = Inbound { body: &body, head: &caller.head, correlation: &caller.correlation, answers: &self.answers };
        let (content, answer) = match self.source.read(&inbound) {
            Ok(reading) => {
                let reading = self.redirected(reading, admission, caller.region.as_deref());
                (Content::Read(reading.notifications), Ok(reading.reply))
            }
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

    /// Sends an incoming call elsewhere if a rule says so. The ledger remembers that it did.
    fn redirected(&self, mut reading: Reading, admission: &Admission, region: Option<&str>) -> Reading {
        let to = redirect::incoming(&reading.notifications)
            .and_then(|call| redirect::destination(&self.redirects, call, admission.tenant(), region))
            .map(ToString::to_string);
        if let Some(to) = to {
            reading.notifications.iter_mut().for_each(|item| item.facts.redirected_to = Some(to.clone()));
            reading.reply = Reply::Elsewhere(to);
        }
        reading
    }

    /// The present instant.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
