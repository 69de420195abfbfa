//! `notifications …`: what came, on the command line.

use std::time::Duration;

use clap::Subcommand;

use super::{
    ask::refused,
    configuration::Source,
    failure::Failure,
    lists::{Common, DEFAULT_LIMIT, Query, list, segment},
    output::{self, Column},
};

/// `notifications …`
#[derive(Debug, Subcommand)]
pub(super) enum Notifications {
    /// List notifications, newest first.
    List {
        /// About this call, in any spelling.
        #[arg(long, value_name = "ID")]
        call: Option<String>,
        /// Of this kind.
        #[arg(long)]
        kind: Option<String>,
        /// applied, late, unrecognized or quarantined.
        #[arg(long)]
        disposition: Option<String>,
        /// Of this source.
        #[arg(long)]
        source: Option<String>,
        /// Brought by the token of this hash, as notifications bear it and `tokens hash` tells it.
        #[arg(long, value_name = "HASH")]
        token_hash: Option<String>,
        /// Received then or later (RFC 3339).
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = DEFAULT_LIMIT)]
        limit: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Show one notification.
    Show {
        /// Its id (ntf_…).
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Write the body of the delivery that brought a notification, byte for byte.
    Raw {
        /// Its id (ntf_…).
        id: String,
        #[command(flatten)]
        common: Common,
    },
}

const NOTIFICATION_COLUMNS: &[Column] = &[
    ("ID", "id"),
    ("RECEIVED", "receivedAt"),
    ("KIND", "kind"),
    ("TYPE", "type"),
    ("STATE", "state"),
    ("DISPOSITION", "disposition"),
    ("CALL", "callId"),
    ("OPERATION", "operation"),
    ("DUPLICATES", "duplicates"),
];

impl Notifications {
    pub(super) async fn run(self, source: &Source) -> Result<(), Failure> {
        match self {
            Self::List { call, kind, disposition, source: of, token_hash, since, limit, common } => {
                let mut query = Query::new("/v1/notifications");
                query.add("callId", call).add("kind", kind).add("disposition", disposition).add("source", of).add("since", since);
                query.add("tokenHash", token_hash);
                list(common, source, query, limit, NOTIFICATION_COLUMNS).await
            }
            Self::Show { id, common } => {
                let (asked, output) = common.ready(source).await?;
                let found = asked.json(&format!("/v1/notifications/{}", segment(&id)), Duration::ZERO).await?;
                output::object(&found, output)
            }
            Self::Raw { id, common } => {
                let (asked, _) = common.ready(source).await?;
                let answer = asked.get(&format!("/v1/notifications/{}/raw", segment(&id)), Duration::ZERO).await?;
                if answer.status == 200 { output::bytes(&answer.body) } else { Err(refused(&answer)) }
            }
        }
    }
}
