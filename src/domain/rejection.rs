//! Who was not let in, and why.

use std::fmt;

use jiff::Timestamp;

/// Every reason not to accept a POST, in the order in which they are checked: of several faults the first is
/// reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectionReason {
    /// From a network that is not on the receiver's list.
    NetworkNotAllowed,
    /// No `Authorization` header.
    MissingToken,
    /// An `Authorization` header of another scheme than `Bearer`.
    NotBearer,
    /// Not a JWT, over 16 KiB, several `Authorization` headers, or a `crit` header.
    MalformedToken,
    /// An algorithm that is not allowed, or not with this key: `none` and HMAC among them.
    UnsupportedAlgorithm,
    /// A key id that no trusted issuer publishes, or none.
    UnknownKey,
    /// The signature is not the key's.
    BadSignature,
    /// Signed by a trusted key that does not speak for this issuer.
    WrongIssuer,
    /// Meant for somebody else.
    WrongAudience,
    /// Its time is over (300 s of skew are allowed).
    Expired,
    /// Its time, or the time it was issued at, is yet to come (300 s of skew are allowed).
    NotYetValid,
    /// A claim that we rely on is absent.
    MissingClaim,
    /// A good token of an application that is not one of the receiver's publishers.
    WrongPublisher,
    /// Without the secret that the receiver demands in the query, or with another.
    WrongSecret,
    /// A good token of a tenant that is not on the receiver's list.
    TenantNotAllowed,
    /// A body over the receiver's limit.
    TooLarge,
}

impl RejectionReason {
    /// All of them, in the order of the checks.
    pub const ALL: [Self; 16] = [
        Self::NetworkNotAllowed,
        Self::MissingToken,
        Self::NotBearer,
        Self::MalformedToken,
        Self::UnsupportedAlgorithm,
        Self::UnknownKey,
        Self::BadSignature,
        Self::WrongIssuer,
        Self::WrongAudience,
        Self::Expired,
        Self::NotYetValid,
        Self::MissingClaim,
        Self::WrongPublisher,
        Self::WrongSecret,
        Self::TenantNotAllowed,
        Self::TooLarge,
    ];

    /// The name that the API, the metrics and the log use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NetworkNotAllowed => "network_not_allowed",
            Self::MissingToken => "missing_token",
            Self::NotBearer => "not_bearer",
            Self::MalformedToken => "malformed_token",
            Self::UnsupportedAlgorithm => "unsupported_algorithm",
            Self::UnknownKey => "unknown_key",
            Self::BadSignature => "bad_signature",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::MissingClaim => "missing_claim",
            Self::WrongPublisher => "wrong_publisher",
            Self::WrongSecret => "wrong_secret",
            Self::TenantNotAllowed => "tenant_not_allowed",
            Self::TooLarge => "too_large",
        }
    }

    /// The reason of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

impl fmt::Display for RejectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A POST that was not let in. Nothing in it is verified; texts are tame (see [`super::text::tame`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// When it came.
    pub at: Timestamp,
    /// The path of the receiver it was sent to.
    pub receiver: String,
    /// Which check it failed.
    pub reason: RejectionReason,
    /// The peer's address.
    pub peer: Option<String>,
    /// The `kid` in the token's header.
    pub unverified_key_id: Option<String>,
    /// The `iss` in the token's payload.
    pub unverified_issuer: Option<String>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
}
