//! The JSON shapes of the API: camelCase, times RFC 3339 in UTC with milliseconds, ids opaque.
//!
//! One file per resource; here is what they share.

mod call;
mod health;
mod notification;
mod operation;
mod rejection;
mod timeline;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

pub use self::{
    call::{CallView, OperationCounts},
    health::{ReadinessView, ReceiverReadiness},
    notification::{CorrelationView, NotificationView},
    operation::{CauseView, HistoryView, OperationView},
    rejection::RejectionView,
    timeline::TimelineView,
};
use crate::{domain::result::ResultInfo, source::source};

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
