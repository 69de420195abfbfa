//! `db …`: care for the ledger.

use std::path::PathBuf;

use clap::Subcommand;
use jiff::Timestamp;

use super::{
    configuration::{Source, surroundings},
    failure::{Failure, not_opened},
    output,
};
use crate::{
    app::ledger_options,
    http::metrics::Metrics,
    store::{self, LedgerReader, key_path},
};

/// `db …`
#[derive(Debug, Subcommand)]
pub(super) enum Db {
    /// Write a consistent copy of the ledger, also while it is served.
    Backup {
        /// Where to; must not exist.
        file: PathBuf,
    },
    /// Check the database and the ledger's own invariants.
    Verify,
    /// Derive operations and calls again from what came, and say what differed.
    Rebuild,
    /// Remove bodies and personal facts of old deliveries; what happened stays known.
    Prune {
        /// Received before this time (RFC 3339).
        #[arg(long, value_name = "TIME")]
        before: Timestamp,
        /// Only say how many there are.
        #[arg(long)]
        dry_run: bool,
    },
}

impl Db {
    pub(super) async fn run(self, source: &Source) -> Result<(), Failure> {
        let config = source.load()?;
        let options = ledger_options(&config, &surroundings()?, &Metrics::new());
        match self {
            Self::Backup { file } => {
                store::backup(&LedgerReader::open(&options).await.map_err(not_opened)?, &file).await?;
                let key = key_path(&options.path);
                output::line(&format!("the ledger is copied to {}", file.display()))?;
                eprintln!("the master key is not in the copy: keep {} as well, in another place", key.display());
                Ok(())
            }
            Self::Verify => {
                let findings = store::verify(&LedgerReader::open(&options).await.map_err(not_opened)?).await?;
                for finding in &findings {
                    output::line(&finding.0)?;
                }
                if findings.is_empty() { output::line("the ledger is sound") } else { Err(Failure::reported()) }
            }
            Self::Rebuild => {
                let differences = store::rebuild(&options).await.map_err(not_opened)?;
                for difference in &differences {
                    output::line(&format!("{}: held {}, derived {}", difference.what, difference.held, difference.derived))?;
                }
                if differences.is_empty() { output::line("nothing differed") } else { Err(Failure::reported()) }
            }
            Self::Prune { before, dry_run } => {
                let pruned = store::prune(&options, before, dry_run).await.map_err(not_opened)?;
                output::line(&format!("{pruned} bodies {}", if dry_run { "would be removed" } else { "removed" }))
            }
        }
    }
}
