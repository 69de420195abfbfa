//! The recording gateway, with a platform behind it that answers as it is told.

mod signing;
mod trouble;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use callback_ledger::{
    domain::{
        ids::PlatformId,
        operation::{Flag, State},
        request::{RequestFacts, Via},
    },
    store::NewRequest,
};
use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpListener};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

use crate::support::{
    app::{Answered, Settings, TestApp, call_event, graph, send},
    child::{Served, binary},
    ledger::{BOT, TestLedger, operations_of},
};

const CALL: &str = "57dab8b1-894c-409a-b240-bd8beae78896";

/// A header's value that is not text.
const OPAQUE: &[u8] = b"caf\xe9 \xff";

/// A service whose gateways lead to this platform.
async fn app_before(platform: &str, source: &'static str, more: &str) -> TestApp {
    let sections = format!("[gateway]\nallow_private_upstreams = true\ngraph = \"{platform}\"\nacs = \"{platform}\"\n{more}");
    TestApp::start_with(Settings { source, sections, ..Settings::default() }).await
}

/// A platform that answers everything so.
async fn platform(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

async fn ask(app: &TestApp, method: Method, path: &str, body: &Value) -> Answered {
    let request = app.client.request(method, format!("{}/gateway/{path}", app.private));
    send(
        request.header("content-type", "application/json").header("authorization", "Bearer the-platforms").body(body.to_string()),
    )
    .await
}

async fn notify(app: &TestApp, kind: &str, id: &str, context: &str, status: &str, subcode: Option<i64>) {
    let mut data = json!({ "@odata.type": format!("#microsoft.graph.{kind}"), "clientContext": context, "status": status });
    if let Some(subcode) = subcode {
        data["resultInfo"] = json!({ "code": 400, "subcode": subcode });
    }
    let change = if status == "running" { "updated" } else { "deleted" };
    let body = graph(change, &format!("calls/{CALL}/operations/{id}"), &data).to_string();
    assert_eq!(app.post(body).await.status, StatusCode::ACCEPTED);
}

async fn only(app: &TestApp, filter: &str) -> Value {
    let mut found = app.list(&format!("/v1/operations?{filter}")).await;
    assert_eq!(found.len(), 1, "{filter}: {found:#?}");
    found.remove(0)
}

#[tokio::test]
async fn a_request_goes_through_as_it_is_and_its_whole_life_is_one_story() {
    let operation = json!({ "@odata.type": "#microsoft.graph.recordOperation", "id": "17e3b46c", "status": "running", "clientContext": "ours" });
    let answer = ResponseTemplate::new(200)
        .set_body_json(&operation)
        .insert_header("Location", "https://x/op")
        .insert_header("request-id", "r-1")
        .append_header("x-opaque", wiremock::http::HeaderValue::from_bytes(OPAQUE).unwrap());
    let server = platform(answer).await;
    let app = app_before(&server.uri(), "graph", "").await;
    let body = json!({ "clientContext": "ours", "maxRecordDurationInSeconds": 10 });
    let request =
        app.client.post(format!("{}/gateway/graph/v1.0/communications/calls/{CALL}/microsoft.graph.record?x=%20y", app.private));
    let request =
        request.header("authorization", "Bearer the-platforms").header("cookie", "a=b").header("X-Forwarded-For", "1.2.3.4");
    let request =
        request.header("connection", "x-hop").header("x-hop", "1").header("client-request-id", "c-1").body(body.to_string());
    let request = request.header("x-opaque", OPAQUE);
    let answered = send(request).await;
    assert_eq!(answered.headers["x-opaque"].as_bytes(), OPAQUE);
    assert_eq!((answered.status, answered.json()), (StatusCode::OK, operation));
    assert_eq!(
        (&answered.headers["location"], &answered.headers["request-id"]),
        (&"https://x/op".parse().unwrap(), &"r-1".parse().unwrap())
    );

    let sent = server.received_requests().await.unwrap().remove(0);
    assert_eq!(sent.url.path(), format!("/v1.0/communications/calls/{CALL}/microsoft.graph.record"));
    assert_eq!((sent.url.query(), sent.body.as_slice()), (Some("x=%20y"), body.to_string().as_bytes()));
    assert_eq!(
        (&sent.headers["authorization"], &sent.headers["client-request-id"]),
        (&"Bearer the-platforms".parse().unwrap(), &"c-1".parse().unwrap())
    );
    assert_eq!(sent.headers["x-opaque"].as_bytes(), OPAQUE);
    for kept_back in ["cookie", "x-forwarded-for", "x-hop", "callback-ledger-token"] {
        assert!(!sent.headers.contains_key(kept_back), "{kept_back}");
    }

    let running = only(&app, "context=ours").await;
    assert_eq!(
        (&running["state"], &running["kind"], &running["operationId"]),
        (&json!("running"), &json!("recordOperation"), &json!("17e3b46c"))
    );
    notify(&app, "recordOperation", "17e3b46c", "ours", "completed", None).await;
    let told = only(&app, "context=ours").await;
    assert_eq!((&told["id"], &told["state"], &told["flags"]), (&running["id"], &json!("completed"), &json!([])));
    let history = app.list(&format!("/v1/operations/{}/history", told["id"].as_str().unwrap())).await;
    let steps: Vec<_> =
        history.iter().map(|step| (step["to"].as_str().unwrap(), step["cause"]["type"].as_str().unwrap())).collect();
    assert_eq!(steps, [("requested", "request"), ("running", "response"), ("completed", "notification")]);
    let disk = std::fs::read(app.ledger()).unwrap();
    assert!(!disk.windows(13).any(|window| window == b"the-platforms"), "the platform's token is never stored");
}

/// Seed 000: the answer to the cancel bears the id and the tag of the recording, and a `Location` of neither.
#[tokio::test]
async fn a_cancel_of_v1_ends_with_its_answer_and_lists_the_recording_that_it_canceled() {
    let server = MockServer::start().await;
    let location =
        format!("https://graph.microsoft.com/v1.0/communications/calls/{CALL}/operations/17e3b46c-f61d-4f4d-9635-c626ef18e6ad");
    let cancel = json!({ "@odata.type": "#microsoft.graph.cancelMediaProcessingOperation", "status": "completed", "clientContext": "rec", "id": "0fe0623f-d628-42ed-b4bd-8ac290072cc5" });
    let record = json!({ "@odata.type": "#microsoft.graph.recordOperation", "status": "running", "clientContext": "rec", "id": "0fe0623f-d628-42ed-b4bd-8ac290072cc5" });
    let answer = move |request: &wiremock::Request| {
        if request.url.path().ends_with("cancelMediaProcessing") {
            return ResponseTemplate::new(200).set_body_json(&cancel).insert_header("Location", location.as_str());
        }
        ResponseTemplate::new(200).set_body_json(&record)
    };
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let app = app_before(&server.uri(), "graph", "").await;
    let calls = format!("graph/v1.0/communications/calls/{}", CALL.to_uppercase().replace('-', ""));
    ask(&app, Method::POST, &format!("{calls}/recordResponse"), &json!({ "clientContext": "rec" })).await;
    ask(&app, Method::POST, &format!("{calls}/subscribeToTone"), &json!({ "clientContext": "tones" })).await;
    let answered =
        ask(&app, Method::POST, &format!("{calls}/cancelMediaProcessing"), &json!({ "clientContext": "cancel" })).await;
    assert_eq!(answered.status, StatusCode::OK);
    notify(&app, "recordOperation", "0FE0623FD62842EDB4BD8AC290072CC5", "rec", "failed", Some(8508)).await;
    let record = only(&app, "kind=recordOperation").await;
    let cancel = only(&app, "kind=cancelMediaProcessingOperation").await;
    assert_eq!((&record["state"], &record["canceledBy"], &record["flags"]), (&json!("canceled"), &cancel["id"], &json!([])));
    assert_eq!(
        (&cancel["state"], &cancel["cancels"], &cancel["context"]),
        (&json!("completed"), &json!([record["id"]]), &json!("cancel"))
    );
    assert_eq!(only(&app, "context=tones").await["state"], "running");
    assert_eq!(app.list("/v1/operations").await.len(), 3);
}

#[tokio::test]
async fn a_cancel_of_the_old_beta_ends_with_its_callback_in_both_forms_of_its_address() {
    for (root, all) in [("app/calls", true), ("applications/app-id/calls", false)] {
        let location =
            format!("https://graph.microsoft.com/beta/app/calls/{CALL}/operations/0fe0623f-d628-42ed-b4bd-8ac290072cc5");
        let server = platform(ResponseTemplate::new(202).insert_header("Location", location.as_str())).await;
        let app = app_before(&server.uri(), "graph", "").await;
        let body = json!({ "all": all, "clientContext": "cancel" });
        let answered = ask(&app, Method::POST, &format!("graph/beta/{root}/{CALL}/cancelMediaProcessing"), &body).await;
        assert_eq!(answered.status, StatusCode::ACCEPTED);
        let accepted = only(&app, "context=cancel").await;
        assert_eq!((&accepted["state"], &accepted["kind"]), (&json!("accepted"), &json!("cancelMediaProcessingOperation")));
        notify(&app, "commsOperation", "0fe0623f-d628-42ed-b4bd-8ac290072cc5", "cancel", "completed", None).await;
        let told = only(&app, "context=cancel").await;
        assert_eq!((&told["state"], &told["flags"], &told["notifications"]), (&json!("completed"), &json!([]), &json!(1)));
    }
}

#[tokio::test]
async fn a_no_is_passed_on_and_kept_with_its_reason() {
    let error = json!({ "error": { "code": "8522", "message": "Call not found, asked by +1 425 555 0123.", "innerError": {} } });
    let server = platform(ResponseTemplate::new(404).set_body_json(&error).insert_header("Retry-After", "2.128")).await;
    let app = app_before(&server.uri(), "graph", "").await;
    let answered = ask(&app, Method::POST, &format!("graph/v1.0/communications/calls/{CALL}/playPrompt"), &json!({})).await;
    assert_eq!(
        (answered.status, answered.json(), &answered.headers["retry-after"]),
        (StatusCode::NOT_FOUND, error, &"2.128".parse().unwrap())
    );
    let refused = only(&app, "state=refused").await;
    assert_eq!((&refused["final"], &refused["kind"]), (&json!(true), &json!("playPromptOperation")));
    let result = &refused["result"];
    assert_eq!(
        (&result["code"], &result["subcode"], &result["message"]),
        (&json!(404), &json!(8522), &json!("Call not found, asked by +…."))
    );
    assert!(result["meaning"].is_string());
}

#[tokio::test]
async fn an_answer_that_is_lost_leaves_a_mark_and_a_notification_settles_it() {
    // accepts, reads, and hangs up without a word
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let deaf = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _read = stream.read(&mut [0; 4096]).await;
        }
    });
    let app = app_before(&format!("http://{address}"), "graph", "").await;
    let path = format!("graph/v1.0/communications/calls/{CALL}/record");
    let answered = ask(&app, Method::POST, &path, &json!({ "clientContext": "lost" })).await;
    assert_eq!((answered.status, &answered.json()["code"]), (StatusCode::BAD_GATEWAY, &json!("upstream_unreachable")));
    let lost = only(&app, "context=lost").await;
    assert_eq!((&lost["state"], &lost["flags"]), (&json!("requested"), &json!(["unanswered"])));
    notify(&app, "recordOperation", "o1", "lost", "completed", None).await;
    let told = only(&app, "context=lost").await;
    assert_eq!((&told["id"], &told["state"], &told["flags"]), (&lost["id"], &json!("completed"), &json!(["unanswered"])));

    deaf.abort();
    let _aborted = deaf.await;
    let answered = ask(&app, Method::POST, &path, &json!({ "clientContext": "never" })).await;
    assert_eq!(answered.status, StatusCode::BAD_GATEWAY);
    let never = only(&app, "context=never").await;
    assert_eq!((&never["state"], &never["result"]["reason"]), (&json!("failed"), &json!("upstreamUnreachable")));
}

