//! What a bot asks of Call Automation, and the operation that it begins: the operations of its REST API, called as the API's models
//! call them.

use super::people;
use crate::{
    domain::{
        ids::PlatformId,
        people::{Condition, NamedPerson},
        request::Cancels,
    },
    source::{
        Asked, Outgoing, Understood,
        json::{Fields, Value},
    },
};

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

/// The actions of the service, of a call, of its participants and of a recording: the part behind the colon, and the request.
const ACTIONS: &[(Of, &str, &str)] = {
    use Of::{Call, Participants, Recording, Service};
    &[
        (Service, "answer", "answerCall"),
        (Service, "redirect", "redirectCall"),
        (Service, "reject", "rejectCall"),
        (Service, "connect", "connect"),
        (Call, "terminate", "terminateCall"),
        (Call, "transferToParticipant", "transferCall"),
        (Call, "play", "play"),
        (Call, "recognize", "recognize"),
        (Call, "cancelAllMediaOperations", CANCEL_MEDIA),
        (Call, "hold", "hold"),
        (Call, "unhold", "unhold"),
        (Call, "sendDtmfTones", "sendDtmfTones"),
        (Call, "startContinuousDtmfRecognition", "startContinuousDtmf"),
        (Call, "stopContinuousDtmfRecognition", "stopContinuousDtmf"),
        (Call, "startTranscription", "startTranscription"),
        (Call, "updateTranscription", "updateTranscription"),
        (Call, "stopTranscription", "stopTranscription"),
        (Call, "startMediaStreaming", "startMediaStreaming"),
        (Call, "stopMediaStreaming", "stopMediaStreaming"),
        (Participants, "add", "addParticipant"),
        (Participants, "remove", "removeParticipant"),
        (Participants, "mute", "mute"),
        (Participants, "moveHere", "moveParticipants"),
        (Participants, "cancelAddParticipant", "cancelAddParticipant"),
        (Recording, "pause", "pauseRecording"),
        (Recording, "resume", "resumeRecording"),
    ]
};

/// The operations whose second copy the service recognises by its `Repeatability-Request-ID`: those for which its SDKs send one.
const REPEATABLE: &[&str] = &[
    "createCall",
    "answerCall",
    "redirectCall",
    "rejectCall",
    "connect",
    "terminateCall",
    "transferCall",
    "addParticipant",
    "removeParticipant",
    "mute",
    "cancelAddParticipant",
    "moveParticipants",
    "sendDtmfTones",
    "startRecording",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Service,
    Call,
    Participants,
    Recording,
}

/// What a request asks for: the paths of the REST API, `/calling/callConnections…` and `/calling/recordings…`.
pub(super) fn understood(request: &Outgoing<'_>) -> Option<Understood> {
    let parts: Vec<&str> = request.path.split('/').filter(|part| !part.is_empty()).collect();
    let action = |of: Of, part: &str| {
        let (_, name) = part.split_once(':')?;
        ACTIONS.iter().find(|(known, action, _)| *known == of && action.eq_ignore_ascii_case(name)).map(|(_, _, name)| *name)
    };
    let (name, call) = match (request.method, parts.as_slice()) {
        ("POST", ["calling", "callConnections"]) => ("createCall", None),
        ("POST", ["calling", service]) if service.starts_with("callConnections:") => (action(Of::Service, service)?, None),
        ("DELETE", ["calling", "callConnections", call]) if !call.contains(':') => ("hangUp", Some(*call)),
        ("POST", ["calling", "callConnections", call]) => (action(Of::Call, call)?, call.split(':').next()),
        ("POST", ["calling", "callConnections", call, people]) if people.starts_with("participants:") => {
            (action(Of::Participants, people)?, Some(*call))
        }
        ("POST", ["calling", "recordings"]) => ("startRecording", None),
        ("DELETE", ["calling", "recordings", recording]) if !recording.contains(':') => ("stopRecording", None),
        ("POST", ["calling", "recordings", recording]) => (action(Of::Recording, recording)?, None),
        _ => return None,
    };
    let body: Value<'_> = serde_json::from_slice(request.body).unwrap_or_default();
    let fields = Fields::of(&body);
    let asked = asked(name)?;
    let invitation = || Some(Cancels::Invitation(PlatformId::parse(fields.text("invitationId")?)?));
    let recording = match parts.as_slice() {
        ["calling", "recordings", recording] => recording.split(':').next().and_then(PlatformId::parse),
        _ => None,
    };
    // a recording can name its call; else its conversation alone is known
    let call = call.or_else(|| fields.text("callConnectionId").filter(|_| name == "startRecording"));
    let shows = shown_by_roster(name, fields);
    Some(Understood {
        name: asked.kind,
        kind: asked.kind,
        repeatable: REPEATABLE.contains(&name),
        call: call.and_then(PlatformId::parse),
        conversation: fields
            .object("callLocator")
            .text("serverCallId")
            .and_then(PlatformId::parse)
            .filter(|_| name == "startRecording"),
        acts_on: recording,
        shows,
        context: fields.text("operationContext").map(str::to_owned),
        cancels: if name == "cancelAddParticipant" { invitation() } else { asked.cancels },
    })
}

/// Of what no event tells: only the next roster shows it.
fn shown_by_roster(name: &str, fields: Fields<'_>) -> Option<NamedPerson> {
    let condition = match name {
        "hold" => Condition { on_hold: Some(true), ..Condition::default() },
        "unhold" => Condition { on_hold: Some(false), ..Condition::default() },
        "mute" => Condition { muted: Some(true), ..Condition::default() },
        _ => return None,
    };
    let target = fields.value("targetParticipant").or_else(|| fields.list("targetParticipants").first())?;
    Some(NamedPerson { raw_id: people::raw_id(target)?, condition })
}
