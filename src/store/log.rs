//! The change log as it is followed: what each commit added or changed, in the order of `seq`.

use jiff::Timestamp;

use super::rows::{CallRow, NotificationRow, OperationRow, RejectionRow, RequestRow};
use crate::domain::ids::{PlatformId, Seq};

/// What a line of the log is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// A call began, or its state changed.
    Call,
    /// An operation began or changed.
    Operation,
    /// A notification was recorded.
    Notification,
    /// A request was written down.
    Request,
    /// Somebody was not let in.
    Rejection,
}

impl ChangeKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Call, Self::Operation, Self::Notification, Self::Request, Self::Rejection];

    /// The name that the API and the store use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Operation => "operation",
            Self::Notification => "notification",
            Self::Request => "request",
            Self::Rejection => "rejection",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Which lines of the log. Empty members do not filter; a line that has no such thing does not match one that is asked for.
#[derive(Clone, Debug, Default)]
pub struct ChangeFilter {
    /// Of this source.
    pub source: Option<String>,
    /// Of this call.
    pub call_id: Option<PlatformId>,
    /// Of this kind of operation, notification or request.
    pub kind: Option<String>,
    /// About these; empty: about any.
    pub about: Vec<ChangeKind>,
}

/// A line of the log, with what it is about as that now stands.
#[derive(Clone, Debug)]
pub struct ChangeRow {
    /// Its position.
    pub seq: Seq,
    /// When it was committed.
    pub at: Timestamp,
    /// The state that it told, when it did.
    pub state: Option<String>,
    /// What it is about.
    pub what: Changed,
}

/// What a line of the log is about, as it now stands.
#[derive(Clone, Debug)]
pub enum Changed {
    /// A call.
    Call(Box<CallRow>),
    /// An operation; where it has since been found to be one with another, that one.
    Operation(Box<OperationRow>),
    /// A notification.
    Notification(Box<NotificationRow>),
    /// A request.
    Request(Box<RequestRow>),
    /// Who was not let in.
    Rejection(Box<RejectionRow>),
}

/// What the log holds behind a position.
#[derive(Clone, Debug)]
pub enum LogPage {
    /// The next lines, oldest first; possibly none.
    Lines {
        /// They.
        rows: Vec<ChangeRow>,
        /// Up to where the log has been looked through.
        read_to: Seq,
        /// Whether there may be more behind that.
        more: bool,
    },
    /// Retention has removed lines that were asked for; what is left begins behind this position.
    Gone(Seq),
}
