//! What reading the ledger brings, and how to ask for it.

use jiff::Timestamp;

use crate::domain::{
    call::CallStory,
    delivery::Correlation,
    ids::{DeliveryId, NotificationId, OperationId, PlatformId, RejectionId, RequestId, Seq},
    notification::{Disposition, Facts},
    operation::{Flag, Links, State},
    rejection::RejectionReason,
    request::{AnswerFacts, RequestFacts},
    result::ResultInfo,
};

/// A page of a list, newest first.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// Its rows.
    pub rows: Vec<T>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<Seq>,
}

/// Which page.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest {
    /// Only rows beyond this position (older, or newer where a list runs oldest first).
    pub after: Option<Seq>,
    /// At most this many.
    pub limit: u32,
}

/// Which operations. Empty members do not filter.
#[derive(Clone, Debug, Default)]
pub struct OperationFilter {
    /// Of this source.
    pub source: Option<String>,
    /// Of this call.
    pub call_id: Option<PlatformId>,
    /// With this platform id.
    pub operation_id: Option<PlatformId>,
    /// With this tag, a GUID in any spelling.
    pub context: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// In this state.
    pub state: Option<State>,
    /// With this subcode.
    pub subcode: Option<i64>,
    /// First seen then or later.
    pub since: Option<Timestamp>,
    /// First seen before.
    pub until: Option<Timestamp>,
    /// Whether it is open.
    pub open: Option<bool>,
    /// Whether its deadline has passed without an end.
    pub overdue: Option<bool>,
}

/// An operation as it stands in the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationRow {
    /// Its id.
    pub id: OperationId,
    /// The source that its call belongs to.
    pub source: String,
    /// The receiver that its call began at.
    pub receiver: String,
    /// The tenant of its call.
    pub tenant_id: Option<String>,
    /// Its call; `None` while a request that begins one has not been told which.
    pub call_id: Option<PlatformId>,
    /// The platform's id.
    pub operation_id: Option<PlatformId>,
    /// The platform's name of its kind.
    pub kind: String,
    /// The caller's own tag.
    pub context: Option<String>,
    /// Where it stands.
    pub state: State,
    /// Why it ended.
    pub result: Option<ResultInfo>,
    /// When the platform's yes was received.
    pub accepted_at: Option<Timestamp>,
    /// When word came that it runs.
    pub started_at: Option<Timestamp>,
    /// When word came of its end.
    pub finished_at: Option<Timestamp>,
    /// When the first fact was received.
    pub first_seen_at: Timestamp,
    /// When the last fact was received.
    pub updated_at: Timestamp,
    /// Its marks.
    pub flags: Vec<Flag>,
    /// How many notifications tell it.
    pub notifications: i64,
    /// How many second copies came.
    pub duplicates: i64,
    /// When its request was written down.
    pub requested_at: Option<Timestamp>,
    /// What it has to do with others.
    pub links: Links,
    /// When it is overdue; `None` once it has ended.
    pub deadline: Option<Timestamp>,
    /// Whether it is.
    pub overdue: bool,
}

/// Which calls.
#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    /// Of this source.
    pub source: Option<String>,
    /// In this state, as the platform spells it.
    pub state: Option<String>,
    /// First seen then or later.
    pub since: Option<Timestamp>,
    /// First seen before.
    pub until: Option<Timestamp>,
}

/// A call as it stands in the ledger.
#[derive(Clone, Debug)]
pub struct CallRow {
    /// Its position.
    pub id: Seq,
    /// The source that it belongs to.
    pub source: String,
    /// The platform's id.
    pub call_id: PlatformId,
    /// The receiver of its first fact.
    pub receiver: String,
    /// The tenant of its first fact.
    pub tenant_id: Option<String>,
    /// When the first fact was received.
    pub first_seen_at: Timestamp,
    /// What its facts add up to.
    pub story: CallStory,
    /// Other calls of the same conversation.
    pub related_calls: Vec<PlatformId>,
    /// Its operations, counted by state.
    pub operations: Vec<(State, i64)>,
    /// How many notifications came.
    pub notifications: i64,
}

