//! The delivery as it came, token and all.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU16, Ordering},
    },
    time::Duration,
};

use callback_ledger::domain::clock::Clock;
use jiff::Timestamp;
use serde_json::json;
use sqlx::{Row, sqlite::SqliteConnection};

use super::{ended, section, until};
use crate::support::{
    app::{Settings, TestApp, graph},
    bot::{Bot, Heard, Says},
    fake_issuer::NOW,
    ledger::behind,
};

async fn original(bot: &Bot, more: &str) -> TestApp {
    let sections = section(bot, &format!("mode = \"original\"\n{more}"));
    TestApp::start_with(Settings { sections, ..Settings::default() }).await
}

async fn heads(connection: &mut SqliteConnection) -> i64 {
    sqlx::query("SELECT count(*) FROM delivery_head").fetch_one(connection).await.unwrap().get(0)
}

async fn until_no_heads(app: &TestApp) {
    let mut connection = behind(&app.ledger()).await;
    for _ in 0..6000 {
        if heads(&mut connection).await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("headers are still kept");
}

#[tokio::test]
async fn a_bot_gets_the_very_request_and_the_token_is_kept_no_longer() {
    let bot = Bot::yes().await;
    let app = original(&bot, "").await;
    let token = app.issuer.token().sign();
    // two items, written as nobody would write them again
    let body = format!(
        "  {} \r\n",
        serde_json::to_string_pretty(&{
            let mut body = ended("c1", 1);
            body["value"].as_array_mut().unwrap().push(ended("c2", 2)["value"][0].clone());
            body
        })
        .unwrap()
    );
    let request = app.callback().bearer_auth(&token).header("X-Microsoft-Skype-Message-ID", "m1").header("Scenario-Id", "s1");
    let request = request.header("Connection", "keep-alive, x-hop").header("X-Hop", "1").header("Accept-Encoding", "gzip");
    assert_eq!(request.body(body.clone()).send().await.unwrap().status(), 202);
    let heard = bot.hears(1).await;
    assert_eq!(heard[0].body, body.as_bytes());
    let header = |name: &str| heard[0].headers.get(name).map(String::as_str);
    assert_eq!(header("authorization"), Some(format!("Bearer {token}").as_str()));
    assert_eq!((header("x-microsoft-skype-message-id"), header("scenario-id")), (Some("m1"), Some("s1")));
    assert_eq!((header("x-hop"), header("accept-encoding"), header("webhook-signature")), (None, None, None));
    assert_eq!(header("host"), Some(bot.address.to_string().as_str()));
    assert!(heard[0].id().starts_with("dlv_"));
    until_no_heads(&app).await;
    assert_eq!(bot.heard().len(), 1, "one delivery, one request");
}

#[tokio::test]
async fn each_of_two_bots_gets_it_as_it_came() {
    let (bot, other) = (Bot::yes().await, Bot::start(|_| Says::Status(500, String::new())).await);
    let more = format!("[[forward]]\nname = \"other\"\nurl = \"{}\"\nmode = \"original\"", other.url());
    let app = original(&bot, &more).await;
    assert_eq!(app.post(ended("c1", 1).to_string()).await.status, 202);
    bot.hears(1).await;
    other.hears(4).await;
    let mut connection = behind(&app.ledger()).await;
    let targets = || async { app.list("/v1/forwards/targets").await };
    while targets().await.iter().any(|target| target["name"] == "bot" && !target["behindSince"].is_null()) {}
    let left: String = sqlx::query("SELECT targets FROM delivery_head").fetch_one(&mut connection).await.unwrap().get(0);
    assert_eq!(left, "[\"other\"]");
    assert!(other.heard().iter().all(|it| it.headers["authorization"] == bot.heard()[0].headers["authorization"]));
    let skipped = app.client.post(format!("{}/v1/forwards/skip", app.private)).header("content-type", "application/json");
    assert_eq!(skipped.body("{\"forward\":\"other\"}").send().await.unwrap().status(), 200);
    until_no_heads(&app).await;
}

#[tokio::test]
async fn a_token_is_sealed_while_it_waits() {
    let bot = Bot::start(|_| Says::Status(500, String::new())).await;
    let mut app = original(&bot, "").await;
    let token = app.issuer.token().sign();
    let posted = app.callback().bearer_auth(&token).body(ended("c1", 1).to_string()).send().await.unwrap();
    assert_eq!(posted.status(), 202);
    until(&app, "/v1/forwards", |list| list.len() == 1).await;
    let mut connection = behind(&app.ledger()).await;
    assert_eq!(heads(&mut connection).await, 1);
    drop(connection);
    app.stop().await;
    let signature = token.rsplit_once('.').unwrap().1;
    for file in std::fs::read_dir(app.folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(signature.len()).any(|window| window == signature.as_bytes()));
    }
}

