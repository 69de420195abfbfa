//! `tokens …`: who may use the private API.

use std::{
    io::{self, Read},
    time::Duration,
};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{
    configuration::{Source, surroundings},
    failure::{Failure, not_opened},
    output::{self, Column, Output},
    token::duration,
};
use crate::{
    app::{ledger_options, new_token},
    auth::signed_part,
    config::{Private, Scope},
    http::{metrics::Metrics, view::token_hash},
    store::{
        self, LedgerReader,
        tokens::{KeptToken, TokenError, keep_token, revoke_token},
    },
};

/// The most bytes of a token that is read.
const MAX_TOKEN: u64 = 64 * 1024;

/// `tokens …`
#[derive(Debug, Subcommand)]
pub(super) enum Tokens {
    /// Make a token of the private API. It is printed once, and only its hash is kept; a running service believes it within seconds.
    Create(Create),
    /// List the tokens of the ledger, revoked ones included. Those of the configuration are in `config show`.
    List {
        /// How to write the answer: a table on a terminal, one JSON document a line when piped.
        #[arg(long, value_enum)]
        output: Option<Output>,
    },
    /// Read a platform's token from the standard input, and write its hash: `notifications list --token-hash` then finds everything
    /// that came with it.
    Hash,
    /// Revoke a token; a running service no longer believes it within seconds.
    Revoke {
        /// Its name.
        name: String,
    },
}

/// `tokens create`
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Tells it apart from others.
    name: String,
    /// What it is good for; `read` unless told.
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<GivenScope>,
    /// How long it is good: 12h, 90d; for ever unless told.
    #[arg(long, value_parser = duration)]
    expires: Option<Duration>,
}

/// A scope, as it is given.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum GivenScope {
    /// To ask.
    Read,
    /// To write requests, and to use the gateway.
    Write,
    /// To see secrets and personal facts.
    Secrets,
    /// To maintain the service.
    Admin,
}

impl From<GivenScope> for Scope {
    fn from(given: GivenScope) -> Self {
        match given {
            GivenScope::Read => Self::Read,
            GivenScope::Write => Self::Write,
            GivenScope::Secrets => Self::Secrets,
            GivenScope::Admin => Self::Admin,
        }
    }
}

const TOKEN_COLUMNS: &[Column] =
    &[("NAME", "name"), ("SCOPES", "scopes"), ("CREATED", "createdAt"), ("EXPIRES", "expiresAt"), ("REVOKED", "revokedAt")];

impl Tokens {
    pub(super) async fn run(self, source: &Source) -> Result<(), Failure> {
        let config = source.load()?;
        let surroundings = surroundings(&config)?;
        let options = ledger_options(&config, &surroundings, &Metrics::new());
        match self {
            Self::Create(create) => create.run(&config.private, &options).await,
            Self::List { output } => {
                let tokens = LedgerReader::open(&options).await.map_err(not_opened)?.private_tokens().await?;
                let rows: Vec<Value> = tokens.iter().map(shown).collect();
                output::rows(&rows, TOKEN_COLUMNS, Output::or_default(output))
            }
            Self::Hash => {
                let mut token = String::new();
                io::stdin().take(MAX_TOKEN).read_to_string(&mut token)?;
                let not_one = || Failure::usage(anyhow::anyhow!("the standard input holds no token (a JWT)"));
                let sha256 = signed_part(token.trim()).ok_or_else(not_one)?;
                let reader = LedgerReader::open(&options).await.map_err(not_opened)?;
                let hash = reader.token_hash(&sha256).await?;
                output::line(&token_hash(hash.ok_or_else(|| Failure::not_found("this ledger has recorded no token yet"))?))
            }
            Self::Revoke { name } => {
                revoke_token(&options, &name, options.clock.now()).await.map_err(failed)?;
                output::line(&format!("{name} is revoked"))
            }
        }
    }
}

impl Create {
    async fn run(self, configured: &Private, options: &store::Options) -> Result<(), Failure> {
        if self.name.trim().is_empty() || self.name.chars().any(char::is_control) {
            return Err(Failure::usage(anyhow::anyhow!("a token needs a name that can be shown")));
        }
        if configured.tokens.iter().any(|token| token.name == self.name) {
            // repeated requests, quotas and logs go by the name
            return Err(Failure::usage(anyhow::anyhow!("a token of the configuration has the name `{}`", self.name)));
        }
        let (token, sha256) = new_token().ok_or_else(|| anyhow::anyhow!("the system has no random bytes"))?;
        let asked: Vec<Scope> = self.scopes.into_iter().map(Scope::from).collect();
        let scopes = Scope::ALL.into_iter().filter(|scope| {
            let unless_told = asked.is_empty() && *scope == Scope::Read;
            unless_told || asked.contains(scope)
        });
        let now = options.clock.now();
        let expires_at = self.expires.map(|after| now.checked_add(after)).transpose().map_err(Failure::usage)?;
        let kept = KeptToken {
            name: self.name,
            sha256,
            scopes: scopes.map(|scope| scope.as_str().to_owned()).collect(),
            created_at: now,
            expires_at,
            revoked_at: None,
        };
        keep_token(options, &kept).await.map_err(failed)?;
        eprintln!("{} may {}; keep the token, it is not shown again", kept.name, kept.scopes.join(", "));
        output::line(token.expose())
    }
}

fn shown(token: &KeptToken) -> Value {
    json!({
        "name": token.name,
        "scopes": token.scopes,
        "createdAt": token.created_at.to_string(),
        "expiresAt": token.expires_at.map(|at| at.to_string()),
        "revokedAt": token.revoked_at.map(|at| at.to_string()),
    })
}

fn failed(error: TokenError) -> Failure {
    match error {
        TokenError::Ledger(error) => not_opened(error),
        TokenError::Unknown(_) => Failure::not_found(error.to_string()),
        TokenError::NameTaken(_) => Failure::usage(error),
        TokenError::Store(error) => error.into(),
    }
}
