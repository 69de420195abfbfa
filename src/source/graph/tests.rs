//! The reader against every fixture, every spelling and plain nonsense.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::{fs, path::Path};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    Graph,
    resource::{Part, Resource},
};
use crate::{
    domain::{
        call::CallState,
        delivery::Correlation,
        notification::{Fact, Identity, Notification},
        operation::{OperationFact, State},
    },
    source::{Answers, Head, Inbound, JoinAnswer, NotificationSource, Reading, Reply, Unreadable},
};

fn read(body: &[u8]) -> Result<Reading, Unreadable> {
    read_with(body, None, &Answers::default())
}

fn read_with(body: &[u8], message_id: Option<&str>, answers: &Answers) -> Result<Reading, Unreadable> {
    let correlation = Correlation { message_id: message_id.map(str::to_owned), ..Correlation::default() };
    Graph.read(&Inbound { body, head: &Head::default(), correlation: &correlation, answers })
}

fn one(item: &Value) -> Notification {
    let body = json!({ "value": [item] }).to_string();
    read(body.as_bytes()).unwrap().notifications.remove(0)
}

fn operation(notification: &Notification) -> Option<&OperationFact> {
    match &notification.facts.fact {
        Fact::Operation(fact) => Some(fact),
        Fact::Call(_) | Fact::Participants(_) | Fact::Other => None,
    }
}

/// What the API would show of a notification.
fn shown(notification: &Notification) -> Value {
    json!({
        "callId": notification.call,
        "kind": notification.facts.kind,
        "type": notification.facts.change,
        "disposition": if notification.recognized { "applied" } else { "unrecognized" },
        "context": operation(notification).and_then(|fact| fact.context.as_ref()),
        "state": operation(notification).map(|fact| fact.state),
    })
}

/// What the API would show of an operation that nothing else is known of.
fn shown_operation(notification: &Notification) -> Option<Value> {
    let fact = operation(notification)?;
    Some(json!({
        "operationId": fact.operation_id,
        "callId": notification.call,
        "kind": fact.kind.as_deref().unwrap_or("commsOperation"),
        "state": fact.state,
        "context": fact.context,
        "result": if fact.state.is_final() { json!(fact.result) } else { Value::Null },
        "flags": if fact.inferred { json!(["unrequested", "inferred"]) } else { json!(["unrequested"]) },
    }))
}

/// What the API would show of a call that nothing else is known of.
fn shown_call(notifications: &[Notification]) -> Option<Value> {
    notifications.iter().find_map(|notification| match &notification.facts.fact {
        Fact::Call(fact) => Some(json!({
            "callId": notification.call,
            "state": fact.state,
            "direction": fact.direction,
            "chainId": fact.chain_id,
            "result": fact.result,
        })),
        Fact::Operation(_) | Fact::Participants(_) | Fact::Other => None,
    })
}

/// Whether each member that is expected is there; lists are matched as a whole.
fn matches(expected: &Value, actual: &Value) -> bool {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            expected.iter().all(|(key, expected)| matches(expected, actual.get(key).unwrap_or(&Value::Null)))
        }
        (Value::Array(expected), Value::Array(actual)) => {
            expected.len() == actual.len() && expected.iter().zip(actual).all(|(expected, actual)| matches(expected, actual))
        }
        _ => expected == actual,
    }
}

#[test]
fn every_fixture_is_read_as_it_expects() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/graph");
    let mut seen = 0;
    for case in fs::read_dir(root).unwrap() {
        let case = case.unwrap().path();
        let expected: Value = serde_json::from_slice(&fs::read(case.join("expect.json")).unwrap()).unwrap();
        let reading = read(&fs::read(case.join("body.json")).unwrap()).unwrap();
        let (status, reply) = match reading.reply {
            Reply::Accepted => (202, Value::Null),
            Reply::Done => (200, Value::Null),
            Reply::SpeakGraph => (204, Value::Null),
            Reply::Elsewhere(to) => (302, Value::String(to)),
            Reply::Json(reply) | Reply::Decision(reply) => (200, reply),
        };
        let actual = json!({
            "status": status,
            "reply": reply,
            "notifications": reading.notifications.iter().map(shown).collect::<Vec<_>>(),
            "operations": reading.notifications.iter().filter_map(shown_operation).collect::<Vec<_>>(),
            "call": shown_call(&reading.notifications),
        });
        assert!(matches(&expected, &actual), "{}\nexpected {expected:#}\nactual {actual:#}", case.display());
        seen += 1;
    }
    assert!(seen >= 60, "{seen}");
}

