//! Who may ask.
//!
//! 1. With tokens: every call but the two health checks needs one, compared by its SHA-256 in constant time, that has not expired.
//! 2. Without tokens the listener is on loopback (the configuration sees to it), and the `Host` must be a loopback name
//!    too: otherwise any web page could reach us through a name of its own that points here (DNS rebinding).
//! 3. A page of another site never gets an answer: foreign `Origin`, `Sec-Fetch-Site: cross-site`.
//! 4. Scopes: `read` to ask, `write` to write requests and use the gateway, `secrets` to see what is otherwise shown as redacted,
//!    `admin` to maintain. Without tokens anybody on this machine has all of them but `secrets`; in development mode that too.

use std::sync::Arc;

use actix_web::{
    Error, HttpMessage, HttpRequest,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN},
    },
    middleware::Next,
};
use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use jiff::Timestamp;
use tokio::sync::watch;

use super::gateway::TOKEN_HEADER;
use crate::{
    domain::{clock::Clock, trust::Asking},
    http::{is_of_this_machine, problem::Problem},
};

/// A token that opens the private API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateToken {
    /// What the log calls it.
    pub name: String,
    /// Its SHA-256.
    pub sha256: Vec<u8>,
    /// What it is good for.
    pub scopes: Scopes,
    /// From when on it is good for nothing; `None`: never.
    pub expires_at: Option<Timestamp>,
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a scope of its own, in any combination")]
pub struct Scopes {
    /// Ask.
    pub read: bool,
    /// Write requests, and use the gateway.
    pub write: bool,
    /// See secrets and personal facts.
    pub secrets: bool,
    /// Maintain the service.
    pub admin: bool,
}

/// What somebody who may ask may see and do. Every request that came through the [`Guard`] bears one.
#[derive(Clone, Debug, Default)]
pub struct Leave {
    /// May see secrets and personal facts.
    pub secrets: bool,
    /// May write requests.
    pub writer: Option<Writer>,
    /// May maintain the service.
    pub admin: Option<Writer>,
    /// Who it is, for as long as that holds.
    pub standing: Standing,
}

/// Who was let in, for as long as that holds.
#[derive(Clone, Debug, Default)]
pub enum Standing {
    /// Anybody, to what is open to all.
    #[default]
    Anybody,
    /// Somebody without a token, until one is asked for.
    Unasked(Tokens),
    /// Whose token this is, as long as it is one of those that are good.
    Bearer(Box<PrivateToken>, Tokens),
}

impl Standing {
    /// What the log calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Anybody | Self::Unasked(_) => "",
            Self::Bearer(token, _) => &token.name,
        }
    }

    /// Resolves once the token is no longer good, or one is asked for that was not shown.
    pub async fn lost(&mut self) {
        let lost = match self {
            Self::Anybody => return std::future::pending().await,
            Self::Unasked(tokens) => tokens.wait_for(|good| good.required).await.is_ok(),
            Self::Bearer(token, tokens) => tokens.wait_for(|good| !good.tokens.contains(token)).await.is_ok(),
        };
        if !lost {
            // nobody can make or revoke one any more
            std::future::pending::<()>().await;
        }
    }
}

/// The tokens that are good now.
pub type Tokens = watch::Receiver<Arc<Good>>;

/// The tokens that are good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Good {
    /// Whether one is asked for, also where none is good.
    pub required: bool,
    /// Which.
    pub tokens: Vec<PrivateToken>,
}

/// Somebody who may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer(String);

impl Asking for Writer {
    fn name(&self) -> &str {
        &self.0
    }
}

impl Leave {
    fn with(scopes: Scopes, name: &str, standing: Standing) -> Self {
        let as_one = |may: bool| may.then(|| Writer(name.to_owned()));
        Self { secrets: scopes.secrets, writer: as_one(scopes.write), admin: as_one(scopes.admin), standing }
    }

