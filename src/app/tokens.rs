//! The tokens that open the private API: those of the configuration, and those that were made by command.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::{digest, rand};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::{
    config::{Private, Scope, Token},
    domain::clock::Clock,
    http::api::{Good, PrivateToken, Scopes, Tokens},
    net::Secret,
    store::{LedgerReader, StoreError, tokens::KeptToken},
};

/// How often the ledger is asked for tokens that were made or revoked.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The random bytes of a token.
const TOKEN_BYTES: usize = 32;

/// The tokens of a running service that are good. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GoodTokens(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    told: Mutex<Told>,
    good: watch::Sender<Arc<Good>>,
    clock: Clock,
}

/// What is said of tokens, and where.
#[derive(Debug)]
struct Told {
    configured: Private,
    kept: Vec<KeptToken>,
}

impl GoodTokens {
    /// Those of the configuration and of the ledger.
    pub(super) async fn of(configured: &Private, ledger: &LedgerReader, clock: Clock) -> Result<Self, StoreError> {
        let told = Told { configured: configured.clone(), kept: ledger.private_tokens().await? };
        let good = watch::Sender::new(Arc::new(told.good(&clock)));
        Ok(Self(Arc::new(Inner { told: Mutex::new(told), good, clock })))
    }

    /// Hears of changes.
    pub(super) fn subscribe(&self) -> Tokens {
        self.0.good.subscribe()
    }

    /// From now on those of this configuration: a stream that another token had opened ends. `false`: nothing was changed, because
    /// a listener that asks for tokens does not stop asking.
    #[must_use]
    pub fn replace(&self, configured: &Private) -> bool {
        self.change(|told| told.configured = configured.clone())
    }

    /// Hears of tokens that are made and revoked, and of those that expire, until `stop`.
    pub(super) async fn keep_up(self, ledger: LedgerReader, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            match ledger.private_tokens().await {
                Ok(kept) => {
                    self.change(|told| told.kept = kept);
                }
                Err(error) => tracing::warn!(%error, "the tokens of the private listener stay: the ledger cannot be read"),
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut Told)) -> bool {
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Told { configured: told.configured.clone(), kept: told.kept.clone() };
        change(&mut next);
        let good = next.good(&self.0.clock);
        if self.0.good.borrow().required && !good.required {
            return false;
        }
        *told = next;
        self.0.good.send_if_modified(|now| {
            let is_other = **now != good;
            *now = Arc::new(good);
            is_other
        });
        true
    }
}

impl Told {
    fn good(&self, clock: &Clock) -> Good {
        let now = clock.now();
        let in_force =
            self.kept.iter().filter(|token| token.revoked_at.is_none() && token.expires_at.is_none_or(|end| now < end));
        Good {
            // one that was revoked has asked as well
            required: self.configured.asks_for_tokens() || !self.kept.is_empty(),
            tokens: self.configured.tokens.iter().map(configured).chain(in_force.map(kept)).collect(),
        }
    }
}

fn configured(token: &Token) -> PrivateToken {
    PrivateToken {
        name: token.name.clone(),
        sha256: token.sha256.as_bytes().to_vec(),
        scopes: scopes(&token.scopes),
        expires_at: None,
    }
}

fn kept(token: &KeptToken) -> PrivateToken {
    let known: Vec<Scope> = token.scopes.iter().filter_map(|scope| Scope::parse(scope)).collect();
    PrivateToken { name: token.name.clone(), sha256: token.sha256.clone(), scopes: scopes(&known), expires_at: token.expires_at }
}

fn scopes(scopes: &[Scope]) -> Scopes {
    let has = |scope| scopes.contains(&scope);
    Scopes { read: has(Scope::Read), write: has(Scope::Write), secrets: has(Scope::Secrets), admin: has(Scope::Admin) }
}

/// A new token of 256 random bits, and its SHA-256; `None` if the system has no random bytes.
#[must_use]
pub fn new_token() -> Option<(Secret, Vec<u8>)> {
    let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
    rand::fill(bytes.as_mut()).ok()?;
    let token = Secret::new(format!("clt_{}", BASE64.encode(bytes.as_ref())));
    let hash = digest::digest(&digest::SHA256, token.expose().as_bytes());
    Some((token, hash.as_ref().to_vec()))
}
