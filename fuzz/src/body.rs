//! What holds for the bodies of every source.

use callback_ledger::{
    domain::notification::{Facts, Notification},
    source::{Answers, Inbound, NotificationSource, Reading, SECRETS, redacted},
};
use serde_json::Value;

use crate::{law, memory::Bound, request::Request};

/// A body can be a list of nearly nothing (`[0,0,…`), and each item of it is a notification: some 700 bytes for 2. Beyond the most
/// items that are read it is as with all JSON: some 80 for one.
const READING: Bound = Bound { fixed: 8 * 1024, per_byte: 400 };

/// The body itself, and as it is shown (`"to":1` becomes twice as long); or with the longest text in it, what that says and what is
/// shown of it, and of texts within it what they say.
const SHOWING: Bound = Bound { fixed: 4096, per_byte: 12 };

/// Reads an input as a callback and looks at all that is made of it.
///
/// # Panics
/// If a promise is broken.
pub fn check(source: &dyn NotificationSource, input: &[u8]) {
    let request = Request::of(input);
    show(request.body);
    let answers = Answers::default();
    let Request { head, correlation, body } = &request;
    let inbound = Inbound { body, head, correlation, answers: &answers };
    let reading = READING.holds(input.len(), || source.read(&inbound));
    let again = source.read(&inbound);
    let Ok(reading) = reading else {
        assert!(again.is_err(), "it can be read the second time alone");
        return;
    };
    assert_eq!(again.ok().as_ref(), Some(&reading), "read twice, it says two things");
    reading.notifications.iter().for_each(keeps);
    items(source, &request, &reading);
    law::holds(&reading.notifications, correlation);
}

/// What is stored of a notification says what was read.
fn keeps(item: &Notification) {
    let stored = serde_json::to_string(&item.facts).expect("facts have a form in JSON");
    let facts: Facts = serde_json::from_str(&stored).expect("facts that were stored are read");
    assert_eq!(facts, item.facts, "stored, it says something else");
    let names = [&item.facts.kind, &item.facts.change];
    assert!(names.iter().all(|name| name.len() <= 256 && !name.contains(char::is_control)), "{names:?}");
}

/// Each notification has its item in the body, and there are no more.
fn items(source: &dyn NotificationSource, request: &Request<'_>, reading: &Reading) {
    if request.head.attributes.contains_key("type") {
        return; // the body is its data, which may be nothing
    }
    let count = reading.notifications.len();
    let places = [0, count / 2, count.saturating_sub(1)];
    assert!(places.iter().all(|place| *place >= count || source.item(request.body, *place).is_some()), "an item is lost");
    if count > 1 {
        assert!(source.item(request.body, count).is_none(), "an item was passed over");
    }
}

/// A body that is shown without leave is JSON if it was, and holds no secret.
fn show(body: &[u8]) {
    let Some(shown) = SHOWING.holds(body.len(), || redacted(body.to_vec())) else { return };
    if serde_json::from_slice::<Value>(body).is_err() {
        return; // halves of characters have no `Value`
    }
    let shown: Value = serde_json::from_slice(&shown).expect("what is shown is JSON");
    assert!(is_bare(&shown), "a secret is shown: {shown}");
}

fn is_bare(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.iter().all(|(name, value)| {
            let is_secret = SECRETS.iter().any(|secret| secret.eq_ignore_ascii_case(name));
            if is_secret { value == "redacted" } else { is_bare(value) }
        }),
        Value::Array(items) => items.iter().all(is_bare),
        // JSON in a text
        Value::String(text) => serde_json::from_str::<Value>(text).map_or(true, |value| is_bare(&value)),
        _ => true,
    }
}
