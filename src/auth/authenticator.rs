//! One receiver's door.

use std::sync::Arc;

use futures_util::future::join_all;
use jsonwebtoken::Algorithm;
use tokio::sync::Semaphore;
use url::Url;

use super::{
    Admission, KeyStore, KeysError, Refusal, Rejected,
    bearer::bearer,
    key_source::{KeySet, KeySettings, KeySource, Knowledge},
    keys::{Key, algorithm_named, read_jwks, use_one_provider},
    token::UnverifiedToken,
    token_cache::{Sets, TokenCache, TokenKey},
    verify::{Claims, Demands},
};
use crate::domain::{
    clock::Clock,
    rejection::RejectionReason,
    text::tame,
    trust::{KeyOrigin, TrustEntry, TrustPolicy},
};

/// Believes or refuses the callers of one receiver.
#[derive(Debug)]
pub struct Authenticator {
    receiver: Arc<str>,
    demands: Demands,
    entries: Vec<Entry>,
    clock: Clock,
    store: KeyStore,
    believed: TokenCache,
    /// Places for those who wait for keys: strangers can make anybody wait.
    waiting: Semaphore,
}

/// The audience of those who were let in for a secret alone. No token can be meant for it: no receiver that demands one may name it.
const SECRET_AUDIENCE: &str = "(secret)";

/// Issuers, and the keys that speak for them and for nobody else: rule 4.
#[derive(Debug)]
struct Entry {
    issuers: Vec<String>,
    keys: Keys,
}

#[derive(Debug)]
enum Keys {
    Given(Vec<Key>),
    Fetched(Vec<Arc<KeySource>>),
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Metadata at an address that is not safe.
    #[error("metadata at {url} is neither https nor http to a loopback host")]
    MetadataAddress {
        /// The address.
        url: Url,
    },
    /// Neither a token nor a secret is demanded.
    #[error("neither an audience nor a secret: anybody would be believed")]
    Unlocked,
    /// Given keys that are none.
    #[error("the given keys cannot be used")]
    GivenKeys(#[source] KeysError),
}

/// The key that signed a token, and the issuers that it may speak for.
struct Signer<'a> {
    key_id: String,
    issuers: Vec<&'a str>,
}

impl Authenticator {
    /// The door of the receiver with this path. It fetches nothing by itself: see [`KeyStore::keep_fresh`].
    ///
    /// # Errors
    /// When the policy names metadata that may not be asked, gives keys that are none, or demands nothing.
    pub fn new(receiver: &str, policy: &TrustPolicy, store: &KeyStore, clock: Clock) -> Result<Self, SetupError> {
        use_one_provider();
        let entries = match (policy.audiences.is_empty(), &policy.secret) {
            (true, None) => return Err(SetupError::Unlocked),
            (true, Some(_)) => Vec::new(),
            (false, _) => entries(&policy.entries, store)?,
        };
        let KeySettings { remembered_tokens, max_waiting, .. } = *store.settings();
        let (believed, waiting) = (TokenCache::new(remembered_tokens), Semaphore::new(max_waiting));
        let receiver = receiver.into();
        Ok(Self { receiver, demands: Demands::of(policy), entries, clock, store: store.clone(), believed, waiting })
    }

    /// Believes a caller, given the values of all its `Authorization` headers and the secret in its query. Waits for keys at
    /// most as long as the settings say.
    ///
    /// # Errors
    /// Why not.
    pub async fn admit(&self, authorization: &[&[u8]], secret: Option<&str>) -> Result<Admission, Refusal> {
        if !self.demands.token() {
            return self.admit_by_secret(secret).map_err(unread);
        }
        let text = bearer(authorization).map_err(unread)?;
        let (known, sets, now) = (TokenKey::of(text), self.sets(), self.clock.now());
        if let Some(admission) = self.believed.get(&known, &sets, now) {
            // of what is demanded, only this does not come with the token
            let checked = self.demands.check_secret(secret).map(|()| admission);
            return checked.map_err(|reason| UnverifiedToken::parse(text).map_or_else(unread, |token| rejected(&token, reason)));
        }
        let token = UnverifiedToken::parse(text).map_err(unread)?;
        let decided = self.decide(&token, secret).await;
        if let Ok(admission) = &decided {
            // by the sets of before: if others decided, it is not found
            self.believed.put(known, admission, sets, now);
        }
        decided.map_err(|refused| match refused {
            Refused::For(reason) => rejected(&token, reason),
            Refused::Undecided => Refusal::Unavailable { retry_after: self.store.settings().retry_every },
        })
    }

