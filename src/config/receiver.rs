//! `[[receiver]]`: who may call us back.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use url::Url;

use super::{DEV_AUDIENCE, KnownSource, Network, SharedSecret, values};

/// `[[receiver]]`: a public path and whom it believes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// The path on the public listener.
    pub path: String,
    /// The name of the source that reads its bodies.
    pub source: String,
    /// The values of `aud` that are meant for us; empty: no token is demanded, but the secret.
    #[serde(default)]
    pub audience: Vec<String>,
    /// The tenants that may call; empty: any.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// Whose tokens to believe instead of the source's issuers; empty: the source's.
    #[serde(default)]
    pub issuers: Vec<String>,
    /// Where the keys come from instead of the source's metadata documents; empty: the source's.
    #[serde(default, with = "values::metadata")]
    pub metadata: Vec<Url>,
    /// What the query must bring besides: `?secret=…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SharedSecret>,
    /// The applications (`azp`, `appid`) that may call instead of the source's own; empty: the source's.
    #[serde(default)]
    pub publishers: Vec<String>,
    /// The networks that may call; empty: any.
    #[serde(default)]
    pub allow_networks: Vec<Network>,
    /// The origins that may ask to send, where senders ask.
    #[serde(default = "event_grid")]
    pub allowed_origins: Vec<String>,
    /// The requests a minute that they are then allowed; as many as they like unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_rate: Option<NonZeroU32>,
    /// The largest body that is read, in bytes; the source's own limit or else that of `[public]` unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<usize>,
    /// The answer to a participant who wants to join a call that is recorded by policy.
    #[serde(default)]
    pub participant_joining: ParticipantJoining,
    /// Several clouds at once, each with keys of its own; empty: `issuers` and `metadata`, or else the source's.
    #[serde(default)]
    pub trust: Vec<Trust>,
    /// The incoming calls that another region is to answer, in the order of the rules.
    #[serde(rename = "redirect", default)]
    pub redirects: Vec<Redirect>,
}

/// `[[receiver.redirect]]`: incoming calls that match are sent elsewhere. Empty members match any.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// Where: https, or http on loopback.
    #[serde(with = "values::address")]
    pub to: Url,
    /// Those of these tenants.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// Those of callers in one of these regions.
    #[serde(default)]
    pub regions: Vec<String>,
    /// So many of a hundred.
    #[serde(default = "all_of_them")]
    pub percent: u8,
}

const fn all_of_them() -> u8 {
    100
}

/// `[[receiver.trust]]`: keys and the issuers that they speak for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// The exact values of `iss`.
    pub issuers: Vec<String>,
    /// The `OpenID` metadata documents: https, or http on loopback.
    #[serde(with = "values::metadata")]
    pub metadata: Vec<Url>,
}

/// The answer to a participant who wants to join a call that is recorded by policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParticipantJoining {
    /// Let in.
    #[default]
    Accept,
    /// Keep out, for this reason.
    Reject(RejectReason),
}

/// Why a participant is kept out, in the platform's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RejectReason {
    /// No reason given.
    None,
    /// Busy.
    Busy,
    /// Not allowed.
    Forbidden,
}

impl RejectReason {
    /// The name that the platform uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Busy => "busy",
            Self::Forbidden => "forbidden",
        }
    }
}

impl Receiver {
    /// The one that development mode makes up.
    pub(super) fn for_development(source: &KnownSource) -> Self {
        Self {
            path: source.usual_path.to_owned(),
            source: source.name.to_owned(),
            audience: vec![DEV_AUDIENCE.to_owned()],
            tenants: Vec::new(),
            issuers: Vec::new(),
            metadata: Vec::new(),
            secret: None,
            publishers: Vec::new(),
            allow_networks: Vec::new(),
            allowed_origins: event_grid(),
            allowed_rate: None,
            max_body_bytes: None,
            participant_joining: ParticipantJoining::Accept,
            trust: Vec::new(),
            redirects: Vec::new(),
        }
    }
}

/// What Event Grid calls itself when it asks.
fn event_grid() -> Vec<String> {
    vec!["eventgrid.azure.net".to_owned()]
}
