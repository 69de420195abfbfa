//! Values that parse, and how they are shown.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::Deadlines;

/// The database of the ledger: a `SQLite` file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LedgerUrl(PathBuf);

impl LedgerUrl {
    /// The database file; relative to the working directory unless absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for LedgerUrl {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let Some((scheme, path)) = url.split_once("://") else {
            return Err(format!("`{url}` is not sqlite://FILE"));
        };
        match scheme {
            "sqlite" => {}
            // The address may hold a password, so it is not repeated.
            "postgres" | "postgresql" => return Err("the PostgreSQL engine does not exist yet; use sqlite://FILE".to_owned()),
            _ => return Err(format!("`{scheme}://` is not an engine of the ledger; use sqlite://FILE")),
        }
        if path.contains(['?', '#']) {
            return Err("parameters (`?…`, `#…`) are not accepted after sqlite://FILE".to_owned());
        }
        if path.is_empty() || path.ends_with('/') || path == ":memory:" {
            return Err(format!("`{url}` names no file"));
        }
        Ok(Self(PathBuf::from(path)))
    }
}

impl TryFrom<String> for LedgerUrl {
    type Error = String;

    fn try_from(url: String) -> Result<Self, String> {
        url.parse()
    }
}

impl From<LedgerUrl> for String {
    fn from(url: LedgerUrl) -> Self {
        url.to_string()
    }
}

impl fmt::Display for LedgerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sqlite://{}", self.0.display())
    }
}

/// A network of IP addresses: an address and how many of its first bits count, or one address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

impl Network {
    /// The network itself.
    #[must_use]
    pub const fn net(&self) -> IpNet {
        self.0
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let network = text.parse::<IpNet>().or_else(|_bare| text.parse::<IpAddr>().map(IpNet::from));
        let network =
            network.map_err(|_neither| format!("`{text}` is no network: 52.112.0.0/14, 2603:1063::/38, or an address"))?;
        if network.trunc() != network {
            // somebody meant something else than what they wrote
            return Err(format!("`{text}` is not the first address of its network: {}", network.trunc()));
        }
        Ok(Self(network))
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.0.to_string()
    }
}

/// The SHA-256 of a token. Not secret, but nothing that belongs on a screen either: it is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<String> for TokenHash {
    type Error = &'static str;

    fn try_from(hex: String) -> Result<Self, Self::Error> {
        const NOT_HEX: &str = "must be 64 hexadecimal digits, the SHA-256 of the token (never the token itself)";
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        let mut bytes = [0; 32];
        if hex.len() != 64 {
            return Err(NOT_HEX);
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let [high, low] = pair else { return Err(NOT_HEX) };
            let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { return Err(NOT_HEX) };
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

impl Serialize for TokenHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("<redacted>")
    }
}

/// What callers must know besides: never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedSecret(String);

impl SharedSecret {
    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SharedSecret {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.len() < 16 {
            return Err("must be at least 16 characters, better 32 random ones");
        }
        if !text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '&' | '#' | '%' | '"' | '\'' | '<' | '>' | '\\')) {
            return Err("must be of characters that stand for themselves in a URL: letters, digits, `-._~+/=`");
        }
        Ok(Self(text))
    }
}

/// By hand, because a message about a wrong type repeats the value.
impl<'de> Deserialize<'de> for SharedSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = toml::Value::deserialize(deserializer)?;
        let toml::Value::String(text) = value else { return Err(D::Error::custom("must be a text: put it in quotes")) };
        Self::try_from(text).map_err(D::Error::custom)
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(…)")
    }
}

impl Serialize for SharedSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("<redacted>")
    }
}

/// A program and its arguments, among which may be what opens a store of keys: they are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyCommand(Vec<String>);

impl KeyCommand {
    /// The program and its arguments.
    #[must_use]
    pub fn expose(&self) -> &[String] {
        &self.0
    }