#[tokio::test]
async fn a_bot_that_hangs_up_does_not_stop_its_request() {
    let answer = ResponseTemplate::new(200)
        .set_delay(Duration::from_millis(600))
        .set_body_json(json!({ "id": "o1", "status": "running" }));
    let server = platform(answer).await;
    let app = Arc::new(app_before(&server.uri(), "graph", "").await);
    let asking = Arc::clone(&app);
    let bot = tokio::spawn(async move {
        ask(&asking, Method::POST, &format!("graph/v1.0/communications/calls/{CALL}/record"), &json!({ "clientContext": "gone" }))
            .await
    });
    while server.received_requests().await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bot.abort();
    for _ in 0..400 {
        if only(&app, "context=gone").await["state"] == "running" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the answer was not written down: {:#}", only(&app, "context=gone").await);
}

#[tokio::test]
async fn what_begins_no_operation_is_passed_on_only_where_that_is_wanted_and_odd_paths_never() {
    let server = platform(ResponseTemplate::new(200).set_body_string("there")).await;
    let app = app_before(&server.uri(), "graph", "").await;
    let status = async |app: &TestApp, method: Method, path: &str| ask(app, method, path, &json!({})).await.status;
    for (method, path) in [
        (Method::GET, "graph/v1.0/users"),
        (Method::GET, "graph/v1.0/communications/calls/c"),
        (Method::POST, "graph/v2.0/communications/calls"),
        (Method::POST, "graph/v1.0/communications/calls/c/somethingNew"),
        (Method::POST, "graph/v1.0/communications/calls/c/createCall"),
        (Method::POST, "acs/calling/callConnections/c:somethingNew"),
        (Method::POST, "teams/v1.0/x"),
        (Method::POST, "graph"),
    ] {
        assert_eq!(status(&app, method, path).await, StatusCode::NOT_FOUND, "{path}");
    }
    for path in ["graph/v1.0/communications/calls/a%2fb/record", "graph/v1.0//communications/calls"] {
        assert_eq!(status(&app, Method::POST, path).await, StatusCode::BAD_REQUEST, "{path}");
    }
    assert_eq!(status(&app, Method::TRACE, "graph/v1.0/communications/calls").await, StatusCode::METHOD_NOT_ALLOWED);
    assert!(server.received_requests().await.unwrap().is_empty());
    assert_eq!(app.list("/v1/operations").await, Vec::<Value>::new());

    let app = app_before(&server.uri(), "graph", "pass_unrecognised = true\n").await;
    let answered = ask(&app, Method::GET, "graph/v1.0/users?$top=1", &json!({})).await;
    assert_eq!((answered.status, answered.body.as_slice()), (StatusCode::OK, &b"there"[..]));
    assert_eq!(app.list("/v1/operations").await, Vec::<Value>::new());
    let app = TestApp::start().await;
    assert_eq!(
        status(&app, Method::POST, "acs/calling/callConnections").await,
        StatusCode::NOT_FOUND,
        "no resource is configured"
    );
}

#[tokio::test]
async fn a_request_may_have_a_deadline_of_its_own() {
    let server = platform(ResponseTemplate::new(202)).await;
    let app = app_before(&server.uri(), "graph", "").await;
    let post = async |deadline: &str| {
        let request = app.client.post(format!("{}/gateway/graph/v1.0/communications/calls/{CALL}/record", app.private));
        send(request.header("Callback-Ledger-Deadline", deadline).body("{}")).await
    };
    for wrong in ["0", "soon", "2678401", "-1"] {
        let refused = post(wrong).await;
        assert_eq!((refused.status, &refused.json()["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_body")), "{wrong}");
    }
    assert!(server.received_requests().await.unwrap().is_empty());
    assert_eq!(post("60").await.status, StatusCode::ACCEPTED);
    assert!(!server.received_requests().await.unwrap()[0].headers.contains_key("callback-ledger-deadline"));
    let asked = only(&app, "kind=recordOperation").await;
    let time = |name: &str| asked[name].as_str().unwrap().parse::<Timestamp>().unwrap();
    let allowed = time("deadline").duration_since(time("requestedAt")).as_secs();
    assert!((59..=60).contains(&allowed), "{asked:#}");
}

#[tokio::test]
async fn with_tokens_the_gateway_has_its_own_header_and_takes_the_scope_to_write() {
    let server = platform(ResponseTemplate::new(202)).await;
    let hash = |token: &str| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        digest.as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    };
    let token = |name: &str, scopes: &str| {
        format!("[[private.token]]\nname = \"{name}\"\nsha256 = \"{}\"\nscopes = {scopes}\n", hash(name))
    };
    let sections = format!(
        "[gateway]\nallow_private_upstreams = true\ngraph = \"{}\"\n{}{}",
        server.uri(),
        token("bot", "[\"write\"]"),
        token("ops", "[\"read\"]")
    );
    let issuer = crate::support::fake_issuer::FakeIssuer::start().await;
    let app = TestApp::start_without_keys(issuer, Settings { sections, ..Settings::default() }).await;
    let post = async |ours: &str| {
        let request = app.client.post(format!("{}/gateway/graph/v1.0/communications/calls/c/record", app.private));
        let request = request.header("authorization", "Bearer bot").header("Callback-Ledger-Token", ours);
        send(request.body("{}")).await.status
    };
    assert_eq!(post("nobody").await, StatusCode::UNAUTHORIZED);
    assert_eq!(post("ops").await, StatusCode::FORBIDDEN);
    assert_eq!(post("bot").await, StatusCode::ACCEPTED);
    let sent = server.received_requests().await.unwrap();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].headers["authorization"], "Bearer bot");
    assert!(!sent[0].headers.contains_key("callback-ledger-token"));
}

