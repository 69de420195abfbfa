//! `tail`: what changes, as it happens.

use std::io::{self, IsTerminal};

use clap::{Args, ValueEnum};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    ask::{Asked, Whom},
    configuration::Source,
    failure::Failure,
    output::{self, Output},
    serve::asked_to_end,
};
use crate::{
    client::{Client, ClientError, Event, Follow, Following, Heard},
    domain::ids::{PlatformId, Seq},
    feed::follow::{Followed, Follower},
    http::view::{EventView, GapView},
    store::log::{ChangeFilter, ChangeKind},
};

/// `tail`
#[derive(Debug, Args)]
pub(super) struct Tail {
    /// Of this call.
    #[arg(long, value_name = "ID")]
    call: Option<String>,
    /// Of this source.
    #[arg(long)]
    source: Option<String>,
    /// Of this kind of operation, notification or request, as the platform spells it.
    #[arg(long)]
    kind: Option<String>,
    /// Changes to this state.
    #[arg(long)]
    state: Option<String>,
    /// Of this type; may be given several times.
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    types: Vec<Type>,
    /// Begin behind this event, 0: with the oldest; unless told with what happens from now on.
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(i64).range(0..))]
    after: Option<i64>,
    #[command(flatten)]
    whom: Whom,
    /// How to write: lines for people on a terminal, one JSON document a line when piped.
    #[arg(long, value_enum)]
    output: Option<Output>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Type {
    Call,
    Operation,
    Notification,
    Request,
    Rejection,
}

impl From<Type> for ChangeKind {
    fn from(kind: Type) -> Self {
        match kind {
            Type::Call => Self::Call,
            Type::Operation => Self::Operation,
            Type::Notification => Self::Notification,
            Type::Request => Self::Request,
            Type::Rejection => Self::Rejection,
        }
    }
}

/// Where the events come from.
enum Events {
    Service(Box<Following>),
    Ledger(Box<Follower>),
}

impl Tail {
    pub(super) async fn run(self, source: &Source) -> Result<(), Failure> {
        let lines = Lines { output: Output::or_default(self.output), colours: colours(), state: self.state.clone() };
        let types: Vec<ChangeKind> = self.types.iter().map(|kind| ChangeKind::from(*kind)).collect();
        let events = match self.whom.find(source).await? {
            Asked::Service { base, token, .. } => {
                let mut client = Client::new(base).map_err(failed)?;
                if let Some(token) = token.as_ref().and_then(|token| token.expose().strip_prefix("Bearer ")) {
                    client = client.with_token(token);
                }
                let types = types.iter().map(|kind| kind.as_str().to_owned()).collect();
                let follow = Follow { after: self.after, source: self.source, call_id: self.call, kind: self.kind, types };
                Events::Service(Box::new(client.follow(follow)))
            }
            Asked::Ledger(api) => {
                let call_id = self.call.as_deref().and_then(PlatformId::parse);
                let filter = ChangeFilter { source: self.source, call_id, kind: self.kind, about: types };
                Events::Ledger(Box::new(api.feed.follow(filter, self.after.map(Seq)).await?))
            }
        };
        let (ended, stop) = (asked_to_end()?, CancellationToken::new());
        tokio::select! {
            followed = follow(events, &lines, &stop) => followed,
            () = ended => Ok(()),
            // whoever reads us has seen enough
            () = stop.cancelled() => Ok(()),
        }
    }
}

/// Writes what comes, for as long as it comes.
async fn follow(events: Events, lines: &Lines, stop: &CancellationToken) -> Result<(), Failure> {
    match events {
        Events::Service(mut following) => {
            let (mut connected, mut interrupted) = (false, false);
            loop {
                match following.next().await.map_err(failed)? {
                    Heard::Event(event) => lines.write(&event, stop)?,
                    Heard::Connected => {
                        if interrupted {
                            eprintln!("connected again: nothing was missed");
                        }
                        (connected, interrupted) = (true, false);
                    }
                    Heard::Interrupted(why) if !connected => return Err(anyhow::anyhow!("{why}").into()),
                    Heard::Interrupted(why) => {
                        if !interrupted {
                            eprintln!("interrupted: {why}; connecting again");
                        }
                        interrupted = true;
                    }
                }
            }
        }
        Events::Ledger(mut follower) => loop {
            match follower.next().await? {
                Followed::Changes(rows) => {
                    for row in rows {
                        let (seq, view) = (row.seq.0, EventView::from(row));
                        let kind = view.change.kind.to_string();
                        lines.write(&Event { seq, kind, data: serde_json::to_value(view)? }, stop)?;
                    }
                }
                Followed::Gap { after, resumes_after } => {
                    let data = serde_json::to_value(GapView::new(after, resumes_after))?;
                    lines.write(&Event { seq: resumes_after.0, kind: "gap".to_owned(), data }, stop)?;
                }
            }
        },
    }
}

fn failed(error: ClientError) -> Failure {
    match error {
        ClientError::Refused { status: 400, detail } => Failure::usage(anyhow::anyhow!("{detail}")),
        error => anyhow::Error::from(error).into(),
    }
}

/// How lines are written.
struct Lines {
    output: Output,
    colours: bool,
    state: Option<String>,
}

impl Lines {
    fn write(&self, event: &Event, stop: &CancellationToken) -> Result<(), Failure> {
        let told = |name: &str| event.data.pointer(name).and_then(Value::as_str);
        if event.kind == "gap" {
            eprintln!("a gap: what was asked for is no longer kept; going on behind {}", event.seq);
        } else if self.state.as_deref().is_some_and(|state| told("/change/state") != Some(state)) {
            return Ok(());
        }
        let written = match self.output {
            Output::Table if event.kind == "gap" => Ok(true),
            Output::Table => output::follow(&line(event, self.colours)),
            Output::Json => output::follow(&serde_json::to_string_pretty(&event.data)?),
            Output::Ndjson => output::follow(&event.data.to_string()),
        };
        if !written? {
            stop.cancel();
        }
        Ok(())
    }
}

/// Colours for people who look, unless they do not want any (<https://no-color.org>).
fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// An event in columns: when, what, which kind, its state, its call, its tag.
fn line(event: &Event, colours: bool) -> String {
    let told = |pointer: &str| event.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let time = told("/change/at").get(11..23).unwrap_or_default();
    let kind = if event.kind == "rejection" { told("/reason") } else { told("/kind") };
    let state = told("/change/state");
    let subcode = event.data.pointer("/result/subcode").and_then(Value::as_i64).filter(|code| *code != 0);
    let shown = subcode.map_or_else(|| state.to_owned(), |code| format!("{state} ({code})"));
    let place = if event.kind == "rejection" { told("/receiver") } else { told("/callId") };
    let colour = match state {
        _ if event.kind == "rejection" => "\u{1b}[31m",
        "failed" | "refused" => "\u{1b}[31m",
        "completed" | "established" => "\u{1b}[32m",
        "canceled" => "\u{1b}[33m",
        "" => "\u{1b}[2m",
        _ => "\u{1b}[36m",
    };
    let (on, off) = if colours { (colour, "\u{1b}[0m") } else { ("", "") };
    let [kind, shown, place, context] = [kind, &shown, place, told("/context")].map(output::printable);
    format!("{time}  {:<12}  {kind:<32}  {on}{shown:<18}{off}  {place:<36}  {context}", event.kind).trim_end().to_owned()
}
