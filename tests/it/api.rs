//! The private API: who may ask, what is asked wrongly, pages, and waits.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use aws_lc_rs::digest;
use serde_json::{Value, json};

use crate::support::app::{Settings, TestApp, graph, send};

const CALL: &str = "57dab8b1-894c-409a-b240-bd8beae78896";

fn play(number: usize, change: &str, status: &str) -> String {
    let data =
        json!({ "@odata.type": "#microsoft.graph.playPromptOperation", "clientContext": format!("c{number}"), "status": status });
    graph(change, &format!("calls/{CALL}/operations/o{number}"), &data).to_string()
}

#[tokio::test]
async fn a_query_that_is_not_understood_is_refused_by_the_name_of_its_parameter() {
    let app = TestApp::start().await;
    for list in ["operations", "calls", "notifications", "rejections"] {
        for (name, value) in
            [("limit", "0"), ("limit", "251"), ("limit", "x"), ("cursor", "x"), ("since", "yesterday"), ("colour", "red")]
        {
            let path = format!("/v1/{list}?{name}={value}");
            let answered = app.get(&path).await;
            assert_eq!((answered.status.as_u16(), &answered.json()["code"]), (400, &json!("invalid_query")), "{path}");
            assert_eq!(answered.headers["content-type"], "application/problem+json");
            assert!(answered.json()["detail"].as_str().unwrap().contains(name), "{path}: {}", answered.json());
        }
    }
    for (path, name) in [
        ("operations?state=odd", "state"),
        ("calls?state=odd", "state"),
        ("notifications?disposition=odd", "disposition"),
        ("rejections?reason=odd", "reason"),
        ("operations?open=7", "open"),
        ("operations?source=teams", "source: one of graph, acs, event-grid"),
        ("calls?source=teams", "source"),
        ("calls/c?source=teams", "source"),
        ("notifications?source=teams", "source"),
        ("operations/wait?callId=c&source=teams", "source"),
        ("operations/wait", "callId"),
        ("operations/op_1?wait=121", "wait"),
    ] {
        let answered = app.get(&format!("/v1/{path}")).await;
        assert_eq!(answered.status.as_u16(), 400, "{path}");
        assert!(answered.json()["detail"].as_str().unwrap().contains(name), "{path}: {}", answered.json());
    }
}

#[tokio::test]
async fn pages_lose_nothing_and_repeat_nothing_while_rows_arrive() {
    let app = TestApp::start().await;
    for number in 0..7 {
        app.post(play(number, "updated", "running")).await;
    }
    let mut seen = Vec::new();
    let mut next = Some("/v1/operations?limit=2".to_owned());
    while let Some(path) = next {
        let page = app.get(&path).await.json();
        seen.extend(page["value"].as_array().unwrap().iter().map(|row| row["context"].as_str().unwrap().to_owned()));
        app.post(play(100 + seen.len(), "updated", "running")).await;
        next = page["nextLink"].as_str().map(str::to_owned);
    }
    assert_eq!(seen, ["c6", "c5", "c4", "c3", "c2", "c1", "c0"]);
}

#[tokio::test]
async fn any_fact_of_an_operation_finds_it_and_a_wait_ends_with_its_end() {
    let app = TestApp::start().await;
    app.post(play(1, "updated", "running")).await;
    let id = app.list("/v1/operations").await[0]["id"].as_str().unwrap().to_owned();
    let open = app.get(&format!("/v1/operations/{id}?wait=1")).await.json();
    assert_eq!((&open["state"], &open["final"]), (&json!("running"), &json!(false)), "the time was over first");

    let started = Instant::now();
    let path = format!("/v1/operations/{id}?wait=120");
    let end = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        app.post(play(1, "deleted", "completed")).await
    };
    let (ended, _) = tokio::join!(app.get(&path), end);
    assert_eq!(ended.json()["state"], "completed");
    assert!(started.elapsed() < Duration::from_mins(2), "not with the end of its time");

    let second = app.list("/v1/notifications").await[0]["id"].as_str().unwrap().replace("ntf_", "op_");
    assert_ne!(second, id);
    assert_eq!(app.get(&format!("/v1/operations/{second}")).await.json()["id"], id);
    let history = app.list(&format!("/v1/operations/{second}/history")).await;
    let steps: Vec<(&Value, &Value)> = history.iter().map(|step| (&step["from"], &step["to"])).collect();
    assert_eq!(steps, [(&Value::Null, &json!("running")), (&json!("running"), &json!("completed"))]);
}