#[tokio::test]
async fn what_comes_too_late_for_its_token_goes_signed() {
    let bot = Bot::yes().await;
    let app = original(&bot, "").await;
    // the skew that is allowed lets it in, but nobody need believe it any more
    let token = app.issuer.token().claim("exp", json!(NOW - 10)).sign();
    let mut body = ended("c1", 1);
    body["value"].as_array_mut().unwrap().push(ended("c2", 2)["value"][0].clone());
    assert_eq!(app.callback().bearer_auth(token).body(body.to_string()).send().await.unwrap().status(), 202);
    let heard = bot.hears(2).await;
    let resources: Vec<String> = heard.iter().map(Heard::resource).collect();
    assert_eq!(resources, ["c1/operations/operation-1", "c2/operations/operation-2"]);
    assert!(heard.iter().all(|it| it.headers.contains_key("webhook-signature") && !it.headers.contains_key("authorization")));
    until_no_heads(&app).await;
}

#[tokio::test]
async fn a_token_goes_when_it_expires_though_nobody_took_it() {
    static LATER: AtomicI64 = AtomicI64::new(0);
    let bot = Bot::start(|_| Says::Status(410, String::new())).await;
    let sections = section(&bot, "mode = \"original\"");
    let clock = || Clock::from_fn(|| Timestamp::from_second(NOW + LATER.load(Ordering::SeqCst)).unwrap());
    let app = TestApp::start_with(Settings { sections, clock, ..Settings::default() }).await;
    let token = app.issuer.token().claim("exp", json!(NOW + 60)).sign();
    let posted = app.callback().bearer_auth(token).body(ended("c1", 1).to_string()).send().await.unwrap();
    assert_eq!(posted.status(), 202);
    let mut connection = behind(&app.ledger()).await;
    assert_eq!(heads(&mut connection).await, 1);
    LATER.store(61, Ordering::SeqCst);
    until_no_heads(&app).await;
    assert_eq!(app.list("/v1/forwards").await.len(), 1, "the notification waits on");
}

#[tokio::test]
async fn without_a_secret_it_is_given_up_then() {
    let bot = Bot::yes().await;
    let sections = format!("[[forward]]\nname = \"bot\"\nurl = \"{}\"\nmode = \"original\"\n", bot.url());
    let app = TestApp::start_with(Settings { sections, ..Settings::default() }).await;
    let token = app.issuer.token().claim("exp", json!(NOW - 10)).sign();
    assert_eq!(app.callback().bearer_auth(token).body(ended("c1", 1).to_string()).send().await.unwrap().status(), 202);
    let dead = until(&app, "/v1/forwards?state=dead", |list| list.len() == 1).await;
    assert!(dead[0]["lastError"].as_str().unwrap().contains("expired"), "{dead:?}");
}

#[tokio::test]
async fn what_is_not_all_believed_is_not_passed_on_as_it_came() {
    let bot = Bot::yes().await;
    let app = original(&bot, "").await;
    assert_eq!(app.post(ended("c1", 1).to_string()).await.status, 202);
    bot.hears(1).await;
    // a stranger's delivery about a call of ours and one of theirs
    let mut body = ended("c1", 2);
    let data = json!({ "@odata.type": "#microsoft.graph.call", "state": "established" });
    body["value"].as_array_mut().unwrap().push(graph("updated", "calls/c9", &data)["value"][0].clone());
    let stranger = app.issuer.token().claim("tid", "99999999-9999-9999-9999-999999999999").sign();
    assert_eq!(app.callback().bearer_auth(stranger).body(body.to_string()).send().await.unwrap().status(), 202);
    let heard = bot.hears(2).await;
    assert_eq!(heard[1].json()["item"]["resourceUrl"], "/communications/calls/c9");
    assert!(!heard[1].headers.contains_key("authorization"));
}

#[tokio::test]
async fn another_mode_takes_over_what_the_old_one_left() {
    for (first, then) in [("original", "signed"), ("signed", "original")] {
        let status = Arc::new(AtomicU16::new(503));
        let said = Arc::clone(&status);
        let bot = Bot::start(move |_| Says::Status(said.load(Ordering::Relaxed), String::new())).await;
        let sections = section(&bot, &format!("mode = \"{first}\""));
        let mut app = TestApp::start_with(Settings { sections, ..Settings::default() }).await;
        let mut body = ended("c1", 1);
        let items = body["value"].as_array_mut().unwrap();
        items.extend([2, 3].map(|n| ended("c1", n)["value"][0].clone()));
        assert_eq!(app.post(body.to_string()).await.status, 202);
        until(&app, "/v1/forwards", |list| list.iter().any(|row| row["attempts"] != 0)).await;
        app.stop().await;
        let before = bot.heard().len();
        status.store(200, Ordering::Relaxed);
        app.configure(&section(&bot, &format!("mode = \"{then}\"")));
        app.restart().await;
        let heard = bot.until(|heard| heard.iter().any(|it| it.resource().ends_with("-3"))).await;
        let heard: Vec<String> = heard[before..].iter().map(Heard::resource).collect();
        assert_eq!(heard, [1, 2, 3].map(|n| format!("c1/operations/operation-{n}")), "from {first} to {then}");
        until(&app, "/v1/forwards", <[_]>::is_empty).await;
    }
}
