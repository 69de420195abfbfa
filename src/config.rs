//! What can be configured: plain values, parsed once.
//!
//! `app` and `cli` read these and hand plain values down; nothing below knows that there is a configuration. The layers
//! are `config/default.toml` (compiled in, and the documentation of every key), a file, and the environment; see
//! [`Config::load`]. To add a key: a field here, its line in `config/default.toml`, its rule in `check`.

mod check;
mod credentials;
mod error;
mod forward;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod layers;
mod receiver;
mod retention;
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
    forward::{Forward, ForwardMode, WebhookSecret},
    receiver::{ParticipantJoining, Receiver, Redirect, RejectReason, Trust},
    retention::{Retention, SourceRetention},
    values::{KeyCommand, LedgerUrl, Network, SharedSecret, TokenHash},
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
    /// Where notifications go.
    #[serde(rename = "forward", default)]
    pub forwards: Vec<Forward>,
    /// How long what came is kept.
    pub retention: Retention,
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
    /// How many believed tokens each receiver remembers, so that they are verified once; 0: none.
    pub remembered_tokens: usize,
    /// How many callers may wait at the same moment, at each receiver, for keys that their tokens need.
    pub max_waiting_for_keys: usize,
    /// How long the head of a request may take.
    pub head_timeout_seconds: NonZeroU32,
    /// How long a body may take.
    pub body_timeout_seconds: NonZeroU32,
    /// The connections that are served at the same moment; more wait to be accepted.
    pub max_connections: usize,
    /// How many of them from one address; more are closed.
    pub max_connections_per_address: usize,
    /// Who is believed for whom it speaks (`X-Forwarded-For`).
    pub trusted_proxies: Vec<Network>,
    /// Who it is to those who call by https; not set: http, behind a proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// `[public.tls]`: TLS without a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate and those that lead to its root (PEM).
    pub certificate_file: PathBuf,
    /// Its private key (PEM).
    pub key_file: PathBuf,
}

/// `[private]`: API and metrics.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Private {
    /// Where it listens; port 0 takes a free port.
    pub bind: SocketAddr,
    /// How long the head of a request may take.
    pub head_timeout_seconds: NonZeroU32,
    /// How long a body may take.
    pub body_timeout_seconds: NonZeroU32,
    /// The connections that are served at the same moment; more wait to be accepted.
    pub max_connections: usize,
    /// Whether every request needs a token, also on loopback and while there is none.
    pub require_token: bool,
    /// Who may use it, beside those to whom a token was made by command.
    #[serde(rename = "token", default)]
    pub tokens: Vec<Token>,
}

impl Private {
    /// Whether every request needs a token, as far as the configuration says.
    #[must_use]
    pub const fn asks_for_tokens(&self) -> bool {
        self.require_token || !self.tokens.is_empty()
    }
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
    /// To write requests, and to use the gateway.
    Write,
    /// To see secrets and personal facts.
    Secrets,
    /// To maintain the service.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Secrets, Self::Admin];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Secrets => "secrets",
            Self::Admin => "admin",
        }
    }

    /// The scope of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }
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
    /// What writes the master key to its standard output: a program and its arguments; not set: the key file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master_key_command: Option<KeyCommand>,
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
        let text = file.map(layers::text).transpose()?;
        Self::merged(file.zip(text.as_deref()), env)
    }

    /// The same, given the file's text.
    fn merged(file: Option<(&Path, &str)>, env: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
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

/// Whether only this machine can reach it; an IPv4 address in IPv6 clothing counts as what it is.
fn is_loopback(bind: SocketAddr) -> bool {
    bind.ip().to_canonical().is_loopback()
}
