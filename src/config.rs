//! What can be configured: plain values, parsed once.
//!
//! `app` and `cli` read these and hand plain values down; nothing below knows that there is a configuration. The layers
//! are `config/default.toml` (compiled in, and the documentation of every key), a file, and the environment; see
//! [`Config::load`]. To add a key: a field here, its line in `config/default.toml`, its rule in `check`.

mod check;
mod credentials;
mod error;
mod layers;
mod values;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use url::Url;

use self::layers::Origins;
pub use self::{
    credentials::{AcsCredentials, Application, Credentials, GraphCredentials, Proof},
    error::{ConfigError, Place},
    values::{LedgerUrl, SharedSecret, TokenHash},
};

/// The documented defaults.
pub const DEFAULTS: &str = include_str!("../config/default.toml");

/// The audience of the receiver that development mode makes up.
pub const DEV_AUDIENCE: &str = "00000000-0000-0000-0000-000000000001";

/// Everything that can be configured, all layers merged.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The internet-facing listener.
    pub public: Public,
    /// The operators' listener.
    pub private: Private,
    /// Where everything is remembered.
    pub ledger: Ledger,
    /// Who may call us back.
    #[serde(rename = "receiver", default)]
    pub receivers: Vec<Receiver>,
    /// What is expected of operations.
    pub lifecycle: Lifecycle,
    /// The way to the platforms.
    pub gateway: Gateway,
    /// Who follows what changes.
    pub feed: Feed,
    /// What is written to stderr.
    pub log: Log,
    /// The issuer of development mode.
    pub dev: Dev,
    /// Where each key was set, for messages.
    #[serde(skip)]
    origins: Origins,
}

/// `[public]`: callbacks and nothing else.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Public {
    /// Where it listens; port 0 takes a free port.
    pub bind: SocketAddr,
    /// The largest body that is read, in bytes.
    pub max_body_bytes: usize,
}

/// `[private]`: API and metrics.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Private {
    /// Where it listens; port 0 takes a free port.
    pub bind: SocketAddr,
    /// Who may use it; never empty unless it listens on loopback.
    #[serde(rename = "token", default)]
    pub tokens: Vec<Token>,
}

/// `[[private.token]]`: one who may use the private listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Tells tokens apart.
    pub name: String,
    /// The SHA-256 of the token.
    pub sha256: TokenHash,
    /// What it is good for.
    #[serde(default = "read_only")]
    pub scopes: Vec<Scope>,
}

/// What a token of the private listener is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// To ask.
    Read,
    /// To register requests.
    Write,
    /// To see bodies and personal facts.
    Secrets,
    /// To maintain the ledger.
    Admin,
}

fn read_only() -> Vec<Scope> {
    vec![Scope::Read]
}

/// `[ledger]`: where everything is remembered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// The database.
    pub url: LedgerUrl,
}

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

/// `[lifecycle]`: what is expected of operations.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifecycle {
    /// How long after the end of its call word may still come of how an operation ended; then it counts as failed.
    pub disconnect_grace_seconds: NonZeroU32,
    /// How long an operation may stay open before it is overdue.
    pub deadline_seconds: Deadlines,
}

/// `[lifecycle.deadline_seconds]`, none of them zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, u64>", into = "BTreeMap<String, u64>")]
pub struct Deadlines {
    /// For kinds that are not named.
    pub default: Duration,
    /// For the kinds that are.
    pub by_kind: BTreeMap<String, Duration>,
}

/// `[gateway]`: the way to the platforms.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Where Graph is.
    #[serde(with = "values::upstream", default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<Url>,
    /// Where the Communication Services resource is; not set: no gateway to it.
    #[serde(with = "values::upstream", default, skip_serializing_if = "Option::is_none")]
    pub acs: Option<Url>,
    /// Whether what begins no operation is passed on, unrecorded.
    pub pass_unrecognised: bool,
    /// Whether platforms may be on this machine or in a private network.
    pub allow_private_upstreams: bool,
    /// With what the gateway signs.
    #[serde(default)]
    pub credentials: Credentials,
}

