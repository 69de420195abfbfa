//! The JSON shapes of the API: camelCase, times RFC 3339 in UTC with milliseconds, ids opaque.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::rejection_status;
use crate::{
    domain::{
        call::{CallState, Direction},
        delivery::Correlation,
        ids::PlatformId,
        notification::Fact,
        operation::{Flag, State, Transition},
        result::ResultInfo,
    },
    source::source,
    store::rows::{CallRow, NotificationRow, OperationRow, RejectionRow},
};

/// A time in UTC, with milliseconds.
#[must_use]
pub fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}

fn times(at: Option<Timestamp>) -> Option<String> {
    at.map(time)
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    /// Its members.
    pub value: Vec<T>,
    /// Where the next page is; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_link: Option<String>,
}

/// Why something ended as it did.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResultView {
    /// HTTP-like.
    code: Option<i64>,
    /// The platform's own number.
    subcode: Option<i64>,
    /// The platform's sentence.
    message: Option<String>,
    /// The platform's word.
    reason: Option<String>,
    /// What the numbers mean, in plain words.
    meaning: Option<&'static str>,
}

impl ResultView {
    fn new(result: ResultInfo, of: &str) -> Self {
        let meaning = source(of).and_then(|source| source.meaning(result.code, result.subcode));
        let ResultInfo { code, subcode, message, reason } = result;
        Self { code, subcode, message, reason, meaning }
    }
}

/// A unit of work with a life of its own.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationView {
    id: String,
    source: String,
    receiver: String,
    tenant_id: Option<String>,
    call_id: String,
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
    canceled_by: Option<String>,
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

impl From<OperationRow> for OperationView {
    fn from(row: OperationRow) -> Self {
        Self {
            id: row.id.to_string(),
            result: row.result.map(|result| ResultView::new(result, &row.source)),
            source: row.source,
            receiver: row.receiver,
            tenant_id: row.tenant_id,
            call_id: row.call_id.to_string(),
            operation_id: row.operation_id.map(|id| id.to_string()),
            kind: row.kind,
            context: row.context,
            state: row.state.as_str(),
            is_final: row.state.is_final(),
            canceled_by: None,
            requested_at: None,
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
    id: String,
}

impl From<Transition> for HistoryView {
    fn from(step: Transition) -> Self {
        Self {
            seq: step.cause.0.0,
            at: time(step.at),
            from: step.from.map(State::as_str),
            to: step.to.as_str(),
            cause: CauseView { kind: "notification", id: step.cause.to_string() },
            note: step.note,
        }
    }
}

/// What the notifications are about.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallView {
    call_id: String,
    source: String,
    receiver: String,
    tenant_id: Option<String>,
    /// The platform's own word.
    #[schema(value_type = Option<String>, example = "terminated")]
    state: Option<&'static str>,
    #[schema(value_type = Option<String>)]
    direction: Option<&'static str>,
    chain_id: Option<String>,
    scenario_id: Option<String>,
    server_call_id: Option<String>,
    correlation_id: Option<String>,
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

impl From<CallRow> for CallView {
    fn from(row: CallRow) -> Self {
        Self {
            call_id: row.call_id.to_string(),
            state: row.story.state().map(CallState::as_str),
            direction: row.story.direction.map(Direction::as_str),
            chain_id: row.story.chain_id,
            scenario_id: row.story.scenario_id,
            server_call_id: None,
            correlation_id: None,
            related_calls: row.related_calls.iter().map(ToString::to_string).collect(),
            first_seen_at: time(row.first_seen_at),
            established_at: times(row.story.established_at),
            ended_at: times(row.story.ended_at),
            result: row.story.result.map(|result| ResultView::new(result, &row.source)),
            operations: OperationCounts::new(&row.operations),
            notifications: row.notifications,
            source: row.source,
            receiver: row.receiver,
            tenant_id: row.tenant_id,
        }
    }
}

/// One item of a delivery.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotificationView {
    id: String,
    seq: i64,
    delivery: String,
    source: String,
    receiver: String,
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
            Fact::Call(_) | Fact::Participants(_) | Fact::Other => None,
        };
        Self {
            id: row.id.to_string(),
            seq: row.id.0.0,
            delivery: row.delivery.to_string(),
            source: row.source,
            receiver: row.receiver,
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

fn told_state(row: &NotificationRow) -> Option<&'static str> {
    match &row.facts.fact {
        Fact::Operation(fact) => Some(fact.state.as_str()),
        Fact::Call(fact) => fact.state.map(CallState::as_str),
        Fact::Participants(_) | Fact::Other => None,
    }
}

/// A line in the timeline of a call.
#[derive(Debug, Serialize, ToSchema)]
pub struct TimelineView {
    seq: i64,
    at: String,
    /// `call`, `operation`, `participants`, `tone` or `other`.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    kind: &'static str,
    /// One line for a reader.
    summary: String,
    operation: Option<String>,
    notification: String,
    #[schema(value_type = Option<String>)]
    state: Option<&'static str>,
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
            notification: row.id.to_string(),
            state: told_state(&row),
        }
    }
}

fn summary(row: &NotificationRow) -> (&'static str, String) {
    let facts = &row.facts;
    match &facts.fact {
        Fact::Operation(fact) => ("operation", format!("{} {}{}", facts.kind, fact.state.as_str(), numbers(&fact.result))),
        Fact::Call(fact) if fact.tone => {
            ("tone", facts.sequence.map_or_else(|| "a tone".to_owned(), |sequence| format!("tone no. {sequence}")))
        }
        Fact::Call(fact) => {
            let state = fact.state.map_or_else(|| facts.change.clone(), |state| state.as_str().to_owned());
            ("call", format!("call {state}{}", numbers(&fact.result)))
        }
        Fact::Participants(1) => ("participants", "1 participant".to_owned()),
        Fact::Participants(number) => ("participants", format!("{number} participants")),
        Fact::Other => ("other", format!("{} {}", facts.kind, facts.change)),
    }
}

/// The numbers behind a state, as support people write them.
fn numbers(result: &ResultInfo) -> String {
    match (result.code, result.subcode) {
        (_, Some(subcode)) if subcode != 0 => format!(" ({subcode})"),
        (Some(code), _) if code >= 400 => format!(" ({code})"),
        _ => String::new(),
    }
}

/// A POST that was not let in.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RejectionView {
    id: String,
    at: String,
    receiver: String,
    #[schema(value_type = String, example = "expired")]
    reason: &'static str,
    status: u16,
    peer: Option<String>,
    key_id: Option<String>,
    /// The `iss` of the token, which nobody has verified.
    unverified_issuer: Option<String>,
    user_agent: Option<String>,
    /// How many alike came, this one included.
    count: i64,
    last_at: String,
}

impl From<RejectionRow> for RejectionView {
    fn from(row: RejectionRow) -> Self {
        Self {
            id: row.id.to_string(),
            at: time(row.at),
            receiver: row.receiver,
            reason: row.reason.as_str(),
            status: rejection_status(row.reason),
            peer: row.peer,
            key_id: row.key_id,
            unverified_issuer: row.unverified_issuer,
            user_agent: row.user_agent,
            count: row.count,
            last_at: time(row.last_at),
        }
    }
}

/// Whether the service can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReadinessView {
    /// Everything below is true.
    pub ready: bool,
    /// Whether the last write to the ledger went well.
    pub ledger: bool,
    /// Each receiver.
    pub receivers: Vec<ReceiverReadiness>,
}

/// Whether a receiver can believe anybody.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReceiverReadiness {
    /// Its path.
    pub path: String,
    /// Whether it has keys that are not too old.
    pub keys: bool,
}
