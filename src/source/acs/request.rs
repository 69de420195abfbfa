//! What a bot asks of Call Automation, and the operation that it begins: the operations of its REST API, called as the API's models
//! call them.

use crate::{domain::request::Cancels, source::Asked};

/// The requests that begin an operation which events, or the call's roster, tell of.
const REQUESTS: &[&str] = &[
    "createCall",
    "answerCall",
    "connect",
    "redirectCall",
    "rejectCall",
    "hangUp",
    "terminateCall",
    "transferCall",
    "addParticipant",
    "cancelAddParticipant",
    "removeParticipant",
    "moveParticipants",
    "mute",
    "hold",
    "unhold",
    "play",
    "recognize",
    CANCEL_MEDIA,
    "startContinuousDtmf",
    "stopContinuousDtmf",
    "sendDtmfTones",
    "startTranscription",
    "updateTranscription",
    "stopTranscription",
    "startMediaStreaming",
    "stopMediaStreaming",
    "startRecording",
    "stopRecording",
    "pauseRecording",
    "resumeRecording",
    "startDialog",
];

/// Answered by the `PlayCanceled` and `RecognizeCanceled` of what it cancels.
const CANCEL_MEDIA: &str = "cancelAllMediaOperations";

/// What a request of this name asks for.
pub(super) fn asked(request: &str) -> Option<Asked> {
    let kind = REQUESTS.iter().copied().find(|name| *name == request)?;
    let kinds = || vec!["play".to_owned(), "recognize".to_owned()];
    Some(Asked { kind, cancels: (kind == CANCEL_MEDIA).then(|| Cancels::Media { kinds: kinds(), all: true }) })
}