#[test]
fn every_sample_that_was_collected_can_be_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/samples/graph");
    let Ok(samples) = fs::read_dir(root) else {
        eprintln!("skipped: there are no collected samples beside this clone");
        return;
    };
    let mut seen = 0;
    for sample in samples {
        let sample = sample.unwrap().path();
        if sample.extension().is_some_and(|extension| extension == "json") {
            let reading = read(&fs::read(&sample).unwrap()).unwrap();
            assert!(reading.notifications.iter().all(|notification| notification.recognized), "{}", sample.display());
            seen += 1;
        }
    }
    assert!(seen > 0, "a folder of samples without any");
}

#[test]
fn a_resource_is_found_in_every_spelling_of_its_url() {
    let call = "57dab8b1-894c-409a-b240-bd8beae78896";
    for prefix in ["/communications/", "communications/", "/app/", "/Applications/A-1/", "/v1.0/app/", "https://h/beta/app/", "/"]
    {
        for spelled in [call, "57DAB8B1894C409AB240BD8BEAE78896"] {
            let part = |rest: &str| {
                let resource = Resource::parse(&format!("{prefix}CALLS/{spelled}{rest}")).unwrap();
                assert_eq!(resource.call.as_str(), call);
                resource.part
            };
            assert_eq!(part(""), Part::Call);
            assert_eq!(part("/?$select=id"), Part::Call);
            assert!(matches!(part("/Operations/x"), Part::Operation(Some(id)) if id.as_str() == "x"));
            assert_eq!(part("/operations"), Part::Operation(None));
            assert_eq!(part("/operations/participants"), Part::Participants);
            assert_eq!(part("/participants/x"), Part::Participants);
            assert_eq!(part("/contentsharingsessions"), Part::ContentSharingSessions);
            assert_eq!(part("/audioRoutingGroups/1"), Part::AudioRoutingGroups);
            assert_eq!(part("/Polls/1"), Part::Unknown("polls".to_owned()));
        }
    }
    for other in
        ["", "/", "/communications", "/communications/calls", "/communications/calls/ /", "/users/1/calls/2", "https://h"]
    {
        assert_eq!(Resource::parse(other), None, "{other}");
    }
    // what begins with a slash has no scheme
    assert_eq!(Resource::parse("/app/calls/a://b").unwrap().call.as_str(), "a:");
}

#[test]
fn the_state_of_an_operation_comes_from_status_reason_and_result_together() {
    let cases = [
        ("updated", json!({ "status": "notStarted" }), State::Accepted, false),
        ("updated", json!({ "status": "RUNNING" }), State::Running, false),
        ("updated", json!({ "status": "completed" }), State::Completed, false),
        ("deleted", json!({ "status": "completed", "resultInfo": { "code": 399 } }), State::Completed, false),
        ("deleted", json!({ "status": "completed", "resultInfo": { "code": "400" } }), State::Failed, false),
        ("deleted", json!({ "status": "completed", "resultInfo": { "code": 400, "SubCode": "8508" } }), State::Canceled, false),
        ("deleted", json!({ "status": "completed", "completionReason": "OperationCanceled" }), State::Canceled, false),
        ("deleted", json!({ "status": "completed", "completionReason": "unspecifiedError" }), State::Failed, false),
        ("deleted", json!({ "status": "completed", "completionReason": "none" }), State::Completed, false),
        ("deleted", json!({ "status": "failed" }), State::Failed, false),
        ("deleted", json!({ "status": "failed", "resultInfo": { "subcode": 8508 } }), State::Canceled, false),
        ("deleted", json!({ "status": "failed", "completionReason": "mediaOperationCanceled" }), State::Canceled, false),
        ("deleted", json!({ "status": "running" }), State::Completed, true),
        ("deleted", json!({ "status": "unknownFutureValue", "resultInfo": { "code": 500 } }), State::Failed, true),
        ("deleted", json!({ "completionReason": "operationCanceled" }), State::Canceled, true),
        ("deleted", json!({ "status": 5, "resultInfo": "x", "completionReason": [] }), State::Completed, true),
        ("created", json!({}), State::Accepted, true),
        ("updated", json!({ "status": "dreaming" }), State::Running, true),
    ];
    for (change, data, state, inferred) in cases {
        let notification = one(&json!({ "changeType": change, "resource": "/app/calls/c/operations/o", "resourceData": data }));
        let fact = operation(&notification).unwrap();
        assert_eq!((fact.state, fact.inferred), (state, inferred), "{change} {data}");
        assert_eq!(fact.kind, None);
        assert_eq!(notification.subject, "operations/o");
    }
}

