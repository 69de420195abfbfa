//! Whom a receiver believes, and the proof that somebody was believed.

use url::Url;

/// Whom one receiver believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustPolicy {
    /// The token's `aud` must name one of these.
    pub audiences: Vec<String>,
    /// The token must name a tenant (`tid`).
    pub tenant_required: bool,
    /// The tenants that are allowed; empty: any.
    pub tenants: Vec<String>,
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

/// What a source's senders use unless a receiver says otherwise.
#[derive(Clone, Copy, Debug)]
pub struct TrustDefaults {
    /// The issuers.
    pub issuers: &'static [&'static str],
    /// The metadata documents.
    pub metadata: &'static [&'static str],
    /// Whether tokens must name a tenant.
    pub tenant_required: bool,
}

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
}
