//! `operations …`: the life of an operation, on the command line.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{
    configuration::Source,
    failure::Failure,
    lists::{Common, DEFAULT_LIMIT, Query, list, segment},
    output::{self, Column, Output},
};

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
