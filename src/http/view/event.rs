//! Events of the feed: the change log, line by line.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{CallView, NotificationView, OperationView, RejectionView, RequestView, time};
use crate::{
    domain::ids::Seq,
    store::log::{ChangeKind, ChangeRow, Changed},
};

/// An event: what a change is about, as the API shows it and as it now stands, and the change itself.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EventView {
    /// What it is about.
    #[serde(flatten)]
    pub what: WhatView,
    /// The change.
    pub change: ChangeView,
}

/// What a change is about.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum WhatView {
    /// A call.
    Call(Box<CallView>),
    /// An operation.
    Operation(Box<OperationView>),
    /// A notification.
    Notification(Box<NotificationView>),
    /// A request.
    Request(Box<RequestView>),
    /// Who was not let in.
    Rejection(Box<RejectionView>),
}

/// A line of the change log.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ChangeView {
    /// Its position: the id of the event.
    pub seq: i64,
    /// When it was committed.
    pub at: String,
    /// `call`, `operation`, `notification`, `request` or `rejection`.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub kind: Cow<'static, str>,
    /// The state that it told; what it is about may have gone on since.
    pub state: Option<String>,
}

/// Retention has removed what was asked for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GapView {
    /// The last event that the follower has seen, or the one it began with.
    pub after: i64,
    /// The events go on behind this position.
    pub resumes_after: i64,
}

impl GapView {
    /// A gap between these positions.
    #[must_use]
    pub const fn new(after: Seq, resumes_after: Seq) -> Self {
        Self { after: after.0, resumes_after: resumes_after.0 }
    }
}

impl From<ChangeRow> for EventView {
    fn from(row: ChangeRow) -> Self {
        let (kind, what) = match row.what {
            Changed::Call(row) => (ChangeKind::Call, WhatView::Call(Box::new((*row).into()))),
            Changed::Operation(row) => (ChangeKind::Operation, WhatView::Operation(Box::new((*row).into()))),
            Changed::Notification(row) => (ChangeKind::Notification, WhatView::Notification(Box::new((*row).into()))),
            Changed::Request(row) => (ChangeKind::Request, WhatView::Request(Box::new((*row).into()))),
            Changed::Rejection(row) => (ChangeKind::Rejection, WhatView::Rejection(Box::new((*row).into()))),
        };
        let change = ChangeView { seq: row.seq.0, at: time(row.at), kind: kind.as_str().into(), state: row.state };
        Self { what, change }
    }
}
