//! `calls …`: what happened in a call, on the command line.

use std::time::Duration;

use clap::Subcommand;

use super::{
    configuration::Source,
    failure::Failure,
    lists::{Common, DEFAULT_LIMIT, Query, list, pages, segment},
    output::{self, Column, Output},
};

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
