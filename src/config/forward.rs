//! `[[forward]]`: the bots that are told.

use std::{
    collections::HashSet,
    fmt,
    num::{NonZeroU32, NonZeroU64},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use url::{Host, Url};

use super::{
    Config,
    check::{Fault, check_not_blank, fault},
    values,
};

/// `[[forward]]`: a bot's own endpoint, and what it gets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// What tells it from others in the ledger; the host of its address unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where: https, or http on loopback. Its query may be a secret.
    #[serde(with = "values::address")]
    pub url: Url,
    /// What came to these receivers, by their paths; empty: to any.
    #[serde(default)]
    pub receivers: Vec<String>,
    /// What is of these kinds; empty: of any.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// How.
    #[serde(default)]
    pub mode: ForwardMode,
    /// What signs; several while one replaces another.
    #[serde(default, deserialize_with = "secrets")]
    pub secrets: Vec<WebhookSecret>,
    /// Whether it may be in a private network.
    #[serde(default)]
    pub allow_private: bool,
    /// How long a try may take.
    #[serde(default = "timeout")]
    pub timeout_seconds: NonZeroU32,
    /// How many are on their way at the same moment.
    #[serde(default = "concurrency")]
    pub concurrency: NonZeroU32,
    /// How long after it was recorded a notification is given up.
    #[serde(default = "give_up_after")]
    pub give_up_after_seconds: NonZeroU64,
    /// Whether its answers are decisions for the platform.
    #[serde(default)]
    pub decides: bool,
    /// How long it has for one, in milliseconds.
    #[serde(default = "decide_within")]
    pub decide_within_ms: NonZeroU32,
}

/// How notifications are forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForwardMode {
    /// The delivery as it came.
    Original,
    /// One a request, signed as Standard Webhooks.
    #[default]
    Signed,
}

const fn timeout() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(14)
}

const fn concurrency() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(31)
}

const fn give_up_after() -> NonZeroU64 {
    NonZeroU64::MIN.saturating_add(24 * 60 * 60 - 1)
}

const fn decide_within() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(1999)
}

impl Forward {
    /// What tells it from others.
    #[must_use]
    pub fn name(&self) -> String {
        let of_address = || {
            let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
            // paths can be secrets
            format!("{}{port}", self.url.host_str().unwrap_or_default())
        };
        self.name.clone().unwrap_or_else(of_address)
    }
}

impl Forward {
    /// Whether its address says by its digits that it is in a private network; where names lead is seen when they are asked for.
    fn is_private(&self) -> bool {
        match self.url.host() {
            Some(Host::Ipv4(address)) => address.is_private() || address.is_link_local(),
            Some(Host::Ipv6(address)) => address.is_unique_local() || address.is_unicast_link_local(),
            Some(Host::Domain(_)) | None => false,
        }
    }
}

/// A secret of Standard Webhooks: never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(String);

impl WebhookSecret {
    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// One or a list. By hand, because a message about a wrong type repeats the value.
fn secrets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<WebhookSecret>, D::Error> {
    let listed = match toml::Value::deserialize(deserializer)? {
        toml::Value::Array(listed) => listed,
        one => vec![one],
    };
    listed.into_iter().map(|value| WebhookSecret::deserialize(value).map_err(D::Error::custom)).collect()
}

/// By hand, because a message about a wrong type repeats the value. Strictly, because receivers' libraries differ in what they make of
/// a secret that is not quite right.
impl<'de> Deserialize<'de> for WebhookSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = toml::Value::deserialize(deserializer)?;
        let toml::Value::String(text) = value else { return Err(D::Error::custom("must be a text: put it in quotes")) };
        let bytes = text.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
        if !bytes.is_some_and(|bytes| (24..=64).contains(&bytes.len())) {
            return Err(D::Error::custom("must be `whsec_` and 24 to 64 bytes in base64: echo whsec_$(openssl rand -base64 32)"));
        }
        Ok(Self(text))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

impl Serialize for WebhookSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("<redacted>")
    }
}

impl Config {
    /// Checks where notifications go. Every message names its key.
    pub(super) fn check_forwards(&self) -> Result<(), Fault> {
        let mut names = HashSet::new();
        for (index, forward) in self.forwards.iter().enumerate() {
            let key = format!("forward[{index}]");
            let name = forward.name();
            if name.trim().is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
                return fault(format!("{key}.name"), "must be 1 to 200 characters, none of them a control character");
            }
            if !names.insert(name.clone()) {
                return fault(format!("{key}.name"), format!("another [[forward]] is named `{name}` already"));
            }
            if forward.url.fragment().is_some() {
                return fault(format!("{key}.url"), "must not hold a fragment (`#`): it is not sent");
            }
            if forward.is_private() && !forward.allow_private {
                return fault(format!("{key}.url"), "lies in a private network: `allow_private = true` if that is meant");
            }
            if forward.mode == ForwardMode::Signed && forward.secrets.is_empty() {
                return fault(
                    format!("{key}.secrets"),
                    "must not be empty: what is forwarded `signed` needs a secret to sign it",
                );
            }
            let unknown = |path: &&String| !self.receivers.iter().any(|receiver| receiver.path == **path);
            if let Some(path) = forward.receivers.iter().find(unknown).filter(|_| !self.receivers.is_empty()) {
                return fault(format!("{key}.receivers"), format!("`{path}` is the path of no [[receiver]]"));
            }
            check_not_blank(&format!("{key}.kinds"), &forward.kinds)?;
            if forward.concurrency.get() > 1024 {
                return fault(format!("{key}.concurrency"), "must be from 1 to 1024");
            }
            if forward.timeout_seconds.get() > 300 {
                return fault(format!("{key}.timeout_seconds"), "must be from 1 to 300");
            }
            if forward.decide_within_ms.get() > 10_000 {
                let message = "must be from 1 to 10000: the platform waits no longer than 15 seconds";
                return fault(format!("{key}.decide_within_ms"), message);
            }
        }
        Ok(())
    }
}
