//! Questions to the private API: every filter finds what it should and no more; what is counted; the description.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::app::{Settings, TestApp, graph, send};

const CALL: &str = "6b0f4f2e-5a8f-4b0e-9f0e-2c8a4d7e1001";
const OTHER: &str = "6b0f4f2e-5a8f-4b0e-9f0e-2c8a4d7e1002";
const CANCELED: &str = "6b0f4f2e-5a8f-4b0e-9f0e-2c8a4d7e2001";
const RUNNING: &str = "6b0f4f2e-5a8f-4b0e-9f0e-2c8a4d7e2002";
const COMPLETED: &str = "6b0f4f2e-5a8f-4b0e-9f0e-2c8a4d7e2003";
const TAG: &str = "6B0F4F2E5A8F4B0E9F0E2C8A4D7E3001";

fn operation(kind: &str, context: &str, status: &str, more: &Value) -> Value {
    let mut data = json!({ "@odata.type": format!("#microsoft.graph.{kind}"), "clientContext": context, "status": status });
    data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    data
}

/// Three operations of two calls, a roster, a tone, the end of a call, something unknown.
async fn populated(settings: Settings) -> TestApp {
    let app = TestApp::start_with(settings).await;
    let call = |state: &str, more: Value| {
        let mut data = json!({ "@odata.type": "#microsoft.graph.call", "state": state, "direction": "incoming" });
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        data
    };
    let canceled = json!({ "completionReason": "operationCanceled", "resultInfo": { "code": 400, "subcode": 8508 } });
    let people = json!([{ "@odata.type": "#microsoft.graph.participant", "id": "p1" }, { "id": "p2" }]);
    for body in [
        graph("created", &format!("calls/{CALL}"), &call("incoming", json!({}))),
        graph("updated", &format!("calls/{CALL}"), &call("established", json!({}))),
        graph("updated", &format!("calls/{CALL}/participants"), &people),
        graph(
            "updated",
            &format!("calls/{CALL}"),
            &call("established", json!({ "toneInfo": { "sequenceId": 4, "tone": "tone5" } })),
        ),
        graph("deleted", &format!("calls/{CALL}/operations/{CANCELED}"), &operation("recordOperation", TAG, "failed", &canceled)),
        graph(
            "updated",
            &format!("calls/{OTHER}/operations/{RUNNING}"),
            &operation("playPromptOperation", "welcome", "running", &json!({})),
        ),
        graph(
            "deleted",
            &format!("calls/{OTHER}/operations/{COMPLETED}"),
            &operation("playPromptOperation", "welcome", "completed", &json!({})),
        ),
        graph("updated", &format!("calls/{OTHER}/novelties/1"), &json!({ "@odata.type": "#microsoft.graph.novelty" })),
        graph(
            "deleted",
            &format!("calls/{CALL}"),
            &call("terminated", json!({ "resultInfo": { "code": 200, "subcode": 5002 } })),
        ),
    ] {
        assert_eq!(app.post(body.to_string()).await.status, StatusCode::ACCEPTED);
    }
    app
}

#[tokio::test]
async fn every_filter_of_operations_finds_what_it_should_and_no_more() {
    let app = populated(Settings::default()).await;
    let undashed = |id: &str| id.replace('-', "").to_uppercase();
    for (filter, expected) in [
        (String::new(), &[COMPLETED, RUNNING, CANCELED][..]),
        ("source=graph".to_owned(), &[COMPLETED, RUNNING, CANCELED]),
        ("source=acs".to_owned(), &[]),
        (format!("callId={CALL}"), &[CANCELED]),
        (format!("callId={}", undashed(OTHER)), &[COMPLETED, RUNNING]),
        (format!("operationId={}", undashed(CANCELED)), &[CANCELED]),
        (format!("operationId={CALL}"), &[]),
        ("context=6b0f4f2e-5a8f-4b0e-9f0e-2c8a4d7e3001".to_owned(), &[CANCELED]),
        (format!("context={}", TAG.to_lowercase()), &[CANCELED]),
        ("context=welcome".to_owned(), &[COMPLETED, RUNNING]),
        ("context=Welcome".to_owned(), &[]),
        ("kind=recordOperation".to_owned(), &[CANCELED]),
        ("state=running".to_owned(), &[RUNNING]),
        ("state=canceled&kind=recordOperation&subcode=8508".to_owned(), &[CANCELED]),
        ("subcode=8508".to_owned(), &[CANCELED]),
        ("subcode=1".to_owned(), &[]),
        ("open=true".to_owned(), &[RUNNING]),
        ("open=false".to_owned(), &[COMPLETED, CANCELED]),
        (format!("open=true&callId={CALL}"), &[]),
        (format!("open=true&callId={OTHER}"), &[RUNNING]),
        ("overdue=true".to_owned(), &[]),
        ("overdue=false".to_owned(), &[COMPLETED, RUNNING, CANCELED]),
        ("since=2026-01-01T00:00:00Z&until=2027-01-01T00:00:00Z".to_owned(), &[COMPLETED, RUNNING, CANCELED]),
        ("since=2027-01-01T00:00:00Z".to_owned(), &[]),
        ("until=2026-01-01T00:00:00Z".to_owned(), &[]),
    ] {
        let found = app.list(&format!("/v1/operations?{filter}")).await;
        let ids: Vec<_> = found.iter().map(|operation| operation["operationId"].as_str().unwrap()).collect();
        assert_eq!(ids, expected, "{filter}");
    }
    let since = app.list(&format!("/v1/operations?callId={OTHER}")).await[0]["firstSeenAt"].as_str().unwrap().to_owned();
    assert!(app.list(&format!("/v1/operations?since={since}")).await.iter().any(|found| found["operationId"] == COMPLETED));
    assert!(app.list(&format!("/v1/operations?until={since}")).await.iter().all(|found| found["operationId"] != COMPLETED));
}

