//! What bots ask for: registered by their own word, tied to what the platforms then tell.

use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::support::app::{Answered, Settings, TestApp, call_event, graph, send};

const CALL: &str = "57dab8b1-894c-409a-b240-bd8beae78896";

async fn register(app: &TestApp, body: &Value) -> Answered {
    send(sending(app, body)).await
}

fn sending(app: &TestApp, body: &Value) -> RequestBuilder {
    let request = app.client.post(format!("{}/v1/operations", app.private));
    request.header("content-type", "application/json").body(body.to_string())
}

async fn registered(app: &TestApp, body: &Value) -> Value {
    let answered = register(app, body).await;
    assert_eq!(answered.status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&answered.body));
    answered.json()
}

fn ask(kind: &str, context: &str) -> Value {
    json!({ "source": "graph", "callId": CALL.to_uppercase().replace('-', ""), "kind": kind, "context": context })
}

fn operation(kind: &str, id: &str, context: &str, status: &str, subcode: Option<i64>) -> String {
    let mut data = json!({ "@odata.type": format!("#microsoft.graph.{kind}"), "clientContext": context, "status": status });
    if let Some(subcode) = subcode {
        data["resultInfo"] = json!({ "code": 400, "subcode": subcode });
    }
    let change = if status == "running" { "updated" } else { "deleted" };
    graph(change, &format!("calls/{CALL}/operations/{id}"), &data).to_string()
}

async fn show(app: &TestApp, id: &Value) -> Value {
    app.get(&format!("/v1/operations/{}", id.as_str().unwrap())).await.json()
}

#[tokio::test]
async fn an_operation_that_was_asked_for_is_one_story_whichever_side_comes_first() {
    let mut app = TestApp::start().await;
    let asked = registered(&app, &ask("record", "ours")).await;
    assert_eq!((&asked["state"], &asked["kind"], &asked["flags"]), (&json!("requested"), &json!("recordOperation"), &json!([])));
    assert_eq!((&asked["callId"], &asked["final"], &asked["notifications"]), (&json!(CALL), &json!(false), &json!(0)));
    assert_eq!(asked["requestedAt"], asked["firstSeenAt"]);
    assert!(asked["deadline"].is_string());
    app.post(operation("recordOperation", "o1", "ours", "running", None)).await;
    app.restart().await;
    app.post(operation("recordOperation", "o1", "ours", "completed", None)).await;
    let told = show(&app, &asked["id"]).await;
    assert_eq!((&told["state"], &told["flags"], &told["operationId"]), (&json!("completed"), &json!([]), &json!("o1")));
    let history = app.list(&format!("/v1/operations/{}/history", told["id"].as_str().unwrap())).await;
    let steps: Vec<_> =
        history.iter().map(|step| (step["to"].as_str().unwrap(), step["cause"]["type"].as_str().unwrap())).collect();
    assert_eq!(steps, [("requested", "request"), ("running", "notification"), ("completed", "notification")]);
    let newest = app.list("/v1/notifications").await.remove(0);
    assert_eq!(newest["operation"], asked["id"]);

    let lines = app.list(&format!("/v1/calls/{CALL}/timeline?limit=2")).await;
    let lines: Vec<_> = lines.iter().map(|line| (line["type"].as_str().unwrap(), line["summary"].as_str().unwrap())).collect();
    assert_eq!(lines, [("request", "record requested"), ("operation", "recordOperation running")]);
    assert_eq!(app.list(&format!("/v1/calls/{CALL}/timeline")).await.len(), 3);

    app.post(operation("playPromptOperation", "o2", "later", "completed", None)).await;
    let seen = app.list("/v1/operations?context=later").await.remove(0);
    assert_eq!(seen["flags"], json!(["unrequested"]));
    let adopted = registered(&app, &ask("playPromptOperation", "later")).await;
    assert_eq!((&adopted["id"], &adopted["state"], &adopted["flags"]), (&seen["id"], &json!("completed"), &json!([])));
    assert_eq!(app.list("/v1/operations").await.len(), 2);
    assert_eq!(app.get(&format!("/v1/calls/{CALL}")).await.json()["operations"]["completed"], 2);
}

