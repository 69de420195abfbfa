//! What a notification says about an operation.
//!
//! The platform tells an end in three places that disagree in their spelling: `status`, `completionReason` and
//! `resultInfo`. A `completed` may have been canceled (`call-senddtmftones`, first error example) or have failed (its second), and a
//! `failed` may have been canceled (`call-cancelmediaprocessing`). [`State`] is the one answer.

use crate::{
    domain::{
        ids::PlatformId,
        operation::{OperationFact, State},
        result::ResultInfo,
        text,
    },
    source::json::{Fields, number},
};

/// "Action failed, the operation was cancelled" (`call-cancelmediaprocessing`).
const CANCELED_SUBCODE: i64 = 8508;

/// The completion reasons of an operation that somebody canceled (`playpromptoperation`, `recordoperation`).
const CANCELED_REASONS: &[&str] = &["operationCanceled", "mediaOperationCanceled"];

/// The completion reasons of an operation that did not do what was asked, whatever its status says.
const FAILED_REASONS: &[&str] = &["unknown", "playPromptFailed", "playBeepFailed", "mediaReceiveTimeout", "unspecifiedError"];

/// `operationStatus`.
#[derive(Clone, Copy)]
enum Status {
    NotStarted,
    Running,
    Completed,
    Failed,
}

/// The fact in the data of an operation.
pub(super) fn fact(data: Fields<'_>, change: &str, operation_id: Option<PlatformId>, kind: Option<String>) -> OperationFact {
    let result = result(data);
    let (state, inferred) = state(data, change, &result);
    let context = data.text("clientContext").map(str::to_owned);
    OperationFact { operation_id, kind, context, state, inferred, recurs: false, tone: false, result }
}

/// Where the operation stands, and whether we concluded rather than read it.
fn state(data: Fields<'_>, change: &str, result: &ResultInfo) -> (State, bool) {
    match (data.text("status").and_then(Status::parse), change) {
        (Some(Status::Completed), _) => (ended(data, result), false),
        (Some(Status::Failed), _) if is_canceled(data, result) => (State::Canceled, false),
        (Some(Status::Failed), _) => (State::Failed, false),
        // what the platform removes is over, whatever was last known of it
        (Some(Status::NotStarted | Status::Running) | None, "deleted") => (ended(data, result), true),
        (Some(Status::NotStarted), _) => (State::Accepted, false),
        (Some(Status::Running), _) => (State::Running, false),
        (None, "created") => (State::Accepted, true),
        (None, _) => (State::Running, true),
    }
}

/// How an operation that is over and not called `failed` ended.
fn ended(data: Fields<'_>, result: &ResultInfo) -> State {
    if is_canceled(data, result) {
        State::Canceled
    } else if has_reason(data, FAILED_REASONS) || result.code.is_some_and(|code| code >= 400) {
        State::Failed
    } else {
        State::Completed
    }
}

fn is_canceled(data: Fields<'_>, result: &ResultInfo) -> bool {
    result.subcode == Some(CANCELED_SUBCODE) || has_reason(data, CANCELED_REASONS)
}

fn has_reason(data: Fields<'_>, reasons: &[&str]) -> bool {
    data.text("completionReason").is_some_and(|said| reasons.iter().any(|reason| reason.eq_ignore_ascii_case(said.trim())))
}

impl Status {
    /// The CSDL writes `Completed`, documentation and captures `completed`.
    fn parse(text: &str) -> Option<Self> {
        [("notStarted", Self::NotStarted), ("running", Self::Running), ("completed", Self::Completed), ("failed", Self::Failed)]
            .into_iter()
            .find_map(|(name, status)| name.eq_ignore_ascii_case(text.trim()).then_some(status))
    }
}

/// `resultInfo` and `completionReason`.
pub(super) fn result(data: Fields<'_>) -> ResultInfo {
    let info = data.object("resultInfo");
    // `subCode` in `call-transfer` and `participant-invite`, `subcode` elsewhere
    let subcode = info.value_in_any_case("subcode");
    // the beta of 2019 said `"subCode": "transferring"`
    let word = subcode.filter(|value| number(value).is_none()).and_then(|value| value.as_str());
    let reason = data.text("completionReason").or(word).map(|reason| text::tame(reason.trim()));
    ResultInfo {
        code: info.number("code"),
        subcode: subcode.and_then(number),
        message: info.text("message").map(text::without_telephone_numbers),
        reason: reason.filter(|reason| !reason.is_empty()),
    }
}