/// `[feed]`: who follows what changes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// How many may follow at the same moment.
    pub followers: NonZeroU32,
    /// How many of them with one token.
    pub followers_per_token: NonZeroU32,
}

/// `[log]`: what is written to stderr.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The level, then exceptions by module.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// `[dev]`: the issuer of development mode.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dev {
    /// Where its private key is kept between starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_key: Option<PathBuf>,
}

impl Config {
    /// Merges the defaults, `file` and the `CALLBACK_LEDGER__…` variables of `env`, and checks what the values alone tell.
    ///
    /// That is all that a command needs which only reads the ledger; what listens goes on with [`Self::for_service`] or
    /// [`Self::for_development`], which also see to the receivers.
    ///
    /// # Errors
    /// [`ConfigError`], which names the key and where it was set.
    pub fn load(file: Option<&Path>, env: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let (merged, origins) = layers::merge(file, env)?;
        let config = Self { origins: origins.clone(), ..layers::read(merged, &origins)? };
        config.check()?;
        Ok(config)
    }

    /// Checks what a service needs besides: receivers, of `sources` that exist, each with what its source cannot do without.
    ///
    /// # Errors
    /// [`ConfigError`], which names the key or says how to add a receiver.
    pub fn for_service(self, sources: &[KnownSource]) -> Result<Self, ConfigError> {
        self.check_sources(sources)?;
        self.check_issuers(sources)?;
        self.for_either()
    }

    fn for_either(self) -> Result<Self, ConfigError> {
        self.check()?;
        if self.receivers.is_empty() {
            return Err(ConfigError::NoReceiver);
        }
        Ok(self)
    }

    /// The same for development mode: both listeners on loopback, and a receiver for each source if there is none.
    ///
    /// # Errors
    /// [`ConfigError`], also if a listener was configured to another address than loopback.
    pub fn for_development(mut self, sources: &[KnownSource]) -> Result<Self, ConfigError> {
        if !self.origins.contains("public.bind") {
            self.public.bind.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        for (key, bind) in [("public.bind", self.public.bind), ("private.bind", self.private.bind)] {
            if !is_loopback(bind) {
                return Err(self.origins.fault(key, format!("development mode listens on loopback only, not on {bind}")));
            }
        }
        if self.receivers.is_empty() {
            self.receivers = sources.iter().map(Receiver::for_development).collect();
        }
        self.check_sources(sources)?;
        self.for_either() // whose issuers are not asked for: there is one, of our own
    }

    /// The effective configuration as TOML, without what is secret.
    ///
    /// # Errors
    /// [`ConfigError::NotShown`] if a value has no form in TOML.
    pub fn shown(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(ConfigError::NotShown)
    }
}

impl Receiver {
    /// The one that development mode makes up.
    fn for_development(source: &KnownSource) -> Self {
        Self {
            path: source.usual_path.to_owned(),
            source: source.name.to_owned(),
            audience: vec![DEV_AUDIENCE.to_owned()],
            tenants: Vec::new(),
            issuers: Vec::new(),
            metadata: Vec::new(),
            secret: None,
            publishers: Vec::new(),
            allowed_origins: event_grid(),
            allowed_rate: None,
            max_body_bytes: None,
            participant_joining: ParticipantJoining::Accept,
            trust: Vec::new(),
            redirects: Vec::new(),
        }
    }
}

/// What the configuration must know of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownSource {
    /// Its name.
    pub name: &'static str,
    /// Where development mode receives it.
    pub usual_path: &'static str,
    /// Whether its receivers may do without tokens if they have a secret.
    pub secret_suffices: bool,
    /// Whether its issuers depend on the tenant, so that a receiver must name tenants or issuers.
    pub issuers_by_tenant: bool,
}

/// What Event Grid calls itself when it asks.
fn event_grid() -> Vec<String> {
    vec!["eventgrid.azure.net".to_owned()]
}

/// Whether only this machine can reach it; an IPv4 address in IPv6 clothing counts as what it is.
fn is_loopback(bind: SocketAddr) -> bool {
    bind.ip().to_canonical().is_loopback()
}