#[tokio::test]
async fn an_invitation_that_was_canceled_is_told_though_no_event_tells_it() {
    let server = MockServer::start().await;
    let answer = |request: &wiremock::Request| match request.url.path() {
        path if path.ends_with("participants:add") => ResponseTemplate::new(202)
            .set_body_json(json!({ "invitationId": "7b4244f8-d2ff-46d1-a629-4f9fb5f73d40", "operationContext": "add" })),
        _ => ResponseTemplate::new(202).set_body_json(json!({ "invitationId": "7b4244f8-d2ff-46d1-a629-4f9fb5f73d40" })),
    };
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let app = app_before(&server.uri(), "acs", "").await;
    let people = "acs/calling/callConnections/18dea47f-b081-4107-9a5c-4300819d2c6c/participants";
    let api = "api-version=2023-10-15";
    ask(&app, Method::POST, &format!("{people}:add?{api}"), &json!({ "operationContext": "add" })).await;
    let cancel = json!({ "invitationId": "7b4244f8-d2ff-46d1-a629-4f9fb5f73d40", "operationContext": "take back" });
    ask(&app, Method::POST, &format!("{people}:cancelAddParticipant?{api}"), &cancel).await;
    assert_eq!(server.received_requests().await.unwrap()[0].url.query(), Some(api));
    let event = |name: &str, context: &str| {
        let data = json!({ "callConnectionId": "18dea47f-b081-4107-9a5c-4300819d2c6c", "operationContext": context, "invitationId": "7b4244f8-d2ff-46d1-a629-4f9fb5f73d40" });
        call_event(&format!("Microsoft.Communication.{name}"), name, &data).to_string()
    };
    app.post(event("CancelAddParticipantSucceeded", "take back")).await;
    let (added, canceled) = (only(&app, "kind=addParticipant").await, only(&app, "kind=cancelAddParticipant").await);
    assert_eq!(
        (&added["state"], &added["canceledBy"], &added["flags"]),
        (&json!("canceled"), &canceled["id"], &json!(["inferred"]))
    );
    assert_eq!((&canceled["state"], &canceled["cancels"]), (&json!("completed"), &json!([added["id"]])));
    let history = app.list(&format!("/v1/operations/{}/history", added["id"].as_str().unwrap())).await;
    let steps: Vec<_> = history.iter().map(|step| step["to"].as_str().unwrap()).collect();
    assert_eq!(steps, ["requested", "accepted", "canceled"]);

    app.post(event("AddParticipantSucceeded", "add")).await;
    let (added, canceled) = (only(&app, "kind=addParticipant").await, only(&app, "kind=cancelAddParticipant").await);
    assert_eq!((&added["state"], &added["flags"]), (&json!("completed"), &json!(["conflict"])));
    assert_eq!((&canceled["flags"], &canceled["escaped"]), (&json!(["conflict"]), &json!([added["id"]])));
}

