//! `rejections …`: who was not let in, on the command line.

use clap::Subcommand;

use super::{
    configuration::Source,
    failure::Failure,
    lists::{Common, DEFAULT_LIMIT, Query, list},
    output::Column,
};

/// `rejections …`
#[derive(Debug, Subcommand)]
pub(super) enum Rejections {
    /// List rejections, newest first.
    List {
        /// For this reason.
        #[arg(long)]
        reason: Option<String>,
        /// At this receiver.
        #[arg(long, value_name = "PATH")]
        receiver: Option<String>,
        /// Then or later (RFC 3339).
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = DEFAULT_LIMIT)]
        limit: usize,
        #[command(flatten)]
        common: Common,
    },
}

const REJECTION_COLUMNS: &[Column] = &[
    ("AT", "at"),
    ("COUNT", "count"),
    ("RECEIVER", "receiver"),
    ("REASON", "reason"),
    ("STATUS", "status"),
    ("PEER", "peer"),
    ("KEY ID", "keyId"),
    ("UNVERIFIED ISSUER", "unverifiedIssuer"),
];

impl Rejections {
    pub(super) async fn run(self, source: &Source) -> Result<(), Failure> {
        let Self::List { reason, receiver, since, limit, common } = self;
        let mut query = Query::new("/v1/rejections");
        query.add("reason", reason).add("receiver", receiver).add("since", since);
        list(common, source, query, limit, REJECTION_COLUMNS).await
    }
}
