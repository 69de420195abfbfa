//! `IncomingCall`: by Event Grid, and for some previews by callback. It knows no `callConnectionId` yet, so the call that it
//! makes is named after its `correlationId`.

use serde_json::{Map, Value};

use super::{Event, Said};
use crate::domain::{
    call::{CallFact, CallState, Direction},
    ids::PlatformId,
    notification::{Fact, Facts},
};

/// Who calls whom.
const PEOPLE: &[&str] = &["from", "to", "callerDisplayName", "onBehalfOfCallee", "customContext"];

/// What an `IncomingCall` says. `incomingCallContext`, with which it is answered, is a credential and stays in the body.
pub(in crate::source) fn incoming_call(event: &Event<'_>) -> Said {
    let data = event.fields();
    let call = data.text("correlationId").or_else(|| data.text("serverCallId")).and_then(PlatformId::parse);
    let fact = CallFact { state: Some(CallState::Incoming), direction: Some(Direction::Incoming), ..CallFact::default() };
    let people: Map<String, Value> =
        PEOPLE.iter().filter_map(|name| Some(((*name).to_owned(), data.value(name)?.into()))).collect();
    Said {
        recognized: true,
        call,
        subject: String::new(),
        facts: Facts::new("incomingCall".to_owned(), event.shown_kind(), Fact::Call(fact)),
        personal: (!people.is_empty()).then_some(Value::Object(people)),
        people: Vec::new(),
    }
}
