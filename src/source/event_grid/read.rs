//! Events in, notifications out.

use serde_json::json;

use crate::{
    domain::{
        ids::PlatformId,
        notification::{Fact, Facts, Notification},
    },
    source::{
        Inbound, Reading, Reply, Unreadable,
        cloud_events::{Event, Said, communication_event, incoming_call, unknown_kind},
        json::text,
    },
};

/// The events that tell something, but no call's state: their type, and what we call them.
const KINDS: &[(&str, &str)] = &[
    ("Microsoft.Communication.RecordingFileStatusUpdated", "recordingFileStatus"),
    ("Microsoft.Communication.CallStarted", "callStarted"),
    ("Microsoft.Communication.CallEnded", "callEnded"),
    ("Microsoft.Communication.CallParticipantAdded", "callParticipantAdded"),
    ("Microsoft.Communication.CallParticipantRemoved", "callParticipantRemoved"),
    (VALIDATION, "subscriptionValidation"),
    ("Microsoft.EventGrid.SubscriptionDeletedEvent", "subscriptionDeleted"),
];

/// Asks whether we want a subscription's events.
const VALIDATION: &str = "Microsoft.EventGrid.SubscriptionValidationEvent";

/// Reads a body that came from an authenticated caller.
pub(super) fn read(inbound: &Inbound<'_>) -> Result<Reading, Unreadable> {
    let body = text(inbound.body);
    let events = Event::all(inbound.head, &body)?;
    let code = events.iter().find(|event| event.kind == VALIDATION).and_then(|event| event.fields().text("validationCode"));
    let reply = code.map_or(Reply::Done, |code| Reply::Json(json!({ "validationResponse": code })));
    Ok(Reading { notifications: events.iter().map(notification).collect(), reply })
}

fn notification(event: &Event<'_>) -> Notification {
    let said = if communication_event(&event.kind) == Some("IncomingCall") { incoming_call(event) } else { other(event) };
    event.notification(said)
}

/// It names no call that Call Automation would know by this name. The conversation or the recording that it names leads to the
/// calls it is about.
fn other(event: &Event<'_>) -> Said {
    let known = KINDS.iter().find(|(name, _)| *name == event.kind).map(|(_, kind)| (*kind).to_owned());
    let recognized = known.is_some();
    let kind = known.unwrap_or_else(|| unknown_kind(&event.kind));
    let place = Place::of(event.subject.as_deref().unwrap_or_default());
    Said {
        call: None,
        subject: kind.clone(),
        recognized,
        facts: Facts {
            recording_id: place.recording_id.and_then(PlatformId::parse),
            server_call_id: place.server_call_id.and_then(PlatformId::parse),
            ..Facts::new(kind, event.shown_kind(), Fact::Other)
        },
        personal: None,
        people: Vec::new(),
    }
}

/// What the subject of a recording's event names:
/// `/recording/call/<call>[/serverCallId/<id>][/recordingId/<id>]`. The ids are base64 and can hold slashes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Place<'a> {
    server_call_id: Option<&'a str>,
    recording_id: Option<&'a str>,
}

impl<'a> Place<'a> {
    fn of(subject: &'a str) -> Self {
        let Some(call) = subject.strip_prefix("/recording/call/") else { return Self::default() };
        let (call, recording_id) = call.split_once("/recordingId/").map_or((call, None), |(call, id)| (call, Some(id)));
        // older events name the conversation as the call
        let server_call_id = call.split_once("/serverCallId/").map_or(call, |(_, id)| id);
        Self { server_call_id: Some(server_call_id), recording_id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_names_conversation_and_recording_in_every_form() {
        let place = |subject| {
            let Place { server_call_id, recording_id } = Place::of(subject);
            (server_call_id, recording_id)
        };
        assert_eq!(place("/recording/call/c1/serverCallId/aH/R0=/recordingId/ey/J="), (Some("aH/R0="), Some("ey/J=")));
        assert_eq!(place("/recording/call/aHR0/recordingId/eyJ"), (Some("aHR0"), Some("eyJ")));
        assert_eq!(place("/recording/call/c1/serverCallId/aHR0"), (Some("aHR0"), None));
        assert_eq!(place("/caller/x/recipient/y"), (None, None));
    }
}
