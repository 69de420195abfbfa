//! Calls.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{ResultView, time, times};
use crate::{
    domain::{
        call::{CallState, Direction},
        operation::State,
    },
    http::api::Leave,
    store::rows::CallRow,
};

/// What the notifications are about.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallView {
    call_id: String,
    source: String,
    /// `null` while it is known by requests alone.
    receiver: Option<String>,
    tenant_id: Option<String>,
    /// The platform's own word.
    #[schema(value_type = Option<String>, example = "terminated")]
    state: Option<&'static str>,
    #[schema(value_type = Option<String>)]
    direction: Option<&'static str>,
    chain_id: Option<String>,
    scenario_id: Option<String>,
    /// The conversation, as the server knows it.
    server_call_id: Option<String>,
    /// What ties its calls together.
    correlation_id: Option<String>,
    /// Who calls, where the platform told with the call; when one call is asked for. `redacted` unless the caller may see
    /// secrets.
    from: Option<String>,
    /// Who is called, likewise.
    to: Option<String>,
    /// Other calls of the same conversation.
    related_calls: Vec<String>,
    first_seen_at: String,
    established_at: Option<String>,
    ended_at: Option<String>,
    /// Why it ended.
    result: Option<ResultView>,
    operations: OperationCounts,
    notifications: i64,
}

/// The operations of a call, counted.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct OperationCounts {
    open: i64,
    completed: i64,
    failed: i64,
    canceled: i64,
    refused: i64,
}

impl OperationCounts {
    fn new(counts: &[(State, i64)]) -> Self {
        let mut sums = Self::default();
        for (state, number) in counts {
            match state {
                State::Requested | State::Accepted | State::Running => sums.open += number,
                State::Completed => sums.completed += number,
                State::Failed => sums.failed += number,
                State::Canceled => sums.canceled += number,
                State::Refused => sums.refused += number,
            }
        }
        sums
    }
}

impl CallView {
    /// The call with those whom it is between.
    #[must_use]
    pub fn with_people(self, people: Option<&Value>, leave: &Leave) -> Self {
        let party = |name: &str| {
            let party = people?.get(name)?;
            let ids = [party.get("rawId"), party.pointer("/phoneNumber/value"), party.pointer("/communicationUser/id")];
            let id = ids.into_iter().flatten().find_map(Value::as_str)?;
            Some(if leave.secrets { id.to_owned() } else { "redacted".to_owned() })
        };
        Self { from: party("from"), to: party("to"), ..self }
    }
}

impl From<CallRow> for CallView {
    fn from(row: CallRow) -> Self {
        Self {
            call_id: row.call_id.to_string(),
            state: row.story.state().map(CallState::as_str),
            direction: row.story.direction.map(Direction::as_str),
            chain_id: row.story.chain_id,
            scenario_id: row.story.scenario_id,
            server_call_id: row.story.server_call_id.map(|id| id.to_string()),
            correlation_id: row.story.correlation_id.map(|id| id.to_string()),
            from: None,
            to: None,
            related_calls: row.related_calls.iter().map(ToString::to_string).collect(),
            first_seen_at: time(row.first_seen_at),
            established_at: times(row.story.established_at),
            ended_at: times(row.story.ended_at),
            result: row.story.result.map(|result| ResultView::new(result, &row.source)),
            operations: OperationCounts::new(&row.operations),
            notifications: row.notifications,
            source: row.source,
            receiver: Some(row.receiver).filter(|receiver| !receiver.is_empty()),
            tenant_id: row.tenant_id,
        }
    }
}