#[tokio::test]
async fn a_call_that_was_created_is_found_by_the_answer_and_ends_its_request_when_it_is_connected() {
    let created = json!({ "callConnectionId": "leg-1", "serverCallId": "s1", "callConnectionState": "connecting" });
    let server = platform(ResponseTemplate::new(201).set_body_json(created)).await;
    let app = app_before(&server.uri(), "acs", "").await;
    let answered = ask(
        &app,
        Method::POST,
        "acs/calling/callConnections?api-version=2025-06-15",
        &json!({ "operationContext": "out", "targets": [] }),
    )
    .await;
    assert_eq!(answered.status, StatusCode::CREATED);
    let begun = only(&app, "context=out").await;
    assert_eq!((&begun["callId"], &begun["state"], &begun["kind"]), (&json!("leg-1"), &json!("accepted"), &json!("createCall")));
    let data =
        json!({ "callConnectionId": "leg-1", "operationContext": "out", "resultInformation": { "code": 200, "subCode": 0 } });
    app.post(call_event("Microsoft.Communication.CallConnected", "e1", &data).to_string()).await;
    let told = only(&app, "callId=leg-1").await;
    assert_eq!((&told["id"], &told["state"], &told["flags"]), (&begun["id"], &json!("completed"), &json!([])));
    assert_eq!(app.list("/v1/calls").await.len(), 1);
    assert_eq!(app.get("/v1/calls/leg-1").await.json()["state"], "established");
}

