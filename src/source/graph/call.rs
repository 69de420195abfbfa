//! What a notification says about the call itself.

use serde_json::{Map, Value};

use super::operation::result;
use crate::{
    domain::{
        call::{CallFact, CallState, Direction},
        ids::PlatformId,
        text,
    },
    source::json::Fields,
};

/// The fact in the data of a call.
pub(super) fn fact(data: Fields<'_>, change: &str) -> CallFact {
    CallFact {
        state: state(data, change),
        direction: data.text("direction").and_then(|name| Direction::parse(name.trim())),
        chain_id: data.text("callChainId").and_then(PlatformId::parse).map(|id| text::tame(id.as_str())),
        result: result(data),
        tone: data.object("toneInfo").0.is_some(),
        context: None,
        releases: false,
    }
}

/// A call that is removed is over, with a state or (`call-reject`) without one. The beta of March 2018 said `callState`.
fn state(data: Fields<'_>, change: &str) -> Option<CallState> {
    if change == "deleted" {
        return Some(CallState::Terminated);
    }
    ["state", "callState"].into_iter().find_map(|key| CallState::parse(data.text(key)?.trim()))
}

/// The order of tones: "incremental identifier used for ordering DTMF events" (`toneinfo`).
pub(super) fn sequence(data: Fields<'_>) -> Option<i64> {
    data.object("toneInfo").number("sequenceId")
}

/// The tone that somebody dialled, which may be a digit of a PIN, and who calls whom.
pub(super) fn personal(data: Fields<'_>) -> Option<Value> {
    let mut personal = Map::new();
    if let Some(tone) = data.object("toneInfo").text("tone") {
        personal.insert("tone".to_owned(), tone.into());
    }
    let source = data.object("source").value("identity");
    let targets = data.list("targets").iter().map(Fields::of).map(|target| target.value("identity"));
    let people: Vec<Value> = std::iter::once(source).chain(targets).flatten().map(Value::from).collect();
    if !people.is_empty() {
        personal.insert("people".to_owned(), people.into());
    }
    (!personal.is_empty()).then_some(Value::Object(personal))
}
