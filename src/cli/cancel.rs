//! `cancel …`: cancels at a platform, through the gateway of a running service, and tells what that really did.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    ask::{Asked, refused},
    configuration::Source,
    failure::Failure,
    lists::{Common, Query, segment},
    output::{self, Column},
};
use crate::net::Secret;

/// `cancel …`
#[derive(Debug, Subcommand)]
pub(super) enum Cancel {
    /// Cancel the prompts and recordings of a Graph call (`cancelMediaProcessing`).
    Graph {
        /// The call.
        #[arg(long, value_name = "ID")]
        call: String,
        /// Ask the beta instead of v1.0.
        #[arg(long)]
        beta: bool,
        /// In the beta: all that is queued, not the one under way alone.
        #[arg(long, requires = "beta")]
        all: bool,
        #[command(flatten)]
        how: How,
    },
    /// Take back an invitation to an ACS call (`cancelAddParticipant`).
    Acs {
        /// The call (`callConnectionId`).
        #[arg(long, value_name = "ID")]
        call: String,
        /// The invitation, as the answer to `addParticipant` named it.
        #[arg(long, value_name = "ID")]
        invitation: String,
        /// Where the outcome is to be told instead of the call's own callback address.
        #[arg(long, value_name = "URL")]
        operation_callback_uri: Option<String>,
        /// The version of the API.
        #[arg(long, default_value = "2023-10-15", value_name = "VERSION")]
        api_version: String,
        #[command(flatten)]
        how: How,
    },
}

/// How to ask and how long to wait.
#[derive(Debug, Args)]
pub(super) struct How {
    /// The request's own tag; made up unless told.
    #[arg(long)]
    context: Option<String>,
    /// The platform's token; the gateway signs where it holds the key.
    #[arg(long, env = "CALLBACK_LEDGER_PLATFORM_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    platform_token: Option<Secret>,
    /// Wait for the outcome for so many seconds at the most.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=120))]
    wait: u64,
    #[command(flatten)]
    common: Common,
}

/// A cancel on its way.
struct Asking {
    path: String,
    body: Value,
    source: &'static str,
    kind: &'static str,
    call: String,
    context: String,
}

const COLUMNS: &[Column] = &[
    ("ID", "id"),
    ("KIND", "kind"),
    ("STATE", "state"),
    ("CONTEXT", "context"),
    ("CANCELED BY", "canceledBy"),
    ("MEANING", "result.meaning"),
    ("FLAGS", "flags"),
];

impl Cancel {
    pub(super) async fn run(self, source: &Source) -> Result<(), Failure> {
        let (asking, how) = self.asking();
        let (asked, output) = how.common.ready(source).await?;
        let end = Instant::now() + Duration::from_secs(how.wait);
        let answer = asked.post(&asking.path, &asking.body, how.platform_token.as_ref()).await?;
        if !(200..300).contains(&answer.status) {
            return Err(
                refusal(&answer.body).map_or_else(|| refused(&answer), |why| anyhow::anyhow!("{}: {why}", answer.status).into())
            );
        }
        let mut query = Query::new("/v1/operations/wait");
        query.add("source", Some(asking.source.to_owned())).add("callId", Some(asking.call.clone()));
        query.add("kind", Some(asking.kind.to_owned())).add("context", Some(asking.context.clone()));
        query.add("timeout", Some(how.wait.to_string()));
        let outcome = asked.json(&query.finish(), Duration::from_secs(how.wait)).await?;
        let id = outcome.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let told = touched(&asked, &id, &asking, end).await?;
        output::rows(&told, COLUMNS, output)?;
        let state = told.first().and_then(|cancel| cancel.get("state")).and_then(Value::as_str);
        if matches!(state, Some("failed" | "refused")) { Err(Failure::reported()) } else { Ok(()) }
    }

    fn asking(self) -> (Asking, How) {
        let context = |how: &How| how.context.clone().unwrap_or_else(|| format!("cancel-{}", Uuid::new_v4()));
        match self {
            Self::Graph { call, beta, all, how } => {
                let context = context(&how);
                let (version, body) = if beta {
                    ("beta", json!({ "all": all, "clientContext": context }))
                } else {
                    ("v1.0", json!({ "clientContext": context }))
                };
                let path = format!("/gateway/graph/{version}/communications/calls/{}/cancelMediaProcessing", segment(&call));
                (Asking { path, body, source: "graph", kind: "cancelMediaProcessingOperation", call, context }, how)
            }
            Self::Acs { call, invitation, operation_callback_uri, api_version, how } => {
                let context = context(&how);
                let mut body = json!({ "invitationId": invitation, "operationContext": context });
                if let (Some(uri), Some(members)) = (operation_callback_uri, body.as_object_mut()) {
                    members.insert("operationCallbackUri".to_owned(), uri.into());
                }
                let mut query = Query::new(&format!(
                    "/gateway/acs/calling/callConnections/{}/participants:cancelAddParticipant",
                    segment(&call)
                ));
                query.add("api-version", Some(api_version));
                (Asking { path: query.finish(), body, source: "acs", kind: "cancelAddParticipant", call, context }, how)
            }
        }
    }
}

/// The cancel and what it touched, once nothing that it could touch is open, or once the time is over.
async fn touched(asked: &Asked, id: &str, asking: &Asking, end: Instant) -> Result<Vec<Value>, Failure> {
    loop {
        let mut query = Query::new("/v1/operations");
        query.add("source", Some(asking.source.to_owned())).add("callId", Some(asking.call.clone()));
        query.add("open", Some("true".to_owned())).add("limit", Some("250".to_owned()));
        let open = asked.json(&query.finish(), Duration::ZERO).await?;
        // an invitation ends with its cancel; what plays and records says so for itself
        let is_media = |operation: &Value| {
            let kind = operation.get("kind").and_then(Value::as_str);
            matches!(kind, Some("playPromptOperation" | "recordOperation"))
        };
        let waiting = open.get("value").and_then(Value::as_array).is_some_and(|open| open.iter().any(is_media));
        if waiting && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        // what has ended by now it can tell
        let cancel = asked.json(&format!("/v1/operations/{}", segment(id)), Duration::ZERO).await?;
        let mut told = Vec::new();
        for member in ["cancels", "escaped"] {
            for other in cancel.get(member).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
                told.push(asked.json(&format!("/v1/operations/{}", segment(other)), Duration::ZERO).await?);
            }
        }
        told.insert(0, cancel);
        return Ok(told);
    }
}

/// What a platform says in its error.
fn refusal(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let error = body.get("error")?;
    let part = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    Some(format!("{} {}", part("code"), part("message")).trim().to_owned())
}