#[tokio::test]
async fn a_cancel_lists_what_it_canceled_and_what_escaped_it() {
    let app = TestApp::start().await;
    for (kind, context) in [("recordResponse", "voicemail"), ("playPrompt", "greeting"), ("subscribeToTone", "tones")] {
        registered(&app, &ask(kind, context)).await;
    }
    app.post(operation("playPromptOperation", "p1", "greeting", "running", None)).await;
    let cancel = registered(&app, &ask("cancelMediaProcessing", "cancel")).await;
    app.post(operation("recordOperation", "r1", "voicemail", "failed", Some(8508))).await;
    app.post(operation("playPromptOperation", "p1", "greeting", "completed", None)).await;
    app.post(operation("subscribeToToneOperation", "t1", "tones", "completed", None)).await;
    let by_context = async |context: &str| app.list(&format!("/v1/operations?context={context}")).await.remove(0);
    let (record, prompt, tones) = (by_context("voicemail").await, by_context("greeting").await, by_context("tones").await);
    assert_eq!((&record["state"], &record["canceledBy"]), (&json!("canceled"), &cancel["id"]));
    assert_eq!((&prompt["state"], &prompt["canceledBy"]), (&json!("completed"), &Value::Null));
    assert_eq!(tones["canceledBy"], Value::Null);
    let cancel = show(&app, &cancel["id"]).await;
    assert_eq!((&cancel["cancels"], &cancel["escaped"]), (&json!([record["id"]]), &json!([prompt["id"]])));
    assert_eq!(cancel["state"], "requested", "nobody has told what became of the cancel itself");

    // with a second cancel on the call it is the last that was sent before
    let second = registered(&app, &ask("cancelMediaProcessing", "again")).await;
    registered(&app, &ask("playPrompt", "last")).await;
    app.post(operation("playPromptOperation", "p2", "last", "failed", Some(8508))).await;
    let last = by_context("last").await;
    assert_eq!((&last["canceledBy"], &last["flags"]), (&second["id"], &json!(["ambiguous"])));
    assert_eq!(last["candidates"], json!([cancel["id"], second["id"]]));
}

#[tokio::test]
async fn what_could_belong_to_several_is_marked_and_not_guessed() {
    let app = TestApp::start().await;
    let (one, two) = (registered(&app, &ask("record", "same")).await, registered(&app, &ask("record", "same")).await);
    app.post(operation("recordOperation", "o1", "same", "completed", None)).await;
    let mut all = app.list("/v1/operations").await;
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|operation| operation["flags"].as_array().unwrap().contains(&json!("ambiguous"))), "{all:#?}");
    assert_eq!(all.remove(0)["candidates"], json!([one["id"], two["id"]]));
    // a second outcome, and both are told apart by nothing still
    app.post(operation("recordOperation", "o2", "same", "completed", None)).await;
    assert_eq!(app.list("/v1/operations").await.len(), 4);
}

/// A bot that gives every recording the same tag.
#[tokio::test]
async fn a_tag_that_is_used_again_once_its_operation_has_begun_leaves_that_alone() {
    let app = TestApp::start().await;
    let first = registered(&app, &ask("record", "same")).await;
    app.post(operation("recordOperation", "o1", "same", "completed", None)).await;
    let second = registered(&app, &ask("record", "same")).await;
    let is = async |asked: &Value, state: &str| {
        let told = show(&app, &asked["id"]).await;
        assert_eq!((&told["state"], &told["flags"]), (&json!(state), &json!([])));
    };
    is(&first, "completed").await;
    is(&second, "requested").await;
    app.post(operation("recordOperation", "o2", "same", "failed", Some(8508))).await;
    is(&first, "completed").await;
    is(&second, "canceled").await;
    assert_eq!(app.list("/v1/operations").await.len(), 2);
}

