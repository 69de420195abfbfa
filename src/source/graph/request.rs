//! What a bot asks of Graph, and the operation that it begins: the actions of `call` in the reference of cloud communications.

use crate::{
    domain::{ids::PlatformId, request::Cancels},
    source::{
        Asked, Outgoing, Understood,
        json::{Fields, Value},
    },
};

/// The request's name, and the kind of its operation. Those that Graph gives no operation are called by their own name.
const REQUESTS: &[(&str, &str)] = &[
    ("createCall", "createCall"),
    ("deleteCall", "deleteCall"),
    ("answer", "answer"),
    ("reject", "reject"),
    ("redirect", "redirect"),
    ("transfer", "transfer"),
    ("keepAlive", "keepAlive"),
    ("changeScreenSharingRole", "changeScreenSharingRole"),
    ("playPrompt", "playPromptOperation"),
    ("record", "recordOperation"),
    ("recordResponse", "recordOperation"),
    (CANCEL, "cancelMediaProcessingOperation"),
    ("subscribeToTone", "subscribeToToneOperation"),
    ("sendDtmfTones", "sendDtmfTonesOperation"),
    ("mute", "muteParticipantOperation"),
    ("unmute", "unmuteParticipantOperation"),
    ("invite", "inviteParticipantsOperation"),
    ("startHoldMusic", "startHoldMusicOperation"),
    ("stopHoldMusic", "stopHoldMusicOperation"),
    ("updateRecordingStatus", "updateRecordingStatusOperation"),
    ("addLargeGalleryView", "addLargeGalleryViewOperation"),
];

/// Cancels what plays and records, "any operation that is in-process as well as operations that are queued", but not
/// `subscribeToTone` (`call-cancelmediaprocessing`).
pub(super) const CANCEL: &str = "cancelMediaProcessing";

/// What a request of this name, or one that begins an operation of this kind, asks for.
pub(super) fn asked(request: &str) -> Option<Asked> {
    let (name, kind) = REQUESTS.iter().find(|(name, kind)| *name == request || *kind == request)?;
    let kinds = || vec!["playPromptOperation".to_owned(), "recordOperation".to_owned()];
    Some(Asked { kind, cancels: (*name == CANCEL).then(|| Cancels::Media { kinds: kinds(), all: true }) })
}

/// What a request asks for: `POST …/calls`, `DELETE …/calls/<id>`, `POST …/calls/<id>[/participants[/<id>]]/<action>`, the action
/// also in its bound form (`/microsoft.graph.playPrompt`), under `/communications`, `/app` or `/applications/<id>`.
pub(super) fn understood(request: &Outgoing<'_>) -> Option<Understood> {
    let mut parts = request.path.split('/').filter(|part| !part.is_empty());
    let is = |part: Option<&str>, name: &str| part.is_some_and(|part| part.eq_ignore_ascii_case(name));
    let version = parts.next();
    let root = parts.next();
    if !(is(version, "v1.0") || is(version, "beta")) {
        return None;
    }
    if is(root, "applications") {
        parts.next()?;
    } else if !(is(root, "communications") || is(root, "app")) {
        return None;
    }
    if !is(parts.next(), "calls") {
        return None;
    }
    let call = parts.next();
    let rest: Vec<&str> = parts.collect();
    let name = match (request.method, call, rest.as_slice()) {
        ("POST", None, _) => "createCall",
        ("DELETE", Some(_), []) => "deleteCall",
        ("POST", Some(_), [action]) => action_named(action, false)?,
        ("POST", Some(_), [participants, action]) if is(Some(participants), "participants") => action_named(action, true)?,
        ("POST", Some(_), [participants, _, action]) if is(Some(participants), "participants") => action_named(action, true)?,
        _ => return None,
    };
    let body: Value<'_> = serde_json::from_slice(request.body).unwrap_or_default();
    let fields = Fields::of(&body);
    let asked = asked(name)?;
    // the beta of 2018: "indicates whether to stop all operations or the current one"
    let all = fields.flag("all").unwrap_or(true);
    Some(Understood {
        name: REQUESTS.iter().find(|(known, _)| *known == name).map(|(known, _)| *known)?,
        kind: asked.kind,
        repeatable: false,
        call: call.and_then(PlatformId::parse),
        conversation: None,
        acts_on: None,
        shows: None,
        context: fields.text("clientContext").map(str::to_owned),
        cancels: asked.cancels.map(|cancels| match cancels {
            Cancels::Media { kinds, .. } => Cancels::Media { kinds, all },
            invitation @ Cancels::Invitation(_) => invitation,
        }),
    })
}

/// An action of a call, or of its participants.
fn action_named(action: &str, of_participants: bool) -> Option<&'static str> {
    let name = action.strip_prefix("microsoft.graph.").unwrap_or(action);
    let known = REQUESTS.iter().map(|(known, _)| *known).find(|known| known.eq_ignore_ascii_case(name))?;
    let of_both = matches!(known, "mute" | "startHoldMusic" | "stopHoldMusic");
    let of_participants_alone = matches!(known, "invite");
    let is_action = !matches!(known, "createCall" | "deleteCall");
    (is_action && (of_both || of_participants == of_participants_alone)).then_some(known)
}
