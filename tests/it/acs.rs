//! Lives of calls as Call Automation tells them, through the front door.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    app::{Settings, TestApp, call_event, send},
    fake_issuer::AUDIENCE,
};

const CALL: &str = "8dafb0ef-7074-4510-8ed7-da85d2eb80b4";
const CORRELATION: &str = "0a7d3c55-62cf-4c13-9d5e-2f1b8a9c4e01";

/// An event of [`CALL`] under this id, at so many ticks of 100 ns past the second.
fn event(name: &str, id: &str, ticks: u32, data: &Value) -> Value {
    let mut all = json!({ "callConnectionId": CALL, "serverCallId": "aHR0cHM6Ly9v", "correlationId": CORRELATION });
    for (name, value) in data.as_object().unwrap() {
        all[name] = value.clone();
    }
    let mut event = call_event(&format!("Microsoft.Communication.{name}"), id, &all);
    event[0]["time"] = format!("2026-01-01T00:00:00.{ticks:07}+00:00").into();
    event
}

fn play(name: &str, id: &str, ticks: u32) -> Value {
    event(name, id, ticks, &json!({ "operationContext": "greeting" }))
}

async fn post(app: &TestApp, event: &Value) {
    let answered = app.post(event.to_string()).await;
    assert_eq!((answered.status, answered.body.len()), (StatusCode::OK, 0), "{event}");
}

/// Kind, context, state and flags of every operation, the oldest first.
async fn operations(app: &TestApp) -> Vec<(String, Value, String, Value)> {
    let mut told = app.list("/v1/operations").await;
    told.reverse();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    told.iter().map(|o| (text(&o["kind"]), o["context"].clone(), text(&o["state"]), o["flags"].clone())).collect()
}

