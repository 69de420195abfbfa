//! What operators do about what was not forwarded.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{forwarding, post, target, until};
use crate::support::{
    app::{Answered, TestApp, send},
    bot::{Bot, Heard, Says},
    child::run,
};

async fn order(app: &TestApp, what: &str, which: &Value) -> Answered {
    let request = app.client.post(format!("{}/v1/forwards/{what}", app.private)).header("content-type", "application/json");
    send(request.body(which.to_string())).await
}

/// A bot whose answers can be changed.
async fn moody() -> (Bot, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(500));
    let said = Arc::clone(&status);
    (Bot::start(move |_| Says::Status(said.load(Ordering::Relaxed), String::new())).await, status)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_is_listed_tried_again_and_skipped() {
    let (bot, status) = moody().await;
    let mut app = forwarding(&bot, "give_up_after_seconds = 1").await;
    for n in 0..3 {
        post(&app, &format!("c{n}"), n).await;
    }
    let dead = until(&app, "/v1/forwards?state=dead", |list| list.len() == 3).await;
    assert!(dead.iter().all(|row| row["lastStatus"] == 500 && row["nextAt"].is_null()));
    assert_eq!(target(&app).await["dead"], 3);
    assert_eq!(app.list("/v1/forwards?state=waiting").await, Vec::<Value>::new());

    let matched = |answered: Answered| {
        assert_eq!(answered.status, StatusCode::OK, "{}", String::from_utf8_lossy(&answered.body));
        (answered.json()["matched"].as_u64().unwrap(), answered.json()["dryRun"].as_bool().unwrap())
    };
    assert_eq!(matched(order(&app, "retry", &json!({ "state": "dead", "dryRun": true })).await), (3, true));
    assert_eq!(matched(order(&app, "retry", &json!({ "callId": "c7" })).await), (0, false));
    status.store(200, Ordering::Relaxed);
    let before = bot.heard().len();
    assert_eq!(matched(order(&app, "retry", &json!({ "callId": "c1" })).await), (1, false));
    let heard = bot.hears(before + 1).await;
    assert!(heard[before].resource().starts_with("c1/"));
    let left = until(&app, "/v1/forwards", |list| list.len() == 2).await;

    let id = left[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(matched(order(&app, "skip", &json!({ "id": id, "dryRun": true })).await), (1, true));
    assert_eq!(matched(order(&app, "skip", &json!({ "id": id })).await), (1, false));
    let left = app.list("/v1/forwards").await;
    assert_eq!(left.len(), 1);
    assert_ne!(left[0]["id"].as_str().unwrap(), id);
    // a row is what it is after a restart
    app.restart().await;
    assert_eq!(app.list("/v1/forwards").await, left);

    // the command line says and does the same
    let cli = |arguments: &[&str]| {
        let output = run(app.folder.path(), &[arguments, &["--url", &app.private, "--output", "ndjson"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let (list, targets, tried) = tokio::task::block_in_place(|| {
        let list = cli(&["forwards", "list", "--state", "dead"]);
        let tried = cli(&["forwards", "retry", "--state", "dead", "--dry-run"]);
        cli(&["forwards", "skip", left[0]["id"].as_str().unwrap()]);
        (list, cli(&["forwards", "targets"]), tried)
    });
    assert_eq!((list, &tried[0]["matched"], &targets[0]["dead"]), (left, &json!(1), &json!(0)));
}

#[tokio::test]
async fn an_order_that_is_not_understood_changes_nothing() {
    let (bot, _) = moody().await;
    let app = forwarding(&bot, "").await;
    post(&app, "c1", 1).await;
    until(&app, "/v1/forwards", |list| list.len() == 1).await;
    for (which, why) in [
        (json!({}), "say which"),
        (json!({ "dryRun": true }), "say which"),
        (json!({ "state": "lost" }), "state: one of"),
        (json!({ "id": "op_1" }), "id: as in fwd_"),
        (json!({ "forwrad": "bot" }), "unknown field"),
        (json!({ "forward": "other" }), "not configured"),
    ] {
        let answered = order(&app, "retry", &which).await;
        assert_eq!(answered.status, StatusCode::BAD_REQUEST, "{which}");
        assert!(answered.json()["detail"].as_str().unwrap().contains(why), "{which}: {}", answered.json());
    }
    assert_eq!(app.get("/v1/forwards/skip").await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(app.get("/v1/forwards?state=lost").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(app.list("/v1/forwards").await.len(), 1);
}

#[tokio::test]
async fn a_bot_that_is_gone_for_good_is_left_alone_until_it_is_named() {
    let (bot, status) = moody().await;
    status.store(410, Ordering::Relaxed);
    let mut app = forwarding(&bot, "").await;
    post(&app, "c1", 1).await;
    bot.hears(1).await;
    until(&app, "/v1/forwards/targets", |list| list[0]["disabledAt"].is_string()).await;
    for n in 2..5 {
        post(&app, "c2", n).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    app.restart().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(bot.heard().len(), 1, "410 means never again");
    let shown = target(&app).await;
    assert_eq!(shown["condition"], "disabled");
    assert!(shown["disabledAt"].is_string() && shown["behindSince"].is_string(), "{shown}");

    status.store(200, Ordering::Relaxed);
    let unnamed = order(&app, "retry", &json!({ "state": "waiting" })).await;
    assert_eq!(unnamed.status, StatusCode::BAD_REQUEST);
    assert!(unnamed.json()["detail"].as_str().unwrap().contains("name it"), "{}", unnamed.json());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(bot.heard().len(), 1);
    assert_eq!(order(&app, "retry", &json!({ "forward": "bot" })).await.status, StatusCode::OK);
    bot.hears(5).await;
    let shown = target(&app).await;
    assert_eq!((&shown["condition"], &shown["disabledAt"]), (&json!("running"), &Value::Null));
}

#[tokio::test]
async fn calls_that_only_hang_or_fail_hold_up_no_other() {
    for (says, status, error) in
        [(Says::Hang, Value::Null, "in time"), (Says::Status(502, String::new()), json!(502), "not accepted")]
    {
        let poison = says.clone();
        let bot = Bot::start(move |it| if it.resource().starts_with("poison") { poison.clone() } else { Says::ok() }).await;
        let app = forwarding(&bot, "timeout_seconds = 3").await;
        for n in 0..5 {
            post(&app, &format!("poison{n}"), n).await;
        }
        let has_failed = |row: &&Value| row["attempts"] != 0 && row["lastStatus"] == status;
        let failed = until(&app, "/v1/forwards", |list| list.iter().filter(has_failed).count() == 5).await;
        assert!(failed[0]["lastError"].as_str().unwrap().contains(error), "{failed:?}");
        tokio::time::sleep(Duration::from_millis(1500)).await;
        for n in 10..15 {
            let (before, posted) = (bot.heard().len(), Instant::now());
            post(&app, "healthy", n).await;
            let arrived = |heard: &[Heard]| heard[before..].iter().any(|it| it.resource().ends_with(&format!("-{n}")));
            bot.until(arrived).await;
            // as long as the five take that hang, one after the other
            assert!(posted.elapsed() < Duration::from_secs(15), "{says:?}: it waited for {:?}", posted.elapsed());
        }
    }
}

#[tokio::test]
async fn a_bot_that_comes_back_hears_what_is_new_though_nothing_old_is_left() {
    let mut bot = Bot::yes().await;
    let app = forwarding(&bot, "").await;
    bot.go();
    post(&app, "c1", 1).await;
    let unreachable = |list: &[Value]| list[0]["condition"] == "unreachable";
    until(&app, "/v1/forwards/targets", unreachable).await;
    // it was never sent, so it is not listed, and cannot be skipped: it is the bot's
    assert_eq!(order(&app, "skip", &json!({ "forward": "bot" })).await.json()["matched"], 0);
    bot.come_back().await;
    post(&app, "c2", 2).await;
    assert_eq!(bot.hears(2).await.len(), 2);
}

#[tokio::test]
async fn a_try_takes_no_longer_than_it_may() {
    let bot = Bot::start(|it| {
        let late = it.resource().starts_with("late");
        if late { Says::BodyLater(Duration::from_mins(10)) } else { Says::ok() }
    })
    .await;
    let app = forwarding(&bot, "timeout_seconds = 5").await;
    post(&app, "late", 1).await;
    post(&app, "late", 2).await;
    let heard = bot.hears(2).await;
    let took = heard[1].at - heard[0].at;
    assert!(took > Duration::from_secs(1), "the body was not waited for: {took:?}");
    assert_ne!(heard[0].id(), heard[1].id(), "its yes counts");
}

#[tokio::test]
async fn a_call_that_hangs_costs_others_nothing() {
    let bot = Bot::start(|it| if it.resource().starts_with("hangs") { Says::Hang } else { Says::ok() }).await;
    let app = forwarding(&bot, "timeout_seconds = 120").await;
    post(&app, "hangs", 1).await;
    for n in 2..30 {
        post(&app, "free", n).await;
    }
    let heard = bot.until(|heard| heard.iter().filter(|it| it.resource().starts_with("free")).count() == 28).await;
    assert_eq!(heard.iter().filter(|it| it.resource().starts_with("hangs")).count(), 1);
}
