//! What Call Automation answers to a request.

use crate::{
    domain::{ids::PlatformId, operation::State, request::AnswerFacts},
    source::{
        Answer, Answered,
        json::{Fields, Value},
        refusal::refused,
    },
};

/// The requests of whose success no event tells, so that the service's yes is their end ("Actions for call control" and the
/// operations of the REST API: 200 or 204, or an event of what they stop).
const WITHOUT_EVENT: &[&str] = &[
    "redirectCall",
    "rejectCall",
    "hangUp",
    "terminateCall",
    "cancelAllMediaOperations",
    "stopContinuousDtmf",
    "updateTranscription",
    "stopTranscription",
    "stopMediaStreaming",
    "stopRecording",
    "pauseRecording",
    "resumeRecording",
];

/// What an answer says.
pub(super) fn read(request: &str, answer: &Answered<'_>) -> Answer {
    let body: Value<'_> = serde_json::from_slice(answer.body).unwrap_or_default();
    let fields = Fields::of(&body);
    if answer.status >= 300 {
        return Answer { facts: refused(answer.status, answer.body), call: None };
    }
    let state = if WITHOUT_EVENT.contains(&request) { State::Completed } else { State::Accepted };
    let id = |name: &str| fields.text(name).and_then(PlatformId::parse);
    let begins_call = matches!(request, "createCall" | "answerCall" | "connect");
    Answer {
        facts: AnswerFacts {
            status: Some(answer.status),
            state: Some(state),
            operation_ids: id("recordingId").into_iter().collect(),
            invitation_id: id("invitationId"),
            ..AnswerFacts::default()
        },
        call: if begins_call { id("callConnectionId") } else { None },
    }
}
