//! What an event says about people: kept sealed, as it was written.

use serde_json::Map;

use crate::{
    domain::people::{Condition, NamedPerson},
    source::json::{Fields, Value},
};

/// The members that name people or repeat what they said and dialled.
const PERSONAL: &[&str] = &[
    "participant",
    "participants",
    "transferTarget",
    "transferee",
    "tone",
    "dtmfResult",
    "collectTonesResult",
    "choiceResult",
    "speechResult",
];

/// The personal facts in the data of an event.
pub(super) fn personal(data: Fields<'_>) -> Option<serde_json::Value> {
    let kept: Map<String, serde_json::Value> =
        PERSONAL.iter().filter_map(|name| Some(((*name).to_owned(), data.value(name)?.into()))).collect();
    (!kept.is_empty()).then_some(kept.into())
}

/// What the service calls somebody: the `rawId` of a `CommunicationIdentifier`, which requests may leave out.
pub(super) fn raw_id(identifier: &Value<'_>) -> Option<String> {
    let identifier = Fields::of(identifier);
    let of = |kind: &str, member: &str| identifier.object(kind).text(member).map(str::to_owned);
    identifier
        .text("rawId")
        .map(str::to_owned)
        .or_else(|| of("communicationUser", "id"))
        .or_else(|| of("phoneNumber", "value").map(|number| format!("4:{number}")))
        .or_else(|| of("microsoftTeamsUser", "userId").map(|user| format!("8:orgid:{user}")))
        .or_else(|| of("microsoftTeamsApp", "appId").map(|app| format!("28:orgid:{app}")))
        .map(|id| id.to_lowercase())
}

/// Who is in the call and how, of those of whom a roster says more than that.
pub(super) fn named(participants: &[Value<'_>]) -> Vec<NamedPerson> {
    let person = |participant: &Value<'_>| {
        let fields = Fields::of(participant);
        let condition = Condition { muted: fields.flag("isMuted"), on_hold: fields.flag("isOnHold") };
        let raw_id = raw_id(fields.value("identifier")?)?;
        (condition != Condition::default()).then_some(NamedPerson { raw_id, condition })
    };
    participants.iter().filter_map(person).collect()
}

/// How many a roster names.
pub(super) fn count(participants: &[Value<'_>]) -> u32 {
    u32::try_from(participants.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::PERSONAL;
    use crate::source::redact::SECRETS;

    #[test]
    fn what_is_sealed_is_not_shown_in_the_body_that_it_came_in() {
        assert!(PERSONAL.iter().all(|name| SECRETS.contains(name)));
    }
}