#[tokio::test]
async fn an_open_operation_past_its_deadline_is_overdue() {
    let sections = "[lifecycle.deadline_seconds]\ndefault = 300\nplayPromptOperation = 1\n".to_owned();
    let app = populated(Settings { sections, ..Settings::default() }).await;
    let mut overdue = Vec::new();
    for _ in 0..100 {
        overdue = app.list("/v1/operations?overdue=true").await;
        if !overdue.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!((overdue.len(), &overdue[0]["operationId"], &overdue[0]["overdue"]), (1, &json!(RUNNING), &json!(true)));
    assert!(overdue[0]["deadline"].is_string() && overdue[0]["result"].is_null());
    assert_eq!(app.list("/v1/operations?overdue=false").await.len(), 2);
}

#[tokio::test]
async fn calls_and_notifications_are_found_by_their_filters() {
    let app = populated(Settings::default()).await;
    for (question, expected) in [
        ("/v1/calls".to_owned(), 2),
        ("/v1/calls?state=terminated".to_owned(), 1),
        ("/v1/calls?state=Established".to_owned(), 0),
        ("/v1/calls?source=acs".to_owned(), 0),
        ("/v1/calls?until=2026-01-01T00:00:00Z".to_owned(), 0),
        ("/v1/notifications".to_owned(), 9),
        (format!("/v1/notifications?callId={}", CALL.replace('-', "")), 6),
        ("/v1/notifications?kind=participant".to_owned(), 1),
        ("/v1/notifications?kind=recordOperation&disposition=applied".to_owned(), 1),
        ("/v1/notifications?disposition=unrecognized".to_owned(), 1),
        ("/v1/notifications?disposition=quarantined".to_owned(), 0),
        ("/v1/notifications?source=graph&since=2026-01-01T00:00:00Z".to_owned(), 9),
        ("/v1/rejections?reason=missing_token&receiver=/api/calls&since=2026-01-01T00:00:00Z".to_owned(), 1),
        ("/v1/rejections?reason=expired".to_owned(), 0),
        ("/v1/rejections?receiver=/elsewhere".to_owned(), 0),
    ] {
        if question.starts_with("/v1/rejections?reason=missing") {
            assert_eq!(send(app.callback()).await.status, StatusCode::UNAUTHORIZED);
            app.rejections(1).await;
        }
        assert_eq!(app.list(&question).await.len(), expected, "{question}");
    }
}

#[tokio::test]
async fn a_call_tells_its_life_and_its_end() {
    let app = populated(Settings::default()).await;
    let call = app.get(&format!("/v1/calls/{}", CALL.to_uppercase())).await.json();
    assert_eq!((&call["state"], &call["direction"]), (&json!("terminated"), &json!("incoming")));
    assert_eq!((&call["result"]["subcode"], &call["notifications"]), (&json!(5002), &json!(6)));
    assert!(call["result"]["meaning"].is_string() && call["establishedAt"].is_string() && call["endedAt"].is_string());
    assert_eq!(call["operations"], json!({ "open": 0, "completed": 0, "failed": 0, "canceled": 1, "refused": 0 }));

    let timeline = app.list(&format!("/v1/calls/{CALL}/timeline")).await;
    let told: Vec<_> = timeline.iter().map(|line| (line["type"].as_str().unwrap(), line["summary"].as_str().unwrap())).collect();
    assert_eq!(
        told,
        [
            ("call", "call incoming"),
            ("call", "call established"),
            ("participants", "2 participants"),
            ("tone", "tone no. 4"),
            ("operation", "recordOperation canceled (8508)"),
            ("call", "call terminated (5002)"),
        ]
    );
}

#[tokio::test]
async fn health_can_be_asked_for_without_a_body_and_metrics_count_without_naming_calls() {
    let app = populated(Settings::default()).await;
    assert_eq!(send(app.callback()).await.status, StatusCode::UNAUTHORIZED);
    for path in ["/healthz", "/readyz"] {
        let head = send(app.client.request(Method::HEAD, format!("{}{path}", app.private))).await;
        assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0), "{path}");
    }
    let scraped = app.get("/metrics").await;
    assert!(scraped.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let text = String::from_utf8(scraped.body).unwrap();
    for line in [
        "callback_ledger_deliveries_total{receiver=\"/api/calls\",outcome=\"recorded\"} 9",
        "callback_ledger_rejections_total{reason=\"missing_token\"} 1",
        "callback_ledger_notifications_total{kind=\"recordOperation\"} 1",
        "callback_ledger_notifications_total{kind=\"unrecognized\"} 1",
        "callback_ledger_operations_ended_total{state=\"canceled\"} 1",
        "callback_ledger_record_seconds_count 10",
        "callback_ledger_commit_deliveries_count 9",
        "callback_ledger_queue_depth 0",
        "callback_ledger_ledger_writable 1",
        "callback_ledger_key_store_age_seconds{",
        "callback_ledger_key_store_refreshes_total{",
        "# EOF",
    ] {
        assert!(text.contains(line), "no {line:?} in:\n{text}");
    }
    assert!(!text.contains(CALL) && !text.contains("novelty"), "{text}");
}

#[tokio::test]
async fn the_description_of_the_api_is_the_one_that_was_agreed() {
    let app = TestApp::start().await;
    let mut description = app.get("/openapi.json").await.json();
    description["info"]["version"] = json!("…");
    insta::assert_json_snapshot!(description);
}
