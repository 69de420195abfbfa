//! What a bot asks of Graph, and the operation that it begins: the actions of `call` in the reference of cloud communications.

use crate::{domain::request::Cancels, source::Asked};

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
const CANCEL: &str = "cancelMediaProcessing";

/// What a request of this name, or one that begins an operation of this kind, asks for.
pub(super) fn asked(request: &str) -> Option<Asked> {
    let (name, kind) = REQUESTS.iter().find(|(name, kind)| *name == request || *kind == request)?;
    let kinds = || vec!["playPromptOperation".to_owned(), "recordOperation".to_owned()];
    Some(Asked { kind, cancels: (*name == CANCEL).then(|| Cancels::Media { kinds: kinds(), all: true }) })
}
