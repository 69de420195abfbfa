//! What a notification is about, as far as its `@odata.type` tells.
//!
//! A type that we know decides; else the URL does.

use super::resource::Part;
use crate::{
    domain::{operation::UNTYPED, text},
    source::json::Fields,
};

/// What a notification is about, and what the platform calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// The platform's own name.
    pub name: String,
    /// How to read it.
    pub shape: Shape,
    /// Whether the platform said the name, or we took it from the URL.
    pub named: bool,
    /// Whether it is documented.
    pub recognized: bool,
}

/// How to read the data of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A call.
    Call,
    /// A `commsOperation`, or what derives from it.
    Operation,
    /// People in the call.
    Participants,
    /// A question: may this participant join?
    Joining,
    /// A participant of a recorded call is gone.
    Left,
    /// Sharing of content.
    ContentSharing,
    /// Who hears whom.
    AudioRouting,
    /// An event of the call as a whole, which the platform otherwise sends through `/subscriptions`.
    CallEvent,
    /// Nothing that is documented.
    Unknown,
}

/// The one type that demands an answer.
pub(super) const JOINING: &str = "participantJoiningNotification";

/// The types of the CSDL (msgraph-metadata, `v1.0-Prod.csdl`), and those of `beta`, that may come.
const KNOWN: &[(&str, Shape)] = &[
    ("call", Shape::Call),
    ("participant", Shape::Participants),
    ("deltaParticipants", Shape::Participants),
    (UNTYPED, Shape::Operation), // transfer and cancel in the beta of 2019, configureMixer to this day
    ("addLargeGalleryViewOperation", Shape::Operation),
    ("cancelMediaProcessingOperation", Shape::Operation),
    ("inviteParticipantsOperation", Shape::Operation),
    ("muteParticipantOperation", Shape::Operation),
    ("muteParticipantsOperation", Shape::Operation),
    ("playPromptOperation", Shape::Operation),
    ("recordOperation", Shape::Operation),
    ("sendDtmfTonesOperation", Shape::Operation),
    ("startHoldMusicOperation", Shape::Operation),
    ("stopHoldMusicOperation", Shape::Operation),
    ("subscribeToToneOperation", Shape::Operation),
    ("unmuteParticipantOperation", Shape::Operation),
    ("updateRecordingStatusOperation", Shape::Operation),
    (JOINING, Shape::Joining),
    ("participantLeftNotification", Shape::Left),
    ("contentSharingSession", Shape::ContentSharing),
    ("audioRoutingGroup", Shape::AudioRouting),
    ("callEvent", Shape::CallEvent),
    ("emergencyCallEvent", Shape::CallEvent),
];

impl Kind {
    /// The kind of `data` at a place in a call.
    pub fn of(data: Fields<'_>, part: Option<&Part>) -> Self {
        match data.text("@odata.type").and_then(bare_name) {
            Some(name) => Self::by_name(name, part),
            None => Self::by_place(part),
        }
    }

    fn by_name(name: &str, part: Option<&Part>) -> Self {
        if let Some((name, shape)) = KNOWN.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            return Self { name: (*name).to_owned(), shape: *shape, named: true, recognized: true };
        }
        let name = text::tame(name);
        if matches!(part, Some(Part::Operation(_))) {
            // Operations are open types and more of them come every year: what lives among them has the life of one, even
            // if we do not know its name.
            return Self { name, shape: Shape::Operation, named: true, recognized: false };
        }
        Self { name, shape: Shape::Unknown, named: true, recognized: false }
    }

    fn by_place(part: Option<&Part>) -> Self {
        let (name, shape) = match part {
            Some(Part::Call) => ("call", Shape::Call),
            Some(Part::Operation(_)) => (UNTYPED, Shape::Operation),
            Some(Part::Participants) => ("participant", Shape::Participants),
            Some(Part::ContentSharingSessions) => ("contentSharingSession", Shape::ContentSharing),
            Some(Part::AudioRoutingGroups) => ("audioRoutingGroup", Shape::AudioRouting),
            Some(Part::Unknown(collection)) => (collection.as_str(), Shape::Unknown),
            None => ("unknown", Shape::Unknown),
        };
        Self { name: name.to_owned(), shape, named: false, recognized: shape != Shape::Unknown }
    }
}

/// `#microsoft.graph.call` without what is the same for all; the `#` and the case are not reliable.
fn bare_name(spelled: &str) -> Option<&str> {
    const PREFIX: &str = "microsoft.graph.";
    let name = spelled.trim().trim_start_matches('#');
    let name = match name.split_at_checked(PREFIX.len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => rest,
        _ => name,
    };
    (!name.is_empty()).then_some(name)
}