    /// The key sets in force, in the order of the entries.
    fn sets(&self) -> Sets {
        self.entries.iter().flat_map(|entry| entry.keys.sources()).map(|source| source.usable()).collect()
    }

    /// Whether a caller that shows no token, because it is not to send anything yet, knows the secret, if there is one.
    ///
    /// # Errors
    /// Why not.
    pub fn check_secret(&self, secret: Option<&str>) -> Result<(), RejectionReason> {
        self.demands.check_secret(secret)
    }

    /// All who know a secret are one audience, at whichever receiver: one event may come to several of them.
    fn admit_by_secret(&self, secret: Option<&str>) -> Result<Admission, RejectionReason> {
        self.demands.check_secret(secret)?;
        let (receiver, audience) = (Arc::clone(&self.receiver), SECRET_AUDIENCE.into());
        Ok(Admission { receiver, audience, issuer: "".into(), tenant: None, key_id: "".into(), expires_at: None, token: None })
    }

    /// Whether every key set that it believes is loaded and may be believed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.entries.iter().flat_map(|entry| entry.keys.sources()).all(|source| source.usable().is_some())
    }

    async fn decide(&self, token: &UnverifiedToken<'_>, secret: Option<&str>) -> Result<Admission, Refused> {
        let algorithm = algorithm_named(token.algorithm()).ok_or(RejectionReason::UnsupportedAlgorithm)?;
        let key_id = token.key_id().ok_or(RejectionReason::UnknownKey)?; // rule 3: required
        let first = self.judge(token, key_id, algorithm, secret);
        let Err(reason) = first else { return Ok(first?) };
        let doubtful = self.doubtful(reason, token);
        if doubtful.is_empty() {
            return Err(Refused::For(reason));
        }
        let Ok(_place) = self.waiting.try_acquire() else { return Err(Refused::Undecided) };
        tracing::debug!(receiver.path = %self.receiver, key.id = tame(key_id), %reason, "asking for keys again");
        let known = join_all(doubtful.into_iter().map(KeySource::renew)).await;
        match self.judge(token, key_id, algorithm, secret) {
            Err(again) if !self.doubtful(again, token).is_empty() && known.contains(&Knowledge::Missing) => {
                Err(Refused::Undecided)
            }
            judged => Ok(judged?),
        }
    }

    /// Judges a token by the keys that we have now.
    fn judge(
        &self,
        token: &UnverifiedToken<'_>,
        key_id: &str,
        algorithm: Algorithm,
        secret: Option<&str>,
    ) -> Result<Admission, RejectionReason> {
        let signer = self.signer(token, key_id, algorithm)?;
        let believed = self.demands.check(&Claims(&token.claims), &signer.issuers, secret, self.clock.now())?;
        Ok(Admission {
            receiver: Arc::clone(&self.receiver),
            issuer: believed.issuer.into(),
            audience: believed.audience.into(),
            tenant: believed.tenant,
            key_id: signer.key_id.into(),
            expires_at: Some(believed.expires_at),
            token: Some(token.signed_part()),
        })
    }

    /// Tries the keys with this id of every entry; several entries may publish the same key.
    fn signer(&self, token: &UnverifiedToken<'_>, key_id: &str, algorithm: Algorithm) -> Result<Signer<'_>, RejectionReason> {
        let mut closest = RejectionReason::UnknownKey;
        let mut issuers = Vec::new();
        for entry in &self.entries {
            match entry.keys.signed(token, key_id, algorithm) {
                Ok(()) => issuers.extend(entry.issuers.iter().map(String::as_str)), // rule 4
                Err(reason) => closest = closer(closest, reason),
            }
        }
        if issuers.is_empty() { Err(closest) } else { Ok(Signer { key_id: key_id.to_owned(), issuers }) }
    }

    /// The key sets that could turn this refusal into another answer if they were current: for a key that nobody
    /// knows, all that may speak for the issuer (all at all, for an unknown one); for a wrong signer, those
    /// that may speak for the issuer and are not there.
    fn doubtful(&self, reason: RejectionReason, token: &UnverifiedToken<'_>) -> Vec<&Arc<KeySource>> {
        let speaks = |entry: &&Entry| entry.issuers.iter().any(|issuer| Some(issuer.as_str()) == token.issuer());
        let anybody = reason == RejectionReason::UnknownKey && !self.entries.iter().any(|entry| speaks(&entry));
        let asked = self.entries.iter().filter(|entry| anybody || speaks(entry)).flat_map(|entry| entry.keys.sources());
        match reason {
            RejectionReason::UnknownKey => asked.collect(),
            RejectionReason::UnsupportedAlgorithm | RejectionReason::BadSignature | RejectionReason::WrongIssuer => {
                asked.filter(|source| source.usable().is_none()).collect()
            }
            RejectionReason::NetworkNotAllowed
            | RejectionReason::MissingToken
            | RejectionReason::NotBearer
            | RejectionReason::MalformedToken
            | RejectionReason::WrongAudience
            | RejectionReason::Expired
            | RejectionReason::NotYetValid
            | RejectionReason::MissingClaim
            | RejectionReason::WrongPublisher
            | RejectionReason::WrongSecret
            | RejectionReason::TenantNotAllowed
            | RejectionReason::TooLarge => Vec::new(),
        }
    }
}

