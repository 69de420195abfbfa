//! `config check`, `config show`, and the configuration of every other command.

use std::{env::VarError, ffi::OsString, path::PathBuf};

use clap::Subcommand;

use super::{failure::Failure, output};
use crate::{
    app::{Surroundings, known_sources},
    config::Config,
    net::Secret,
};

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) file: Option<PathBuf>,
}

impl Source {
    /// All layers, merged and checked.
    pub(super) fn load(&self) -> Result<Config, Failure> {
        Config::load(self.file.as_deref(), environment()?).map_err(Failure::usage)
    }
}

/// The variables that are ours. Others may hold what they like; ours are text.
fn environment() -> Result<Vec<(String, String)>, Failure> {
    let ours = |name: &OsString| name.to_str().is_some_and(|name| name.starts_with("CALLBACK_LEDGER__"));
    std::env::vars_os().filter(|(name, _)| ours(name)).map(|(name, value)| Ok((text(name)?, text(value)?))).collect()
}

fn text(value: OsString) -> Result<String, Failure> {
    let not_text = |value: OsString| anyhow::anyhow!("an environment variable is not UTF-8: {}", value.display());
    value.into_string().map_err(|value| Failure::usage(not_text(value)))
}

/// What the environment brings besides the configuration.
pub(super) fn surroundings() -> Result<Surroundings, Failure> {
    const MASTER_KEY: &str = "CALLBACK_LEDGER_MASTER_KEY";
    let master_key = match std::env::var(MASTER_KEY) {
        Ok(text) => Some(Secret::new(text)),
        Err(VarError::NotPresent) => None,
        Err(VarError::NotUnicode(_)) => return Err(Failure::usage(anyhow::anyhow!("{MASTER_KEY} is not text"))),
    };
    Ok(Surroundings { master_key, ..Surroundings::default() })
}

/// `config …`
#[derive(Debug, Subcommand)]
pub(super) enum Configuration {
    /// Check the configuration as `serve` would, and do nothing.
    Check,
    /// Print the effective configuration, all layers merged, secrets left out.
    Show,
}

impl Configuration {
    pub(super) fn run(self, source: &Source) -> Result<(), Failure> {
        let config = source.load()?;
        match self {
            Self::Check => {
                config.for_service(&known_sources()).map_err(Failure::usage)?;
                output::line("the configuration is good")
            }
            Self::Show => output::text(&config.shown()?),
        }
    }
}
