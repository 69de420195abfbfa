//! An event in, a notification out. All members of `data` are optional: which ones are sent differs by api-version.

use std::sync::Arc;

use super::{
    kind::{Kind, START_RECORDING, is_tone},
    people,
};
use crate::{
    domain::{
        call::{CallFact, CallState},
        ids::PlatformId,
        notification::{Fact, Facts, Notification},
        operation::{OperationFact, State},
        result::ResultInfo,
        text,
    },
    source::{
        cloud_events::{Event, Said, incoming_call, unknown_kind},
        identity::identity_of,
        json::Fields,
    },
};

/// What an event says.
pub(super) fn notification(event: &Event<'_>) -> Notification {
    let kind = Kind::of(&event.kind);
    let data = event.fields();
    let said = match kind {
        Some(Kind::Operation(kind, state)) => about_operation(event, kind, state),
        Some(Kind::Recording) => about_recording(event),
        Some(Kind::Connected) => about_call(event, CallState::Established),
        Some(Kind::Disconnected) => about_call(event, CallState::Terminated),
        Some(Kind::Incoming) => incoming_call(event),
        Some(Kind::Participants) => {
            let participants = data.list("participants");
            let told = said(event, "participants", "participants", Fact::Participants(people::count(participants)));
            Said { people: people::named(participants), ..told }
        }
        Some(Kind::Other(kind)) => said(event, kind, kind, Fact::Other),
        None => Said { recognized: false, ..said(event, &unknown_kind(&event.kind), "other", Fact::Other) },
    };
    event.notification(said)
}

fn said(event: &Event<'_>, kind: &str, subject: &str, fact: Fact) -> Said {
    let data = event.fields();
    let call = call(event);
    // tones and rosters have an order of their own
    let sequence = data.number("sequenceNumber").or_else(|| data.number("sequenceId"));
    Said {
        recognized: true,
        call,
        subject: subject.to_owned(),
        facts: Facts { sequence, ..Facts::new(kind.to_owned(), event.shown_kind(), fact) },
        personal: people::personal(data),
        people: Vec::new(),
    }
}

/// The `callConnectionId` in the data; without one, the one in the event's subject or source
/// (`calling/callConnections/<id>[/<event>]`).
fn call(event: &Event<'_>) -> Option<PlatformId> {
    let named = |place: &Option<String>| {
        let (_, behind) = place.as_deref()?.split_once("callConnections/")?;
        PlatformId::parse(behind.split('/').next()?)
    };
    let told = event.fields().text("callConnectionId").and_then(PlatformId::parse);
    told.or_else(|| named(&event.subject)).or_else(|| named(&event.source))
}

fn context(data: Fields<'_>) -> Option<String> {
    data.text("operationContext").map(str::to_owned)
}

fn about_call(event: &Event<'_>, state: CallState) -> Said {
    let data = event.fields();
    let fact = CallFact {
        state: Some(state),
        result: result(data),
        context: context(data),
        releases: state == CallState::Terminated,
        ..CallFact::default()
    };
    said(event, "call", "", Fact::Call(fact))
}

fn about_operation(event: &Event<'_>, kind: &str, state: State) -> Said {
    let data = event.fields();
    let context = context(data);
    let recording = data.text("recordingId").filter(|_| kind == START_RECORDING);
    // of an operation that has none, the invitation that it takes back is the nearest that the platform has to an id
    let id = recording.or_else(|| data.text("invitationId")).and_then(PlatformId::parse);
    let fact = OperationFact {
        operation_id: id,
        kind: Some(kind.to_owned()),
        context: context.clone(),
        state,
        inferred: false,
        recurs: true,
        tone: is_tone(&event.kind),
        result: result(data),
    };
    said(event, kind, &subject(kind, recording.or(context.as_deref())), Fact::Operation(Arc::new(fact)))
}

/// A recording is known by its id: its events repeat no context.
fn about_recording(event: &Event<'_>) -> Said {
    match event.fields().text("state") {
        Some(state) if state.eq_ignore_ascii_case("active") => about_operation(event, START_RECORDING, State::Running),
        Some(state) if state.eq_ignore_ascii_case("inactive") => about_operation(event, START_RECORDING, State::Completed),
        _ => said(event, START_RECORDING, START_RECORDING, Fact::Other),
    }
}

/// The longest tag that a subject spells out (bytes).
const SPELLED: usize = 128;

/// Facts of one kind and tag tell one story at a time. A tag that is long or not plain text stands for itself by its hash.
fn subject(kind: &str, tag: Option<&str>) -> String {
    let Some(tag) = tag.and_then(PlatformId::parse) else { return kind.to_owned() };
    let tag = tag.as_str();
    if tag.len() <= SPELLED && !tag.contains(char::is_control) {
        return format!("{kind}/{tag}");
    }
    let identity = u128::from_be_bytes(identity_of(&[tag.as_bytes()]).0);
    format!("{kind}/#{identity:032x}")
}

/// `resultInformation`. What the telephone network says of itself (api-version 2026-03-12) is the reason.
fn result(data: Fields<'_>) -> ResultInfo {
    let info = data.object("resultInformation");
    let network = [("SIP", "sipDetails"), ("Q.850", "q850Details")].into_iter().filter_map(|(name, member)| {
        let details = info.object(member);
        let code = details.number("code").filter(|code| *code != 0)?;
        let message = details.text("message").map(text::without_telephone_numbers).unwrap_or_default();
        Some(format!("{name} {code} {message}").trim_end().to_owned())
    });
    let reason = network.collect::<Vec<_>>().join(", ");
    ResultInfo {
        code: info.number("code"),
        subcode: info.number("subCode").or_else(|| info.number("subcode")),
        message: info.text("message").map(text::without_telephone_numbers),
        reason: (!reason.is_empty()).then_some(reason),
    }
}