#[test]
fn what_is_missing_or_of_a_wrong_type_is_absent_and_never_fatal() {
    let url = "/communications/calls/c";
    let change = |spelled: Value| one(&json!({ "changeType": spelled, "resourceUrl": url })).facts.change;
    assert_eq!(change(Value::Null), "updated");
    assert_eq!(change(json!("DELETED")), "deleted");
    assert_eq!(change(json!("Mel\u{7}ted")), "Melted");

    let removed = one(&json!({ "changeType": "deleted", "resourceUrl": url, "resourceData": "gone" }));
    assert!(matches!(&removed.facts.fact, Fact::Call(fact) if fact.state == Some(CallState::Terminated)));
    let odd = one(&json!({ "resourceUrl": url, "resourceData": { "state": "molten", "toneInfo": 7, "direction": 1 } }));
    assert!(matches!(&odd.facts.fact, Fact::Call(fact) if fact.state.is_none() && !fact.tone && fact.result.is_empty()));

    let huge = r#"{"value":[{"resourceUrl":"/app/calls/c/operations/o","resourceData":{"resultInfo":{"code":99999999999999999999,"subcode":1e300}}}]}"#;
    let huge = read(huge.as_bytes()).unwrap();
    assert!(operation(&huge.notifications[0]).unwrap().result.is_empty());
}

#[test]
fn a_roster_says_how_many_in_the_clear_and_who_under_seal() {
    let roster = one(&json!({ "resourceUrl": "/app/calls/c/participants", "resourceData": [
        { "id": "p", "rosterSequenceNumber": 4, "isMuted": true, "info": { "identity": { "phone": { "id": "+4930123456" } } } },
        { "id": "q", "rosterSequenceNumber": 9, "removedState": { "reason": "left" } },
        "nonsense",
    ] }));
    assert_eq!(roster.facts.fact, Fact::Participants(1));
    assert_eq!(roster.facts.sequence, Some(9));
    assert_eq!(roster.subject, "participants");
    let people = json!({ "participants": [{ "id": "p", "phone": "+4930123456", "isMuted": true }, { "id": "q" }] });
    assert_eq!(roster.personal, Some(people));
    assert!(!serde_json::to_string(&roster.facts).unwrap().contains("4930"));
}

#[test]
fn which_tone_was_dialled_is_sealed_and_its_order_is_not() {
    let data = json!({ "state": "established", "toneInfo": { "sequenceId": 2, "tone": "tone7" } });
    let tone = one(&json!({ "resourceUrl": "/app/calls/c", "resourceData": data }));
    assert_eq!((tone.facts.sequence, tone.personal.clone()), (Some(2), Some(json!({ "tone": "tone7" }))));
    assert!(!serde_json::to_string(&tone.facts).unwrap().contains("tone7"));
}

#[test]
fn a_participant_who_wants_to_join_is_answered_as_the_operator_wishes() {
    let body = json!({ "value": [{ "resourceData": { "@odata.type": "#microsoft.graph.participantJoiningNotification" } }] });
    let answers = Answers { participant_joining: JoinAnswer::Reject("busy".to_owned()) };
    let reply = read_with(body.to_string().as_bytes(), None, &answers).unwrap().reply;
    assert_eq!(reply, Reply::Decision(json!({ "@odata.type": "#microsoft.graph.rejectJoinResponse", "reason": "busy" })));
}

#[test]
fn what_is_not_the_envelope_is_unreadable_and_its_text_is_not_quoted() {
    let deep = format!(r#"{{"value":[{{"a":{}1{}}}]}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let bodies = [
        "",
        " \r\n",
        "\u{feff}",
        "hush",
        "[]",
        "[[],0,[]]",
        "7",
        "null",
        "\"hush\"",
        "{}",
        r#"{"hush":1}"#,
        r#"{"value":null}"#,
        r#"{"value":{"hush":1}}"#,
        r#"{"value":["hush"]}"#,
        r#"{"value":[{"hush":1}"#,
        r#"{"value":[{"hush":1e999}]}"#,
        r#"{"callState":"incoming","participants":"hush"}"#,
        r#"{"Value":[]}"#,
        &deep,
    ];
    for body in bodies {
        let message = read(body.as_bytes()).unwrap_err().to_string();
        assert!(!message.is_empty() && !message.contains("hush"), "{body:.40} {message}");
    }
    assert!(read(b"{\"value\":[\xff]}").is_err());
    assert!(read("\u{feff}{\"value\":[]}".as_bytes()).is_ok());
}