#[tokio::test]
async fn what_was_asked_through_a_gateway_that_died_is_marked_at_the_next_start() {
    let test = TestLedger::new().await;
    let facts = |via| RequestFacts {
        name: "play".to_owned(),
        kind: "play".to_owned(),
        context: None,
        via,
        deadline: None,
        cancels: None,
        acts_on: None,
        conversation: None,
        shows: None,
    };
    for (call, via) in [("through", Via::Gateway), ("by-itself", Via::Registered)] {
        let call = PlatformId::parse(call);
        let request =
            NewRequest { source: "acs", call, shows: None, requested_at: Timestamp::now(), idempotency: None, facts: facts(via) };
        test.ledger.request(&BOT, request).await.unwrap();
    }
    let test = test.restart().await;
    for _ in 0..400 {
        let through = operations_of(test.reader(), "through").await.remove(0);
        assert_eq!(through.state, State::Requested);
        if through.flags == [Flag::Unanswered] {
            assert_eq!(operations_of(test.reader(), "by-itself").await[0].flags, []);
            test.close().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never marked");
}

/// A platform that answers 500 so often and then 202.
async fn failing(times: u64) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(500).insert_header("Retry-After", "0.05"))
        .up_to_n_times(times)
        .mount(&server)
        .await;
    Mock::given(any()).respond_with(ResponseTemplate::new(202)).mount(&server).await;
    server
}

