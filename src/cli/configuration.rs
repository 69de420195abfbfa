//! `config check`, `config show`, and the configuration of every other command.

use std::{
    env::VarError,
    ffi::OsString,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::Context;
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

/// What the environment brings besides the configuration, and the command that it names.
pub(super) fn surroundings(config: &Config) -> Result<Surroundings, Failure> {
    const MASTER_KEY: &str = "CALLBACK_LEDGER_MASTER_KEY";
    let master_key = match variable(MASTER_KEY)? {
        Some(text) => Some(text),
        None => config.ledger.master_key_command.as_ref().map(|command| output_of(command.expose())).transpose()?,
    };
    Ok(Surroundings { master_key, ..Surroundings::default() })
}

/// A secret in the environment.
pub(super) fn variable(name: &str) -> Result<Option<Secret>, Failure> {
    match std::env::var(name) {
        Ok(text) => Ok(Some(Secret::new(text))),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(Failure::usage(anyhow::anyhow!("{name} is not text"))),
    }
}

/// What a command writes to its standard output. Not said, whatever happens: it may be half a key.
fn output_of(command: &[String]) -> Result<Secret, Failure> {
    let (program, arguments) = command.split_first().ok_or_else(|| anyhow::anyhow!("no command for the master key"))?;
    let ended = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let ended = ended.with_context(|| format!("{program}, which is to tell the master key, cannot be run"))?;
    if !ended.status.success() {
        return Err(anyhow::anyhow!("{program}, which is to tell the master key, failed: {}", ended.status).into());
    }
    let text =
        String::from_utf8(ended.stdout).map_err(|_not_shown| anyhow::anyhow!("{program} told a master key that is not text"))?;
    Ok(Secret::new(text))
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
