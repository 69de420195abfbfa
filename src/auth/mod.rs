//! Who is believed: from the `Authorization` headers of a request to an [`Admission`], or the reason for none.
//!
//! Owns the rules below, the keys that they need, and the development issuer. `app` makes one
//! [`Authenticator`] per receiver, `http` asks it before it reads a byte of the body. A further rule: add it
//! here, with its number, and tag the line that fulfils it.
//!
//! ```text
//! 1  Authorization: Bearer <token>; scheme case-insensitive; exactly one header; token ≤ 16 KiB.
//! 2  Header `alg` in RS256, RS384, RS512, ES256 as the key allows; never `none`, never HMAC; `crit` refused.
//! 3  `kid` required; `jku`, `x5u`, `jwk` in a header are never followed.
//! 4  Keys come from the receiver's metadata documents; the keys of one trust entry never speak for the
//!    issuers of another; metadata and `jwks_uri` https, http for loopback only and a loopback `jwks_uri`
//!    only from loopback metadata; keys with `use` other than `sig`, wrong `kty`, RSA below 2048 bits are
//!    ignored, not fatal.
//! 5  `iss` exactly one of the configured.
//! 6  `aud` (string or array) contains one of the configured.
//! 7  `exp` required, `nbf` and `iat` respected if present, skew 300 s.
//! 8  `tid` required for Graph; the allow-list is optional, and who is not on it is forbidden.
//! 9  `azp` or `appid` one of the publishers, where the receiver names any.
//! 10 The secret in the query, where the receiver has one: an extra lock; for some sources it may be the only one, and then
//!    nothing of the above is asked for.
//! 11 Everything else in the token is ignored.
//! ```
//!
//! From the header to the proof: [`bearer`] finds the token, `token` takes it apart, [`Authenticator`] finds the
//! key that signed it (`key_store`, `discovery`, `keys`), `verify` reads the claims. The other way round, [`ClientCertificate`] proves
//! who we are.

mod assertion;
mod authenticator;
mod bearer;
mod dev_issuer;
mod discovery;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod key_source;
mod key_store;
mod keys;
mod token;
mod token_cache;
mod verify;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::domain::{ids::PlatformId, rejection::RejectionReason, trust::Admitted};

pub use assertion::{CertificateError, ClientCertificate};
pub use authenticator::{Authenticator, SetupError};
pub use bearer::bearer;
pub use dev_issuer::{DevIssuer, DevIssuerError, self_test};
pub use discovery::DiscoveryError;
pub use key_source::{KeySetStatus, KeySettings};
pub use key_store::KeyStore;
pub use keys::KeysError;
pub use token::signed_part;

/// The proof that a caller was believed. Only [`Authenticator::admit`] makes one. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    receiver: Arc<str>,
    issuer: Arc<str>,
    audience: Arc<str>,
    tenant: Option<PlatformId>,
    key_id: Arc<str>,
    expires_at: Option<Timestamp>,
    /// The SHA-256 of what was signed in it.
    token: Option<[u8; 32]>,
}

impl Admission {
    /// The issuer of the token.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The id of the key that signed the token.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// When the token expires; `None` if a secret was believed instead.
    #[must_use]
    pub const fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }
}

impl Admitted for Admission {
    fn receiver(&self) -> &str {
        &self.receiver
    }

    fn audience(&self) -> &str {
        &self.audience
    }

    fn tenant(&self) -> Option<&str> {
        self.tenant.as_ref().map(PlatformId::as_str)
    }

    fn token(&self) -> Option<&[u8; 32]> {
        self.token.as_ref()
    }
}

/// Why there is no [`Admission`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The caller's fault.
    Rejected(Rejected),
    /// Ours: the keys that would decide cannot be had now.
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
}

/// A token that was not believed. The texts are tame (see [`crate::domain::text::tame`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The first check that failed.
    pub reason: RejectionReason,
    /// The `kid` in the token's header, if the token could be taken apart.
    pub unverified_key_id: Option<String>,
    /// The `iss` in the token's payload, likewise.
    pub unverified_issuer: Option<String>,
}
