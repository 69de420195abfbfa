//! `doctor`: looks for what would keep a service from working, and says what to do about it.

use std::{net::TcpListener, path::Path, time::Duration};

use clap::Args;
use serde_json::{Value, json};

use super::{
    configuration::{Source, surroundings},
    failure::Failure,
    output::{self, Column, Output},
};
use crate::{
    app::{App, Surroundings, known_sources, ledger_options},
    config::Config,
    http::metrics::Metrics,
    store::{self, LedgerReader, OpenError, key_path},
};

/// How long the issuers' metadata may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// `doctor`
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Do not ask the issuers for their keys.
    #[arg(long)]
    offline: bool,
    /// How to write the findings: a table on a terminal, one JSON document a line when piped.
    #[arg(long, value_enum)]
    output: Option<Output>,
}

const COLUMNS: &[Column] = &[("CHECK", "check"), ("OUTCOME", "outcome"), ("DETAIL", "detail")];

impl Doctor {
    pub(super) async fn run(self, source: &Source) -> Result<(), Failure> {
        let config = source.load()?;
        let surroundings = surroundings(&config)?;
        let mut findings = vec![configured(&config), master_key(&config, &surroundings), ledger(&config, &surroundings).await];
        findings.push(port("public.bind", config.public.bind));
        findings.push(port("private.bind", config.private.bind));
        if !self.offline {
            findings.extend(issuers(&config).await);
        }
        output::rows(&findings, COLUMNS, Output::or_default(self.output))?;
        let bad = findings.iter().any(|finding| finding.get("outcome") == Some(&json!("bad")));
        if bad { Err(Failure::reported()) } else { Ok(()) }
    }
}

fn finding(check: &str, outcome: Result<String, String>) -> Value {
    let (outcome, detail) = match outcome {
        Ok(detail) => ("good", detail),
        Err(detail) => ("bad", detail),
    };
    json!({ "check": check, "outcome": outcome, "detail": detail })
}

/// Not wrong in itself, but worth a look.
fn notice(check: &str, detail: impl Into<String>) -> Value {
    json!({ "check": check, "outcome": "look", "detail": detail.into() })
}

fn configured(config: &Config) -> Value {
    let checked = config.clone().for_service(&known_sources());
    finding("configuration", checked.map(|config| format!("{} receivers", config.receivers.len())).map_err(|e| e.to_string()))
}

fn master_key(config: &Config, surroundings: &Surroundings) -> Value {
    const CHECK: &str = "master key";
    let path = key_path(config.ledger.url.path());
    match (&surroundings.master_key, path.is_file()) {
        (Some(_), _) => finding(CHECK, Ok("comes from the environment".to_owned())),
        (None, true) => notice(CHECK, format!("{}: keep a copy elsewhere, a backup does not hold it", path.display())),
        (None, false) => notice(CHECK, format!("{} is made at the first start", path.display())),
    }
}

async fn ledger(config: &Config, surroundings: &Surroundings) -> Value {
    const CHECK: &str = "ledger";
    let options = ledger_options(config, surroundings, &Metrics::new());
    match LedgerReader::open(&options).await {
        Ok(reader) => match store::verify(&reader).await {
            Ok(found) if found.is_empty() => finding(CHECK, Ok(format!("{} is sound", options.path.display()))),
            Ok(found) => finding(CHECK, Err(found.into_iter().map(|finding| finding.0).collect::<Vec<_>>().join("; "))),
            Err(error) => finding(CHECK, Err(error.to_string())),
        },
        Err(OpenError::Missing { path }) => match writable_folder(&options.path) {
            Ok(()) => notice(CHECK, format!("{path} is made at the first start")),
            Err(error) => finding(CHECK, Err(format!("{path} cannot be made: {error}"))),
        },
        Err(error) => finding(CHECK, Err(error.to_string())),
    }
}

fn writable_folder(ledger: &Path) -> std::io::Result<()> {
    let folder = ledger.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    tempfile::tempfile_in(folder).map(drop)
}

fn port(key: &str, bind: std::net::SocketAddr) -> Value {
    match TcpListener::bind(bind) {
        Ok(_free) => finding(key, Ok(format!("{bind} is free"))),
        Err(error) => notice(key, format!("{bind}: {error} (a running service holds it)")),
    }
}

/// Builds the receivers beside a ledger of their own and waits for their keys.
async fn issuers(config: &Config) -> Vec<Value> {
    match keys(config).await {
        Ok(findings) => findings,
        Err(failure) => vec![finding("issuers", Err(failure.to_string()))],
    }
}

async fn keys(config: &Config) -> anyhow::Result<Vec<Value>> {
    let folder = tempfile::tempdir()?;
    let mut config = config.clone();
    config.ledger.url = format!("sqlite://{}", folder.path().join("doctor.db").display()).parse().map_err(anyhow::Error::msg)?;
    config.public.bind = ([127, 0, 0, 1], 0).into();
    config.private.bind = ([127, 0, 0, 1], 0).into();
    let app = App::build(&config, Surroundings::default()).await?;
    Ok(app
        .key_sets_within(PATIENCE)
        .await
        .into_iter()
        .map(|set| {
            let name = format!("keys of {}", set.metadata);
            let found = if set.loaded { Ok(format!("{} keys", set.keys)) } else { Err("cannot be fetched".to_owned()) };
            finding(&name, found)
        })
        .collect())
}
