//! Operations and their histories.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ResultView, time, times};
use crate::{
    domain::{
        ids::OperationId,
        operation::{Cause, Flag, Transition},
    },
    store::rows::OperationRow,
};

/// A unit of work with a life of its own.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationView {
    /// Its id.
    pub id: String,
    /// The source: `graph`, `acs` or `event-grid`.
    pub source: String,
    /// `null` while it is known by requests alone.
    pub receiver: Option<String>,
    /// The tenant.
    pub tenant_id: Option<String>,
    /// `null` while a request that begins a call has not been told which.
    pub call_id: Option<String>,
    /// The platform's id.
    pub operation_id: Option<String>,
    /// The platform's own name: `recordOperation`, `playPromptOperation`, ….
    pub kind: String,
    /// The caller's own tag.
    pub context: Option<String>,
    /// The state.
    #[schema(value_type = String, example = "canceled")]
    pub state: Cow<'static, str>,
    /// Whether nothing comes after this state.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Why it ended.
    pub result: Option<ResultView>,
    /// The operation that canceled it.
    pub canceled_by: Option<String>,
    /// What it canceled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cancels: Vec<String>,
    /// What it could have canceled and what ended otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub escaped: Vec<String>,
    /// Those that could be meant, where it cannot be told (`ambiguous`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<String>,
    /// When its request was written down.
    pub requested_at: Option<String>,
    /// When the platform's yes was received.
    pub accepted_at: Option<String>,
    /// When word came that it runs.
    pub started_at: Option<String>,
    /// When word came of its end.
    pub finished_at: Option<String>,
    /// When the first fact was received.
    pub first_seen_at: String,
    /// When the last fact was received.
    pub updated_at: String,
    /// When it is overdue, while it is open.
    pub deadline: Option<String>,
    /// Whether its deadline has passed without an end.
    pub overdue: bool,
    /// How many notifications tell it.
    pub notifications: i64,
    /// How many second copies came.
    pub duplicates: i64,
    /// Its marks.
    #[schema(value_type = Vec<String>)]
    pub flags: Vec<Flag>,
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
            state: row.state.as_str().into(),
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
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HistoryView {
    /// Its position in the change log.
    pub seq: i64,
    /// When.
    pub at: String,
    /// The state before; `null` at the first.
    #[schema(value_type = Option<String>)]
    pub from: Option<Cow<'static, str>>,
    /// The state.
    #[schema(value_type = String)]
    pub to: Cow<'static, str>,
    /// What caused it.
    pub cause: CauseView,
    /// What else there is to say.
    pub note: Option<String>,
}

/// What caused a step.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CauseView {
    /// `notification`, `request`, `response` or `deadline`.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub kind: Cow<'static, str>,
    /// The notification or the request; null where time alone caused it.
    pub id: Option<String>,
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
            from: step.from.map(|state| state.as_str().into()),
            to: step.to.as_str().into(),
            cause: CauseView { kind: cause.0.into(), id: cause.2 },
            note: step.note,
        }
    }
}