#[tokio::test]
async fn what_the_platform_recognises_is_sent_again_and_nothing_else() {
    let server = failing(1).await;
    let app = app_before(&server.uri(), "acs", "").await;
    let calls = "acs/calling/callConnections/c";
    assert_eq!(ask(&app, Method::POST, &format!("{calls}/participants:add"), &json!({})).await.status, StatusCode::ACCEPTED);
    let sent = server.received_requests().await.unwrap();
    assert_eq!(sent.len(), 2);
    let header = |at: usize, name: &str| sent[at].headers[name].to_str().unwrap().to_owned();
    assert_eq!(header(0, "repeatability-request-id"), header(1, "repeatability-request-id"), "one id, so it executes once");
    assert_eq!(header(0, "repeatability-request-id").len(), 36);
    assert_eq!(header(0, "repeatability-first-sent"), header(1, "repeatability-first-sent"));
    assert!(header(0, "repeatability-first-sent").ends_with(" GMT"));
    assert_eq!(only(&app, "kind=addParticipant").await["state"], "accepted");

    let server = failing(10).await;
    let app = app_before(&server.uri(), "acs", "").await;
    assert_eq!(ask(&app, Method::POST, &format!("{calls}:play"), &json!({})).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(server.received_requests().await.unwrap().len(), 1, "`play` is not recognised");
    assert!(!server.received_requests().await.unwrap()[0].headers.contains_key("repeatability-request-id"));
    assert_eq!(
        ask(&app, Method::POST, &format!("{calls}/participants:remove"), &json!({})).await.status,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    assert_eq!(server.received_requests().await.unwrap().len(), 4, "three times and no more");
    let request = app
        .client
        .post(format!("{}/gateway/{calls}/participants:mute", app.private))
        .header("Repeatability-Request-ID", "the-bots");
    send(request.body("{}")).await;
    assert_eq!(server.received_requests().await.unwrap()[4].headers["repeatability-request-id"], "the-bots");

    let server = failing(10).await;
    let app = app_before(&server.uri(), "graph", "").await;
    ask(&app, Method::POST, &format!("graph/v1.0/communications/calls/{CALL}/mute"), &json!({})).await;
    assert_eq!(server.received_requests().await.unwrap().len(), 1, "Graph is never asked twice");
}

#[tokio::test]
async fn a_signature_over_the_host_is_refused_until_the_gateway_signs_itself() {
    let server = platform(ResponseTemplate::new(202)).await;
    let app = app_before(&server.uri(), "acs", "").await;
    let hmac = "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature=abc";
    let post = async |app: &TestApp| {
        let request = app.client.post(format!("{}/gateway/acs/calling/callConnections/c:play?api-version=1", app.private));
        send(request.header("authorization", hmac).header("x-ms-date", "then").header("Callback-Ledger-Token", "bot").body("{}"))
            .await
    };
    let refused = post(&app).await;
    assert_eq!((refused.status, &refused.json()["code"]), (StatusCode::BAD_REQUEST, &json!("signature_of_host")));
    assert!(server.received_requests().await.unwrap().is_empty());
    assert_eq!(app.list("/v1/operations").await, Vec::<Value>::new());

    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "c2VjcmV0LWtleQ==\n").unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"bot");
    let hash = digest.as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let more = format!(
        "[gateway.credentials.acs]\naccess_key_file = \"{}\"\n[[private.token]]\nname = \"bot\"\nsha256 = \"{hash}\"\nscopes = [\"write\"]\n",
        key.display()
    );
    let sections = format!("[gateway]\nallow_private_upstreams = true\nacs = \"{}\"\n{more}", server.uri());
    let issuer = crate::support::fake_issuer::FakeIssuer::start().await;
    let app = TestApp::start_without_keys(issuer, Settings { source: "acs", sections, ..Settings::default() }).await;
    assert_eq!(post(&app).await.status, StatusCode::ACCEPTED);
    let sent = server.received_requests().await.unwrap().remove(0);
    let header = |name: &str| sent.headers[name].to_str().unwrap().to_owned();
    assert_eq!(sent.headers.get_all("authorization").iter().count(), 1);
    let signed = format!(
        "POST\n/calling/callConnections/c:play?api-version=1\n{};{};{}",
        header("x-ms-date"),
        header("host"),
        header("x-ms-content-sha256")
    );
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"secret-key");
    let (_, signature) = header("authorization").split_once("&Signature=").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let signature = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, signature).unwrap();
    aws_lc_rs::hmac::verify(&key, signed.as_bytes(), &signature).unwrap();
}

/// A service as a process of its own, in front of this platform.
fn served_before(folder: &std::path::Path, platform: &str) -> Served {
    Served::start_with(folder, &format!("[gateway]\ngraph = \"{platform}\"\n"))
}

async fn list(private: &str, path: &str) -> Vec<Value> {
    let answered = send(reqwest::Client::builder().no_proxy().build().unwrap().get(format!("{private}{path}"))).await;
    answered.json()["value"].as_array().unwrap().clone()
}

/// The server dies while requests are on their way: what the platform has seen, the ledger knows.
#[tokio::test]
async fn a_request_that_was_sent_is_known_however_the_gateway_died() {
    let answer = ResponseTemplate::new(200).set_delay(Duration::from_millis(30)).set_body_json(json!({ "status": "running" }));
    let server = platform(answer).await;
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::new();
    let mut answered: Vec<String> = Vec::new();
    let answers = Arc::new(AtomicUsize::new(0));
    for round in 0..6 {
        let gateway = served_before(folder.path(), &server.uri());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let bots: Vec<_> = (0..8)
            .map(|bot| {
                let (client, private, answers) = (client.clone(), gateway.private.clone(), Arc::clone(&answers));
                tokio::spawn(async move {
                    let mut answered = Vec::new();
                    for turn in 0.. {
                        let context = format!("r{round}-b{bot}-t{turn}");
                        let request = client.post(format!("{private}/gateway/graph/v1.0/communications/calls/{CALL}/record"));
                        let body = json!({ "clientContext": context }).to_string();
                        match request.body(body).send().await {
                            Ok(response) if response.status() == StatusCode::OK => answered.push(context),
                            _ => return answered,
                        }
                        answers.fetch_add(1, Ordering::Relaxed);
                    }
                    answered
                })
            })
            .collect();
        let enough = answers.load(Ordering::Relaxed) + random.usize(1..40);
        while answers.load(Ordering::Relaxed) < enough && bots.iter().any(|bot| !bot.is_finished()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.u64(0..30))).await;
        gateway.sigkill();
        for bot in bots {
            answered.extend(bot.await.unwrap());
        }
    }
    let gateway = served_before(folder.path(), &server.uri());
    let context = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["clientContext"].as_str().unwrap().to_owned();
    let seen: Vec<String> = server.received_requests().await.unwrap().iter().map(|request| context(&request.body)).collect();
    assert!(!answered.is_empty() && seen.len() >= answered.len());
    let mut known = std::collections::BTreeMap::new();
    let mut path = "/v1/operations?limit=250".to_owned();
    loop {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let page = send(client.get(format!("{}{path}", gateway.private))).await.json();
        for operation in page["value"].as_array().unwrap() {
            known.insert(operation["context"].as_str().unwrap().to_owned(), operation.clone());
        }
        let Some(next) = page["nextLink"].as_str() else { break };
        path = next.to_owned();
    }
    for context in &seen {
        assert!(known.contains_key(context), "{context} was sent and is not known");
    }
    for context in &answered {
        assert_eq!(known[context]["state"], "running", "{context} was answered");
    }
    for (context, operation) in &known {
        let told = operation["state"] == "running" || operation["flags"] == json!(["unanswered"]);
        assert!(told, "{context}: {operation:#}");
    }
    assert_eq!(list(&gateway.private, "/v1/operations?state=refused").await, Vec::<Value>::new());
}

