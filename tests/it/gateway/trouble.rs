//! What goes wrong on the way to a platform and back.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use callback_ledger::store::rebuild;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection, Executor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

use super::{CALL, app_before, ask, notify, only, platform, served_before};
use crate::support::{
    app::{TestApp, call_event},
    bot::own_address,
    ledger::{behind, count, options},
};

/// A platform that answers when the test says so.
struct Patient {
    address: SocketAddr,
    asked: mpsc::UnboundedReceiver<TcpStream>,
}

impl Patient {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut read, mut part) = (Vec::new(), [0; 4096]);
                while !read.ends_with(b"}") {
                    let length = stream.read(&mut part).await.unwrap();
                    read.extend_from_slice(&part[..length]);
                }
                tell.send(stream).unwrap();
            }
        });
        Self { address, asked }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn answer(mut stream: TcpStream, status: &str, body: &Value) {
    let body = body.to_string();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
}

fn asking(app: &Arc<TestApp>, path: &str, body: Value) -> tokio::task::JoinHandle<crate::support::app::Answered> {
    let (app, path) = (Arc::clone(app), path.to_owned());
    tokio::spawn(async move { ask(&app, Method::POST, &path, &body).await })
}

fn record() -> String {
    format!("graph/v1.0/communications/calls/{CALL}/record")
}

/// The call is known by its event alone when the answer names it.
#[tokio::test]
async fn a_callback_that_overtakes_the_answer_is_the_same_story() {
    let mut patient = Patient::start().await;
    let app = Arc::new(app_before(&patient.url(), "acs", "").await);
    let asked = asking(&app, "acs/calling/callConnections?api-version=2025-05-15", json!({ "operationContext": "ours" }));
    let stream = patient.asked.recv().await.unwrap();
    let failed =
        json!({ "callConnectionId": "leg", "operationContext": "ours", "resultInformation": { "code": 400, "subCode": 8501 } });
    let event = call_event("Microsoft.Communication.CreateCallFailed", "e1", &failed).to_string();
    assert_eq!(app.post(event).await.status, StatusCode::OK);
    answer(stream, "201 Created", &json!({ "callConnectionId": "leg" })).await;
    assert_eq!(asked.await.unwrap().status, StatusCode::CREATED);
    let told = only(&app, "callId=leg").await;
    assert_eq!((&told["state"], &told["flags"], &told["context"]), (&json!("failed"), &json!([]), &json!("ours")));
    assert_eq!(app.list("/v1/operations").await.len(), 1);
    let mut app = Arc::into_inner(app).unwrap();
    app.stop().await;
    assert_eq!(rebuild(&options(app.ledger())).await.unwrap(), []);
}

#[tokio::test]
async fn a_failure_of_the_platforms_own_is_settled_by_the_word_that_still_comes() {
    let server = platform(ResponseTemplate::new(504).set_body_json(json!({ "error": { "code": "GatewayTimeout" } }))).await;
    let app = app_before(&server.uri(), "graph", "").await;
    ask(&app, Method::POST, &record(), &json!({ "clientContext": "ours" })).await;
    let refused = only(&app, "context=ours").await;
    assert_eq!(refused["state"], "refused");
    notify(&app, "recordOperation", "o1", "ours", "completed", None).await;
    let told = only(&app, "context=ours").await;
    assert_eq!((&told["id"], &told["state"]), (&refused["id"], &json!("completed")));
}

