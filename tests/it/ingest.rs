//! What becomes of a delivery that is let in: how it is answered, what is kept, and what is never kept in the clear.

use callback_ledger::store::LedgerReader;
use serde_json::{Value, json};

use crate::support::{
    app::{Settings, TestApp, graph, send},
    ledger::options,
};

const CALL: &str = "57dab8b1-894c-409a-b240-bd8beae78896";
const OPERATION: &str = "0fe0623f-d628-42ed-b4bd-8ac290072cc5";

fn record(change: &str, status: &str) -> Value {
    let data = json!({ "@odata.type": "#microsoft.graph.recordOperation", "clientContext": "ours", "status": status });
    graph(change, &format!("calls/{CALL}/operations/{OPERATION}"), &data)
}

fn roster(people: &[&str]) -> Value {
    let people: Vec<Value> = people.iter().map(|id| json!({ "@odata.type": "#microsoft.graph.participant", "id": id })).collect();
    graph("updated", &format!("calls/{CALL}/participants"), &Value::from(people))
}

#[tokio::test]
async fn a_batch_is_recorded_item_by_item_and_an_empty_one_is_fine() {
    let app = TestApp::start().await;
    let other = "67dab8b1-894c-409a-b240-bd8beae78896";
    let call = |id: &str| {
        graph("updated", &format!("calls/{id}"), &json!({ "@odata.type": "#microsoft.graph.call", "state": "established" }))
    };
    let mut batch = record("updated", "running");
    for further in [call(CALL), call(other)] {
        batch["value"].as_array_mut().unwrap().push(further["value"][0].clone());
    }
    let answered = app.post(batch.to_string()).await;
    assert_eq!((answered.status.as_u16(), answered.body.as_slice()), (202, &b""[..]));
    assert_eq!(app.list("/v1/notifications").await.len(), 3);
    assert_eq!(app.list("/v1/calls").await.len(), 2);
    assert_eq!(app.list(&format!("/v1/notifications?callId={other}")).await.len(), 1);
    assert_eq!(app.post(r#"{"value":[]}"#).await.status.as_u16(), 202);
    assert_eq!(app.list("/v1/notifications").await.len(), 3);
}

#[tokio::test]
async fn a_second_copy_is_counted_on_the_first() {
    let app = TestApp::start().await;
    for message in ["m1", "m1", "m2"] {
        assert_eq!(app.post_message(message, &record("deleted", "completed")).await.status.as_u16(), 202, "{message}");
    }
    let kept = app.list("/v1/notifications").await;
    assert_eq!(kept.len(), 1, "{kept:#?}");
    assert_eq!(kept[0]["duplicates"], 2);
    assert!(kept[0]["lastDuplicateAt"].is_string());
    assert_eq!(app.list("/v1/operations").await[0]["duplicates"], 2);
}

#[tokio::test]
async fn a_second_copy_is_known_after_a_restart_too() {
    let mut app = TestApp::start().await;
    app.post_message("m1", &record("deleted", "completed")).await;
    let before = app.list("/v1/operations").await;
    app.restart().await;
    assert_eq!(app.list("/v1/operations").await, before);
    app.post_message("m1", &record("deleted", "completed")).await;
    let kept = app.list("/v1/notifications").await;
    assert_eq!((kept.len(), &kept[0]["duplicates"]), (1, &json!(1)));
}

#[tokio::test]
async fn a_roster_that_returns_to_an_earlier_content_is_news() {
    let app = TestApp::start().await;
    for (message, people) in [("m1", &["a"][..]), ("m2", &["a", "b"]), ("m3", &["a"]), ("m3", &["a"])] {
        app.post_message(message, &roster(people)).await;
    }
    let kept = app.list("/v1/notifications").await;
    let duplicates: Vec<&Value> = kept.iter().map(|row| &row["duplicates"]).collect();
    assert_eq!(duplicates, [1, 0, 0]);
}

#[tokio::test]
async fn what_comes_after_the_end_is_late_and_moves_nothing() {
    let app = TestApp::start().await;
    app.post(record("deleted", "completed").to_string()).await;
    app.post(record("updated", "running").to_string()).await;
    let kept = app.list("/v1/notifications?disposition=late").await;
    assert_eq!((kept.len(), &kept[0]["state"]), (1, &json!("running")));
    let operation = app.list("/v1/operations").await.remove(0);
    assert_eq!((&operation["state"], &operation["final"]), (&json!("completed"), &json!(true)));
    assert_eq!(operation["flags"], json!(["unrequested", "late"]));
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused_and_kept_as_it_came() {
    for body in [&b"not json"[..], b"", b"[]", b"\xff\x00\x01", b"{\"value\":7}"] {
        let app = TestApp::start().await;
        let answered = app.post(body).await;
        assert_eq!(answered.status.as_u16(), 400, "{body:?}");
        assert_eq!(answered.headers["content-type"], "application/problem+json");
        assert_eq!(answered.json()["code"], "unreadable");
        let kept = app.list("/v1/notifications?disposition=quarantined").await;
        assert_eq!((kept.len(), &kept[0]["callId"]), (1, &Value::Null), "{body:?}");
        let id = kept[0]["id"].as_str().unwrap();
        let raw = app.get(&format!("/v1/notifications/{id}/raw")).await;
        match serde_json::from_slice::<Value>(body) {
            Ok(_) => assert_eq!(raw.body, body),
            // nobody can tell what in it is secret
            Err(_) => assert_eq!((raw.status.as_u16(), &raw.json()["code"]), (403, &json!("secrets_required"))),
        }
        let reader = LedgerReader::open(&options(app.ledger())).await.unwrap();
        assert_eq!(reader.delivery_of(id.parse().unwrap()).await.unwrap().unwrap().body.as_deref(), Some(body));
        assert_eq!(app.list("/v1/rejections").await, Vec::<Value>::new(), "its sender is not to blame");
    }
}

#[tokio::test]
async fn a_participant_who_wants_to_join_is_answered_as_configured() {
    let joining =
        graph("created", &format!("calls/{CALL}"), &json!({ "@odata.type": "#microsoft.graph.participantJoiningNotification" }));
    let accept = json!({ "@odata.type": "#microsoft.graph.acceptJoinResponse" });
    let reject = json!({ "@odata.type": "#microsoft.graph.rejectJoinResponse", "reason": "busy" });
    for (receiver, expected) in [("", accept), ("participant_joining = { reject = \"busy\" }", reject)] {
        let app = TestApp::start_with(Settings { receiver: receiver.to_owned(), ..Settings::default() }).await;
        let answered = app.post(joining.to_string()).await;
        assert_eq!((answered.status.as_u16(), answered.json()), (200, expected));
        assert_eq!(app.list("/v1/notifications").await.len(), 1);
    }
}

#[tokio::test]
async fn correlation_headers_are_answered_back_unless_they_are_odd() {
    let app = TestApp::start().await;
    let post = async |request_id: &str, scenario: &str| {
        let request = app.callback().bearer_auth(app.issuer.token().sign());
        let request = request.header("client-request-id", request_id).header("scenario-id", scenario);
        send(request.body(record("updated", "running").to_string())).await
    };
    let answered = post("Req_1.a-b", "scenario").await;
    assert_eq!(
        (&answered.headers["client-request-id"], &answered.headers["scenario-id"]),
        (&"Req_1.a-b".parse().unwrap(), &"scenario".parse().unwrap())
    );
    for odd in ["a b", "<script>", "a;b", "", &"a".repeat(129)] {
        let answered = post(odd, "fine").await;
        assert_eq!(answered.status.as_u16(), 202, "{odd}");
        assert_eq!(answered.headers.get("client-request-id"), None, "{odd}");
        assert_eq!(answered.headers["scenario-id"], "fine");
    }
}

#[tokio::test]
async fn other_paths_methods_and_encodings_are_problems() {
    let app = TestApp::start().await;
    let nowhere = send(app.client.post(format!("{}/elsewhere", app.public))).await;
    let get = send(app.client.get(format!("{}/api/calls", app.public))).await;
    let gzip = app.callback().bearer_auth(app.issuer.token().sign()).header("content-encoding", "gzip").body("x");
    let gzip = send(gzip).await;
    assert_eq!(get.headers["allow"], "POST");
    for (answered, status, code) in
        [(nowhere, 404, "not_found"), (get, 405, "method_not_allowed"), (gzip, 415, "unsupported_media_type")]
    {
        assert_eq!((answered.status.as_u16(), &answered.json()["code"]), (status, &json!(code)));
        assert_eq!(answered.headers["content-type"], "application/problem+json");
    }
    assert_eq!(app.list("/v1/notifications").await, Vec::<Value>::new());
}

/// The bodies collected from public sources, where they lie beside this clone: each file's name and what it holds.
fn collected(of: &str) -> Vec<(String, Value)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/samples").join(of);
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: there are no collected samples beside this clone");
        return Vec::new();
    };
    let files = entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "json"));
    let read = |path: std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap())
    };
    let files: Vec<_> = files.map(read).collect();
    assert!(!files.is_empty(), "a folder of samples without any");
    files
}

