//! What each event of Call Automation is about: 56 types, from the first api-version to the previews.
//!
//! The outcome is in the type, never in the result code: a successful `CancelAddParticipantSucceeded` carries 487/5234. Sources
//! are the event models of the SDKs (`azure-communication-callautomation`, Java and .NET) and "Call Automation" of the
//! Azure documentation.

use crate::{domain::operation::State, source::cloud_events::communication_event};

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An operation of this kind has come to this state.
    Operation(&'static str, State),
    /// A recording has begun or ended; which, is in its data.
    Recording,
    /// The call is connected.
    Connected,
    /// The call is over.
    Disconnected,
    /// Somebody calls.
    Incoming,
    /// Who is in the call.
    Participants,
    /// Something without a story of its own.
    Other(&'static str),
}

/// The kind of operation that `RecordingStateChanged` tells.
pub(super) const START_RECORDING: &str = "startRecording";

/// The type without its prefix, and what it is about.
const KINDS: &[(&str, Kind)] = {
    use Kind::{Connected, Disconnected, Incoming, Operation, Other, Participants, Recording};
    use State::{Canceled, Completed, Failed, Running};
    &[
        ("IncomingCall", Incoming),
        ("CallConnected", Connected),
        ("CallDisconnected", Disconnected),
        ("ParticipantsUpdated", Participants),
        ("CreateCallFailed", Operation("createCall", Failed)),
        ("AnswerFailed", Operation("answerCall", Failed)),
        ("ConnectFailed", Operation("connect", Failed)),
        ("AddParticipantSucceeded", Operation("addParticipant", Completed)),
        ("AddParticipantFailed", Operation("addParticipant", Failed)),
        ("CancelAddParticipantSucceeded", Operation("cancelAddParticipant", Completed)),
        ("CancelAddParticipantFailed", Operation("cancelAddParticipant", Failed)),
        ("RemoveParticipantSucceeded", Operation("removeParticipant", Completed)),
        ("RemoveParticipantFailed", Operation("removeParticipant", Failed)),
        ("MoveParticipantSucceeded", Operation("moveParticipants", Completed)),
        ("MoveParticipantFailed", Operation("moveParticipants", Failed)),
        ("CallTransferAccepted", Operation("transferCall", Completed)),
        ("CallTransferFailed", Operation("transferCall", Failed)),
        ("PlayStarted", Operation("play", Running)),
        ("PlayPaused", Operation("play", Running)),
        ("PlayResumed", Operation("play", Running)),
        ("PlayCompleted", Operation("play", Completed)),
        ("PlayFailed", Operation("play", Failed)),
        ("PlayCanceled", Operation("play", Canceled)),
        ("RecognizeCompleted", Operation("recognize", Completed)),
        ("RecognizeFailed", Operation("recognize", Failed)),
        ("RecognizeCanceled", Operation("recognize", Canceled)),
        (TONE_RECEIVED, Operation("startContinuousDtmf", Running)),
        ("ContinuousDtmfRecognitionToneFailed", Operation("startContinuousDtmf", Failed)),
        ("ContinuousDtmfRecognitionStopped", Operation("startContinuousDtmf", Completed)),
        ("SendDtmfTonesCompleted", Operation("sendDtmfTones", Completed)),
        ("SendDtmfTonesFailed", Operation("sendDtmfTones", Failed)),
        // no event tells that it succeeded
        ("HoldFailed", Operation("hold", Failed)),
        ("HoldAudioStarted", Operation("hold", Running)),
        ("HoldAudioPaused", Operation("hold", Running)),
        ("HoldAudioResumed", Operation("hold", Running)),
        ("HoldAudioCompleted", Operation("hold", Running)),
        ("RecordingStateChanged", Recording),
        ("StartRecordingFailed", Operation(START_RECORDING, Failed)),
        ("TranscriptionStarted", Operation("startTranscription", Running)),
        ("TranscriptionUpdated", Operation("startTranscription", Running)),
        ("TranscriptionResumed", Operation("startTranscription", Running)),
        ("TranscriptionStopped", Operation("startTranscription", Completed)),
        ("TranscriptionFailed", Operation("startTranscription", Failed)),
        ("MediaStreamingStarted", Operation("startMediaStreaming", Running)),
        ("MediaStreamingStopped", Operation("startMediaStreaming", Completed)),
        ("MediaStreamingFailed", Operation("startMediaStreaming", Failed)),
        ("DialogStarted", Operation("startDialog", Running)),
        ("DialogConsent", Operation("startDialog", Running)),
        ("DialogHangup", Operation("startDialog", Running)),
        ("DialogLanguageChange", Operation("startDialog", Running)),
        ("DialogSensitivityUpdate", Operation("startDialog", Running)),
        ("DialogTransfer", Operation("startDialog", Running)),
        ("DialogCompleted", Operation("startDialog", Completed)),
        ("DialogFailed", Operation("startDialog", Failed)),
        ("TeamsRecordingStateChanged", Other("teamsRecording")),
        ("TeamsComplianceRecordingStateChanged", Other("teamsComplianceRecording")),
    ]
};

const TONE_RECEIVED: &str = "ContinuousDtmfRecognitionToneReceived";

impl Kind {
    /// What an event of this type is about; `None` if the type is unknown.
    pub fn of(event: &str) -> Option<Self> {
        let name = communication_event(event)?;
        KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }
}

/// Whether an event of this type brings a tone.
pub(super) fn is_tone(event: &str) -> bool {
    communication_event(event) == Some(TONE_RECEIVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_56_types_each_once() {
        let mut names: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 56);
        assert_eq!(KINDS.len(), 56);
    }
}
