//! The recording gateway: a bot's own request, written down, passed on, and its answer written down before the bot gets it.
//!
//! ```text
//! 1 path, method, body ─► what it asks for                      404 unless passed on unrecorded
//! 2 ledger.request ─────► requested, on the disk                503
//! 3 platform ───────────► its answer, within bounds             502 · 504: unanswered
//! 4 ledger.answer ──────► accepted, ended, refused
//! 5 the bot ────────────► the platform's own status, headers and body
//! ```
//!
//! From 2 on it goes its way whether or not the bot still listens.

use std::{pin::pin, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

use super::{
    entra_token::EntraTokens,
    in_flight::InFlight,
    path::is_odd,
    signing::{AcsSigner, imf_fixdate},
};

use crate::{
    domain::{
        clock::Clock,
        ids::PlatformId,
        operation::State,
        request::{AnswerFacts, RequestFacts, Via},
        result::ResultInfo,
        trust::Asking,
    },
    net::{self, FetchError, HttpClient, Method, Secret},
    source::{Answered, NotificationSource, Outgoing},
    store::{Ledger, NewRequest, RecordError, Requested},
};

/// The most bytes of a request's body, and of an answer's.
pub const MAX_REQUEST: usize = 1024 * 1024;
const MAX_ANSWER: usize = 4 * 1024 * 1024;
/// How long a platform may take, all tries and the last byte of its answer included.
const TOTAL_TIME: Duration = Duration::from_mins(1);

/// How long to wait before an answer is written down again that the ledger could not take.
const WRITE_AGAIN: Duration = Duration::from_millis(500);
/// How long to wait before a request is sent again, and how long a platform may make us wait.
const PAUSES: &[Duration] = &[Duration::from_millis(200), Duration::from_millis(800)];
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The gateway to one platform. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Whose platform it is.
    pub source: &'static dyn NotificationSource,
    /// Where it is; a path in it stays in front of the bot's.
    pub upstream: Url,
    /// Whether what begins no operation is passed on, unrecorded.
    pub pass_unrecognised: bool,
    /// Signs what begins an operation, where we hold the key; else the bot's own `Authorization` goes through.
    pub signer: Option<Signer>,
    /// How it is reached.
    pub client: HttpClient,
    /// Where requests are written down.
    pub ledger: Ledger,
    /// Where they run until they are answered.
    pub in_flight: InFlight,
    /// Where "now" comes from.
    pub clock: Clock,
}

/// With what the gateway signs.
#[derive(Clone, Debug)]
pub enum Signer {
    /// An access key of a Communication Services resource.
    AccessKey(AcsSigner),
    /// Tokens of an application; for Graph of the call's own tenant.
    Tokens(EntraTokens),
}

/// A signature that is made for each try, or a token that serves for all.
#[derive(Clone, Debug)]
enum Signing {
    Bot,
    AccessKey(AcsSigner),
    Token(Secret),
}

/// A bot's request.
#[derive(Clone, Debug)]
pub struct BotRequest {
    /// The method, in capitals.
    pub method: String,
    /// The path behind the gateway's own, as it was spelled.
    pub path: String,
    /// The query, as it was spelled.
    pub query: Option<String>,
    /// The headers that are passed on.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How long what it asks for may take; as configured for its kind unless told.
    pub deadline: Option<Duration>,
}

/// The platform's answer.
pub type PlatformAnswer = net::Answer;

/// Why a bot gets an answer of ours instead of the platform's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotForwarded {
    /// A path that could be read in two ways.
    OddPath,
    /// Nothing that begins an operation.
    Unrecognised,
    /// A method that is not passed on.
    Method,
    /// A signature of the bot that covers the host, so that the platform would not believe it behind a gateway.
    SignatureOfHost,
    /// No token could be had to sign it with, so it was not sent.
    NoToken,
    /// It could not be written down, so it was not sent.
    NotRecorded(RecordError),
    /// The platform could not be reached, or its answer was lost.
    Unreachable,
    /// The platform took too long.
    TooSlow,
    /// The platform's answer is too large.
    TooLarge,
}

