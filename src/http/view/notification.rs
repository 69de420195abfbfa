//! Notifications.

use serde::Serialize;
use utoipa::ToSchema;

use super::{time, times};
use crate::{
    domain::{call::CallState, delivery::Correlation, ids::PlatformId, notification::Fact},
    store::rows::NotificationRow,
};

/// One item of a delivery.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotificationView {
    id: String,
    seq: i64,
    delivery: String,
    source: String,
    receiver: String,
    /// The tenant whose token brought it.
    tenant_id: Option<String>,
    received_at: String,
    /// The platform's own time, where it gives one.
    occurred_at: Option<String>,
    call_id: Option<String>,
    operation: Option<String>,
    kind: String,
    /// The Graph `changeType` or the `CloudEvents` type.
    #[serde(rename = "type")]
    change: Option<String>,
    #[schema(value_type = String, example = "applied")]
    disposition: &'static str,
    #[schema(value_type = Option<String>)]
    state: Option<&'static str>,
    context: Option<String>,
    duplicates: i64,
    last_duplicate_at: Option<String>,
    /// What the platform's support asks for.
    correlation: CorrelationView,
}

/// The headers of a delivery by which the platform's support finds it again.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names are the API's")]
pub struct CorrelationView {
    scenario_id: Option<String>,
    client_request_id: Option<String>,
    chain_id: Option<String>,
    message_id: Option<String>,
}

impl From<Correlation> for CorrelationView {
    fn from(headers: Correlation) -> Self {
        let Correlation { scenario_id, client_request_id, chain_id, message_id } = headers;
        Self { scenario_id, client_request_id, chain_id, message_id }
    }
}

impl From<NotificationRow> for NotificationView {
    fn from(row: NotificationRow) -> Self {
        let state = told_state(&row);
        let context = match &row.facts.fact {
            Fact::Operation(fact) => fact.context.clone(),
            Fact::Call(fact) => fact.context.clone(),
            Fact::Participants(_) | Fact::Other => None,
        };
        Self {
            id: row.id.to_string(),
            seq: row.id.0.0,
            delivery: row.delivery.to_string(),
            source: row.source,
            receiver: row.receiver,
            tenant_id: row.tenant_id,
            received_at: time(row.received_at),
            occurred_at: times(row.facts.occurred_at),
            call_id: row.call_id.as_ref().map(PlatformId::to_string),
            operation: row.operation.map(|id| id.to_string()),
            kind: row.facts.kind,
            change: Some(row.facts.change).filter(|change| !change.is_empty()),
            disposition: row.disposition.as_str(),
            state,
            context,
            duplicates: row.duplicates,
            last_duplicate_at: times(row.last_duplicate_at),
            correlation: row.correlation.into(),
        }
    }
}

pub(super) fn told_state(row: &NotificationRow) -> Option<&'static str> {
    match &row.facts.fact {
        Fact::Operation(fact) => Some(fact.state.as_str()),
        Fact::Call(fact) => fact.state.map(CallState::as_str),
        Fact::Participants(_) | Fact::Other => None,
    }
}