#[tokio::test]
async fn what_never_left_is_nothing_that_a_notification_can_tell_of() {
    let listener = std::net::TcpListener::bind((own_address(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let app = app_before(&format!("http://{address}"), "graph", "").await;
    assert_eq!(ask(&app, Method::POST, &record(), &json!({ "clientContext": "ours" })).await.status, StatusCode::BAD_GATEWAY);
    let never = only(&app, "context=ours").await;
    assert_eq!((&never["state"], &never["result"]["reason"]), (&json!("failed"), &json!("upstreamUnreachable")));

    let server = MockServer::builder().listener(std::net::TcpListener::bind(address).unwrap()).start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(202)).mount(&server).await;
    assert_eq!(ask(&app, Method::POST, &record(), &json!({ "clientContext": "ours" })).await.status, StatusCode::ACCEPTED);
    notify(&app, "recordOperation", "o1", "ours", "completed", None).await;
    let told = app.list("/v1/operations?context=ours").await;
    let states: Vec<_> = told.iter().map(|told| (&told["state"], &told["flags"])).collect();
    assert_eq!(states, [(&json!("completed"), &json!([])), (&json!("failed"), &json!([]))]);
}

/// The first try is read and not answered; where the next should go nobody listens.
#[tokio::test]
async fn what_left_once_is_not_said_to_have_never_left() {
    let listener = TcpListener::bind((own_address(), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        drop(listener);
        let _read = stream.read(&mut [0; 4096]).await;
    });
    let app = app_before(&format!("http://{address}"), "acs", "").await;
    let asked = json!({ "operationContext": "ours", "participantToAdd": {} });
    let answered = ask(&app, Method::POST, "acs/calling/callConnections/leg/participants:add", &asked).await;
    assert_eq!(answered.status, StatusCode::BAD_GATEWAY);
    let lost = only(&app, "context=ours").await;
    assert_eq!((&lost["state"], &lost["flags"]), (&json!("requested"), &json!(["unanswered"])));
}

#[tokio::test]
async fn an_answer_that_the_ledger_cannot_take_now_is_told_to_the_bot_and_written_down_later() {
    let mut patient = Patient::start().await;
    let app = Arc::new(app_before(&patient.url(), "graph", "").await);
    let asked = asking(&app, &record(), json!({ "clientContext": "ours" }));
    let stream = patient.asked.recv().await.unwrap();
    let mut other = behind(&app.ledger()).await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    answer(stream, "200 OK", &json!({ "id": "o1", "status": "running" })).await;
    assert_eq!(asked.await.unwrap().status, StatusCode::OK);
    assert_eq!(only(&app, "context=ours").await["state"], "requested");
    other.execute("ROLLBACK").await.unwrap();
    other.close().await.unwrap();
    for _ in 0..400 {
        if only(&app, "context=ours").await["state"] == "running" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never written down");
}

/// A bot that is gone holds no shutdown up, and its request is not cut short by it: it is answered, or marked in time.
#[tokio::test]
async fn a_shutdown_waits_for_answers_and_marks_what_has_none() {
    let mut patient = Patient::start().await;
    let folder = tempfile::tempdir().unwrap();
    let served = served_before(folder.path(), &patient.url());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut streams = Vec::new();
    for context in ["answered", "never"] {
        let request = client.post(format!("{}/gateway/{}", served.private, record()));
        let request = request.body(json!({ "clientContext": context }).to_string());
        let bot = tokio::spawn(request.send());
        streams.push(patient.asked.recv().await.unwrap());
        bot.abort();
    }
    let ending = tokio::task::spawn_blocking(move || served.sigterm());
    tokio::time::sleep(Duration::from_millis(500)).await;
    answer(streams.remove(0), "200 OK", &json!({ "id": "o1", "status": "running" })).await;
    let (code, took) = ending.await.unwrap();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(30), "{took:?}");
    drop(streams);
    let ledger = folder.path().join("test.db");
    assert_eq!(count(&ledger, "SELECT count(*) FROM answer WHERE facts ->> 'state' = 'running'").await, 1);
    assert_eq!(count(&ledger, "SELECT count(*) FROM answer WHERE facts ->> 'status' IS NULL").await, 1);
    assert_eq!(count(&ledger, "SELECT count(*) FROM operation WHERE flags LIKE '%unanswered%'").await, 1);
}

#[tokio::test]
async fn a_request_without_a_body_says_so() {
    let server = platform(ResponseTemplate::new(200)).await;
    let app = app_before(&server.uri(), "graph", "").await;
    let request = app.client.post(format!("{}/gateway/graph/v1.0/communications/calls/{CALL}/keepAlive", app.private));
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    let sent = server.received_requests().await.unwrap().remove(0);
    assert_eq!((&sent.headers["content-length"], sent.body.len()), (&"0".parse().unwrap(), 0));
}
