//! A notification came in: admit, read, record.
//!
//! The use case behind the public listener, without HTTP. `http` hands over what it got of a request, step by step, and
//! turns a [`NotAccepted`] into a status; `app` builds one [`Receiver`] per configured path.

mod redirect;

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;
use serde_json::Value;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::timeout,
};

use crate::{
    auth::{Admission, Authenticator, Refusal},
    domain::{
        clock::Clock,
        delivery::{BotAnswer, Content, Correlation, Delivery, KeptHead},
        rejection::{Rejection, RejectionReason},
        text::tame,
        trust::Admitted,
    },
    net::{Networks, Secret},
    source::{Answers, Head, Inbound, NotificationSource, Reading, Reply},
    store::{Ledger, RecordError, Recorded},
};

pub use self::redirect::Redirect;

/// How long headers without a token are kept to be forwarded.
const HEAD_WITHOUT_TOKEN: Duration = Duration::from_hours(1);

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
    /// The networks that may call; none: any.
    pub networks: Networks,
    /// Who may ask to send.
    pub greetings: Greetings,
    /// The incoming calls that another region is to answer.
    pub redirects: Vec<Redirect>,
    /// Who is to get its deliveries as they came.
    pub kept_for: Vec<KeptFor>,
    /// The bot that decides where the sender asks.
    pub decider: Option<Decider>,
    /// The most bytes of a body.
    pub max_body_bytes: usize,
    /// Where what it accepts is remembered.
    pub ledger: Ledger,
    /// Where "now" comes from.
    pub clock: Clock,
}

/// Somebody who is to get deliveries as they came, head and all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFor {
    /// The name of the target.
    pub target: String,
    /// If they bring something of these kinds; empty: of any.
    pub kinds: Vec<String>,
}

/// A bot that decides where the sender asks.
#[derive(Clone, Debug)]
pub struct Decider {
    /// The name of the target that it is.
    pub target: String,
    /// It hears of these kinds alone; empty: of any.
    pub kinds: Vec<String>,
    /// Where its answers come from.
    pub answers: broadcast::Sender<BotAnswer>,
    /// How long it has, from the commit.
    pub within: Duration,
}

impl Decider {
    fn hears_of(&self, content: &Content) -> bool {
        let Content::Read(items) = content else { return false };
        self.kinds.is_empty() || items.iter().any(|item| self.kinds.contains(&item.facts.kind))
    }
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
    /// It is on no list of networks, or does not know the secret.
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
    /// Their address; `None` where it is not known.
    pub address: Option<IpAddr>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// The `X-Microsoft-Skype-Caller-Region` header: where who calls is.
    pub region: Option<String>,
    /// The headers by which the platform's support finds the delivery again.
    pub correlation: Correlation,
    /// All headers as they came ([`KeptHead::headers`]), if [`Receiver::keeps_heads`].
    pub headers: Vec<u8>,
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
        self.check_network(caller)?;
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

    /// Who comes from elsewhere learns nothing of tokens.
    fn check_network(&self, caller: &Caller) -> Result<(), NotAccepted> {
        if self.networks.is_empty() || caller.address.is_some_and(|address| self.networks.contain(address)) {
            return Ok(());
        }
        Err(self.reject(caller, RejectionReason::NetworkNotAllowed, None, None))
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
        self.check_network(caller).map_err(NotGreeted::NotAccepted)?;
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
            peer = caller.address.map(tracing::field::display),
            key.id = key_id,
            unverified_issuer = issuer,
            reason = reason.as_str(),
            "a callback was not let in"
        );
        self.ledger.note_rejection(Rejection {
            at: caller.received_at,
            receiver: self.path.clone(),
            reason,
            peer: caller.address.map(|address| address.to_string()),
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
        let head = self.kept_head(admission, &content, caller.headers, caller.received_at);
        let delivery = Delivery {
            source: self.source.name(),
            received_at: caller.received_at,
            correlation: caller.correlation,
            body,
            content,
            head,
        };
        let received_at = delivery.received_at;
        let asks = matches!(answer, Ok(Reply::Decision(_)));
        // before it is recorded: the bot may be quicker than we are
        let answers = self.decider.as_ref().filter(|it| asks && it.hears_of(&delivery.content)).map(|it| it.answers.subscribe());
        let recorded = self.ledger.record(admission, delivery).await.map_err(NotAccepted::NotRecorded)?;
        // one line for each would be most of what is logged, and says no more than the ledger
        tracing::debug!(
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
        if let Err(why) = &answer {
            tracing::warn!(receiver.path = %self.path, delivery.id = %recorded.delivery, why, "a delivery is in quarantine");
        }
        match answer {
            Ok(Reply::Decision(usual)) => {
                let decided = self.decided(answers, &recorded).await;
                Ok(Accepted { reply: Reply::Decision(decided.unwrap_or(usual)), recorded })
            }
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

    /// Whether somebody is to get its deliveries as they came.
    #[must_use]
    pub const fn keeps_heads(&self) -> bool {
        !self.kept_for.is_empty()
    }

    /// The headers that are kept with a delivery, for those to whom it says something.
    fn kept_head(&self, admission: &Admission, content: &Content, headers: Vec<u8>, received_at: Timestamp) -> Option<KeptHead> {
        let Content::Read(items) = content else { return None };
        let says = |kinds: &[String]| items.iter().any(|item| kinds.is_empty() || kinds.contains(&item.facts.kind));
        let targets: Vec<String> =
            self.kept_for.iter().filter(|kept| says(&kept.kinds)).map(|kept| kept.target.clone()).collect();
        let is_ours = items.iter().all(|item| item.facts.redirected_to.is_none());
        // what came for a secret alone bears no token that could expire
        let expires_at = admission.expires_at().or_else(|| received_at.checked_add(HEAD_WITHOUT_TOKEN).ok())?;
        (is_ours && !targets.is_empty()).then_some(KeptHead { headers, expires_at, targets })
    }

    /// What the bot decides, if it does in time and in a way that the sender understands.
    async fn decided(&self, heard: Option<broadcast::Receiver<BotAnswer>>, recorded: &Recorded) -> Option<Value> {
        let (mut heard, decider) = (heard?, self.decider.as_ref()?);
        recorded.first_new()?; // nobody is told of what is known
        let answer = async {
            loop {
                match heard.recv().await {
                    Ok(answer) if answer.delivery == recorded.delivery && answer.target == decider.target => {
                        return Some(answer.body);
                    }
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        };
        let answer = timeout(decider.within, answer).await.ok().flatten();
        let understood = answer.filter(|answer| self.source.is_decision(answer));
        if understood.is_none() {
            tracing::warn!(delivery.id = %recorded.delivery, "the bot did not decide: the configured answer is given");
        }
        understood
    }

    /// The present instant.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