/// Killed at each commit in turn: as it opens the ledger, as it writes the request down, as it writes the answer down.
#[tokio::test]
async fn a_gateway_killed_at_any_commit_has_sent_nothing_that_the_ledger_does_not_know() {
    let answer = ResponseTemplate::new(200).set_body_json(json!({ "status": "running" }));
    let server = platform(answer).await;
    let folder = tempfile::tempdir().unwrap();
    served_before(folder.path(), &server.uri()).sigkill(); // the ledger is there
    let sections = format!("[gateway]\ngraph = \"{}\"\n", server.uri());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let (mut answered, mut died, mut survived) = (BTreeSet::new(), 0, 0);
    for nth in 1..60 {
        let gateway = match Served::start_to_be_killed(folder.path(), &sections, nth) {
            Ok(Some(gateway)) => gateway,
            Ok(None) => {
                died += 1;
                continue;
            }
            Err(why) => {
                eprintln!("skipped: {why}");
                return;
            }
        };
        let context = format!("commit-{nth}");
        let url = format!("{}/gateway/graph/v1.0/communications/calls/{CALL}/record", gateway.private);
        match client.post(url).body(json!({ "clientContext": context }).to_string()).send().await {
            Ok(answer) if answer.status() == StatusCode::OK => {
                answered.insert(context);
                survived += 1;
            }
            _ => died += 1,
        }
        gateway.sigkill();
        if survived == 3 {
            break;
        }
    }
    assert!(died >= 2 && survived == 3, "it died {died} times and survived {survived}");
    let gateway = served_before(folder.path(), &server.uri());
    let known: BTreeMap<String, Value> = list(&gateway.private, "/v1/operations?limit=250")
        .await
        .into_iter()
        .map(|operation| (operation["context"].as_str().unwrap().to_owned(), operation))
        .collect();
    let seen = server.received_requests().await.unwrap();
    for request in &seen {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert!(known.contains_key(body["clientContext"].as_str().unwrap()), "{body} was sent and is not known");
    }
    assert!(seen.len() > answered.len(), "one was killed as it wrote down an answer");
    for (context, operation) in &known {
        let expected = if answered.contains(context) { operation["state"] == "running" } else { true };
        let told = operation["state"] == "running" || operation["flags"] == json!(["unanswered"]);
        assert!(expected && told, "{context}: {operation:#}");
    }
}

