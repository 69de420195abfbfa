//! What holds for every source.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Answers, Head, Inbound, NotificationSource, Reading, SOURCES, Unreadable, json::MAX_ITEMS, source};
use crate::domain::{delivery::Correlation, notification::Fact};

fn read(source: &dyn NotificationSource, body: &[u8], head: &Head) -> Result<Reading, Unreadable> {
    source.read(&Inbound { body, head, correlation: &Correlation::default(), answers: &Answers::default() })
}

fn headers(attributes: &[(&str, String)]) -> Head {
    let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Head { content_type: None, attributes }
}

#[test]
fn sources_and_their_paths_are_told_apart() {
    let names: BTreeSet<_> = SOURCES.iter().map(|source| source.name()).collect();
    let paths: BTreeSet<_> = SOURCES.iter().map(|source| source.usual_path()).collect();
    assert_eq!((names.len(), paths.len()), (SOURCES.len(), SOURCES.len()));
    assert!(SOURCES.iter().all(|known| source(known.name()).unwrap().name() == known.name()));
    assert!(source("Graph").is_none());
}

#[test]
fn default_metadata_can_be_asked_for() {
    for source in SOURCES {
        let defaults = source.trust_defaults();
        let (issuers, metadata) = defaults.of_tenant("1fdd12d0-4620-44ed-baec-459b611f84b2");
        assert!(!issuers.is_empty() && !metadata.is_empty());
        assert!(metadata.iter().all(|url| url.parse::<url::Url>().unwrap().scheme() == "https"), "{metadata:?}");
        assert!(!issuers.iter().chain(&metadata).any(|text| text.contains(['{', '}'])), "{issuers:?} {metadata:?}");
    }
}

#[test]
fn a_name_that_is_used_again_is_the_same_event_and_an_event_without_one_is_known_by_its_content() {
    let acs = source("acs").unwrap();
    let one = |event: &Value| read(acs, event.to_string().as_bytes(), &Head::default()).unwrap().notifications.remove(0);
    let event = |id: &str, kind: &str| json!({ "id": id, "source": "s", "type": kind, "data": { "callConnectionId": "c" } });
    assert_eq!(one(&event("1", "a")).identity, one(&event("1", "b")).identity);
    assert_ne!(one(&event("1", "a")).identity, one(&event("2", "a")).identity);
    assert!(one(&event("1", "a")).named);
    let nameless = |kind: &str| one(&json!({ "source": "s", "type": kind }));
    assert!(!nameless("a").named);
    assert_eq!(nameless("a").identity, nameless("a").identity);
    assert_ne!(nameless("a").identity, nameless("b").identity);
    let parts = |source: &str, id: &str| one(&json!({ "id": id, "source": source, "type": "a" })).identity;
    assert_ne!(parts("ab", "c"), parts("a", "bc"));
}

#[test]
fn a_tag_of_any_length_and_kind_leads_to_a_subject_of_its_own() {
    let acs = source("acs").unwrap();
    let subject = |context: &str| {
        let data = json!({ "callConnectionId": "c", "operationContext": context });
        let event = json!({ "type": "Microsoft.Communication.PlayStarted", "data": data });
        let item = read(acs, event.to_string().as_bytes(), &Head::default()).unwrap().notifications.remove(0);
        let Fact::Operation(fact) = &item.facts.fact else { return (item.subject, None) };
        let context = fact.context.clone();
        (item.subject, context)
    };
    let long = "x".repeat(4000);
    let contexts =
        ["a", "A", "a\u{0}", "a\u{7}b", "é", long.as_str(), &format!("{long}y"), "57dab8b1-894c-409a-b240-bd8beae78896"];
    let subjects: BTreeSet<String> = contexts.iter().map(|context| subject(context).0).collect();
    assert_eq!(subjects.len(), contexts.len());
    assert!(subjects.iter().all(|subject| subject.len() < 200 && !subject.contains(char::is_control)), "{subjects:?}");
    assert!(contexts.iter().all(|context| subject(context).1.as_deref() == Some(*context)), "it is kept as it was spelled");
    assert_eq!(subject("57DAB8B1894C409AB240BD8BEAE78896").0, subject("57dab8b1-894c-409a-b240-bd8beae78896").0);
    assert_eq!(subject(" ").0, "play");
}

#[test]
fn a_body_of_more_items_than_anybody_sends_is_not_read() {
    for (name, begin, end) in [("graph", r#"{"value":["#, "]}"), ("acs", "[", "]"), ("event-grid", "[", "]")] {
        let source = source(name).unwrap();
        let body = |items| format!("{begin}{}{end}", vec![r#"{"type":"t"}"#; items].join(","));
        let (most, more) = (body(MAX_ITEMS), body(MAX_ITEMS + 1));
        let reading = read(source, most.as_bytes(), &Head::default()).unwrap();
        assert_eq!(reading.notifications.len(), MAX_ITEMS);
        assert!(source.item(most.as_bytes(), MAX_ITEMS - 1).is_some() && source.item(most.as_bytes(), MAX_ITEMS).is_none());
        let unreadable = read(source, more.as_bytes(), &Head::default()).unwrap_err();
        assert!(unreadable.to_string().ends_with("has more than 5000 items"), "{unreadable}");
    }
}

/// Values that are strange in the places where readers look.
fn strange() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "calling/(callConnections|recordings)/[a-z=/]{0,12}".prop_map(Value::from),
        "/recording/call/.{0,8}(/serverCallId/.{0,8})?(/recordingId/.{0,8})?".prop_map(Value::from),
        "Microsoft.(Communication|EventGrid).(IncomingCall|CallDisconnected|PlayStarted|RecordingStateChanged|.{0,4})"
            .prop_map(Value::from),
        "[0-9]{4}-01-01T00:00:00(.[0-9]{0,12})?(Z|.00:00)".prop_map(Value::from),
    ];
    let key = "id|source|topic|subject|type|eventType|time|eventTime|data|specversion|callConnectionId|serverCallId|correlationId|\
               operationContext|resultInformation|code|subCode|message|sipDetails|participants|participant|state|recordingId|\
               sequenceNumber|tone|from|to|validationCode|invitationId|rawId";
    leaf.prop_recursive(5, 48, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..9).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(body in prop::collection::vec(any::<u8>(), 0..512), kind in ".{0,40}", time in ".{0,30}") {
        for source in SOURCES {
            let _unimportant = read(*source, &body, &Head::default());
            let _unimportant = read(*source, &body, &headers(&[("type", kind.clone()), ("time", time.clone())]));
        }
    }

    #[test]
    fn no_event_makes_a_reader_panic_and_none_is_lost(body in strange(), mut events in prop::collection::vec(strange(), 1..4)) {
        for source in SOURCES {
            let _unimportant = read(*source, body.to_string().as_bytes(), &Head::default());
        }
        events.retain(Value::is_object);
        events.push(json!({ "type": "t" }));
        for name in ["acs", "event-grid"] {
            let body = Value::from(events.clone()).to_string();
            let reading = read(source(name).unwrap(), body.as_bytes(), &Head::default()).unwrap();
            prop_assert_eq!(reading.notifications.len(), events.len());
            prop_assert!(reading.notifications.iter().all(|item| item.facts.kind.len() <= 256));
            let shown = super::redacted(body.clone().into_bytes());
            prop_assert!(shown.is_none_or(|shown| serde_json::from_slice::<Value>(&shown).is_ok()));
        }
    }
}