/// The same API until it says so.
async fn eventually(app: &TestApp, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..800 {
        let told = app.get(path).await.json();
        if holds(&told) {
            return told;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("never: {:#}", app.get(path).await.json());
}

#[tokio::test]
async fn a_context_that_is_used_again_is_another_operation_whichever_event_comes_first() {
    let lives = [("PlayStarted", "e1", 10), ("PlayCompleted", "e2", 20), ("PlayStarted", "e3", 30), ("PlayCanceled", "e4", 40)];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
        let app = TestApp::of("acs").await;
        for at in order {
            let (name, id, ticks) = lives[at];
            post(&app, &play(name, id, ticks)).await;
        }
        let mut told = operations(&app).await;
        told.sort_by_key(|(_, _, state, _)| state.clone());
        let states: Vec<_> = told.iter().map(|(kind, context, state, _)| (kind.as_str(), context, state.as_str())).collect();
        let greeting = json!("greeting");
        assert_eq!(states, [("play", &greeting, "canceled"), ("play", &greeting, "completed")], "{order:?}");
        for operation in app.list("/v1/operations").await {
            assert_eq!((&operation["notifications"], &operation["overdue"]), (&json!(2), &json!(false)), "{order:?}");
            let history = app.list(&format!("/v1/operations/{}/history", operation["id"].as_str().unwrap())).await;
            let steps: Vec<_> = history.iter().map(|step| step["to"].clone()).collect();
            assert_eq!(steps, [json!("running"), operation["state"].clone()], "{order:?}");
        }
    }
}

#[tokio::test]
async fn what_started_before_its_end_belongs_to_it_though_it_came_behind_and_is_late() {
    let app = TestApp::of("acs").await;
    post(&app, &play("PlayCompleted", "e2", 20)).await;
    post(&app, &play("PlayStarted", "e1", 10)).await;
    post(&app, &play("PlayStarted", "e3", 30)).await;
    let told = operations(&app).await;
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!((told[0].2.as_str(), &told[0].3), ("completed", &json!(["unrequested", "late"])));
    assert_eq!((told[1].2.as_str(), &told[1].3), ("running", &json!(["unrequested"])));
    let kept = app.list("/v1/notifications").await;
    let dispositions: Vec<_> = kept.iter().map(|row| row["disposition"].as_str().unwrap()).collect();
    assert_eq!(dispositions, ["applied", "late", "applied"]);
    assert_eq!(kept[1]["operation"], kept[2]["operation"]);
    assert_ne!(kept[0]["operation"], kept[2]["operation"]);
}

#[tokio::test]
async fn operations_without_a_context_are_operations_and_a_tie_in_time_ends_with_the_end() {
    let app = TestApp::of("acs").await;
    post(&app, &event("PlayCompleted", "e1", 10, &json!({}))).await;
    post(&app, &event("PlayStarted", "e2", 10, &json!({}))).await;
    post(&app, &event("PlayCompleted", "e3", 20, &json!({ "operationContext": " " }))).await;
    let told = operations(&app).await;
    assert_eq!(told.iter().map(|o| (&o.1, o.2.as_str())).collect::<Vec<_>>(), [(&Value::Null, "completed"); 2]);
    let first = app.list("/v1/operations").await.pop().unwrap();
    assert_eq!(first["notifications"], 2);
}

#[tokio::test]
async fn a_duplicate_is_an_event_of_the_same_source_and_id_whatever_else_it_says_and_counts_where_it_belongs() {
    let app = TestApp::of("acs").await;
    post(&app, &play("PlayCompleted", "e1", 10)).await;
    post(&app, &play("PlayCompleted", "e2", 20)).await;
    post(&app, &play("PlayCompleted", "e2", 20)).await;
    post(&app, &play("PlayFailed", "e2", 30)).await;
    let mut of_another_call = play("PlayFailed", "e2", 30);
    of_another_call[0]["data"]["callConnectionId"] = "other".into();
    post(&app, &of_another_call).await;
    let mut from_another_source = play("PlayFailed", "e2", 40);
    from_another_source[0]["source"] = "calling/callConnections/other".into();
    post(&app, &from_another_source).await;

    let duplicates: Vec<_> = app.list("/v1/notifications").await.iter().map(|row| row["duplicates"].clone()).collect();
    assert_eq!(duplicates, [0, 3, 0]);
    let told: Vec<_> = app.list("/v1/operations").await.iter().map(|o| (o["state"].clone(), o["duplicates"].clone())).collect();
    assert_eq!(told, [(json!("failed"), json!(0)), (json!("completed"), json!(3)), (json!("completed"), json!(0))]);
    assert_eq!(app.list("/v1/calls").await.len(), 1, "a copy begins no call");
}

#[tokio::test]
async fn what_is_open_when_its_call_has_ended_fails_after_the_grace_period_and_a_waiter_hears_it() {
    let sections = "[lifecycle]\ndisconnect_grace_seconds = 1\n".to_owned();
    let mut app = TestApp::start_with(Settings { source: "acs", sections, ..Settings::default() }).await;
    post(&app, &play("PlayStarted", "e1", 10)).await;
    post(&app, &event("TranscriptionStarted", "e2", 11, &json!({}))).await;
    post(&app, &event("CallDisconnected", "e3", 12, &json!({ "resultInformation": { "code": 200, "subCode": 7000 } }))).await;
    let open = app.list("/v1/operations?kind=play").await.remove(0);
    let id = open["id"].as_str().unwrap();
    let ended = app.get(&format!("/v1/operations/{id}?wait=60")).await.json();
    assert_eq!(
        (&ended["state"], &ended["final"], &ended["flags"]),
        (&json!("failed"), &json!(true), &json!(["unrequested", "inferred"]))
    );
    assert_eq!(ended["result"]["reason"], "callDisconnected");
    assert_eq!(ended["result"]["code"], Value::Null);
    let over = app.list("/v1/notifications?kind=call").await.remove(0);
    assert_eq!(ended["finishedAt"], over["receivedAt"], "it ended with its call, however late we were sure");
    let history = app.list(&format!("/v1/operations/{id}/history")).await;
    assert_eq!((&history[1]["to"], &history[1]["cause"]["id"]), (&json!("failed"), &over["id"]));
    assert!(history[1]["note"].as_str().unwrap().starts_with("inferred: "), "{history:#?}");

    for (path, count) in [("state=failed", 2), ("open=true", 0), ("open=false", 2), ("state=running", 0), ("overdue=true", 0)] {
        assert_eq!(app.list(&format!("/v1/operations?{path}")).await.len(), count, "{path}");
    }
    let call = eventually(&app, &format!("/v1/calls/{CALL}"), |call| call["operations"]["failed"] == 2).await;
    assert_eq!((&call["state"], &call["operations"]["open"]), (&json!("terminated"), &json!(0)));
    // readers have known before the writer wrote it down
    for _ in 0..2400 {
        let metrics = String::from_utf8(app.get("/metrics").await.body).unwrap();
        if metrics.contains("callback_ledger_operations_ended_total{state=\"failed\"} 2") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let metrics = String::from_utf8(app.get("/metrics").await.body).unwrap();
    assert!(metrics.contains("callback_ledger_operations_ended_total{state=\"failed\"} 2"), "{metrics}");

    app.restart().await;
    assert_eq!(app.get(&format!("/v1/operations/{id}")).await.json(), ended);
    post(&app, &play("PlayCompleted", "e4", 13)).await;
    let corrected = app.get(&format!("/v1/operations/{id}")).await.json();
    assert_eq!(corrected["state"], "completed");
    assert_eq!(corrected["flags"], json!(["unrequested", "late", "corrected"]));
    let steps: Vec<_> = app.list(&format!("/v1/operations/{id}/history")).await.iter().map(|step| step["to"].clone()).collect();
    assert_eq!(steps, ["running", "completed"], "what was only concluded has left the history");
}

#[tokio::test]
async fn word_within_the_grace_period_settles_an_operation_and_does_not_reopen_the_call() {
    let app = TestApp::of("acs").await;
    post(&app, &event("CallConnected", "e0", 1, &json!({ "operationContext": "answered" }))).await;
    post(&app, &play("PlayStarted", "e1", 10)).await;
    post(&app, &event("CallDisconnected", "e2", 20, &json!({}))).await;
    for (name, id) in [("ParticipantsUpdated", "e3"), ("CallConnected", "e4"), ("PlayCanceled", "e5"), ("CreateCallFailed", "e6")]
    {
        post(&app, &event(name, id, 15, &json!({ "operationContext": "greeting" }))).await;
    }
    let dispositions: Vec<_> = app.list("/v1/notifications?limit=4").await.iter().map(|row| row["disposition"].clone()).collect();
    assert_eq!(dispositions, ["late"; 4]);
    let call = app.get(&format!("/v1/calls/{CALL}")).await.json();
    assert_eq!(
        (&call["state"], &call["correlationId"], &call["notifications"]),
        (&json!("terminated"), &json!(CORRELATION), &json!(7))
    );
    let told = operations(&app).await;
    let late = json!(["unrequested", "late"]);
    assert_eq!(told[0], ("play".to_owned(), json!("greeting"), "canceled".to_owned(), late.clone()));
    assert_eq!(told[1], ("createCall".to_owned(), json!("greeting"), "failed".to_owned(), late));
    assert_eq!(app.list("/v1/notifications?kind=call").await.last().unwrap()["context"], "answered");
}

#[tokio::test]
async fn legs_of_one_conversation_know_each_other() {
    let app = TestApp::of("acs").await;
    let leg = async |call: &str, server: &str, correlation: &str| {
        let data = json!({ "callConnectionId": call, "serverCallId": server, "correlationId": correlation });
        post(&app, &call_event("Microsoft.Communication.CallConnected", call, &data)).await;
    };
    leg("one", "s1", CORRELATION).await;
    leg("two", "s1", "another").await;
    leg("three", "s2", &CORRELATION.to_uppercase()).await;
    leg("four", "s4", "none").await;
    let related = async |call: &str| app.get(&format!("/v1/calls/{call}")).await.json()["relatedCalls"].clone();
    assert_eq!(related("one").await, json!(["two", "three"]));
    assert_eq!(related("two").await, json!(["one"]));
    assert_eq!(related("four").await, json!([]));
}

#[tokio::test]
async fn one_call_is_one_story_at_whichever_receiver_its_events_arrive() {
    let sections = format!("[[receiver]]\npath = \"/api/override\"\nsource = \"acs\"\naudience = [\"{AUDIENCE}\"]\n");
    let issuer = crate::support::fake_issuer::FakeIssuer::start().await;
    let sections = format!("{sections}issuers = [\"{}\"]\nmetadata = [\"{}\"]\n", issuer.issuer(), issuer.metadata_url());
    let app = TestApp::start_without_keys(issuer, Settings { source: "acs", sections, ..Settings::default() }).await;
    app.until_ready().await;
    post(&app, &play("PlayStarted", "e1", 10)).await;
    for _ in 0..2 {
        let request = app.client.post(format!("{}/api/override", app.public)).bearer_auth(app.issuer.token().sign());
        assert_eq!(send(request.body(play("PlayCompleted", "e2", 20).to_string())).await.status, StatusCode::OK);
    }
    post(&app, &play("PlayCompleted", "e2", 20)).await;
    let told = app.list("/v1/operations").await;
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(
        (&told[0]["state"], &told[0]["notifications"], &told[0]["duplicates"]),
        (&json!("completed"), &json!(2), &json!(2))
    );
}

#[tokio::test]
async fn every_way_to_write_an_event_is_read() {
    let app = TestApp::of("acs").await;
    let request = |content_type: &str| {
        let token = app.issuer.token().without("tid").sign();
        app.client.post(format!("{}{}", app.public, app.path())).bearer_auth(token).header("content-type", content_type)
    };
    let types =
        ["application/json", "application/cloudevents+json; charset=utf-8", "application/cloudevents-batch+json", "text/x"];
    for (number, content_type) in types.into_iter().enumerate() {
        let id = format!("structured-{number}");
        let event = play("PlayCompleted", &id, 10 + u32::try_from(number).unwrap());
        let body = if number == 1 { event[0].to_string() } else { event.to_string() };
        assert_eq!(send(request(content_type).body(body)).await.status, StatusCode::OK, "{content_type}");
    }
    let data = json!({ "callConnectionId": CALL, "operationContext": "bínary" });
    let binary = request("application/json")
        .header("ce-specversion", "1.0")
        .header("CE-Type", "Microsoft.Communication.PlayCanceled")
        .header("ce-id", "binary%20one")
        .header("ce-source", format!("calling/callConnections/{CALL}"))
        .header("ce-time", "2026-01-01T00:00:00.5+00:00");
    for _ in 0..2 {
        let sent = binary.try_clone().unwrap().body(data.to_string());
        assert_eq!(send(sent).await.status, StatusCode::OK);
    }
    let newest = app.list("/v1/operations").await.remove(0);
    assert_eq!((&newest["state"], &newest["context"], &newest["duplicates"]), (&json!("canceled"), &json!("bínary"), &json!(1)));
    let newest = app.list("/v1/notifications").await.remove(0);
    assert_eq!(
        (&newest["type"], &newest["occurredAt"]),
        (&json!("Microsoft.Communication.PlayCanceled"), &json!("2026-01-01T00:00:00.500Z"))
    );
    assert_eq!(app.list("/v1/operations").await.len(), 5);
    // what is said in the headers of a body that says it is whole does not count
    let whole =
        request("application/cloudevents+json").header("ce-type", "x").body(play("PlayCompleted", "whole", 90)[0].to_string());
    assert_eq!(send(whole).await.status, StatusCode::OK);
    assert_eq!(app.list("/v1/notifications").await[0]["kind"], "play");
}

#[tokio::test]
async fn a_secret_in_the_query_is_an_extra_lock_that_nobody_sees() {
    let receiver = "secret = \"correct+horse+battery=\"".to_owned();
    let app = TestApp::start_with(Settings { source: "acs", receiver, ..Settings::default() }).await;
    let body = play("PlayCompleted", "e1", 1).to_string();
    let post = async |query: &str| {
        let url = format!("{}{}{query}", app.public, app.path());
        send(app.client.post(url).bearer_auth(app.issuer.token().sign()).body(body.clone())).await.status
    };
    let wrong = [
        "",
        "?secret=",
        "?secret=wrong",
        "?secret=correct+horse+battery=&secret=correct+horse+battery=",
        "?Secret=correct+horse+battery=",
    ];
    for query in wrong {
        assert_eq!(post(query).await, StatusCode::UNAUTHORIZED, "{query}");
    }
    assert_eq!(app.list("/v1/notifications").await, Vec::<Value>::new());
    assert_eq!(post("?a=1&secret=correct+horse%2Bbattery%3D").await, StatusCode::OK);
    let rejection = app.rejections(5).await.remove(0);
    assert_eq!(
        (&rejection["reason"], &rejection["count"], &rejection["status"]),
        (&json!("wrong_secret"), &json!(5), &json!(401))
    );
    assert!(rejection["keyId"].is_string(), "the token was good");
    for path in ["/v1/rejections", "/metrics", "/v1/notifications", "/readyz"] {
        let shown = String::from_utf8(app.get(path).await.body).unwrap();
        assert!(!shown.contains("horse"), "{path}: {shown}");
    }
}

#[tokio::test]
async fn a_tone_is_told_and_which_one_is_not() {
    let app = TestApp::of("acs").await;
    post(&app, &event("ContinuousDtmfRecognitionToneReceived", "e1", 1, &json!({ "sequenceId": 3, "tone": "pound" }))).await;
    let line = app.list(&format!("/v1/calls/{CALL}/timeline")).await.remove(0);
    assert_eq!((&line["type"], &line["summary"]), (&json!("tone"), &json!("tone no. 3")));
    assert_eq!(line["operation"], app.list("/v1/operations").await[0]["id"]);
}

#[tokio::test]
async fn what_is_first_heard_of_behind_the_end_is_over_at_once_and_corrected_when_more_is_told() {
    let sections = "[lifecycle]\ndisconnect_grace_seconds = 1\n".to_owned();
    let app = TestApp::start_with(Settings { source: "acs", sections, ..Settings::default() }).await;
    post(&app, &play("PlayStarted", "e0", 1)).await;
    post(&app, &event("CallDisconnected", "e1", 2, &json!({}))).await;
    eventually(&app, "/v1/operations?state=failed", |page| page["value"].as_array().unwrap().len() == 1).await;
    let afterthought = |name: &str, id: &str, ticks| event(name, id, ticks, &json!({ "operationContext": "afterthought" }));
    post(&app, &afterthought("PlayStarted", "e2", 3)).await;
    let path = "/v1/operations?context=afterthought";
    let told = eventually(&app, path, |page| page["value"][0]["state"] == "failed").await;
    assert_eq!(told["value"][0]["flags"], json!(["unrequested", "late", "inferred"]));
    assert!(told["value"][0]["finishedAt"].as_str() >= told["value"][0]["firstSeenAt"].as_str());
    post(&app, &afterthought("PlayCompleted", "e3", 4)).await;
    let told = app.list(path).await.remove(0);
    assert_eq!((&told["state"], &told["flags"]), (&json!("completed"), &json!(["unrequested", "late", "corrected"])));
}

#[tokio::test]
async fn an_odd_item_costs_itself_and_not_its_batch() {
    let app = TestApp::of("acs").await;
    let good = play("PlayCompleted", "e1", 1)[0].to_string();
    let body = format!(r#"[null, {good}, 7, {{"id":"e2"}}, {{"type":"T","data":1e999}}]"#);
    assert_eq!(app.post(body).await.status, StatusCode::OK);
    let kept = app.list("/v1/notifications").await;
    let kinds: Vec<_> = kept.iter().rev().map(|row| row["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["untyped", "play", "untyped", "untyped", "untyped"]);
    assert_eq!(app.list("/v1/notifications?disposition=unrecognized").await.len(), 4);
    for body in ["[null]", "[[]]", "{}", "[1,2]", "null"] {
        assert_eq!(app.post(body).await.status, StatusCode::BAD_REQUEST, "{body}");
    }
}

#[tokio::test]
async fn the_data_of_an_event_in_headers_is_read_as_leniently_as_any_and_not_made_up() {
    let app = TestApp::of("acs").await;
    let post = async |id: &str, body: Vec<u8>| {
        let request = app.callback().bearer_auth(app.issuer.token().sign());
        let request = request
            .header("ce-type", "Microsoft.Communication.PlayStarted")
            .header("ce-id", id)
            .header("ce-source", "calling/callConnections/c");
        send(request.body(body)).await.status
    };
    let data = |context: &str| format!(r#"{{"callConnectionId":"c","operationContext":"{context}"}}"#).into_bytes();
    assert_eq!(post("e1", [b"\xEF\xBB\xBF".to_vec(), data("bom")].concat()).await, StatusCode::OK);
    assert_eq!(post("e2", data("half \\ud83d")).await, StatusCode::OK);
    assert_eq!(post("e3", b"not JSON".to_vec()).await, StatusCode::BAD_REQUEST);
    let contexts: Vec<_> = app.list("/v1/operations").await.iter().map(|o| o["context"].clone()).collect();
    assert_eq!(contexts, ["half \u{fffd}", "bom"]);
    assert_eq!(app.list("/v1/notifications?disposition=quarantined").await.len(), 1);
}

#[tokio::test]
async fn a_stranger_who_knows_an_id_of_a_conversation_puts_no_words_into_its_story() {
    const OTHER: &str = "ffffffff-41c3-47a4-8775-7259bfef4241";
    let issuer = crate::support::fake_issuer::FakeIssuer::start().await;
    let sections = format!(
        "[[receiver]]\npath = \"/api/other\"\nsource = \"acs\"\naudience = [\"{OTHER}\"]\nissuers = [\"{}\"]\nmetadata = [\"{}\"]\n",
        issuer.issuer(),
        issuer.metadata_url()
    );
    let app = TestApp::start_without_keys(issuer, Settings { source: "acs", sections, ..Settings::default() }).await;
    app.until_ready().await;
    post(&app, &event("CallConnected", "e1", 1, &json!({}))).await;
    let other = async |data: &Value| {
        let body = call_event("Microsoft.Communication.PlayFailed", &data.to_string(), data).to_string();
        let request = app.client.post(format!("{}/api/other", app.public)).bearer_auth(app.issuer.token().audience(OTHER).sign());
        assert_eq!(send(request.body(body)).await.status, StatusCode::OK);
    };
    other(&json!({ "serverCallId": "aHR0cHM6Ly9v" })).await;
    other(&json!({ "callConnectionId": CALL })).await;
    other(&json!({ "callConnectionId": "their-own", "serverCallId": "aHR0cHM6Ly9v", "correlationId": CORRELATION })).await;
    assert_eq!(app.list(&format!("/v1/calls/{CALL}/timeline")).await.len(), 1);
    assert_eq!(app.get(&format!("/v1/calls/{CALL}")).await.json()["relatedCalls"], json!([]));
    assert_eq!(app.list(&format!("/v1/operations?callId={CALL}")).await, Vec::<Value>::new());
}
