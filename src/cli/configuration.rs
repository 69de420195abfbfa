//! `config check`, `config show`, and the configuration of every other command.

use std::path::PathBuf;

use clap::Subcommand;

use super::{failure::Failure, output};
use crate::{
    app::{Surroundings, source_names},
    config::Config,
};

/// Where the configuration comes from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) file: Option<PathBuf>,
}

impl Source {
    /// All layers, merged and checked.
    pub(super) fn load(&self) -> Result<Config, Failure> {
        Config::load(self.file.as_deref(), std::env::vars()).map_err(Failure::usage)
    }
}

/// What the environment brings besides the configuration.
pub(super) fn surroundings() -> Surroundings {
    Surroundings { master_key: std::env::var("CALLBACK_LEDGER_MASTER_KEY").ok(), ..Surroundings::default() }
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
                config.for_service(&source_names()).map_err(Failure::usage)?;
                output::line("the configuration is good")
            }
            Self::Show => output::text(&config.shown()?),
        }
    }
}
