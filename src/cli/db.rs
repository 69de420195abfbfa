//! `db …`: care for the ledger.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::{
    configuration::{Source, surroundings, variable},
    failure::{Failure, not_opened},
    output,
};
use crate::{
    app::ledger_options,
    domain::ids::PlatformId,
    http::metrics::Metrics,
    store::{
        self, LedgerReader, key_path,
        removal::{Forgotten, Removed},
    },
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
    /// Remove now what retention removes as time passes; with `--before`, bodies and personal facts of older deliveries.
    Prune {
        /// Received before this time (RFC 3339): bodies and personal facts alone, what happened stays known.
        #[arg(long, value_name = "TIME")]
        before: Option<Timestamp>,
        /// Only say what it would be.
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove what is known of a call or of a person, and say what that was.
    Erase(Erase),
    /// Put a new master key in force, while nobody serves the ledger.
    Rekey {
        /// The environment variable that holds the new key (32 bytes in base64), where keys come from the environment or from a
        /// command; else one is made, in the key file's place.
        #[arg(long, value_name = "VARIABLE")]
        new_key_from: Option<String>,
    },
}

/// `db erase`
#[derive(Debug, Args)]
pub(super) struct Erase {
    /// This call, in any spelling of its id.
    #[arg(long, value_name = "ID", required_unless_present = "participant", conflicts_with = "participant")]
    call: Option<String>,
    /// Every call in which this person is: an id or a telephone number, as the platforms write it.
    #[arg(long, value_name = "ID")]
    participant: Option<String>,
    /// Only say what it would be.
    #[arg(long)]
    dry_run: bool,
}

impl Db {
    pub(super) async fn run(self, source: &Source) -> Result<(), Failure> {
        let config = source.load()?;
        let options = ledger_options(&config, &surroundings(&config)?, &Metrics::new());
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
            Self::Prune { before: None, dry_run } => {
                let removed = store::removal::retain(&options, options.clock.now(), dry_run).await.map_err(not_opened)?;
                output::line(&told(&removed, dry_run))
            }
            Self::Erase(erase) => erase.run(&options).await,
            Self::Rekey { new_key_from } => rekey(&options, new_key_from).await,
            Self::Prune { before: Some(before), dry_run } => {
                let pruned = store::prune(&options, before, dry_run).await.map_err(not_opened)?;
                output::line(&format!("{pruned} bodies {}", if dry_run { "would be removed" } else { "removed" }))
            }
        }
    }
}

/// The fewest characters of a name that cannot stand in a body by chance.
const TELLING: usize = 6;

impl Erase {
    async fn run(self, options: &store::Options) -> Result<(), Failure> {
        let whom = match (self.call, self.participant) {
            (Some(call), _) => {
                let call = PlatformId::parse(&call);
                Forgotten::Call(call.ok_or_else(|| Failure::usage(anyhow::anyhow!("a call's id must not be blank")))?)
            }
            (None, Some(name)) if name.trim().chars().count() >= TELLING => Forgotten::Participant(name),
            _ => return Err(Failure::usage(anyhow::anyhow!("a participant's id has at least {TELLING} characters"))),
        };
        let removed = store::removal::erase(options, &whom, self.dry_run).await.map_err(not_opened)?;
        if removed == Removed::default() {
            return Err(Failure::not_found("the ledger knows of nothing to erase"));
        }
        output::line(&told(&removed, self.dry_run))
    }
}

/// What was removed, for a reader.
fn told(removed: &Removed, dry_run: bool) -> String {
    let Removed { calls, operations, notifications, requests, bodies, personal } = *removed;
    let all = [
        (calls, "call", "calls"),
        (operations, "operation", "operations"),
        (notifications, "notification", "notifications"),
        (requests, "request", "requests"),
        (bodies, "body", "bodies"),
        (personal, "notification's personal facts", "notifications' personal facts"),
    ];
    let some: Vec<String> = all
        .iter()
        .filter(|(number, ..)| *number > 0)
        .map(|(number, one, many)| format!("{number} {}", if *number == 1 { one } else { many }))
        .collect();
    match (some.is_empty(), dry_run) {
        (true, _) => "there is nothing to remove".to_owned(),
        (false, true) => format!("would be removed: {}", some.join(", ")),
        (false, false) => format!("removed: {}", some.join(", ")),
    }
}

async fn rekey(options: &store::Options, new_key_from: Option<String>) -> Result<(), Failure> {
    let given = match new_key_from {
        Some(name) => {
            let key = variable(&name)?;
            Some(key.ok_or_else(|| Failure::usage(anyhow::anyhow!("{name} is not set")))?)
        }
        None if options.master_key.is_some() => {
            return Err(Failure::usage(anyhow::anyhow!(
                "the key comes from the environment or from a command: name the variable that holds the new one (--new-key-from)"
            )));
        }
        None => None,
    };
    if given.is_some() && options.master_key.is_none() {
        return Err(Failure::usage(anyhow::anyhow!(
            "the key comes from a file: without --new-key-from a new one takes its place; to take it from the environment from now on, \
             set CALLBACK_LEDGER_MASTER_KEY to the present key, rekey, and then remove the file"
        )));
    }
    let (sealed, before) = store::rekey(options, given.as_ref()).await.map_err(not_opened)?;
    output::line(&format!("{sealed} data keys are sealed with the new master key"))?;
    if let Some(old) = before {
        let key = key_path(&options.path);
        eprintln!(
            "the new key is {}; {} opens the copies made until now: remove it when they are gone",
            key.display(),
            old.display()
        );
    }
    Ok(())
}
