//! Event Grid: its handshakes, its locks, and what it tells of calls that Call Automation tells more of.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    app::{Answered, Settings, TestApp, call_event, send},
    fake_issuer::{AUDIENCE, FakeIssuer},
};

const SECRET: &str = "correct-horse-battery-staple";
const CORRELATION: &str = "0a7d3c55-62cf-4c13-9d5e-2f1b8a9c4e01";
const TOPIC: &str = "/subscriptions/5a1b/resourceGroups/calls/providers/Microsoft.Communication/communicationServices/contoso";

/// An event in Event Grid's own schema.
fn grid(kind: &str, id: &str, subject: &str, data: &Value) -> Value {
    json!({ "id": id, "topic": TOPIC, "subject": subject, "eventType": kind, "eventTime": "2026-01-01T00:00:00.5Z",
            "dataVersion": "1.0", "metadataVersion": "1", "data": data })
}

fn incoming(id: &str) -> Value {
    let data = json!({
        "from": { "kind": "phoneNumber", "rawId": "4:+14255550111", "phoneNumber": { "value": "+14255550111" } },
        "to": { "kind": "communicationUser", "rawId": "8:acs:bot", "communicationUser": { "id": "8:acs:bot" } },
        "serverCallId": "aHR0cHM6Ly9v", "callerDisplayName": "Planted Name", "correlationId": CORRELATION,
        "incomingCallContext": "planted.incoming.context",
    });
    grid("Microsoft.Communication.IncomingCall", id, "/caller/4:+14255550111/recipient/8:acs:bot", &data)
}

/// An app whose receiver has a secret and asks for no token.
async fn locked_by_secret() -> TestApp {
    let sections = format!("[[receiver]]\npath = \"/api/secret\"\nsource = \"event-grid\"\nsecret = \"{SECRET}\"\n");
    TestApp::start_with(Settings { source: "event-grid", sections, ..Settings::default() }).await
}

async fn post_with(app: &TestApp, secret: &str, body: &Value) -> Answered {
    send(app.client.post(format!("{}/api/secret?secret={secret}", app.public)).body(body.to_string())).await
}

