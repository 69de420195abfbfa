//! Incoming calls that another region is to answer.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::app::{Answered, Settings, TestApp, graph, send};

fn incoming(call: &str) -> Value {
    let data = json!({ "@odata.type": "#microsoft.graph.call", "state": "incoming", "direction": "incoming" });
    graph("created", &format!("calls/{call}"), &data)
}

async fn app(rules: &str) -> TestApp {
    TestApp::start_with(Settings { receiver: rules.to_owned(), ..Settings::default() }).await
}

async fn posted(app: &TestApp, region: Option<&str>, body: &Value) -> Answered {
    let mut request = app.callback().bearer_auth(app.issuer.token().sign());
    if let Some(region) = region {
        request = request.header("X-Microsoft-Skype-Caller-Region", region);
    }
    send(request.body(body.to_string())).await
}

fn location(answered: &Answered) -> Option<&str> {
    answered.headers.get("location").map(|to| to.to_str().unwrap())
}

#[tokio::test]
async fn a_call_from_another_region_is_sent_there_and_recorded_as_such() {
    let app = app("[[receiver.redirect]]\nto = \"https://emea.example/api/calls\"\nregions = [\"EMEA\"]\n").await;
    for _copy in 0..2 {
        let answered = posted(&app, Some("emea"), &incoming("c1")).await;
        assert_eq!((answered.status, location(&answered)), (StatusCode::FOUND, Some("https://emea.example/api/calls")));
        assert!(answered.body.is_empty());
    }
    for (region, call) in [(Some("apac"), "c2"), (None, "c3")] {
        let answered = posted(&app, region, &incoming(call)).await;
        assert_eq!((answered.status, location(&answered)), (StatusCode::ACCEPTED, None), "{region:?}");
    }
    let call = app.get("/v1/calls/c1").await.json();
    assert_eq!((&call["state"], &call["redirectedTo"]), (&json!("incoming"), &json!("https://emea.example/api/calls")));
    let notifications = app.list("/v1/notifications?callId=c1").await;
    assert_eq!((notifications.len(), &notifications[0]["duplicates"]), (1, &json!(1)));
    assert_eq!(notifications[0]["redirectedTo"], "https://emea.example/api/calls");
    let timeline = app.list("/v1/calls/c1/timeline").await;
    assert_eq!(timeline[0]["summary"], "call incoming, redirected to https://emea.example/api/calls");
    assert_eq!(app.get("/v1/calls/c2").await.json()["redirectedTo"], Value::Null);
    let metrics = String::from_utf8(app.get("/metrics").await.body).unwrap();
    assert!(metrics.contains("outcome=\"redirected\"} 2"), "{metrics}");
}

#[tokio::test]
async fn what_is_no_incoming_call_is_never_sent_elsewhere() {
    let app = app("[[receiver.redirect]]\nto = \"https://emea.example/api/calls\"\n").await;
    let established = graph("updated", "calls/c1", &json!({ "@odata.type": "#microsoft.graph.call", "state": "established" }));
    assert_eq!(posted(&app, None, &established).await.status, StatusCode::ACCEPTED);
    // together with something else it would take that along
    let mut both = incoming("c2");
    both["value"].as_array_mut().unwrap().push(established["value"][0].clone());
    assert_eq!(posted(&app, None, &both).await.status, StatusCode::ACCEPTED);
    assert_eq!(app.callback().body(incoming("c3").to_string()).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(posted(&app, None, &incoming("c4")).await.status, StatusCode::FOUND);
}

#[tokio::test]
async fn a_tenants_calls_can_be_moved_alone() {
    let rules = "[[receiver.redirect]]\nto = \"https://other.example/\"\ntenants = [\"99999999-9999-9999-9999-999999999999\"]\n";
    let app = app(rules).await;
    assert_eq!(posted(&app, None, &incoming("c1")).await.status, StatusCode::ACCEPTED);
    let tenant = "99999999999999999999999999999999";
    let token = app.issuer.token().claim("tid", tenant).sign();
    let answered = send(app.callback().bearer_auth(token).body(incoming("c2").to_string())).await;
    assert_eq!((answered.status, location(&answered)), (StatusCode::FOUND, Some("https://other.example/")));
}
