//! `forwards …`: what the bots have not been told, on the command line.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    configuration::Source,
    failure::Failure,
    lists::{Common, DEFAULT_LIMIT, Query, list},
    output::{self, Column},
};

/// `forwards …`
#[derive(Debug, Subcommand)]
pub(super) enum Forwards {
    /// List what could not be forwarded at once, newest first.
    List {
        #[command(flatten)]
        which: Which,
        /// At most so many.
        #[arg(long, default_value_t = DEFAULT_LIMIT)]
        limit: usize,
        #[command(flatten)]
        common: Common,
    },
    /// List where notifications go, and how that stands.
    Targets {
        #[command(flatten)]
        common: Common,
    },
    /// Try forwards now, also those that were given up; a target that is named begins again if it was disabled.
    Retry(Order),
    /// Forget forwards: they are not tried any more.
    Skip(Order),
}

/// Which forwards.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// To this target.
    #[arg(long, value_name = "NAME")]
    forward: Option<String>,
    /// `waiting` or `dead`.
    #[arg(long)]
    state: Option<String>,
    /// About this call.
    #[arg(long, value_name = "ID")]
    call: Option<String>,
    /// Of this kind.
    #[arg(long)]
    kind: Option<String>,
    /// Recorded then or later (RFC 3339).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Recorded before (RFC 3339).
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// What is to be done with which forwards.
#[derive(Debug, Args)]
pub(super) struct Order {
    /// This one alone (fwd_…).
    id: Option<String>,
    #[command(flatten)]
    which: Which,
    /// Only say how many.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

const FORWARD_COLUMNS: &[Column] = &[
    ("ID", "id"),
    ("RECORDED", "recordedAt"),
    ("FORWARD", "forward"),
    ("STATE", "state"),
    ("KIND", "kind"),
    ("CALL", "callId"),
    ("TRIES", "attempts"),
    ("NEXT", "nextAt"),
    ("STATUS", "lastStatus"),
    ("ERROR", "lastError"),
];

const TARGET_COLUMNS: &[Column] = &[
    ("NAME", "name"),
    ("MODE", "mode"),
    ("CONDITION", "condition"),
    ("BEHIND SINCE", "behindSince"),
    ("DELIVERED", "deliveredAt"),
    ("WAITING", "waiting"),
    ("DEAD", "dead"),
    ("URL", "url"),
];

impl Forwards {
    pub(super) async fn run(self, source: &Source) -> Result<(), Failure> {
        match self {
            Self::List { which, limit, common } => {
                let Which { forward, state, call, kind, since, until } = which;
                let mut query = Query::new("/v1/forwards");
                query.add("forward", forward).add("state", state).add("callId", call).add("kind", kind);
                query.add("since", since).add("until", until);
                list(common, source, query, limit, FORWARD_COLUMNS).await
            }
            Self::Targets { common } => {
                let (asked, output) = common.ready(source).await?;
                let targets = asked.json("/v1/forwards/targets", std::time::Duration::ZERO).await?;
                let targets = targets.get("value").and_then(Value::as_array).cloned().unwrap_or_default();
                output::rows(&targets, TARGET_COLUMNS, output)
            }
            Self::Retry(order) => order.run(source, "/v1/forwards/retry").await,
            Self::Skip(order) => order.run(source, "/v1/forwards/skip").await,
        }
    }
}

impl Order {
    async fn run(self, source: &Source, path: &str) -> Result<(), Failure> {
        let Self { id, which, dry_run, common } = self;
        let Which { forward, state, call, kind, since, until } = which;
        let (asked, output) = common.ready(source).await?;
        let members = [
            ("id", id),
            ("forward", forward),
            ("state", state),
            ("callId", call),
            ("kind", kind),
            ("since", since),
            ("until", until),
        ];
        let mut order = json!({ "dryRun": dry_run });
        for (name, value) in members {
            if let (Some(value), Some(order)) = (value, order.as_object_mut()) {
                order.insert(name.to_owned(), Value::String(value));
            }
        }
        output::object(&asked.order(path, &order).await?, output)
    }
}
