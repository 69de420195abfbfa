//! The JSON shapes of the API: camelCase, times RFC 3339 in UTC with milliseconds, ids opaque.
//!
//! One file per resource; here is what they share.

mod call;
mod event;
mod forward;
mod health;
mod notification;
mod operation;
mod rejection;
mod request;
mod timeline;

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::{
    call::{CallView, OperationCounts},
    event::{ChangeView, EventView, GapView, WhatView},
    forward::{ForwardView, OrderedView, TargetView},
    health::{ReadinessView, ReceiverReadiness},
    notification::{CorrelationView, NotificationView, token_hash},
    operation::{CauseView, HistoryView, OperationView},
    rejection::RejectionView,
    request::{AnswerView, RequestView},
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
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ResultView {
    /// HTTP-like.
    pub code: Option<i64>,
    /// The platform's own number.
    pub subcode: Option<i64>,
    /// The platform's sentence.
    pub message: Option<String>,
    /// The platform's word.
    pub reason: Option<String>,
    /// What the numbers mean, in plain words.
    pub meaning: Option<Cow<'static, str>>,
}

impl ResultView {
    fn new(result: ResultInfo, of: &str) -> Self {
        let meaning = source(of).and_then(|source| source.meaning(result.code, result.subcode));
        let ResultInfo { code, subcode, message, reason } = result;
        Self { code, subcode, message, reason, meaning: meaning.map(Cow::Borrowed) }
    }
}
