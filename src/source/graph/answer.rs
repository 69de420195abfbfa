//! What Graph answers to a request.
//!
//! Most actions answer with the operation that they begin, in the body, in `Location`, or in both, which need not agree
//! (`call-cancelmediaprocessing` of v1.0 shows three ids). Others begin none: their yes is all that there will be.

use super::{operation, request::CANCEL, resource::Resource};
use crate::{
    domain::{ids::PlatformId, operation::State, request::AnswerFacts, result::ResultInfo},
    source::{
        Answer, Answered,
        json::{Fields, Value},
        refusal::refused,
    },
};

/// The requests that begin no operation, so that the platform's yes is their end.
const WITHOUT_OPERATION: &[&str] = &["deleteCall", "reject", "redirect", "transfer", "keepAlive", "changeScreenSharingRole"];

/// What an answer says.
pub(super) fn read(request: &str, answer: &Answered<'_>) -> Answer {
    let body: Value<'_> = serde_json::from_slice(answer.body).unwrap_or_default();
    let fields = Fields::of(&body);
    if answer.status >= 300 {
        return Answer { facts: refused(answer.status, answer.body), call: None };
    }
    let located = answer.location.and_then(|location| match Resource::parse(location)?.part {
        super::resource::Part::Operation(id) => id,
        _ => None,
    });
    let is_call = matches!(request, "createCall");
    let told = fields.text("id").and_then(PlatformId::parse).filter(|_| !is_call);
    let mut operation_ids: Vec<PlatformId> = told.into_iter().chain(located).collect();
    operation_ids.dedup();
    let state = match fields.text("status").filter(|_| !is_call) {
        Some(_) => operation::fact(fields, "updated", None, None).state,
        None if WITHOUT_OPERATION.contains(&request) => State::Completed,
        // v1.0 ends it so; beta says 202 and calls back
        None if request == CANCEL && answer.status == 200 => State::Completed,
        None => State::Accepted,
    };
    let located_call = || Some(Resource::parse(answer.location?)?.call);
    Answer {
        facts: AnswerFacts {
            status: Some(answer.status),
            state: Some(state),
            operation_ids,
            result: if state.is_final() { operation::result(fields) } else { ResultInfo::default() },
            ..AnswerFacts::default()
        },
        call: if is_call { fields.text("id").and_then(PlatformId::parse).or_else(located_call) } else { None },
    }
}