impl Gateway {
    /// Passes a request on.
    ///
    /// # Errors
    /// [`NotForwarded`].
    pub async fn forward(
        &self,
        by: impl Asking + Send + Sync + 'static,
        mut request: BotRequest,
    ) -> Result<PlatformAnswer, NotForwarded> {
        let until = Instant::now() + TOTAL_TIME;
        let method = Method::parse(&request.method).ok_or(NotForwarded::Method)?;
        let url = self.target(&request)?;
        let asked = Outgoing { method: &request.method, path: &request.path, body: &request.body };
        if self.signer.is_none() && request.headers.iter().any(|(name, value)| name == "authorization" && covers_host(value)) {
            return Err(NotForwarded::SignatureOfHost);
        }
        let Some(understood) = self.source.outgoing(&asked) else {
            if !self.pass_unrecognised {
                return Err(NotForwarded::Unrecognised);
            }
            // never signed: whoever may write requests is not to borrow our credentials for anything else
            let sent = send(&self.client, method, &url, &request, &[], TOTAL_TIME).await;
            return sent.map_err(|error| not_forwarded(&error));
        };
        let signing = self.signing(understood.call.as_ref());
        let signing = tokio::time::timeout_at(until, signing).await.map_err(|_elapsed| NotForwarded::NoToken)??;
        let name = understood.name;
        let facts = RequestFacts {
            name: name.to_owned(),
            kind: understood.kind.to_owned(),
            context: understood.context,
            via: Via::Gateway,
            deadline: request.deadline.and_then(|allowed| self.clock.now().checked_add(allowed).ok()),
            cancels: understood.cancels,
            acts_on: understood.acts_on,
            conversation: understood.conversation,
            shows: None, // the store knows by which token
        };
        let new = NewRequest {
            source: self.source.name(),
            call: understood.call,
            shows: understood.shows,
            requested_at: self.clock.now(),
            idempotency: None,
            facts,
        };
        if understood.repeatable {
            make_repeatable(&mut request.headers, self.clock.now());
        }
        let gateway = self.clone();
        let sent = self.in_flight.run(async move {
            let requested = gateway.ledger.request(&by, new).await.map_err(NotForwarded::NotRecorded)?;
            gateway.send_recorded(name, requested, (method, url, request), signing, (understood.repeatable, until)).await
        });
        sent.await.unwrap_or(Err(NotForwarded::Unreachable))
    }

    /// Sends what has been written down, and writes down what comes back.
    async fn send_recorded(
        &self,
        name: &str,
        requested: Requested,
        (method, url, request): (Method, Url, BotRequest),
        signing: Signing,
        (repeatable, until): (bool, Instant),
    ) -> Result<PlatformAnswer, NotForwarded> {
        let tries = if repeatable { PAUSES } else { &[] };
        let (sending, given_up) =
            (pin!(self.send_until(method, &url, &request, &signing, (tries, until))), pin!(self.in_flight.given_up()));
        let outcome = tokio::select! { outcome = sending => outcome, () = given_up => Err(FetchError::TimedOut) };
        let (facts, call) = match &outcome {
            Ok(answer) => {
                let location = answer.headers.iter().find(|(name, _)| name == "location").map(|(_, value)| value.as_str());
                let read = self.source.answered(name, &Answered { status: answer.status, location, body: &answer.body });
                (read.facts, read.call)
            }
            Err(error) if is_before_sending(error) => (never_sent(), None),
            Err(_lost) => (AnswerFacts::default(), None),
        };
        self.write_down(requested, facts, call).await;
        outcome.map_err(|error| {
            tracing::warn!(request.id = %requested.request, source.name = self.source.name(), %error, "a request got no answer");
            not_forwarded(&error)
        })
    }

    /// Writes an answer down: if the ledger cannot take it now, once it can; the bot is to hear it all the same.
    async fn write_down(&self, requested: Requested, facts: AnswerFacts, call: Option<PlatformId>) {
        let (id, at) = (requested.request, self.clock.now());
        let Err(error) = self.ledger.answer(id, at, facts.clone(), call.clone()).await else { return };
        tracing::error!(request.id = %id, %error, "the answer to a request could not be written down");
        let gateway = self.clone();
        drop(self.in_flight.run(async move {
            let mut outcome = Err(error);
            while let Err(RecordError::Busy | RecordError::Unavailable) = outcome {
                tokio::select! {
                    () = tokio::time::sleep(WRITE_AGAIN) => {}
                    // the next start marks the request unanswered
                    () = gateway.in_flight.given_up() => return,
                }
                outcome = gateway.ledger.answer(id, at, facts.clone(), call.clone()).await;
            }
        }));
    }

    /// What signs a request about this call.
    async fn signing(&self, call: Option<&PlatformId>) -> Result<Signing, NotForwarded> {
        let tokens = match &self.signer {
            None => return Ok(Signing::Bot),
            Some(Signer::AccessKey(key)) => return Ok(Signing::AccessKey(key.clone())),
            Some(Signer::Tokens(tokens)) => tokens,
        };
        let now = self.clock.now();
        let tenant = match call {
            // a resource of Communication Services has one tenant, whoever calls
            Some(call) if self.source.name() == "graph" => {
                self.ledger.reader().call(call, now).await.unwrap_or_default().into_iter().find_map(|row| row.tenant_id)
            }
            _ => None,
        };
        tokens.authorization(tenant.as_deref(), now).await.map(Signing::Token).map_err(|error| {
            tracing::error!(error = %error, "the gateway has no token to sign with");
            NotForwarded::NoToken
        })
    }

