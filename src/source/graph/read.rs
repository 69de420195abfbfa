//! Bytes in, facts out.

use std::sync::Arc;

use serde_json::{Value, json, value::RawValue};

use super::{
    call,
    identity::identity,
    kind::{JOINING, Kind, Shape},
    operation, people,
    resource::{Part, Resource},
    wire::Envelope,
};
use crate::{
    domain::{
        ids::PlatformId,
        notification::{Fact, Facts, Notification},
        operation::OperationFact,
        text,
    },
    source::{
        Answers, Inbound, JoinAnswer, Reading, Reply, Unreadable,
        json::{self, Fields, Item, text as text_of},
    },
};

/// Reads a body that came from an authenticated caller.
pub(super) fn read(inbound: &Inbound<'_>) -> Result<Reading, Unreadable> {
    let message_id = inbound.correlation.message_id.as_deref();
    match Envelope::parse(&text_of(inbound.body))? {
        Envelope::Notifications(items) => {
            let notifications: Vec<Notification> = items.iter().map(|item| notification(item, message_id)).collect();
            let reply = reply(&notifications, inbound.answers);
            Ok(Reading { notifications, reply })
        }
        Envelope::LegacySkype { json } => {
            Ok(Reading { notifications: vec![legacy_incoming_call(json, message_id)], reply: Reply::SpeakGraph })
        }
    }
}

/// An item as it was written; of the older protocol, the body.
pub(super) fn item(body: &[u8], place: usize) -> Option<Box<RawValue>> {
    let json = match Envelope::parse(&text_of(body)).ok()? {
        Envelope::Notifications(items) => items.get(place)?.json.to_owned(),
        Envelope::LegacySkype { json } => json.to_owned(),
    };
    RawValue::from_string(json).ok()
}

/// Whether this answers a participant who wants to join (`participantjoiningnotification`).
pub(super) fn is_decision(answer: &Value) -> bool {
    let named = answer.get("@odata.type").and_then(Value::as_str).unwrap_or_default();
    ["acceptJoinResponse", "rejectJoinResponse", "inviteNewBotResponse"]
        .iter()
        .any(|known| named.trim_start_matches('#') == format!("microsoft.graph.{known}"))
}

/// The call will come again as a Graph notification; this one only says that the platform tried the old protocol first.
fn legacy_incoming_call(json: &str, message_id: Option<&str>) -> Notification {
    Notification {
        call: None,
        subject: "legacy".to_owned(),
        identity: identity(message_id, json),
        named: false,
        facts: Facts::new("legacyIncomingCall".to_owned(), "created".to_owned(), Fact::Other),
        recognized: true,
        personal: None,
        people: Vec::new(),
    }
}

/// An item, with what was found out about it so far.
struct Found<'a> {
    /// `resourceData` as it is; `Null` if there is none.
    data: &'a json::Value<'a>,
    /// The entity in it: itself, or the first one of a list.
    entity: Fields<'a>,
    change: String,
    resource: Option<Resource>,
    kind: Kind,
}

impl<'a> Found<'a> {
    fn of(item: &'a Item<'_>) -> Self {
        let item = item.fields();
        let data = item.value("resourceData").unwrap_or(&json::Value::Null);
        let entity = entity(data);
        let resource = Resource::of(item, entity);
        let kind = Kind::of(entity, resource.as_ref().map(|resource| &resource.part));
        Self { data, entity, change: change(item), resource, kind }
    }

    /// The call in the URL; without one, the call that the data is or holds (`participantjoiningnotification`).
    fn call(&self) -> Option<PlatformId> {
        let told = || match self.kind.shape {
            Shape::Call => self.entity.text("id"),
            Shape::Joining | Shape::Left => self.entity.object("call").text("id"),
            _ => None,
        };
        self.resource.as_ref().map(|resource| resource.call.clone()).or_else(|| PlatformId::parse(told()?))
    }

    /// The operation in the URL; without one, the operation that the data says it is.
    fn operation(&self) -> Option<PlatformId> {
        match self.resource.as_ref().map(|resource| &resource.part) {
            Some(Part::Operation(Some(id))) => Some(id.clone()),
            _ => PlatformId::parse(self.entity.text("id")?),
        }
    }
}

/// `resourceData` is "either an entity or a collection of entities" (`commsnotification`). Calls and operations were never seen
/// in a collection; should one come, its first tells the story and the body keeps the others.
fn entity<'a>(data: &'a json::Value<'a>) -> Fields<'a> {
    match data {
        json::Value::Array(list) => {
            let typed = list.iter().map(Fields::of).find(|entity| entity.text("@odata.type").is_some());
            typed.or_else(|| list.first().map(Fields::of)).unwrap_or(Fields(None))
        }
        _ => Fields::of(data),
    }
}

