//! What a notification says about the people in a call.
//!
//! A roster tells who is there, not who came or went; `deltaParticipants` tells what changed. How many they name is a fact in the
//! clear, who they are is personal.

use serde_json::{Map, Value, json};

use crate::source::json::{self, Fields};

/// The participants that the data of an item names.
pub(super) fn participants<'a>(data: &'a json::Value<'a>) -> Vec<Fields<'a>> {
    let fields = Fields::of(data);
    let list = match data {
        json::Value::Array(list) => list.as_slice(),
        _ if fields.value("participants").is_some() => fields.list("participants"),
        _ => std::slice::from_ref(data),
    };
    list.iter().map(Fields::of).filter(|participant| participant.0.is_some()).collect()
}

/// How many are in the call: those that the platform did not remove (`removedState`, on rosters that tell changes).
pub(super) fn count(participants: &[Fields<'_>]) -> u32 {
    let present = participants.iter().filter(|participant| participant.object("removedState").0.is_none()).count();
    u32::try_from(present).unwrap_or(u32::MAX)
}

/// The order of rosters: `deltaParticipants.sequenceNumber`, else the greatest `participant.rosterSequenceNumber`.
pub(super) fn sequence(data: Fields<'_>, participants: &[Fields<'_>]) -> Option<i64> {
    let newest = || participants.iter().filter_map(|participant| participant.number("rosterSequenceNumber")).max();
    data.number("sequenceNumber").or_else(newest)
}

/// Who they are.
pub(super) fn personal(participants: &[Fields<'_>]) -> Option<Value> {
    let people: Vec<Value> = participants.iter().map(|participant| person(*participant)).collect();
    (!people.is_empty()).then(|| json!({ "participants": people }))
}

/// Who is gone (`participantleftnotification`).
pub(super) fn personal_of_leaver(data: Fields<'_>) -> Option<Value> {
    data.text("participantId").map(|id| json!({ "participants": [{ "id": id }] }))
}

fn person(participant: Fields<'_>) -> Value {
    let mut person = Map::new();
    let mut keep = |key: &str, value: Option<Value>| value.and_then(|value| person.insert(key.to_owned(), value));
    keep("id", participant.text("id").map(Value::from));
    for (kind, identity) in participant.object("info").object("identity").each() {
        let identity = Fields::of(identity);
        let Some(id) = identity.text("id") else { continue };
        keep(if kind == "phone" { "phone" } else { "identityId" }, Some(Value::from(id)));
        keep("displayName", identity.text("displayName").map(Value::from));
    }
    keep("isMuted", participant.flag("isMuted").map(Value::from));
    keep("isInLobby", participant.flag("isInLobby").map(Value::from));
    Value::Object(person)
}
