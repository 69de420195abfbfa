//! The timeline of a call.

use serde::Serialize;
use utoipa::ToSchema;

use super::{notification::told_state, time};
use crate::{
    domain::{notification::Fact, operation::State, result::ResultInfo},
    store::rows::{NotificationRow, RequestRow, TimelineRow},
};

/// A line in the timeline of a call.
#[derive(Debug, Serialize, ToSchema)]
pub struct TimelineView {
    seq: i64,
    at: String,
    /// `call`, `operation`, `participants`, `tone`, `request` or `other`.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    kind: &'static str,
    /// One line for a reader.
    summary: String,
    operation: Option<String>,
    /// The notification; `null` for a request.
    notification: Option<String>,
    #[schema(value_type = Option<String>)]
    state: Option<&'static str>,
}

impl From<TimelineRow> for TimelineView {
    fn from(row: TimelineRow) -> Self {
        match row {
            TimelineRow::Notification(row) => (*row).into(),
            TimelineRow::Request(row) => (*row).into(),
        }
    }
}

impl From<RequestRow> for TimelineView {
    fn from(row: RequestRow) -> Self {
        let status = match row.answer.as_ref().map(|answer| answer.status) {
            None => String::new(),
            Some(None) => ": its answer was lost".to_owned(),
            Some(Some(status)) => format!(": {status}"),
        };
        Self {
            seq: row.id.0.0,
            at: time(row.at),
            kind: "request",
            summary: format!("{} requested{status}", row.facts.name),
            operation: Some(row.operation.to_string()),
            notification: None,
            state: Some(State::Requested.as_str()),
        }
    }
}

impl From<NotificationRow> for TimelineView {
    fn from(row: NotificationRow) -> Self {
        let (kind, summary) = summary(&row);
        Self {
            seq: row.id.0.0,
            at: time(row.received_at),
            kind,
            summary,
            operation: row.operation.map(|id| id.to_string()),
            notification: Some(row.id.to_string()),
            state: told_state(&row),
        }
    }
}

fn summary(row: &NotificationRow) -> (&'static str, String) {
    let facts = &row.facts;
    match &facts.fact {
        Fact::Operation(fact) if fact.tone => ("tone", tone(facts.sequence)),
        Fact::Operation(fact) => ("operation", format!("{} {}{}", facts.kind, fact.state.as_str(), numbers(&fact.result))),
        Fact::Call(fact) if fact.tone => ("tone", tone(facts.sequence)),
        Fact::Call(fact) => {
            let state = fact.state.map_or_else(|| facts.change.clone(), |state| state.as_str().to_owned());
            let elsewhere = facts.redirected_to.as_ref().map_or_else(String::new, |to| format!(", redirected to {to}"));
            ("call", format!("call {state}{}{elsewhere}", numbers(&fact.result)))
        }
        Fact::Participants(1) => ("participants", "1 participant".to_owned()),
        Fact::Participants(number) => ("participants", format!("{number} participants")),
        Fact::Other => ("other", format!("{} {}", facts.kind, facts.change)),
    }
}

/// Which one it is, is personal.
fn tone(sequence: Option<i64>) -> String {
    sequence.map_or_else(|| "a tone".to_owned(), |sequence| format!("tone no. {sequence}"))
}

/// The numbers behind a state, as support people write them.
fn numbers(result: &ResultInfo) -> String {
    match (result.code, result.subcode) {
        (_, Some(subcode)) if subcode != 0 => format!(" ({subcode})"),
        (Some(code), _) if code >= 400 => format!(" ({code})"),
        _ => String::new(),
    }
}