/// Speaks HTTP by hand.
async fn raw(app: &TestApp, request: &str) -> String {
    let mut stream = TcpStream::connect(app.public.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(request.replace('\n', "\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.to_lowercase()
}

#[tokio::test]
async fn a_subscription_in_event_grids_own_schema_is_confirmed_with_its_code() {
    let app = locked_by_secret().await;
    let data = json!({ "validationCode": "512D38B6-code", "validationUrl": "https://grid.example/validate?token=1A" });
    let body = json!([grid("Microsoft.EventGrid.SubscriptionValidationEvent", "v1", "", &data)]).to_string();
    let request = format!(
        "POST /api/secret?secret={SECRET} HTTP/1.1\nHost: x\nConnection: close\naeg-event-type: SubscriptionValidation\n\
         Content-Type: application/json; charset=utf-8\nContent-Length: {}\n\n{body}",
        body.len()
    );
    let answer = raw(&app, &request).await;
    assert!(answer.starts_with("http/1.1 200 ok\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n{\"validationresponse\":\"512d38b6-code\"}"), "{answer}");
    let kept = app.list("/v1/notifications").await.remove(0);
    assert_eq!((&kept["kind"], &kept["disposition"]), (&json!("subscriptionValidation"), &json!("applied")));
    let shown = app.get(&format!("/v1/notifications/{}/raw", kept["id"].as_str().unwrap())).await;
    let shown = String::from_utf8(shown.body).unwrap();
    assert!(!shown.contains("512D38B6") && !shown.contains("grid.example"), "{shown}");

    let stranger = raw(&app, &request.replace(SECRET, "wrong")).await;
    assert!(stranger.starts_with("http/1.1 401"), "{stranger}");
    assert!(!stranger.contains("512d38b6"), "{stranger}");
}

#[tokio::test]
async fn a_subscription_in_the_cloud_events_schema_asks_first() {
    let app = locked_by_secret().await;
    let ask = |path: &str, headers: &str| format!("OPTIONS {path} HTTP/1.1\nHost: x\nConnection: close\n{headers}\n");
    let path = format!("/api/secret?secret={SECRET}");
    let answer = raw(&app, &ask(&path, "WebHook-Request-Origin: eventgrid.azure.net\n")).await;
    assert!(answer.starts_with("http/1.1 200 ok\r\n"), "{answer}");
    for header in ["webhook-allowed-origin: eventgrid.azure.net\r\n", "webhook-allowed-rate: *\r\n", "allow: post, options\r\n"] {
        assert!(answer.contains(header), "{header}: {answer}");
    }
    let refused = [
        (path.as_str(), "WebHook-Request-Origin: evil.example\n", "403", "sender_not_allowed"),
        (path.as_str(), "", "400", "origin_missing"),
        ("/api/secret?secret=wrong", "WebHook-Request-Origin: eventgrid.azure.net\n", "401", "unauthorized"),
        ("/api/secret", "WebHook-Request-Origin: eventgrid.azure.net\n", "401", "unauthorized"),
        ("/api/nowhere", "WebHook-Request-Origin: eventgrid.azure.net\n", "404", "not_found"),
    ];
    for (path, headers, status, code) in refused {
        let answer = raw(&app, &ask(path, headers)).await;
        assert!(answer.starts_with(&format!("http/1.1 {status}")), "{path} {headers}: {answer}");
        assert!(answer.contains(code) && !answer.contains("webhook-allowed-origin"), "{path} {headers}: {answer}");
    }
    let rejection = app.rejections(2).await.remove(0);
    assert_eq!((&rejection["reason"], &rejection["count"]), (&json!("wrong_secret"), &json!(2)));

    // a receiver that demands tokens gets them with what is then sent
    let answer = raw(&app, &ask("/api/events", "WebHook-Request-Origin: EventGrid.Azure.net\n")).await;
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    let other = app.client.request(Method::PUT, format!("{}/api/events", app.public));
    let other = send(other).await;
    assert_eq!((other.status, &other.headers["allow"]), (StatusCode::METHOD_NOT_ALLOWED, &"POST, OPTIONS".parse().unwrap()));
}

#[tokio::test]
async fn origins_and_rate_are_configured_and_other_sources_are_not_asked() {
    let receiver = "allowed_origins = [\"*\"]\nallowed_rate = 120\n".to_owned();
    let app = TestApp::start_with(Settings { source: "event-grid", receiver, ..Settings::default() }).await;
    let request = app.client.request(Method::OPTIONS, format!("{}/api/events", app.public));
    let answer = send(request.header("WebHook-Request-Origin", "anybody.example")).await;
    assert_eq!(
        (&answer.headers["webhook-allowed-origin"], &answer.headers["webhook-allowed-rate"]),
        (&"anybody.example".parse().unwrap(), &"120".parse().unwrap())
    );

    for source in ["graph", "acs"] {
        let app = TestApp::of(source).await;
        let request = app.client.request(Method::OPTIONS, format!("{}{}", app.public, app.path()));
        let answer = send(request.header("WebHook-Request-Origin", "eventgrid.azure.net")).await;
        assert_eq!(
            (answer.status, &answer.headers["allow"]),
            (StatusCode::METHOD_NOT_ALLOWED, &"POST".parse().unwrap()),
            "{source}"
        );
    }
}

#[tokio::test]
async fn an_incoming_call_is_one_call_however_often_it_is_told_and_its_context_is_kept_from_eyes() {
    let mut app = locked_by_secret().await;
    for body in [json!([incoming("i1")]), json!([incoming("i1")]), json!([incoming("i2")])] {
        assert_eq!(post_with(&app, SECRET, &body).await.status, StatusCode::OK);
    }
    let calls = app.list("/v1/calls?source=event-grid&state=incoming").await;
    assert_eq!(calls.len(), 1, "{calls:#?}");
    let call = app.get(&format!("/v1/calls/{}", CORRELATION.to_uppercase())).await.json();
    assert_eq!((&call["state"], &call["direction"], &call["notifications"]), (&json!("incoming"), &json!("incoming"), &json!(2)));
    assert_eq!((&call["correlationId"], &call["serverCallId"]), (&json!(CORRELATION), &json!("aHR0cHM6Ly9v")));
    assert_eq!((&call["from"], &call["to"]), (&json!("redacted"), &json!("redacted")), "without a token that may see it");
    let kept = app.list("/v1/notifications").await;
    assert_eq!(kept.iter().map(|row| row["duplicates"].clone()).collect::<Vec<_>>(), [0, 1]);
    let shown = app.get(&format!("/v1/notifications/{}/raw", kept[0]["id"].as_str().unwrap())).await;
    let shown: Value = shown.json();
    assert_eq!(shown[0]["data"]["incomingCallContext"], "redacted");
    assert_eq!(shown[0]["data"]["correlationId"], CORRELATION);
    app.stop().await;
    let disk = ["", "-wal"].map(|end| std::fs::read(format!("{}{end}", app.ledger().display())).unwrap_or_default()).concat();
    for planted in ["planted.incoming.context", "Planted Name", "+14255550111"] {
        assert!(!disk.windows(planted.len()).any(|window| window == planted.as_bytes()), "{planted} lies on the disk");
    }
}

#[tokio::test]
async fn one_event_at_two_receivers_is_one_event() {
    let secret = |path: &str| format!("[[receiver]]\npath = \"{path}\"\nsource = \"event-grid\"\nsecret = \"{SECRET}\"\n");
    let sections = secret("/api/secret") + &secret("/api/second");
    let app = TestApp::start_with(Settings { source: "event-grid", sections, ..Settings::default() }).await;
    assert_eq!(post_with(&app, SECRET, &json!([incoming("i1")])).await.status, StatusCode::OK);
    let second = app.client.post(format!("{}/api/second?secret={SECRET}", app.public)).body(json!([incoming("i1")]).to_string());
    assert_eq!(send(second).await.status, StatusCode::OK);
    let kept = app.list("/v1/notifications").await;
    assert_eq!((kept.len(), &kept[0]["duplicates"]), (1, &json!(1)));
}

#[tokio::test]
async fn a_context_is_kept_from_eyes_however_it_is_wrapped() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let app = locked_by_secret().await;
    let data = incoming("i")["data"].clone();
    let cloud = |id: &str, name: &str, value: &Value| {
        let mut event =
            json!([{ "id": id, "source": TOPIC, "type": "Microsoft.Communication.IncomingCall", "specversion": "1.0" }]);
        event[0][name] = value.clone();
        event
    };
    let bodies = [
        cloud("i1", "data", &data.to_string().into()),
        cloud("i2", "data_base64", &STANDARD.encode(data.to_string()).into()),
        cloud("i3", "data", &json!([[data]])),
    ];
    for body in &bodies {
        assert_eq!(post_with(&app, SECRET, body).await.status, StatusCode::OK, "{body}");
    }
    let odd = send(
        app.client
            .post(format!("{}/api/secret?secret={SECRET}", app.public))
            .body("{'incomingCallContext':'planted.incoming.context'}"),
    );
    assert_eq!(odd.await.status, StatusCode::BAD_REQUEST);
    let planted = [b"planted.incoming.context".to_vec(), STANDARD.encode(data.to_string()).into_bytes(), b"14255550111".to_vec()];
    for row in app.list("/v1/notifications").await {
        let shown = app.get(&format!("/v1/notifications/{}/raw", row["id"].as_str().unwrap())).await;
        for planted in &planted {
            assert!(!shown.body.windows(planted.len()).any(|w| w == planted), "{}", String::from_utf8_lossy(&shown.body));
        }
    }
    assert_eq!(app.get(&format!("/v1/calls/{CORRELATION}")).await.json()["state"], "incoming", "base64 is read");
}

#[tokio::test]
async fn a_token_that_may_see_secrets_sees_who_calls_and_the_context_to_answer_with() {
    let hash = |token: &str| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        digest.as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    };
    let token = |name: &str, scopes: &str| {
        format!("[[private.token]]\nname = \"{name}\"\nsha256 = \"{}\"\nscopes = {scopes}\n", hash(name))
    };
    let sections = token("bot", "[\"read\", \"secrets\"]") + &token("ops", "[\"read\"]");
    let issuer = FakeIssuer::start().await;
    let app = TestApp::start_without_keys(issuer, Settings { source: "event-grid", sections, ..Settings::default() }).await;
    let get = async |who: &str, path: &str| send(app.client.get(format!("{}{path}", app.private)).bearer_auth(who)).await.json();
    assert_eq!(app.post(json!([incoming("i1")]).to_string()).await.status, StatusCode::OK);
    let id = get("ops", "/v1/notifications").await["value"][0]["id"].as_str().unwrap().to_owned();
    for (who, context, from) in [("bot", "planted.incoming.context", "4:+14255550111"), ("ops", "redacted", "redacted")] {
        let body = get(who, &format!("/v1/notifications/{id}/raw")).await;
        assert_eq!(body[0]["data"]["incomingCallContext"], context, "{who}");
        assert_eq!(get(who, &format!("/v1/calls/{CORRELATION}")).await["from"], from, "{who}");
    }
    assert_eq!(
        send(app.client.get(format!("{}/v1/calls", app.private)).bearer_auth("nobody")).await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn what_names_a_conversation_or_a_recording_lands_on_the_timeline_of_its_call() {
    let issuer = FakeIssuer::start().await;
    let sections = format!(
        "[[receiver]]\npath = \"/api/callbacks\"\nsource = \"acs\"\naudience = [\"{AUDIENCE}\"]\nissuers = [\"{}\"]\nmetadata = [\"{}\"]\n",
        issuer.issuer(),
        issuer.metadata_url()
    );
    let app = TestApp::start_without_keys(issuer, Settings { source: "event-grid", sections, ..Settings::default() }).await;
    app.until_ready().await;
    let kind = "Microsoft.Communication.RecordingFileStatusUpdated";
    let file = |id: &str, subject: &str| json!([grid(kind, id, subject, &json!({ "recordingDurationMs": 6620 }))]).to_string();
    // the first before anybody knows the call
    assert_eq!(
        app.post(file("f1", "/recording/call/c/serverCallId/aHR0/cHM=/recordingId/eyJ/other")).await.status,
        StatusCode::OK
    );
    assert_eq!(app.post(json!([incoming("i1")]).to_string()).await.status, StatusCode::OK);

    let data = json!({ "callConnectionId": "leg", "serverCallId": "aHR0/cHM=", "correlationId": CORRELATION, "recordingId": "eyJ/rec", "state": "active" });
    let callback = |data: &Value| {
        let body = call_event("Microsoft.Communication.RecordingStateChanged", "r1", data).to_string();
        app.client.post(format!("{}/api/callbacks", app.public)).bearer_auth(app.issuer.token().sign()).body(body)
    };
    assert_eq!(send(callback(&data)).await.status, StatusCode::OK);
    assert_eq!(app.post(file("f2", "/recording/call/x/recordingId/eyJ/rec")).await.status, StatusCode::OK);
    assert_eq!(app.post(file("f3", "/recording/call/x/recordingId/eyJ/unknown")).await.status, StatusCode::OK);
    let lines = app.list("/v1/calls/leg/timeline").await;
    let lines: Vec<_> = lines.iter().map(|line| line["summary"].as_str().unwrap()).collect();
    let file = "recordingFileStatus Microsoft.Communication.RecordingFileStatusUpdated";
    assert_eq!(lines, [file, "startRecording running", file]);
    assert_eq!(app.get("/v1/calls/leg").await.json()["relatedCalls"], json!([CORRELATION]));
    assert_eq!(app.get(&format!("/v1/calls/{CORRELATION}")).await.json()["relatedCalls"], json!(["leg"]));
}

#[tokio::test]
async fn a_batch_of_5000_is_one_transaction_within_a_limit_of_its_own() {
    let app = TestApp::of("event-grid").await;
    let event = |at: usize| {
        let data = json!({ "serverCallId": format!("s{at}"), "correlationId": format!("c{at}"), "padding": "x".repeat(64) });
        grid("Microsoft.Communication.CallStarted", &format!("b{at}"), "", &data)
    };
    let events: Vec<Value> = (0..5000).map(event).collect();
    let body = Value::from(events).to_string();
    assert!((1024 * 1024..2 * 1024 * 1024).contains(&body.len()), "{}", body.len());
    assert_eq!(app.post(body.clone()).await.status, StatusCode::OK);
    assert_eq!(app.post(body).await.status, StatusCode::OK);
    let metrics = String::from_utf8(app.get("/metrics").await.body).unwrap();
    assert!(metrics.contains("callback_ledger_notifications_total{kind=\"callStarted\"} 5000"), "{metrics}");
    assert_eq!(app.list("/v1/notifications?source=event-grid&limit=1").await[0]["duplicates"], 1);
    assert_eq!(app.post("x".repeat(2 * 1024 * 1024 + 1)).await.status, StatusCode::PAYLOAD_TOO_LARGE);

    let receiver = "max_body_bytes = 4096".to_owned();
    let app = TestApp::start_with(Settings { source: "event-grid", receiver, ..Settings::default() }).await;
    assert_eq!(app.post("x".repeat(4097)).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn our_trouble_is_never_answered_as_the_senders_fault() {
    let issuer = FakeIssuer::start().await;
    issuer.fail(true);
    let app = TestApp::start_without_keys(issuer, Settings { source: "event-grid", ..Settings::default() }).await;
    let answered = app.post(json!([incoming("i1")]).to_string()).await;
    assert_eq!(answered.status, StatusCode::SERVICE_UNAVAILABLE, "no keys");
    assert!(answered.headers.contains_key("retry-after"));
    assert_eq!(app.list("/v1/rejections").await, Vec::<Value>::new());
    assert_eq!(app.list("/v1/notifications").await, Vec::<Value>::new());

    let app = TestApp::of("event-grid").await;
    let mut lock = crate::support::ledger::behind(&app.ledger()).await;
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut lock).await.unwrap();
    let answered = app.post(json!([incoming("i1")]).to_string()).await;
    assert_eq!(answered.status, StatusCode::SERVICE_UNAVAILABLE, "a ledger that somebody holds");
    sqlx::query("ROLLBACK").execute(&mut lock).await.unwrap();
    assert_eq!(app.list("/v1/rejections").await, Vec::<Value>::new());
}