    /// What the caller of this request may see; of one that nobody has let in, nothing.
    #[must_use]
    pub fn of(request: &HttpRequest) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_default()
    }
}

/// Decides who may ask.
#[derive(Clone, Debug)]
pub struct Guard {
    /// The tokens; empty on a loopback listener.
    pub tokens: Tokens,
    /// Whether secrets are shown where no token is asked for.
    pub open_secrets: bool,
    /// Where "now" comes from.
    pub clock: Clock,
}

impl Guard {
    /// The middleware.
    ///
    /// # Errors
    /// Those of the service behind it; who may not ask is answered here.
    pub async fn check<B: MessageBody + 'static>(
        self,
        request: ServiceRequest,
        next: Next<B>,
    ) -> Result<ServiceResponse<BoxBody>, Error> {
        match self.leave(request.request()) {
            Ok(leave) => {
                request.extensions_mut().insert(leave);
                next.call(request).await.map(ServiceResponse::map_into_boxed_body)
            }
            Err(problem) => {
                let answer = problem.answer(request.request());
                Ok(request.into_response(answer))
            }
        }
    }

    fn leave(&self, request: &HttpRequest) -> Result<Leave, Problem> {
        let headers = request.headers();
        if is_foreign(headers) {
            return Err(Problem::OriginNotAllowed); // rule 3
        }
        let good = Arc::clone(&self.tokens.borrow());
        if !good.required {
            let scopes = Scopes { read: true, write: true, secrets: self.open_secrets, admin: true };
            let leave = Leave::with(scopes, "loopback", Standing::Unasked(self.tokens.clone())); // rule 4
            return if is_loopback_host(headers) { Ok(leave) } else { Err(Problem::HostNotAllowed) }; // rule 2
        }
        let (method, path) = (request.method(), request.path());
        let of_platform = path.starts_with("/gateway/");
        let sent = if of_platform { gateway_token(headers) } else { token(headers) };
        let now = self.clock.now();
        match sent.and_then(|sent| known(&good.tokens, sent)).filter(|token| token.expires_at.is_none_or(|end| now < end)) {
            Some(token) => {
                let asks = !of_platform && (method == Method::GET || method == Method::HEAD);
                if asks && !token.scopes.read && !is_health(path) {
                    return Err(Problem::ScopeRequired("read"));
                }
                let standing = Standing::Bearer(Box::new(token.clone()), self.tokens.clone());
                Ok(Leave::with(token.scopes, &token.name, standing)) // rule 4
            }
            None if is_health(path) => Ok(Leave::default()), // rule 1
            None => Err(Problem::TokenRequired),
        }
    }
}

fn is_health(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz")
}

fn token(headers: &HeaderMap) -> Option<&[u8]> {
    let mut sent = headers.get_all(AUTHORIZATION);
    let (Some(value), None) = (sent.next(), sent.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// On the gateway `Authorization` is the platform's.
fn gateway_token(headers: &HeaderMap) -> Option<&[u8]> {
    let mut sent = headers.get_all(TOKEN_HEADER);
    let (Some(value), None) = (sent.next(), sent.next()) else { return None };
    Some(value.as_bytes())
}

fn known<'t>(tokens: &'t [PrivateToken], sent: &[u8]) -> Option<&'t PrivateToken> {
    let hash = digest::digest(&digest::SHA256, sent);
    // Every token is compared, so that the time tells nothing about which.
    let is_it = |token: &PrivateToken| verify_slices_are_equal(&token.sha256, hash.as_ref()).is_ok();
    tokens.iter().fold(None, |known, token| if is_it(token) { Some(token) } else { known })
}

/// A page of another site asks.
fn is_foreign(headers: &HeaderMap) -> bool {
    if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        return true;
    }
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    authority.is_none() || authority != host
}

fn is_loopback_host(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST);
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = host.to_str() else { return false };
    is_of_this_machine(host)
}
