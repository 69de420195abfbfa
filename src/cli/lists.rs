//! `operations`, `calls`, `notifications`, `rejections`: what the API knows, on the command line.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;
use url::form_urlencoded::Serializer;

use super::{
    ask::{Asked, Whom, refused},
    configuration::Source,
    failure::Failure,
    output::{self, Column, Output},
};

/// The rows of a list, unless told.
const DEFAULT_LIMIT: usize = 50;
/// The most rows of one page of the API.
const PAGE: usize = 250;

/// What all of these take.
#[derive(Debug, Args)]
pub(super) struct Common {
    #[command(flatten)]
    whom: Whom,
    /// How to write the answer: a table on a terminal, one JSON document a line when piped.
    #[arg(long, value_enum, global = true)]
    output: Option<Output>,
}

impl Common {
    async fn ready(self, source: &Source) -> Result<(Asked, Output), Failure> {
        Ok((self.whom.find(source).await?, Output::or_default(self.output)))
    }
}

/// Which operations.
#[derive(Debug, Args)]
pub(super) struct OperationChoice {
    /// In this state.
    #[arg(long)]
    state: Option<String>,
    /// Of this call, in any spelling.
    #[arg(long, value_name = "ID")]
    call: Option<String>,
    /// With this tag (clientContext, operationContext).
    #[arg(long)]
    context: Option<String>,
    /// Of this kind.
    #[arg(long)]
    kind: Option<String>,
    /// Of this source.
    #[arg(long)]
    source: Option<String>,
    /// First seen then or later (RFC 3339).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// First seen before (RFC 3339).
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// With this subcode.
    #[arg(long)]
    subcode: Option<String>,
    /// With this platform id.
    #[arg(long, value_name = "ID")]
    operation_id: Option<String>,
    /// Open ones alone.
    #[arg(long)]
    open: bool,
    /// Overdue ones alone.
    #[arg(long)]
    overdue: bool,
    /// At most so many.
    #[arg(long, default_value_t = DEFAULT_LIMIT)]
    limit: usize,
}

/// `operations …`
#[derive(Debug, Subcommand)]
pub(super) enum Operations {
    /// List operations, newest first.
    List {
        #[command(flatten)]
        choice: Box<OperationChoice>,
        #[command(flatten)]
        common: Common,
    },
    /// Show one operation and its history.
    Show {
        /// Its id (op_…).
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Wait until an operation has ended: one that is named, or the newest that matches.
    Wait {
        /// Its id (op_…).
        #[arg(conflicts_with_all = ["call", "context", "kind", "after"], required_unless_present_any = ["call", "context"])]
        id: Option<String>,
        /// Of this call.
        #[arg(long, value_name = "ID")]
        call: Option<String>,
        /// With this tag.
        #[arg(long)]
        context: Option<String>,
        /// Of this kind.
        #[arg(long)]
        kind: Option<String>,
        /// Only operations first seen after this time (RFC 3339).
        #[arg(long, value_name = "TIME")]
        after: Option<String>,
        /// For so many seconds at the most.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=120))]
        timeout: u64,
        #[command(flatten)]
        common: Common,
    },
}

const OPERATION_COLUMNS: &[Column] = &[
    ("ID", "id"),
    ("KIND", "kind"),
    ("STATE", "state"),
    ("SUBCODE", "result.subcode"),
    ("REASON", "result.reason"),
    ("CALL", "callId"),
    ("CONTEXT", "context"),
    ("FIRST SEEN", "firstSeenAt"),
    ("FLAGS", "flags"),
];

/// How a history looks as a table.
pub(super) const HISTORY_COLUMNS: &[Column] =
    &[("AT", "at"), ("FROM", "from"), ("TO", "to"), ("CAUSE", "cause.id"), ("NOTE", "note")];

impl Operations {
    pub(super) async fn run(self, source: &Source) -> Result<(), Failure> {
        match self {
            Self::List { choice, common } => {
                let mut query = Query::new("/v1/operations");
                query.add("state", choice.state).add("callId", choice.call).add("context", choice.context);
                query.add("kind", choice.kind).add("source", choice.source).add("since", choice.since);
                query.add("until", choice.until).add("subcode", choice.subcode).add("operationId", choice.operation_id);
                query.add("open", choice.open.then(|| "true".to_owned()));
                query.add("overdue", choice.overdue.then(|| "true".to_owned()));
                list(common, source, query, choice.limit, OPERATION_COLUMNS).await
            }
            Self::Show { id, common } => {
                let (asked, output) = common.ready(source).await?;
                let mut operation = asked.json(&format!("/v1/operations/{}", segment(&id)), Duration::ZERO).await?;
                let history = asked.json(&format!("/v1/operations/{}/history", segment(&id)), Duration::ZERO).await?;
                let history = history.get("value").cloned().unwrap_or_default();
                if output == Output::Table {
                    output::object(&operation, output)?;
                    output::line("")?;
                    return output::rows(history.as_array().map_or(&[], Vec::as_slice), HISTORY_COLUMNS, output);
                }
                if let Some(members) = operation.as_object_mut() {
                    members.insert("history".to_owned(), history);
                }
                output::object(&operation, output)
            }
            Self::Wait { id, call, context, kind, after, timeout, common } => {
                let (asked, output) = common.ready(source).await?;
                let held = Duration::from_secs(timeout);
                let path = if let Some(id) = id {
                    format!("/v1/operations/{}?wait={timeout}", segment(&id))
                } else {
                    let mut query = Query::new("/v1/operations/wait");
                    query.add("callId", call).add("context", context).add("kind", kind).add("after", after);
                    query.add("timeout", Some(timeout.to_string()));
                    query.finish()
                };
                let operation = asked.json(&path, held).await?;
                output::object(&operation, output)?;
                match operation.get("final").and_then(Value::as_bool) {
                    Some(true) => Ok(()),
                    _ => Err(Failure::timed_out("the operation is still open")),
                }
            }
        }
    }
}

/// `calls …`
#[derive(Debug, Subcommand)]
pub(super) enum Calls {
    /// List calls, newest first.
    List {
        /// In this state, as the platform spells it.
        #[arg(long)]
        state: Option<String>,
        /// Of this source.
        #[arg(long)]
        source: Option<String>,
        /// First seen then or later (RFC 3339).
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = DEFAULT_LIMIT)]
        limit: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Show one call and everything that was told about it.
    Show {
        /// Its id, in any spelling.
        id: String,
        #[command(flatten)]
        common: Common,
    },
}