impl Keys {
    fn sources(&self) -> &[Arc<KeySource>] {
        match self {
            Self::Given(_) => &[],
            Self::Fetched(sources) => sources,
        }
    }

    /// Whether one of these keys signed the token.
    fn signed(&self, token: &UnverifiedToken<'_>, key_id: &str, algorithm: Algorithm) -> Result<(), RejectionReason> {
        match self {
            Self::Given(keys) => signed(keys, token, key_id, algorithm),
            Self::Fetched(sources) => {
                let sets: Vec<Arc<KeySet>> = sources.iter().filter_map(|source| source.usable()).collect();
                signed(sets.iter().flat_map(|set| &set.keys), token, key_id, algorithm)
            }
        }
    }
}

/// Why a token that could be taken apart is not believed.
enum Refused {
    For(RejectionReason),
    Undecided,
}

impl From<RejectionReason> for Refused {
    fn from(reason: RejectionReason) -> Self {
        Self::For(reason)
    }
}

fn rejected(token: &UnverifiedToken<'_>, reason: RejectionReason) -> Refusal {
    Refusal::Rejected(Rejected {
        reason,
        unverified_key_id: token.key_id().map(tame),
        unverified_issuer: token.issuer().map(tame),
    })
}

fn unread(reason: RejectionReason) -> Refusal {
    Refusal::Rejected(Rejected { reason, unverified_key_id: None, unverified_issuer: None })
}

fn signed<'a>(
    keys: impl IntoIterator<Item = &'a Key>,
    token: &UnverifiedToken<'_>,
    key_id: &str,
    algorithm: Algorithm,
) -> Result<(), RejectionReason> {
    let mut closest = RejectionReason::UnknownKey;
    for key in keys.into_iter().filter(|key| key.id == key_id) {
        let reason = match key.signed(token, algorithm) {
            None => RejectionReason::UnsupportedAlgorithm,
            Some(true) => return Ok(()),
            Some(false) => RejectionReason::BadSignature,
        };
        closest = closer(closest, reason);
    }
    Err(closest)
}

/// Of two keys that did not verify a token, the reason of the one that came closer to it.
fn closer(one: RejectionReason, other: RejectionReason) -> RejectionReason {
    let distance = |reason| match reason {
        RejectionReason::BadSignature => 0,
        RejectionReason::UnsupportedAlgorithm => 1,
        _ => 2,
    };
    if distance(other) < distance(one) { other } else { one }
}

fn entries(trusted: &[TrustEntry], store: &KeyStore) -> Result<Vec<Entry>, SetupError> {
    let mut entries = Vec::with_capacity(trusted.len());
    for entry in trusted {
        let keys = match &entry.keys {
            KeyOrigin::Given(jwks) => Keys::Given(read_jwks(jwks.as_bytes()).map_err(SetupError::GivenKeys)?),
            KeyOrigin::Metadata(urls) => Keys::Fetched(urls.iter().map(|url| store.source(url)).collect::<Result<_, _>>()?),
        };
        entries.push(Entry { issuers: entry.issuers.clone(), keys });
    }
    Ok(entries)
}