/// `changeType` in one spelling. One that is missing counts as `updated`, with which nothing begins and nothing ends;
/// one that is unknown is kept as it is spelled.
fn change(item: Fields<'_>) -> String {
    let spelled = item.text("changeType").unwrap_or("updated").trim();
    ["created", "updated", "deleted"]
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(spelled))
        .map_or_else(|| text::tame(spelled), str::to_owned)
}

fn notification(item: &Item<'_>, message_id: Option<&str>) -> Notification {
    let found = Found::of(item);
    let call = found.call();
    let said = if call.is_some() { said(&found) } else { Said::nothing(String::new()) };
    // the end of an operation comes once, whichever request brings it
    let ends_once = found.change == "deleted" && matches!(said.fact, Fact::Operation(_));
    Notification {
        identity: identity(message_id.filter(|_| !ends_once), item.json),
        recognized: found.kind.recognized && call.is_some(),
        call,
        subject: said.subject,
        named: false,
        // no body has a time
        facts: Facts { sequence: said.sequence, ..Facts::new(found.kind.name, found.change, said.fact) },
        personal: said.personal,
        people: Vec::new(),
    }
}

/// What an item says, and about what of the call.
struct Said {
    subject: String,
    fact: Fact,
    sequence: Option<i64>,
    personal: Option<Value>,
}

impl Said {
    fn nothing(subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), fact: Fact::Other, sequence: None, personal: None }
    }
}

fn said(found: &Found<'_>) -> Said {
    match found.kind.shape {
        Shape::Call => Said {
            subject: String::new(),
            fact: Fact::Call(call::fact(found.entity, &found.change)),
            sequence: call::sequence(found.entity),
            personal: call::personal(found.entity),
        },
        Shape::Operation => about_operation(found),
        Shape::Participants => about_participants(found),
        Shape::Joining => Said::nothing("participantJoining"),
        Shape::Left => Said { personal: people::personal_of_leaver(found.entity), ..Said::nothing("participantLeft") },
        Shape::ContentSharing => Said::nothing("contentSharingSessions"),
        Shape::AudioRouting => Said::nothing("audioRoutingGroups"),
        Shape::CallEvent => Said::nothing("callEvents"),
        Shape::Unknown => Said::nothing(place(found)),
    }
}

fn about_operation(found: &Found<'_>) -> Said {
    let kind = found.kind.named.then(|| found.kind.name.clone());
    let fact = operation::fact(found.entity, &found.change, found.operation(), kind);
    let subject = operation_subject(&fact);
    Said { fact: Fact::Operation(Arc::new(fact)), ..Said::nothing(subject) }
}

/// An operation that has no id is known by its kind and the caller's tag, the next best that the platform gives.
fn operation_subject(fact: &OperationFact) -> String {
    if let Some(id) = &fact.operation_id {
        return format!("operations/{id}");
    }
    let kind = fact.kind.as_deref().unwrap_or_default();
    let context = fact.context.as_deref().map(text::tame).unwrap_or_default();
    format!("operations/?{kind}/{context}")
}

fn about_participants(found: &Found<'_>) -> Said {
    let participants = people::participants(found.data);
    Said {
        subject: "participants".to_owned(),
        fact: Fact::Participants(people::count(&participants)),
        sequence: people::sequence(found.entity, &participants),
        personal: people::personal(&participants),
    }
}

/// Where something of an unknown type lives.
fn place(found: &Found<'_>) -> String {
    match found.resource.as_ref().map(|resource| &resource.part) {
        Some(Part::Call) | None => String::new(),
        Some(Part::Operation(Some(id))) => format!("operations/{id}"),
        Some(Part::Operation(None)) => "operations".to_owned(),
        Some(Part::Participants) => "participants".to_owned(),
        Some(Part::ContentSharingSessions) => "contentSharingSessions".to_owned(),
        Some(Part::AudioRoutingGroups) => "audioRoutingGroups".to_owned(),
        Some(Part::Unknown(collection)) => collection.clone(),
    }
}

/// A participant who wants to join a recorded call waits for an answer (`participantjoiningnotification`), also
/// when we could not tell which call it is.
fn reply(notifications: &[Notification], answers: &Answers) -> Reply {
    if !notifications.iter().any(|notification| notification.facts.kind == JOINING) {
        return Reply::Accepted;
    }
    Reply::Decision(match &answers.participant_joining {
        JoinAnswer::Accept => json!({ "@odata.type": "#microsoft.graph.acceptJoinResponse" }),
        JoinAnswer::Reject(reason) => json!({ "@odata.type": "#microsoft.graph.rejectJoinResponse", "reason": reason }),
    })
}