#[tokio::test]
async fn a_wait_for_a_match_knows_every_outcome() {
    let app = TestApp::start().await;
    let later = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        app.post(play(1, "deleted", "completed")).await
    };
    let (found, _) = tokio::join!(app.get("/v1/operations/wait?context=c1&timeout=60"), later);
    assert_eq!((found.status.as_u16(), &found.json()["state"]), (200, &json!("completed")));
    let timeout = app.get("/v1/operations/wait?context=nobody&timeout=1").await;
    assert_eq!((timeout.status.as_u16(), &timeout.json()["code"]), (408, &json!("timeout")));
    for number in [2, 3] {
        app.post(play(number, "updated", "running")).await;
    }
    let several = app.get(&format!("/v1/operations/wait?callId={CALL}&timeout=1")).await;
    assert_eq!((several.status.as_u16(), &several.json()["code"]), (409, &json!("ambiguous")));
}

#[tokio::test]
async fn without_tokens_only_loopback_names_and_our_own_pages_are_answered() {
    let app = TestApp::start().await;
    for (name, value, code) in [
        ("host", "evil.example", "host_not_allowed"),
        ("origin", "https://evil.example", "origin_not_allowed"),
        ("sec-fetch-site", "cross-site", "origin_not_allowed"),
    ] {
        let answered = send(app.client.get(format!("{}/v1/calls", app.private)).header(name, value)).await;
        assert_eq!((answered.status.as_u16(), &answered.json()["code"]), (403, &json!(code)), "{name}");
    }
}

#[tokio::test]
async fn with_tokens_one_is_needed_for_everything_but_the_health_checks() {
    let hash = digest::digest(&digest::SHA256, b"opens");
    let hash = hash.as_ref().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    });
    let sections = format!("[[private.token]]\nname = \"ops\"\nsha256 = \"{hash}\"");
    let app = TestApp::start_with(Settings { sections, ..Settings::default() }).await;
    for path in ["/v1/calls", "/metrics", "/openapi.json", "/nowhere"] {
        for token in [None, Some("wrong"), Some("opens ")] {
            let request = app.client.get(format!("{}{path}", app.private));
            let answered = send(
                token.into_iter().fold(request, |request, token| request.header("authorization", format!("Bearer {token}x"))),
            )
            .await;
            assert_eq!(answered.status.as_u16(), 401, "{path} {token:?}");
            assert_eq!(answered.headers["www-authenticate"], "Bearer");
        }
        let answered = send(app.client.get(format!("{}{path}", app.private)).bearer_auth("opens")).await;
        assert_eq!(answered.status.as_u16(), if path == "/nowhere" { 404 } else { 200 }, "{path}");
    }
    assert_eq!(app.get("/healthz").await.status.as_u16(), 200);
}

#[tokio::test]
async fn every_path_of_the_description_exists_and_others_are_problems() {
    let app = TestApp::start().await;
    let description = app.get("/openapi.json").await.json();
    for path in description["paths"].as_object().unwrap().keys() {
        let url = format!("{}{}", app.private, path.replace("{id}", "x").replace("{callId}", "x"));
        let mut answered = app.client.get(url).send().await.unwrap();
        // the first bytes, for the feed has no end
        let begun = answered.chunk().await.unwrap().unwrap_or_default();
        assert!(!String::from_utf8_lossy(&begun).contains("no such path"), "{path}");
        let posted = send(app.client.put(format!("{}{path}", app.private))).await;
        assert_eq!((posted.status.as_u16(), &posted.json()["code"]), (405, &json!("method_not_allowed")), "{path}");
    }
    let nowhere = app.get("/v1/nowhere").await;
    assert_eq!((nowhere.status.as_u16(), &nowhere.json()["code"]), (404, &json!("not_found")));
}