#[tokio::test]
async fn a_deadline_is_kept_and_settled_by_the_word_that_still_comes() {
    let app = TestApp::start().await;
    let mut asked = ask("record", "soon");
    asked["deadlineSeconds"] = 1.into();
    let asked = registered(&app, &asked).await;
    for _ in 0..400 {
        if show(&app, &asked["id"]).await["overdue"] == true {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let overdue = app.list("/v1/operations?overdue=true").await;
    assert_eq!((overdue.len(), &overdue[0]["id"]), (1, &asked["id"]));
    let metrics = async || String::from_utf8(app.get("/metrics").await.body).unwrap();
    assert!(metrics().await.contains("callback_ledger_operations_overdue 1\n"));
    app.post(operation("recordOperation", "o1", "soon", "completed", None)).await;
    assert!(metrics().await.contains("callback_ledger_operations_overdue 0\n"));
    let history = app.list(&format!("/v1/operations/{}/history", asked["id"].as_str().unwrap())).await;
    let steps: Vec<_> = history.iter().map(|step| (&step["from"], &step["to"], &step["cause"]["type"])).collect();
    let (requested, completed) = (json!("requested"), json!("completed"));
    assert_eq!(
        steps,
        [
            (&Value::Null, &requested, &json!("request")),
            (&requested, &requested, &json!("deadline")),
            (&requested, &completed, &json!("notification")),
        ]
    );
    assert_eq!((&history[1]["cause"]["id"], &history[1]["at"]), (&Value::Null, &asked["deadline"]));
    let told = show(&app, &asked["id"]).await;
    assert_eq!((&told["state"], &told["overdue"], &told["deadline"]), (&json!("completed"), &json!(false), &Value::Null));
}

#[tokio::test]
async fn an_idempotency_key_makes_a_second_copy_the_first_and_nothing_else() {
    let mut app = TestApp::start().await;
    let post = async |app: &TestApp, key: &str, body: &Value| send(sending(app, body).header("Idempotency-Key", key)).await;
    let first = post(&app, "k1", &ask("record", "ours")).await;
    assert_eq!(first.status, StatusCode::CREATED);
    app.restart().await;
    let again = post(&app, "k1", &ask("recordOperation", "ours")).await;
    assert_eq!((again.status, &again.json()["id"]), (StatusCode::OK, &first.json()["id"]));
    let other = post(&app, "k1", &ask("record", "another")).await;
    assert_eq!((other.status, &other.json()["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("idempotency_mismatch")));
    assert_eq!(post(&app, "k2", &ask("record", "ours")).await.status, StatusCode::CREATED);
    assert_eq!(app.list("/v1/operations").await.len(), 2);
}

#[tokio::test]
async fn a_registration_that_is_not_understood_changes_nothing() {
    let app = TestApp::start().await;
    let with = |name: &str, value: Value| {
        let mut body = ask("record", "c");
        body[name] = value;
        body
    };
    for (body, why) in [
        (with("source", "teams".into()), "source: one of graph, acs"),
        (with("source", "event-grid".into()), "source: one of graph, acs"),
        (with("kind", " ".into()), "kind"),
        (with("kind", "k".repeat(257).into()), "kind"),
        (with("callId", " ".into()), "callId"),
        (with("deadlineSeconds", 0.into()), "deadlineSeconds"),
        (with("context", 7.into()), "context"),
        (with("colour", "red".into()), "colour"),
        (json!([]), "invalid"),
    ] {
        let answered = register(&app, &body).await;
        assert_eq!((answered.status, &answered.json()["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_body")), "{body}");
        assert!(answered.json()["detail"].as_str().unwrap().contains(why), "{why}: {}", answered.json());
    }
    let text = app.client.post(format!("{}/v1/operations", app.private)).body(ask("record", "c").to_string());
    assert_eq!(send(text).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "no page of a browser can send this");
    assert_eq!(app.list("/v1/operations").await, Vec::<Value>::new());
    assert_eq!(app.list("/v1/calls").await, Vec::<Value>::new());
}

#[tokio::test]
async fn to_register_takes_the_scope_to_write() {
    let hash = |token: &str| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        digest.as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    };
    let token = |name: &str, scopes: &str| {
        format!("[[private.token]]\nname = \"{name}\"\nsha256 = \"{}\"\nscopes = {scopes}\n", hash(name))
    };
    let sections = token("bot", "[\"read\", \"write\"]") + &token("ops", "[\"read\"]");
    let issuer = crate::support::fake_issuer::FakeIssuer::start().await;
    let app = TestApp::start_without_keys(issuer, Settings { sections, ..Settings::default() }).await;
    let post = async |who: &str| send(sending(&app, &ask("record", "c")).bearer_auth(who)).await;
    let refused = post("ops").await;
    assert_eq!((refused.status, &refused.json()["code"]), (StatusCode::FORBIDDEN, &json!("scope_required")));
    assert_eq!(post("nobody").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(post("bot").await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_call_that_was_known_by_requests_alone_belongs_to_whom_it_first_hears_from() {
    let app = TestApp::of("acs").await;
    let asked = json!({ "source": "acs", "callId": "leg", "kind": "play", "context": "greeting" });
    let asked = registered(&app, &asked).await;
    assert_eq!((&asked["receiver"], &asked["tenantId"]), (&Value::Null, &Value::Null));
    let data = json!({ "callConnectionId": "leg", "operationContext": "greeting" });
    let body = call_event("Microsoft.Communication.PlayCompleted", "e1", &data).to_string();
    assert_eq!(app.post(body).await.status, StatusCode::OK);
    let told = show(&app, &asked["id"]).await;
    assert_eq!(
        (&told["state"], &told["receiver"], &told["source"]),
        (&json!("completed"), &json!("/api/callbacks"), &json!("acs"))
    );
    let begun = registered(&app, &json!({ "source": "acs", "kind": "createCall", "context": "out" })).await;
    assert_eq!((&begun["callId"], &begun["state"]), (&Value::Null, &json!("requested")));
    assert_eq!(app.list("/v1/calls").await.len(), 1, "a request is no call");
}