#[test]
fn of_a_member_that_comes_twice_the_last_counts() {
    let body = r#"{"value":[],"value":[{"resource":"/app/calls/c"}],"hush":1,"hush":2}"#;
    assert_eq!(read(body.as_bytes()).unwrap().notifications.len(), 1);
    let legacy = r#"{"callState":"incoming","participants":7,"callState":null,"participants":[]}"#;
    assert!(read(legacy.as_bytes()).is_ok());
    // half a character makes the item be read in another way
    for (written, context) in [("l\\u0061st", "last"), ("last \\ud83d", "last \u{fffd}")] {
        let body = r#"{"value":[{"resource":"/app/calls/b","res\u006furce":"/app/calls/c/operations/o","resourceData":{
            "status":"running","clientContext":"first","resultInfo":{"subcode":0,"subCode":1,"code":400,"subcode":2},
            "clientContext":"CONTEXT","status":"failed"}}]}"#
            .replace("CONTEXT", written);
        let notification = read(body.as_bytes()).unwrap().notifications.remove(0);
        let fact = operation(&notification).unwrap();
        assert_eq!(notification.call.as_ref().unwrap().as_str(), "c");
        assert_eq!((fact.state, fact.context.as_deref()), (State::Failed, Some(context)));
        assert_eq!((fact.result.code, fact.result.subcode), (Some(400), Some(2)));
    }
}

#[test]
fn a_name_that_is_not_utf8_costs_the_name_and_no_fact() {
    let body = b"{\"value\":[{\"changeType\":\"updated\",\"resource\":\"/app/calls/c\",\"resourceData\":{\"callState\":\"established\",\"subject\":\"M\xfcller\"}}]}";
    let reading = read(body).unwrap();
    assert!(reading.notifications[0].recognized);
    assert!(matches!(&reading.notifications[0].facts.fact, Fact::Call(fact) if fact.state == Some(CallState::Established)));
}

fn identity(change: &str, resource: &str, message_id: Option<&str>) -> Identity {
    let body = json!({ "value": [{ "changeType": change, "resource": resource, "resourceData": { "status": "running" } }] });
    read_with(body.to_string().as_bytes(), message_id, &Answers::default()).unwrap().notifications[0].identity
}

#[test]
fn a_copy_is_known_by_its_request_and_the_end_of_an_operation_by_its_content() {
    let (call, operation) = ("/app/calls/c", "/app/calls/c/operations/o");
    assert_eq!(identity("updated", call, Some("m")), identity("updated", call, Some("m")));
    assert_ne!(identity("updated", call, Some("m")), identity("updated", call, Some("n")));
    assert_ne!(identity("deleted", call, Some("m")), identity("deleted", call, Some("n")));
    assert_ne!(identity("updated", operation, Some("m")), identity("updated", operation, Some("n")));
    assert_eq!(identity("deleted", operation, Some("m")), identity("deleted", operation, Some("n")));
    assert_eq!(identity("deleted", operation, Some("m")), identity("deleted", operation, None));
    assert_ne!(identity("deleted", operation, None), identity("deleted", "/app/calls/c/operations/p", None));
}

/// Values that are strange in the places where the reader looks.
fn strange() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "(/app/|communications/|https://h/)?calls/[a-fA-F0-9-]{0,40}(/operations|/participants)?(/.*)?".prop_map(Value::from),
        "#?(microsoft.graph.)?(call|participant|recordOperation|deltaParticipants)".prop_map(Value::from),
        "deleted|created|completed|failed|terminated|8508|operationCanceled".prop_map(Value::from),
    ];
    let key = "value|changeType|resource|resourceUrl|resourceData|@odata.type|id|status|state|resultInfo|code|subCode|message|\
               completionReason|clientContext|toneInfo|participants|callState|info|identity|phone|call";
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..8).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(body in prop::collection::vec(any::<u8>(), 0..512)) {
        let _unimportant = read(&body);
    }

    #[test]
    fn no_json_makes_the_reader_panic(body in strange(), items in prop::collection::vec(strange(), 0..4)) {
        let _unimportant = read(body.to_string().as_bytes());
        let items: Vec<Value> = items.into_iter().filter(Value::is_object).collect();
        let reading = read(json!({ "value": items }).to_string().as_bytes()).unwrap();
        prop_assert_eq!(reading.notifications.len(), items.len());
    }

    #[test]
    fn no_text_makes_the_repair_of_halves_panic(text in "(\\\\|u|[dD][89c-fC-F]|é|[0-9a-f]|\"){0,40}") {
        let _unimportant = crate::source::json::surrogates::mended(&text);
    }
}
