//! `token`: a token of the development issuer.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use serde_json::{Map, Value};

use super::{configuration::Source, failure::Failure, output};
use crate::{
    auth::DevIssuer,
    config::{Config, DEV_AUDIENCE},
    domain::clock::Clock,
};

/// The tenant in development tokens, unless `--claim tid=…` says otherwise.
pub(super) const DEV_TENANT: &str = "11111111-1111-1111-1111-111111111111";

/// `token`
#[derive(Debug, Args)]
pub(super) struct Token {
    /// The audience; the first receiver's unless told.
    #[arg(long)]
    audience: Option<String>,
    /// The issuer; the development issuer's own unless told.
    #[arg(long)]
    issuer: Option<String>,
    /// How long it is good: 90s, 15m, 1h.
    #[arg(long, default_value = "1h", value_parser = duration)]
    expires: Duration,
    /// A further claim; the value is JSON or else text.
    #[arg(long = "claim", value_name = "K=V", value_parser = claim)]
    claims: Vec<(String, Value)>,
    /// The development issuer's private key (PEM), made if there is none; `dev.issuer_key` unless told.
    #[arg(long, value_name = "FILE")]
    issuer_key: Option<PathBuf>,
}

impl Token {
    pub(super) fn run(self, source: &Source) -> Result<(), Failure> {
        let config = source.load()?;
        let issuer = issuer(self.issuer_key, &config)?.ok_or_else(|| {
            Failure::usage(anyhow::anyhow!("name the issuer's key: --issuer-key FILE, or dev.issuer_key in the configuration"))
        })?;
        let mut claims = Map::new();
        if let Some(text) = self.issuer {
            claims.insert("iss".to_owned(), text.into());
        }
        claims.insert("aud".to_owned(), self.audience.unwrap_or_else(|| audience(&config, None)).into());
        claims.insert("tid".to_owned(), DEV_TENANT.into());
        let now = Clock::system().now();
        let end = now.checked_add(self.expires).map_err(Failure::usage)?;
        claims.insert("exp".to_owned(), end.as_second().into());
        claims.extend(self.claims);
        output::line(&issuer.mint(claims, now)?)
    }
}

/// The development issuer whose key is named by a flag or by the configuration.
pub(super) fn issuer(flag: Option<PathBuf>, config: &Config) -> Result<Option<DevIssuer>, Failure> {
    let path = flag.or_else(|| config.dev.issuer_key.clone());
    Ok(path.map(|path| DevIssuer::load_or_create(&path)).transpose()?)
}

/// The audience of the receiver at `path`, else of the first, else that of development mode.
pub(super) fn audience(config: &Config, path: Option<&str>) -> String {
    let receivers = &config.receivers;
    let receiver = receivers.iter().find(|receiver| path == Some(receiver.path.as_str())).or_else(|| receivers.first());
    receiver.and_then(|receiver| receiver.audience.first()).map_or_else(|| DEV_AUDIENCE.to_owned(), Clone::clone)
}

fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("a claim is written name=value")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_text| Value::from(value));
    Ok((name.to_owned(), value))
}

/// Reads `90`, `90s`, `15m`, `1h`, `2d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds: u64 = match text.get(digits.len()..).unwrap_or_default() {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err("a duration is written as in 90s, 15m, 1h or 2d".to_owned()),
    };
    let count: u64 = digits.parse().map_err(|_error| "a duration is written as in 90s, 15m, 1h or 2d".to_owned())?;
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| "too long".to_owned())
}
