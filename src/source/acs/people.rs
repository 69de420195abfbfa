//! What an event says about people: kept sealed, as it was written.

use serde_json::{Map, Value};

use crate::source::json::Fields;

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
pub(super) fn personal(data: Fields<'_>) -> Option<Value> {
    let kept: Map<String, Value> =
        PERSONAL.iter().filter_map(|name| Some(((*name).to_owned(), data.value(name)?.clone()))).collect();
    (!kept.is_empty()).then_some(Value::Object(kept))
}

/// How many a roster names.
pub(super) fn count(participants: &[Value]) -> u32 {
    u32::try_from(participants.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::PERSONAL;
    use crate::source::acs::SECRETS;

    #[test]
    fn what_is_sealed_is_not_shown_in_the_body_that_it_came_in() {
        assert!(PERSONAL.iter().all(|name| SECRETS.contains(name)));
    }
}