/// Which notifications.
#[derive(Clone, Debug, Default)]
pub struct NotificationFilter {
    /// Of this source.
    pub source: Option<String>,
    /// About this call, quarantined ones included.
    pub call_id: Option<PlatformId>,
    /// Of this kind.
    pub kind: Option<String>,
    /// With this disposition.
    pub disposition: Option<Disposition>,
    /// Brought by the token of this hash.
    pub token_hash: Option<i64>,
    /// Received then or later.
    pub since: Option<Timestamp>,
    /// Received before.
    pub until: Option<Timestamp>,
}

/// A notification as it was recorded.
#[derive(Clone, Debug)]
pub struct NotificationRow {
    /// Its id, and its position in the change log.
    pub id: NotificationId,
    /// The delivery that brought it.
    pub delivery: DeliveryId,
    /// The source that read it.
    pub source: String,
    /// The receiver that it came to.
    pub receiver: String,
    /// The tenant whose token brought it.
    pub tenant_id: Option<String>,
    /// The hash of the token that brought it; `None` if a secret was believed instead.
    pub token_hash: Option<i64>,
    /// When it came.
    pub received_at: Timestamp,
    /// The call that it is about, or claims to be about.
    pub call_id: Option<PlatformId>,
    /// The operation that it tells.
    pub operation: Option<OperationId>,
    /// What the ledger did with it.
    pub disposition: Disposition,
    /// What it says.
    pub facts: Facts,
    /// How many second copies came.
    pub duplicates: i64,
    /// When the last of them came.
    pub last_duplicate_at: Option<Timestamp>,
    /// The headers of its delivery by which the platform's support finds it again.
    pub correlation: Correlation,
}

/// A request as it was written down.
#[derive(Clone, Debug)]
pub struct RequestRow {
    /// Its id, and its position in the change log.
    pub id: RequestId,
    /// The source whose platform is asked.
    pub source: String,
    /// The call that it is about; `None` while one that begins a call has not been told which.
    pub call_id: Option<PlatformId>,
    /// When it was written down.
    pub at: Timestamp,
    /// The operation that it begins.
    pub operation: OperationId,
    /// What it says.
    pub facts: RequestFacts,
    /// What came back, once something did.
    pub answer: Option<AnswerFacts>,
}

/// A line of a call's timeline.
#[derive(Clone, Debug)]
pub enum TimelineRow {
    /// What came.
    Notification(Box<NotificationRow>),
    /// What was asked for.
    Request(Box<RequestRow>),
}

impl TimelineRow {
    /// Its position in the change log.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        match self {
            Self::Notification(row) => row.id.0,
            Self::Request(row) => row.id.0,
        }
    }
}

/// A delivery as it was received.
#[derive(Clone, Debug)]
pub struct DeliveryRow {
    /// The source that read it.
    pub source: String,
    /// Its body; `None` once it was erased.
    pub body: Option<Vec<u8>>,
}

/// Which rejections.
#[derive(Clone, Debug, Default)]
pub struct RejectionFilter {
    /// For this reason.
    pub reason: Option<RejectionReason>,
    /// At this receiver.
    pub receiver: Option<String>,
    /// Then or later.
    pub since: Option<Timestamp>,
}

/// A rejection, with its repeats.
#[derive(Clone, Debug)]
pub struct RejectionRow {
    /// Its id.
    pub id: RejectionId,
    /// When the first came.
    pub at: Timestamp,
    /// When the last came.
    pub last_at: Timestamp,
    /// How many came.
    pub count: i64,
    /// The receiver.
    pub receiver: String,
    /// The check that failed.
    pub reason: RejectionReason,
    /// The peer's address.
    pub peer: Option<String>,
    /// The `kid` that nobody has verified.
    pub key_id: Option<String>,
    /// The `iss` that nobody has verified.
    pub unverified_issuer: Option<String>,
    /// The user agent.
    pub user_agent: Option<String>,
}

/// An operation that a commit added or changed: enough to know whether one waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedOperation {
    /// Its id.
    pub id: OperationId,
    /// The call that it belongs to.
    pub call_id: PlatformId,
    /// The caller's own tag.
    pub context: Option<String>,
}

/// Something that `db verify` found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding(pub String);

/// Something that `db rebuild` found to differ from what the facts say, and put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The operation or call.
    pub what: String,
    /// What the ledger held.
    pub held: String,
    /// What the facts say.
    pub derived: String,
}