    /// Whether it names not even a program.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn shown(&self) -> impl Iterator<Item = &str> {
        let program = self.0.iter().take(1).map(String::as_str);
        program.chain(self.0.iter().skip(1).map(|_argument| "<redacted>"))
    }
}

/// By hand, because a message about a wrong type repeats the value.
impl<'de> Deserialize<'de> for KeyCommand {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let command = toml::Value::deserialize(deserializer)?.try_into();
        command.map(Self).map_err(|_repeats_it| D::Error::custom("must be a list of texts: a program, and its arguments"))
    }
}

impl fmt::Debug for KeyCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.shown()).finish()
    }
}

impl Serialize for KeyCommand {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.shown())
    }
}

impl TryFrom<BTreeMap<String, u64>> for Deadlines {
    type Error = &'static str;

    fn try_from(seconds: BTreeMap<String, u64>) -> Result<Self, Self::Error> {
        let mut by_kind: BTreeMap<_, _> =
            seconds.into_iter().map(|(kind, seconds)| (kind, Duration::from_secs(seconds))).collect();
        let default = by_kind.remove("default").ok_or("missing key `default`")?;
        Ok(Self { default, by_kind })
    }
}

impl From<Deadlines> for BTreeMap<String, u64> {
    fn from(deadlines: Deadlines) -> Self {
        let default = ("default".to_owned(), deadlines.default);
        deadlines.by_kind.into_iter().chain([default]).map(|(kind, allowed)| (kind, allowed.as_secs())).collect()
    }
}

/// An address: https, or http on loopback.
pub(super) mod address {
    use serde::{Deserialize, Deserializer, Serializer};
    use url::Url;

    pub fn serialize<S: Serializer>(url: &Url, serializer: S) -> Result<S::Ok, S::Error> {
        let mut shown = url.clone();
        if shown.query().is_some() {
            shown.set_query(Some("redacted")); // who calls by it may be believed for it
        }
        serializer.serialize_str(shown.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
        super::metadata::Metadata::deserialize(deserializer).map(|super::metadata::Metadata(url)| url)
    }
}

/// The address of a platform: https, or http on loopback.
pub(super) mod upstream {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use url::Url;

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub fn serialize<S: Serializer>(url: &Option<Url>, serializer: S) -> Result<S::Ok, S::Error> {
        url.as_ref().map(Url::as_str).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
        let urls: Option<super::metadata::Metadata> = Option::deserialize(deserializer)?;
        Ok(urls.map(|super::metadata::Metadata(url)| url))
    }
}

/// Lists of metadata addresses: https, or http on loopback.
pub(super) mod metadata {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use url::{Host, Url};

    pub fn serialize<S: Serializer>(urls: &[Url], serializer: S) -> Result<S::Ok, S::Error> {
        urls.iter().map(Url::as_str).collect::<Vec<_>>().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Url>, D::Error> {
        let urls = Vec::<Metadata>::deserialize(deserializer)?;
        Ok(urls.into_iter().map(|Metadata(url)| url).collect())
    }

    #[derive(Deserialize)]
    #[serde(try_from = "String")]
    pub(super) struct Metadata(pub(super) Url);

    impl TryFrom<String> for Metadata {
        type Error = String;

        fn try_from(text: String) -> Result<Self, String> {
            // a query may be a secret
            let shown = text.split('?').next().unwrap_or_default();
            let url = Url::parse(&text).map_err(|error| format!("`{shown}` is not an address: {error}"))?;
            if !url.username().is_empty() || url.password().is_some() {
                return Err("an address must not hold a user or password".to_owned());
            }
            match url.scheme() {
                "https" => Ok(Self(url)),
                "http" if is_loopback(&url) => Ok(Self(url)),
                _ => Err(format!("`{shown}` must be https (http is accepted for loopback addresses only)")),
            }
        }
    }

    /// Whether the address is this machine's own, by its digits: a name may lead anywhere, `localhost` aside.
    fn is_loopback(url: &Url) -> bool {
        match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        }
    }
}