#[tokio::test]
async fn every_collected_body_is_accepted_and_understood() {
    let (graph, acs, grid) = (TestApp::start().await, TestApp::of("acs").await, TestApp::of("event-grid").await);
    for (name, body) in collected("graph") {
        assert!(graph.post(body.to_string()).await.status.is_success(), "{name}");
    }
    for (name, body) in collected("acs") {
        let (app, bodies) = match name.split('.').collect::<Vec<_>>().as_slice() {
            ["rest", ..] | [.., "response", "json"] => continue, // what a bot and a subscriber say
            ["eventgrid", "IncomingCall", "data", ..] => {
                let event =
                    json!({ "id": name, "topic": "t", "eventType": "Microsoft.Communication.IncomingCall", "data": body });
                (&grid, vec![event])
            }
            ["eventgrid", ..] => (&grid, vec![body]),
            _ if name.starts_with("seq-") => (&acs, body.as_array().unwrap().clone()),
            _ => (&acs, vec![body]),
        };
        for body in bodies {
            assert_eq!(app.post(body.to_string()).await.status.as_u16(), 200, "{name}");
        }
    }
    for app in [&graph, &acs, &grid] {
        for disposition in ["unrecognized", "quarantined"] {
            let kept = app.list(&format!("/v1/notifications?disposition={disposition}")).await;
            assert_eq!(kept, Vec::<Value>::new(), "{}: {disposition}", app.path());
        }
    }
}

