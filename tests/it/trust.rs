//! Who is let in, through the front door: what a stranger is answered, what is noted of it, and what is kept (nothing).

use std::{fmt::Write, time::Duration};

use callback_ledger::{
    auth::KeySettings,
    domain::{clock::Clock, rejection::RejectionReason, trust::TrustDefaults},
    source::SOURCES,
};
use jiff::Timestamp;
use reqwest::{StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    app::{Answered, Settings, TestApp, call_event, graph, send},
    attacks::{attacks, publish_unusable_keys},
    fake_issuer::{AUDIENCE, FakeIssuer, NOW, TENANT},
};

const CALL: &str = "57dab8b1-894c-409a-b240-bd8beae78896";
const OTHER_TENANT: &str = "2fdd12d0-4620-44ed-baec-459b611f84b2";

fn record(change: &str, status: &str) -> Value {
    let data = json!({ "@odata.type": "#microsoft.graph.recordOperation", "clientContext": "ours", "status": status });
    graph(change, &format!("calls/{CALL}/operations/0fe0623f-d628-42ed-b4bd-8ac290072cc5"), &data)
}

/// Everything of an answer but its date, which tells nothing.
fn comparable(answered: &Answered) -> (StatusCode, Vec<(String, String)>, String) {
    let headers = answered.headers.iter().filter(|(name, _)| *name != "date");
    let mut headers: Vec<_> = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    headers.sort();
    (answered.status, headers, String::from_utf8(answered.body.clone()).unwrap())
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

async fn assert_nothing_was_stored(app: &TestApp) {
    for list in ["/v1/notifications", "/v1/operations", "/v1/calls"] {
        assert_eq!(app.list(list).await, Vec::<Value>::new(), "{list}");
    }
}

#[tokio::test]
async fn every_attack_gets_the_same_answer_and_only_the_operator_learns_the_reason() {
    for source in SOURCES {
        attack(source.name(), source.trust_defaults()).await;
    }
}

async fn attack(of: &'static str, defaults: TrustDefaults) {
    let issuer = FakeIssuer::start().await;
    publish_unusable_keys(&issuer);
    // a token that is valid a second too late is so however long this takes
    let clock = || Clock::from_fn(|| Timestamp::from_second(NOW).unwrap());
    let app = TestApp::start_without_keys(issuer, Settings { source: of, clock, ..Settings::default() }).await;
    app.until_ready().await;
    let good = app.issuer.token().sign();
    let huge = app.issuer.token().claim("padding", "x".repeat(13 * 1024)).sign();
    let mut cases: Vec<(&str, Vec<String>, RejectionReason)> = vec![
        ("no header", vec![], RejectionReason::MissingToken),
        ("a blank header", vec![String::new()], RejectionReason::MissingToken),
        ("basic", vec!["Basic dXNlcjpwYXNz".to_owned()], RejectionReason::NotBearer),
        ("a token without its scheme", vec![good.clone()], RejectionReason::NotBearer),
        ("a scheme without its token", vec!["Bearer".to_owned()], RejectionReason::MalformedToken),
        ("two headers", vec![format!("Bearer {good}"), format!("Bearer {good}")], RejectionReason::MalformedToken),
        ("a huge token", vec![format!("Bearer {huge}")], RejectionReason::MalformedToken),
    ];
    let tokens = attacks(&app.issuer, defaults).into_iter();
    cases.extend(tokens.map(|(name, token, reason)| (name, vec![format!("Bearer {token}")], reason)));
    let body = readable(of);

    let mut answers = Vec::new();
    for (name, authorization, _) in &cases {
        let mut request = app.callback().header("user-agent", *name).body(body.clone());
        request = request.header("client-request-id", "not-to-be-echoed");
        for value in authorization {
            request = request.header("authorization", value);
        }
        answers.push(comparable(&send(request).await));
    }
    for (answer, (name, _, _)) in answers.iter().zip(&cases) {
        assert_eq!(answer, &answers[0], "{of}: {name}");
    }
    let (status, headers, _) = &answers[0];
    assert_eq!(*status, StatusCode::UNAUTHORIZED);
    assert!(headers.contains(&("www-authenticate".to_owned(), "Bearer".to_owned())), "{headers:?}");

    let rejections = app.rejections(cases.len()).await;
    assert_eq!(rejections.len(), cases.len());
    for (name, _, reason) in &cases {
        let rejection = rejections.iter().find(|rejection| rejection["userAgent"] == *name).unwrap();
        let told = (&rejection["reason"], &rejection["status"], &rejection["receiver"], &rejection["count"]);
        assert_eq!(told, (&json!(reason.as_str()), &json!(401), &json!(app.path()), &json!(1)), "{of}: {name}");
        assert_eq!(rejection["peer"], "127.0.0.1", "{name}");
    }
    assert_nothing_was_stored(&app).await;
    assert!(app.post(body).await.status.is_success(), "{of}: a good one is let in");
    assert_eq!(app.list("/v1/notifications").await.len(), 1, "{of}");
}

/// A body that this source can read.
fn readable(of: &str) -> String {
    match of {
        "graph" => record("deleted", "completed").to_string(),
        _ => call_event("Microsoft.Communication.IncomingCall", "e1", &json!({ "correlationId": CALL })).to_string(),
    }
}

#[tokio::test]
async fn what_a_stranger_says_of_itself_is_shown_tamed() {
    let app = TestApp::start().await;
    let issuer = "i".repeat(300);
    let token = app.issuer.token().key_id("rsa\r\n-1\u{202e}").issuer(&issuer).sign();
    let agent = format!("evil\t{}", "a".repeat(300));
    let answered = send(app.callback().bearer_auth(token).header("user-agent", agent).body("{}")).await;
    assert_eq!(answered.status, StatusCode::UNAUTHORIZED);
    let rejection = app.rejections(1).await.remove(0);
    assert_eq!(rejection["reason"], "unknown_key");
    assert!(rejection["keyId"].as_str().unwrap().starts_with("rsa-1"), "{rejection}");
    assert_eq!(rejection["unverifiedIssuer"], "i".repeat(256));
    assert_eq!(rejection["userAgent"], format!("evil{}", "a".repeat(252)));
}

#[tokio::test]
async fn a_tenant_that_is_not_on_the_list_is_forbidden_and_named() {
    let settings = Settings { receiver: format!("tenants = [\"{TENANT}\"]"), ..Settings::default() };
    let app = TestApp::start_with(settings).await;
    let mut answers = Vec::new();
    for tenant in [OTHER_TENANT, "3fdd12d0-4620-44ed-baec-459b611f84b2"] {
        let token = app.issuer.token().tenant(tenant).sign();
        let answered = send(app.callback().bearer_auth(token).body(record("updated", "running").to_string())).await;
        assert_eq!(answered.status, StatusCode::FORBIDDEN);
        answers.push(comparable(&answered));
    }
    assert_eq!(answers[0], answers[1], "one constant body");
    let rejection = app.rejections(2).await.remove(0);
    let told = (&rejection["reason"], &rejection["status"], &rejection["keyId"], &rejection["count"]);
    assert_eq!(told, (&json!("tenant_not_allowed"), &json!(403), &json!("rsa-1"), &json!(2)));
    assert_nothing_was_stored(&app).await;
    assert_eq!(app.post(record("updated", "running").to_string()).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn keys_of_one_cloud_do_not_speak_for_another_at_the_same_receiver() {
    let (public, government) = (FakeIssuer::start().await, FakeIssuer::named("https://api.botframework.us").await);
    government.rotate(); // another key than the public cloud's
    let mut sections = format!("[[receiver]]\npath = \"/api/both\"\nsource = \"graph\"\naudience = [\"{AUDIENCE}\"]\n");
    for cloud in [&public, &government] {
        let (issuer, metadata) = (cloud.issuer(), cloud.metadata_url());
        write!(sections, "[[receiver.trust]]\nissuers = [\"{issuer}\"]\nmetadata = [\"{metadata}\"]\n").unwrap();
    }
    let app = TestApp::start_without_keys(public, Settings { sections, ..Settings::default() }).await;
    app.until_ready().await;
    let post = async |token: String, body: Value| {
        let request = app.client.post(format!("{}/api/both", app.public)).bearer_auth(token);
        send(request.body(body.to_string())).await.status
    };
    let usurper = government.token().issuer(app.issuer.issuer()).sign();
    assert_eq!(post(usurper, record("deleted", "completed")).await, StatusCode::UNAUTHORIZED);
    let rejection = app.rejections(1).await.remove(0);
    assert_eq!((&rejection["reason"], &rejection["receiver"]), (&json!("wrong_issuer"), &json!("/api/both")));
    assert_eq!(rejection["unverifiedIssuer"], app.issuer.issuer());
    assert_nothing_was_stored(&app).await;
    for cloud in [&app.issuer, &government] {
        assert_eq!(post(cloud.token().sign(), record("updated", "running")).await, StatusCode::ACCEPTED, "{}", cloud.issuer());
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_noted() {
    let env = vec![("PUBLIC__MAX_BODY_BYTES", "2048".to_owned())];
    let app = TestApp::start_with(Settings { env, ..Settings::default() }).await;
    let answered = app.post("x".repeat(2049)).await;
    assert_eq!(answered.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(header(&answered.headers, "content-type"), Some("application/problem+json"));
    assert_eq!(answered.json()["code"], "too_large");
    let rejection = app.rejections(1).await.remove(0);
    assert_eq!((&rejection["reason"], &rejection["status"]), (&json!("too_large"), &json!(413)));
    assert_eq!((&rejection["keyId"], &rejection["unverifiedIssuer"]), (&json!("rsa-1"), &json!(app.issuer.issuer())));
    assert_nothing_was_stored(&app).await;

    let mut fits = record("updated", "running").to_string();
    fits.extend(std::iter::repeat_n(' ', 2048 - fits.len()));
    assert_eq!(app.post(fits).await.status, StatusCode::ACCEPTED, "the limit itself is allowed");
}

/// Sends the head of a POST that announces a body, never sends one, and returns the status that comes nonetheless.
async fn status_without_a_body(app: &TestApp, length: &str, authorization: &str) -> String {
    let mut stream = TcpStream::connect(app.public.strip_prefix("http://").unwrap()).await.unwrap();
    let head = format!("POST /api/calls HTTP/1.1\r\nHost: x\r\n{length}\r\nAuthorization: {authorization}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    let read = tokio::time::timeout(Duration::from_mins(1), stream.read_exact(&mut answer)).await;
    read.expect("an answer without a body").unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_stranger_is_answered_before_a_byte_of_the_body_is_read() {
    let app = TestApp::start().await;
    for length in ["Content-Length: 1000000000", "Content-Length: 10", "Transfer-Encoding: chunked"] {
        assert_eq!(status_without_a_body(&app, length, "Bearer x.y.z").await, "HTTP/1.1 401", "{length}");
    }
    assert_eq!(app.rejections(3).await.len(), 1, "it was the token, not the length");
    let good = format!("Bearer {}", app.issuer.token().sign());
    assert_eq!(status_without_a_body(&app, "Content-Length: 1000000000", &good).await, "HTTP/1.1 413");
}

#[tokio::test]
async fn without_keys_nobody_is_judged_and_with_them_the_service_recovers_by_itself() {
    let issuer = FakeIssuer::start().await;
    issuer.fail(true);
    let keys = KeySettings { retry_every: Duration::from_millis(100), ..KeySettings::default() };
    let app = TestApp::start_without_keys(issuer, Settings { keys, ..Settings::default() }).await;
    let body = record("updated", "running").to_string();
    let answered = app.post(body.clone()).await;
    assert_eq!(answered.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(header(&answered.headers, "retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    assert_eq!(header(&answered.headers, "content-type"), Some("application/problem+json"));
    assert_eq!(answered.json()["code"], "keys_unavailable");
    let ready = app.get("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready.json()["receivers"], json!([{ "path": "/api/calls", "keys": false }]));
    assert_eq!(app.get("/healthz").await.status, StatusCode::OK, "alive, though not ready");
    assert_eq!(app.list("/v1/rejections").await, Vec::<Value>::new(), "our trouble is not the caller's");
    assert_nothing_was_stored(&app).await;

    app.issuer.fail(false);
    app.until_ready().await;
    assert_eq!(app.post(body).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn what_comes_for_a_call_under_another_tenant_or_audience_is_kept_and_believed_by_nobody() {
    const OTHER_AUDIENCE: &str = "ffffffff-41c3-47a4-8775-7259bfef4241";
    let issuer = FakeIssuer::start().await;
    let sections = format!(
        "[[receiver]]\npath = \"/api/other\"\nsource = \"graph\"\naudience = [\"{OTHER_AUDIENCE}\"]\nmetadata = [\"{}\"]",
        issuer.metadata_url()
    );
    let app = TestApp::start_without_keys(issuer, Settings { sections, ..Settings::default() }).await;
    app.until_ready().await;
    app.post(record("updated", "running").to_string()).await;
    let before = (app.list("/v1/operations").await, app.list("/v1/calls").await);

    let over =
        graph("deleted", &format!("calls/{CALL}"), &json!({ "@odata.type": "#microsoft.graph.call", "state": "terminated" }));
    let of_tenant = app.issuer.token().tenant(OTHER_TENANT).sign();
    for body in [record("deleted", "completed"), over] {
        let answered = send(app.callback().bearer_auth(&of_tenant).body(body.to_string())).await;
        assert_eq!(answered.status, StatusCode::ACCEPTED, "kept, and not to be sent again");
    }
    let of_audience = app.issuer.token().audience(OTHER_AUDIENCE).sign();
    let request = app.client.post(format!("{}/api/other", app.public)).bearer_auth(of_audience);
    assert_eq!(send(request.body(record("deleted", "failed").to_string())).await.status, StatusCode::ACCEPTED);

    assert_eq!((app.list("/v1/operations").await, app.list("/v1/calls").await), before);
    assert_eq!(app.list(&format!("/v1/calls/{CALL}/timeline")).await.len(), 1);
    let upper = CALL.replace('-', "").to_uppercase();
    for call in [CALL, upper.as_str()] {
        let kept = app.list(&format!("/v1/notifications?callId={call}&disposition=quarantined")).await;
        assert_eq!(kept.len(), 3, "{call}");
        assert!(kept.iter().all(|row| row["disposition"] == "quarantined" && row["operation"].is_null()), "{kept:#?}");
        assert_eq!((&kept[0]["receiver"], &kept[1]["receiver"]), (&json!("/api/other"), &json!("/api/calls")));
    }
    assert_eq!(app.list(&format!("/v1/notifications?callId={CALL}")).await.len(), 4);
    assert_eq!(app.list("/v1/notifications?callId=another&disposition=quarantined").await, Vec::<Value>::new());
}