    /// Sends a request, signed anew where we hold the key.
    async fn send(
        &self,
        method: Method,
        url: &Url,
        request: &BotRequest,
        signing: &Signing,
        timeout: Duration,
    ) -> Result<PlatformAnswer, FetchError> {
        let signature = match signing {
            Signing::Bot => Vec::new(),
            Signing::AccessKey(key) => key.sign(&request.method, url, &request.body, self.clock.now()),
            Signing::Token(token) => vec![("authorization", token.expose().to_owned())],
        };
        send(&self.client, method, url, request, &signature, timeout).await
    }

    /// Sends a request until it is answered, once more after each of the pauses at the most.
    async fn send_until(
        &self,
        method: Method,
        url: &Url,
        request: &BotRequest,
        signing: &Signing,
        (pauses, until): (&[Duration], Instant),
    ) -> Result<PlatformAnswer, FetchError> {
        let mut was_sent = false;
        for pause in pauses {
            let outcome = self.send(method, url, request, signing, until - Instant::now()).await;
            was_sent |= !outcome.as_ref().is_err_and(is_before_sending);
            let wait = match &outcome {
                Ok(answer) if answer.status >= 500 => retry_after(answer).unwrap_or(*pause),
                Err(FetchError::NotConnected(_) | FetchError::Unreachable(_)) => *pause,
                _ => return outcome,
            };
            if wait > LONGEST_PAUSE || Instant::now() + wait >= until {
                return outcome;
            }
            tokio::time::sleep(wait).await;
        }
        match self.send(method, url, request, signing, until - Instant::now()).await {
            // an earlier try has gone out, and nobody knows what became of it
            Err(FetchError::NotConnected(error)) if was_sent => Err(FetchError::Unreachable(error)),
            outcome => outcome,
        }
    }

    /// The address at the platform.
    fn target(&self, request: &BotRequest) -> Result<Url, NotForwarded> {
        if is_odd(&request.path) {
            return Err(NotForwarded::OddPath);
        }
        let mut url = self.upstream.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}{}", request.path));
        url.set_query(request.query.as_deref());
        Ok(url)
    }
}

/// Whether nothing has left this machine.
const fn is_before_sending(error: &FetchError) -> bool {
    use FetchError::{HeaderName, HeaderValue, NotAllowed, NotConnected, Setup};
    matches!(error, Setup(_) | NotAllowed | HeaderName(_) | HeaderValue(_) | NotConnected(_))
}

/// What never left this machine has failed, whatever the platform would have said.
fn never_sent() -> AnswerFacts {
    AnswerFacts {
        never_sent: true,
        state: Some(State::Failed),
        status: Some(502),
        result: ResultInfo { code: Some(502), reason: Some("upstreamUnreachable".to_owned()), ..ResultInfo::default() },
        ..AnswerFacts::default()
    }
}

/// The HMAC signature of Communication Services is over the host, among others.
fn covers_host(authorization: &str) -> bool {
    authorization.trim_start().get(..11).is_some_and(|scheme| scheme.eq_ignore_ascii_case("HMAC-SHA256"))
}

/// Gives a request the two headers by which the platform recognises a second copy ("OASIS Repeatable Requests 1.0"), unless the
/// bot has.
fn make_repeatable(headers: &mut Vec<(String, String)>, now: Timestamp) {
    if headers.iter().any(|(name, _)| name.starts_with("repeatability-")) {
        return;
    }
    headers.push(("repeatability-request-id".to_owned(), Uuid::new_v4().to_string()));
    headers.push(("repeatability-first-sent".to_owned(), imf_fixdate(now)));
}

/// How long the platform asks to be left alone, in whole or broken seconds.
fn retry_after(answer: &PlatformAnswer) -> Option<Duration> {
    let (_, value) = answer.headers.iter().find(|(name, _)| name == "retry-after")?;
    Duration::try_from_secs_f64(value.trim().parse().ok()?).ok()
}

/// Headers of a signature replace the bot's own.
async fn send(
    client: &HttpClient,
    method: Method,
    url: &Url,
    request: &BotRequest,
    signature: &[(&'static str, String)],
    timeout: Duration,
) -> Result<PlatformAnswer, FetchError> {
    let is_kept = |name: &str| !signature.iter().any(|(ours, _)| *ours == name);
    let theirs = request.headers.iter().filter(|(name, _)| is_kept(name)).map(|(name, value)| (name.as_str(), value.as_str()));
    let headers: Vec<(&str, &str)> = theirs.chain(signature.iter().map(|(name, value)| (*name, value.as_str()))).collect();
    let body = request.body.clone();
    client.request(net::Request { method, url, headers: &headers, body, timeout, max_bytes: MAX_ANSWER }).await
}

fn not_forwarded(error: &FetchError) -> NotForwarded {
    match error {
        FetchError::TimedOut => NotForwarded::TooSlow,
        FetchError::TooLarge { .. } => NotForwarded::TooLarge,
        _ => NotForwarded::Unreachable,
    }
}