#[tokio::test]
async fn the_command_cancels_through_the_gateway_and_tells_what_that_did() {
    let server = MockServer::start().await;
    let answer = |request: &wiremock::Request| match request.url.path() {
        path if path.ends_with("cancelMediaProcessing") => {
            ResponseTemplate::new(200).set_body_json(json!({ "status": "completed" }))
        }
        path if path.ends_with("record") => ResponseTemplate::new(200).set_body_json(json!({ "status": "running", "id": "r1" })),
        _ => ResponseTemplate::new(404).set_body_json(json!({ "error": { "code": "8522", "message": "gone" } })),
    };
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let app = app_before(&server.uri(), "graph", "").await;
    ask(&app, Method::POST, &format!("graph/v1.0/communications/calls/{CALL}/record"), &json!({ "clientContext": "voicemail" }))
        .await;
    let (url, folder) = (app.private.clone(), app.folder.path().to_owned());
    let run = |arguments: Vec<&str>| {
        let mut command = binary(&folder);
        command.args(arguments).args(["--url", &url, "--output", "ndjson"]);
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    let cancel = run(vec!["cancel", "graph", "--call", CALL, "--wait", "60", "--platform-token", "the-platforms"]);
    while server.received_requests().await.unwrap().len() < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    notify(&app, "recordOperation", "r1", "voicemail", "failed", Some(8508)).await;
    let told = cancel.await.unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let rows: Vec<Value> = told
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let said: Vec<_> = rows.iter().map(|row| (row["kind"].as_str().unwrap(), row["state"].as_str().unwrap())).collect();
    assert_eq!(said, [("cancelMediaProcessingOperation", "completed"), ("recordOperation", "canceled")]);
    assert_eq!(rows[1]["canceledBy"], rows[0]["id"]);
    assert_eq!(server.received_requests().await.unwrap()[1].headers["authorization"], "Bearer the-platforms");

    let refused = run(vec!["cancel", "acs", "--call", "leg", "--invitation", "i"]).await.unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("8522 gone"), "{}", String::from_utf8_lossy(&refused.stderr));
    assert_eq!(only(&app, "kind=cancelAddParticipant").await["state"], "refused");
    let nowhere = binary(&folder).args(["cancel", "graph", "--call", "c"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(2), "{}", String::from_utf8_lossy(&nowhere.stderr));
}

#[tokio::test]
async fn the_gateway_leads_to_no_private_network_unless_that_is_wanted() {
    let server = platform(ResponseTemplate::new(202)).await;
    for upstream in [server.uri(), server.uri().replace("127.0.0.1", "localhost"), "https://10.255.255.1".to_owned()] {
        let app =
            TestApp::start_with(Settings { sections: format!("[gateway]\ngraph = \"{upstream}\"\n"), ..Settings::default() })
                .await;
        let answered = ask(&app, Method::POST, &format!("graph/v1.0/communications/calls/{CALL}/record"), &json!({})).await;
        assert_eq!(
            (answered.status, &answered.json()["code"]),
            (StatusCode::BAD_GATEWAY, &json!("upstream_unreachable")),
            "{upstream}"
        );
        assert_eq!(only(&app, "kind=recordOperation").await["state"], "failed", "{upstream}");
    }
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_gateway_signs_with_a_token_of_the_calls_own_tenant_and_asks_for_it_once() {
    let server = platform(ResponseTemplate::new(202)).await;
    let authority = MockServer::start().await;
    let token = |request: &wiremock::Request| {
        let tenant = request.url.path_segments().unwrap().next().unwrap().to_owned();
        ResponseTemplate::new(200)
            .set_delay(Duration::from_millis(50))
            .set_body_json(json!({ "access_token": format!("of-{tenant}"), "expires_in": 3600 }))
    };
    Mock::given(any()).respond_with(token).mount(&authority).await;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "planted+secret&\n").unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"bot");
    let hash = digest.as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let sections = format!(
        "[gateway]\nallow_private_upstreams = true\ngraph = \"{}\"\n[gateway.credentials.graph]\ntenant = \"home\"\nclient_id = \"app\"\nclient_secret_file = \"{}\"\nauthority = \"{}\"\n[[private.token]]\nname = \"bot\"\nsha256 = \"{hash}\"\nscopes = [\"read\", \"write\"]\n",
        server.uri(),
        secret.display(),
        authority.uri()
    );
    let issuer = crate::support::fake_issuer::FakeIssuer::start().await;
    let app = TestApp::start_without_keys(issuer, Settings { sections, ..Settings::default() }).await;
    for _ in 0..400 {
        let told = json!({ "@odata.type": "#microsoft.graph.call", "state": "established" });
        if app.post(graph("updated", &format!("calls/{CALL}"), &told).to_string()).await.status == StatusCode::ACCEPTED {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let post = async |call: &str| {
        let request = app.client.post(format!("{}/gateway/graph/v1.0/communications/calls/{call}/record", app.private));
        send(request.header("authorization", "Bearer the-bots").header("Callback-Ledger-Token", "bot").body("{}")).await.status
    };
    let all = futures_util::future::join_all([post(CALL), post(CALL), post(CALL), post("unknown-call")]).await;
    assert_eq!(all, [StatusCode::ACCEPTED; 4]);
    let tenant = crate::support::fake_issuer::TENANT;
    let mut signed: Vec<String> = server
        .received_requests()
        .await
        .unwrap()
        .iter()
        .map(|request| request.headers["authorization"].to_str().unwrap().to_owned())
        .collect();
    signed.sort();
    let own = format!("Bearer of-{tenant}");
    assert_eq!(signed, [own.clone(), own.clone(), own, "Bearer of-home".to_owned()]);
    let asked = authority.received_requests().await.unwrap();
    assert_eq!(asked.len(), 2, "one for each tenant");
    let form: std::collections::BTreeMap<String, String> = url::form_urlencoded::parse(&asked[0].body).into_owned().collect();
    assert_eq!(form["client_secret"], "planted+secret&");
    assert_eq!((form["grant_type"].as_str(), form["client_id"].as_str()), ("client_credentials", "app"));
    assert_eq!(form["scope"], format!("{}/.default", server.uri()));

    authority.reset().await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(401).set_body_json(json!({ "error": "invalid_client" })))
        .mount(&authority)
        .await;
    let mut app = app;
    app.restart().await;
    let request = app.client.post(format!("{}/gateway/graph/v1.0/communications/calls/{CALL}/record", app.private));
    let refused = send(request.header("Callback-Ledger-Token", "bot").body("{}")).await;
    assert_eq!((refused.status, &refused.json()["code"]), (StatusCode::BAD_GATEWAY, &json!("token_unavailable")));
    assert_eq!(server.received_requests().await.unwrap().len(), 4);
}
