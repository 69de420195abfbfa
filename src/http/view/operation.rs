//! Operations and their histories.

use serde::Serialize;
use utoipa::ToSchema;

use super::{ResultView, time, times};
use crate::{
    domain::{
        ids::OperationId,
        operation::{Cause, Flag, State, Transition},
    },
    store::rows::OperationRow,
};

/// A unit of work with a life of its own.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationView {
    id: String,
    source: String,
    /// `null` while it is known by requests alone.
    receiver: Option<String>,
    tenant_id: Option<String>,
    /// `null` while a request that begins a call has not been told which.
    call_id: Option<String>,
    operation_id: Option<String>,
    /// The platform's own name: `recordOperation`, `playPromptOperation`, ….
    kind: String,
    /// The caller's own tag.
    context: Option<String>,
    #[schema(value_type = String, example = "canceled")]
    state: &'static str,
    /// Whether nothing comes after this state.
    #[serde(rename = "final")]
    is_final: bool,
    result: Option<ResultView>,
    /// The operation that canceled it.
    canceled_by: Option<String>,
    /// What it canceled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cancels: Vec<String>,
    /// What it could have canceled and what ended otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    escaped: Vec<String>,
    /// Those that could be meant, where it cannot be told (`ambiguous`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    candidates: Vec<String>,
    requested_at: Option<String>,
    accepted_at: Option<String>,
    started_at: Option<String>,
    finished_at: Option<String>,
    first_seen_at: String,
    updated_at: String,
    /// When it is overdue, while it is open.
    deadline: Option<String>,
    overdue: bool,
    /// How many notifications tell it.
    notifications: i64,
    /// How many second copies came.
    duplicates: i64,
    #[schema(value_type = Vec<String>)]
    flags: Vec<Flag>,
}

fn ids(ids: &[OperationId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

impl From<OperationRow> for OperationView {
    fn from(row: OperationRow) -> Self {
        Self {
            id: row.id.to_string(),
            result: row.result.map(|result| ResultView::new(result, &row.source)),
            source: row.source,
            receiver: Some(row.receiver).filter(|receiver| !receiver.is_empty()),
            tenant_id: row.tenant_id,
            call_id: row.call_id.map(|id| id.to_string()),
            operation_id: row.operation_id.map(|id| id.to_string()),
            kind: row.kind,
            context: row.context,
            state: row.state.as_str(),
            is_final: row.state.is_final(),
            canceled_by: row.links.canceled_by.map(|id| id.to_string()),
            cancels: ids(&row.links.cancels),
            escaped: ids(&row.links.escaped),
            candidates: ids(&row.links.candidates),
            requested_at: times(row.requested_at),
            accepted_at: times(row.accepted_at),
            started_at: times(row.started_at),
            finished_at: times(row.finished_at),
            first_seen_at: time(row.first_seen_at),
            updated_at: time(row.updated_at),
            deadline: times(row.deadline),
            overdue: row.overdue,
            notifications: row.notifications,
            duplicates: row.duplicates,
            flags: row.flags,
        }
    }
}

/// A step in the life of an operation.
#[derive(Debug, Serialize, ToSchema)]
pub struct HistoryView {
    seq: i64,
    at: String,
    #[schema(value_type = Option<String>)]
    from: Option<&'static str>,
    #[schema(value_type = String)]
    to: &'static str,
    cause: CauseView,
    note: Option<String>,
}

/// What caused a step.
#[derive(Debug, Serialize, ToSchema)]
pub struct CauseView {
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    kind: &'static str,
    /// The notification or the request; null where time alone caused it.
    id: Option<String>,
}

impl From<Transition> for HistoryView {
    fn from(step: Transition) -> Self {
        let cause = match step.cause {
            Cause::Notification(id) => ("notification", id.0.0, Some(id.to_string())),
            Cause::Request(id) => ("request", id.0.0, Some(id.to_string())),
            Cause::Response(id) => ("response", id.0.0, Some(id.to_string())),
            // positions are microseconds
            Cause::Deadline => ("deadline", step.at.as_microsecond(), None),
        };
        Self {
            seq: cause.1,
            at: time(step.at),
            from: step.from.map(State::as_str),
            to: step.to.as_str(),
            cause: CauseView { kind: cause.0, id: cause.2 },
            note: step.note,
        }
    }
}
