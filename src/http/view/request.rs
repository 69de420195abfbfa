//! Requests.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{time, times};
use crate::{
    domain::request::{AnswerFacts, Via},
    store::rows::RequestRow,
};

/// What a bot asked a platform to do.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestView {
    /// Its id.
    pub id: String,
    /// Its position in the change log.
    pub seq: i64,
    /// The operation that it begins.
    pub operation: String,
    /// The source whose platform is asked.
    pub source: String,
    /// `null` while one that begins a call has not been told which.
    pub call_id: Option<String>,
    /// The platform's name of it: `record`, `addParticipant`, ….
    pub name: String,
    /// The kind of the operation that it begins.
    pub kind: String,
    /// The caller's own tag.
    pub context: Option<String>,
    /// How the ledger knows of it: `gateway` or `registered`.
    #[schema(value_type = String)]
    pub via: Cow<'static, str>,
    /// When it was written down.
    pub requested_at: String,
    /// By when the caller wants it to have ended.
    pub deadline: Option<String>,
    /// What came back, once something did.
    pub answer: Option<AnswerView>,
}

/// What came back for a request.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnswerView {
    /// The platform's HTTP status; `null` if its answer was lost.
    pub status: Option<u16>,
    /// Whether the request ever left.
    pub sent: bool,
}

impl From<AnswerFacts> for AnswerView {
    fn from(facts: AnswerFacts) -> Self {
        Self { status: facts.status, sent: !facts.never_sent }
    }
}

impl From<RequestRow> for RequestView {
    fn from(row: RequestRow) -> Self {
        let via = match row.facts.via {
            Via::Gateway => "gateway",
            Via::Registered => "registered",
        };
        Self {
            id: row.id.to_string(),
            seq: row.id.0.0,
            operation: row.operation.to_string(),
            source: row.source,
            call_id: row.call_id.map(|id| id.to_string()),
            name: row.facts.name,
            kind: row.facts.kind,
            context: row.facts.context,
            via: via.into(),
            requested_at: time(row.at),
            deadline: times(row.facts.deadline),
            answer: row.answer.map(AnswerView::from),
        }
    }
}
