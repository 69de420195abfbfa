//! Calls.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
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
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallView {
    /// The call.
    pub call_id: String,
    /// The source: `graph`, `acs` or `event-grid`.
    pub source: String,
    /// `null` while it is known by requests alone.
    pub receiver: Option<String>,
    /// The tenant.
    pub tenant_id: Option<String>,
    /// The platform's own word.
    #[schema(value_type = Option<String>, example = "terminated")]
    pub state: Option<Cow<'static, str>>,
    /// Who called whom: `incoming` or `outgoing`.
    #[schema(value_type = Option<String>)]
    pub direction: Option<Cow<'static, str>>,
    /// `X-Microsoft-Skype-Chain-ID`: one per conversation.
    pub chain_id: Option<String>,
    /// `Scenario-Id`: one per call.
    pub scenario_id: Option<String>,
    /// The conversation, as the server knows it.
    pub server_call_id: Option<String>,
    /// What ties its calls together.
    pub correlation_id: Option<String>,
    /// Who calls, where the platform told with the call; when one call is asked for. `redacted` unless the caller may see
    /// secrets.
    pub from: Option<String>,
    /// Who is called, likewise.
    pub to: Option<String>,
    /// Where we sent it instead of letting the bot here answer it, if we did.
    pub redirected_to: Option<String>,
    /// Other calls of the same conversation.
    pub related_calls: Vec<String>,
    /// When the first fact was received.
    pub first_seen_at: String,
    /// When it was established.
    pub established_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
    /// Why it ended.
    pub result: Option<ResultView>,
    /// Its operations, counted.
    pub operations: OperationCounts,
    /// How many notifications came.
    pub notifications: i64,
}

/// The operations of a call, counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct OperationCounts {
    /// Requested, accepted or running.
    pub open: i64,
    /// Completed.
    pub completed: i64,
    /// Failed.
    pub failed: i64,
    /// Canceled.
    pub canceled: i64,
    /// Refused by the platform.
    pub refused: i64,
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
            state: row.story.state().map(|state| CallState::as_str(state).into()),
            direction: row.story.direction.map(|direction| Direction::as_str(direction).into()),
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
            redirected_to: row.story.redirected_to,
            result: row.story.result.map(|result| ResultView::new(result, &row.source)),
            operations: OperationCounts::new(&row.operations),
            notifications: row.notifications,
            source: row.source,
            receiver: Some(row.receiver).filter(|receiver| !receiver.is_empty()),
            tenant_id: row.tenant_id,
        }
    }
}