const CALL_COLUMNS: &[Column] = &[
    ("CALL", "callId"),
    ("STATE", "state"),
    ("DIRECTION", "direction"),
    ("SUBCODE", "result.subcode"),
    ("OPEN", "operations.open"),
    ("COMPLETED", "operations.completed"),
    ("FAILED", "operations.failed"),
    ("CANCELED", "operations.canceled"),
    ("FIRST SEEN", "firstSeenAt"),
];

const TIMELINE_COLUMNS: &[Column] =
    &[("AT", "at"), ("TYPE", "type"), ("SUMMARY", "summary"), ("OPERATION", "operation"), ("NOTIFICATION", "notification")];

impl Calls {
    pub(super) async fn run(self, source: &Source) -> Result<(), Failure> {
        match self {
            Self::List { state, source: of, since, limit, common } => {
                let mut query = Query::new("/v1/calls");
                query.add("state", state).add("source", of).add("since", since);
                list(common, source, query, limit, CALL_COLUMNS).await
            }
            Self::Show { id, common } => {
                let (asked, output) = common.ready(source).await?;
                let mut call = asked.json(&format!("/v1/calls/{}", segment(&id)), Duration::ZERO).await?;
                let timeline = Query::new(&format!("/v1/calls/{}/timeline", segment(&id)));
                let timeline = pages(&asked, timeline, usize::MAX).await?;
                if output == Output::Table {
                    output::object(&call, output)?;
                    output::line("")?;
                    return output::rows(&timeline, TIMELINE_COLUMNS, output);
                }
                if let Some(members) = call.as_object_mut() {
                    members.insert("timeline".to_owned(), timeline.into());
                }
                output::object(&call, output)
            }
        }
    }
}

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
            Self::List { call, kind, disposition, source: of, since, limit, common } => {
                let mut query = Query::new("/v1/notifications");
                query.add("callId", call).add("kind", kind).add("disposition", disposition).add("source", of).add("since", since);
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

async fn list(common: Common, source: &Source, query: Query, limit: usize, columns: &[Column]) -> Result<(), Failure> {
    let (asked, output) = common.ready(source).await?;
    output::rows(&pages(&asked, query, limit).await?, columns, output)
}

/// Follows the pages of a list until there are enough rows.
async fn pages(asked: &Asked, mut query: Query, limit: usize) -> Result<Vec<Value>, Failure> {
    query.add("limit", Some(limit.clamp(1, PAGE).to_string()));
    let mut next = Some(query.finish());
    let mut rows = Vec::new();
    while let Some(path) = next.filter(|_| rows.len() < limit) {
        let mut page = asked.json(&path, Duration::ZERO).await?;
        next = page.get("nextLink").and_then(Value::as_str).map(ToOwned::to_owned);
        if let Some(Value::Array(more)) = page.get_mut("value").map(Value::take) {
            rows.extend(more);
        }
    }
    rows.truncate(limit);
    Ok(rows)
}

/// A path and its query.
struct Query {
    path: String,
    query: Serializer<'static, String>,
}

impl Query {
    fn new(path: &str) -> Self {
        Self { path: path.to_owned(), query: Serializer::new(String::new()) }
    }

    fn add(&mut self, name: &str, value: Option<String>) -> &mut Self {
        if let Some(value) = value {
            self.query.append_pair(name, &value);
        }
        self
    }

    fn finish(mut self) -> String {
        format!("{}?{}", self.path, self.query.finish())
    }
}

/// An id as one segment of a path.
fn segment(id: &str) -> String {
    url::form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>().replace('+', "%20")
}
