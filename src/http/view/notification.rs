//! Notifications.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{time, times};
use crate::{
    domain::{call::CallState, delivery::Correlation, ids::PlatformId, notification::Fact},
    store::rows::NotificationRow,
};

/// One item of a delivery.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotificationView {
    /// Its id.
    pub id: String,
    /// Its position in the change log.
    pub seq: i64,
    /// The delivery that brought it.
    pub delivery: String,
    /// The source: `graph`, `acs` or `event-grid`.
    pub source: String,
    /// The receiver's path.
    pub receiver: String,
    /// The tenant whose token brought it.
    pub tenant_id: Option<String>,
    /// What the ledger calls the token that brought it: `tokenHash` in `GET /v1/notifications` finds all that it brought. `null` if a
    /// secret was believed instead.
    pub token_hash: Option<String>,
    /// When it came.
    pub received_at: String,
    /// The platform's own time, where it gives one.
    pub occurred_at: Option<String>,
    /// The call.
    pub call_id: Option<String>,
    /// The operation that it tells.
    pub operation: Option<String>,
    /// The platform's name of its kind.
    pub kind: String,
    /// The Graph `changeType` or the `CloudEvents` type.
    #[serde(rename = "type")]
    pub change: Option<String>,
    /// What the ledger did with it: `applied`, `late`, `unrecognized`, `quarantined`.
    #[schema(value_type = String, example = "applied")]
    pub disposition: Cow<'static, str>,
    /// The state.
    #[schema(value_type = Option<String>)]
    pub state: Option<Cow<'static, str>>,
    /// The caller's own tag.
    pub context: Option<String>,
    /// Where we sent the call that it announces, if we did.
    pub redirected_to: Option<String>,
    /// How many second copies came.
    pub duplicates: i64,
    /// When the last second copy came.
    pub last_duplicate_at: Option<String>,
    /// What the platform's support asks for.
    pub correlation: CorrelationView,
}

/// The headers of a delivery by which the platform's support finds it again.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CorrelationView {
    /// `Scenario-Id`: one per call.
    pub scenario_id: Option<String>,
    /// `Client-Request-Id`: one per request.
    pub client_request_id: Option<String>,
    /// `X-Microsoft-Skype-Chain-ID`: one per conversation.
    pub chain_id: Option<String>,
    /// `X-Microsoft-Skype-Message-ID`: one per POST.
    pub message_id: Option<String>,
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
            token_hash: row.token_hash.map(token_hash),
            received_at: time(row.received_at),
            occurred_at: times(row.facts.occurred_at),
            call_id: row.call_id.as_ref().map(PlatformId::to_string),
            operation: row.operation.map(|id| id.to_string()),
            redirected_to: row.facts.redirected_to,
            kind: row.facts.kind,
            change: Some(row.facts.change).filter(|change| !change.is_empty()),
            disposition: row.disposition.as_str().into(),
            state: state.map(Cow::Borrowed),
            context,
            duplicates: row.duplicates,
            last_duplicate_at: times(row.last_duplicate_at),
            correlation: row.correlation.into(),
        }
    }
}

/// The hash of a token, as it is written: 16 hexadecimal digits.
#[must_use]
pub fn token_hash(hash: i64) -> String {
    format!("{hash:016x}")
}

pub(super) fn told_state(row: &NotificationRow) -> Option<&'static str> {
    match &row.facts.fact {
        Fact::Operation(fact) => Some(fact.state.as_str()),
        Fact::Call(fact) => fact.state.map(CallState::as_str),
        Fact::Participants(_) | Fact::Other => None,
    }
}