#[tokio::test]
async fn a_context_comes_back_as_it_was_sent() {
    let app = TestApp::start().await;
    for (number, context) in ["a\u{0}b", "🦀 é", &"x".repeat(4096)].into_iter().enumerate() {
        let data = json!({ "@odata.type": "#microsoft.graph.recordOperation", "clientContext": context, "status": "running" });
        let answered = app.post(graph("updated", &format!("calls/{CALL}/operations/{number}"), &data).to_string()).await;
        assert_eq!(answered.status.as_u16(), 202, "{context:?}");
        assert_eq!(app.list("/v1/operations").await[0]["context"], context);
    }
}

#[tokio::test]
async fn no_secret_lies_in_the_clear_on_the_disk() {
    let mut app = TestApp::start().await;
    let secrets = ["planted-recording-token", "Planted Displayname", "+4915112345678", "planted-meeting-token"];
    let operation = json!({ "@odata.type": "#microsoft.graph.recordOperation", "clientContext": "not-a-secret", "status": "completed",
                            "recordingAccessToken": secrets[0], "resultInfo": { "code": 200, "message": format!("to {}", secrets[2]) } });
    let call = json!({ "@odata.type": "#microsoft.graph.call", "state": "incoming", "meetingInfo": { "token": secrets[3] },
                       "source": { "identity": { "user": { "displayName": secrets[1] }, "phone": { "id": secrets[2] } } } });
    let people = json!([{ "@odata.type": "#microsoft.graph.participant", "info": { "identity": {
        "user": { "displayName": secrets[1] }, "phone": { "id": secrets[2] } } } }]);
    app.post(graph("deleted", &format!("calls/{CALL}/operations/{OPERATION}"), &operation).to_string()).await;
    app.post(graph("created", &format!("calls/{CALL}"), &call).to_string()).await;
    app.post(graph("updated", &format!("calls/{CALL}/participants"), &people).to_string()).await;
    app.post(format!("unreadable {}", secrets.join(" "))).await;
    assert_eq!(app.list("/v1/notifications").await.len(), 4);

    let on_disk = |app: &TestApp| {
        let files = std::fs::read_dir(app.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let ledger = files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("test.db"));
        ledger.flat_map(|path| std::fs::read(path).unwrap()).collect::<Vec<u8>>()
    };
    let found = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    let open = on_disk(&app); // with its WAL
    app.stop().await;
    for bytes in [open, on_disk(&app)] {
        assert!(found(&bytes, "recordOperation"), "the search finds what is there");
        for secret in secrets.iter().chain(&["4915112345678"]) {
            assert!(!found(&bytes, secret), "{secret}");
        }
    }
}
