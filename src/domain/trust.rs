//! Whom a receiver believes, and the proof that somebody was believed.

use std::fmt;

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use url::Url;

/// Whom one receiver believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustPolicy {
    /// The token's `aud` must name one of these. Empty: no token is demanded, so that the secret must be right.
    pub audiences: Vec<String>,
    /// The token must name a tenant (`tid`).
    pub tenant_required: bool,
    /// The tenants that are allowed; empty: any.
    pub tenants: Vec<String>,
    /// The applications (`azp` or `appid`) that are allowed; empty: any.
    pub publishers: Vec<String>,
    /// What the query must bring besides.
    pub secret: Option<SharedSecret>,
    /// Keys and the issuers they speak for, one entry per cloud.
    pub entries: Vec<TrustEntry>,
}

/// A set of keys and the issuers that they, and no others, speak for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustEntry {
    /// The exact values of `iss`.
    pub issuers: Vec<String>,
    /// Where the keys come from.
    pub keys: KeyOrigin,
}

/// Where the keys of a trust entry come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// `OpenID` metadata documents, each of which names a `jwks_uri`.
    Metadata(Vec<Url>),
    /// A JWKS document given as text: the development issuer.
    Given(String),
}

/// A secret that a caller must know, as its SHA-256: enough to recognise it.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedSecret([u8; 32]);

impl SharedSecret {
    /// Recognises this text from now on.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(sha256(secret.as_bytes()))
    }

    /// Whether this is it, in a time that does not tell how much of it is right.
    #[must_use]
    pub fn is(&self, sent: &str) -> bool {
        verify_slices_are_equal(&self.0, &sha256(sent.as_bytes())).is_ok()
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(…)")
    }
}

fn sha256(text: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, text).as_ref().first_chunk().copied().unwrap_or_default()
}

/// What a source's senders use unless a receiver says otherwise.
#[derive(Clone, Copy, Debug)]
pub struct TrustDefaults {
    /// The issuers; `{tenant}` stands for each of the receiver's tenants, which must then be named.
    pub issuers: &'static [&'static str],
    /// The metadata documents, likewise.
    pub metadata: &'static [&'static str],
    /// Whether tokens must name a tenant.
    pub tenant_required: bool,
    /// The applications that send.
    pub publishers: &'static [&'static str],
    /// Whether a receiver may do without tokens if it has a secret.
    pub secret_suffices: bool,
}

impl TrustDefaults {
    /// Whether the issuers depend on the tenant.
    #[must_use]
    pub fn are_by_tenant(&self) -> bool {
        self.issuers.iter().chain(self.metadata).any(|text| text.contains(TENANT))
    }

    /// The issuers and the metadata documents of a tenant.
    #[must_use]
    pub fn of_tenant(&self, tenant: &str) -> (Vec<String>, Vec<String>) {
        let of = |texts: &[&str]| texts.iter().map(|text| text.replace(TENANT, tenant)).collect();
        (of(self.issuers), of(self.metadata))
    }
}

/// Where a tenant's id goes.
const TENANT: &str = "{tenant}";

/// The proof that a caller was authenticated: only with it can a delivery be recorded.
///
/// `auth` makes the only one that the service uses (the layering test holds it to that); forgetting to
/// authenticate does not compile.
pub trait Admitted {
    /// The path of the receiver that admitted the caller.
    fn receiver(&self) -> &str;
    /// The configured audience that the token was meant for.
    fn audience(&self) -> &str;
    /// The tenant in the token, in one spelling.
    fn tenant(&self) -> Option<&str>;
    /// The SHA-256 of what was signed in the token (of some signatures there is more than one form); `None` if a secret was believed
    /// instead.
    fn token(&self) -> Option<&[u8; 32]>;
}

/// The proof that somebody may write requests into the ledger: only with it can one be recorded. The private listener's guard
/// makes the only one that the service uses.
pub trait Asking {
    /// What the log calls them.
    fn name(&self) -> &str;
}
