//! Forwarding to the bot's own endpoint, over real HTTP.

mod kills;
mod orders;
mod original;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::support::{
    app::{Settings, TestApp, graph},
    bot::{Bot, Heard, Says},
    fake_issuer::NOW,
};

pub const SECRET: &str = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
const OLD_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A service that forwards to this bot, signed, with these further keys.
pub async fn forwarding(bot: &Bot, more: &str) -> TestApp {
    TestApp::start_with(Settings { sections: section(bot, more), ..Settings::default() }).await
}

pub fn section(bot: &Bot, more: &str) -> String {
    format!("[[forward]]\nname = \"bot\"\nurl = \"{}\"\nsecrets = [\"{SECRET}\"]\n{more}\n", bot.url())
}

/// What tells that a prompt of a call has ended.
pub fn ended(call: &str, n: usize) -> Value {
    let id = format!("operation-{n}");
    let data = json!({ "@odata.type": "#microsoft.graph.playPromptOperation", "id": id, "status": "completed" });
    graph("deleted", &format!("calls/{call}/operations/{id}"), &data)
}

pub async fn post(app: &TestApp, call: &str, n: usize) {
    assert_eq!(app.post(ended(call, n).to_string()).await.status, 202);
}

/// The targets, by their names.
pub async fn target(app: &TestApp) -> Value {
    app.list("/v1/forwards/targets").await.into_iter().find(|target| target["name"] == "bot").unwrap()
}

/// Waits until this list is so.
pub async fn until(app: &TestApp, path: &str, is_so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    for _ in 0..1000 {
        let list = app.list(path).await;
        if is_so(&list) {
            return list;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{path} does not become so: {:?}", app.list(path).await);
}

fn signed(heard: &Heard, secret: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap());
    let content = [format!("{}.{}.", heard.id(), heard.headers["webhook-timestamp"]).as_bytes(), &heard.body].concat();
    format!("v1,{}", STANDARD.encode(hmac::sign(&key, &content)))
}

#[tokio::test]
async fn a_notification_is_posted_signed_in_the_shape_of_the_api_with_what_the_platform_wrote() {
    let bot = Bot::yes().await;
    let sections = format!("[[forward]]\nurl = \"{}\"\nsecrets = [\"{SECRET}\", \"{OLD_SECRET}\"]\n", bot.url());
    let app = TestApp::start_with(Settings { sections, ..Settings::default() }).await;
    // two in one delivery, and a copy of it
    let mut body = ended("c1", 1);
    body["value"].as_array_mut().unwrap().push(ended("c2", 2)["value"][0].clone());
    for _copy in 0..2 {
        assert_eq!(app.post_message("m1", &body).await.status, 202);
    }
    post(&app, "c1", 3).await;
    let heard = bot.hears(3).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(bot.heard().len(), 3, "a duplicate is nothing new");

    for it in &heard {
        assert_eq!(it.headers["content-type"], "application/json");
        let timestamp: i64 = it.headers["webhook-timestamp"].parse().unwrap();
        assert!((NOW..NOW + 60).contains(&timestamp));
        let signatures: Vec<&str> = it.headers["webhook-signature"].split(' ').collect();
        assert_eq!(signatures, [signed(it, SECRET), signed(it, OLD_SECRET)]);
        let told = it.json();
        assert_eq!(told["type"], "notification");
        let mut shown = app.get(&format!("/v1/notifications/{}", it.id())).await.json();
        for counter in ["duplicates", "lastDuplicateAt"] {
            shown[counter] = told["data"][counter].clone(); // a copy came since
        }
        assert_eq!(told["data"], shown, "as the API shows it");
        assert_eq!(told["timestamp"].as_str().unwrap()[..10], shown["receivedAt"].as_str().unwrap()[..10]);
        assert!(!it.headers.contains_key("authorization"));
    }
    let mut items: Vec<Value> = heard.iter().map(|it| it.json()["item"].clone()).collect();
    items.sort_by_key(|item| item["resourceUrl"].to_string());
    let expected = [&body["value"][0], &ended("c1", 3)["value"][0], &body["value"][1]].map(Value::clone);
    assert_eq!(items, expected);
}

#[tokio::test]
async fn what_fails_is_tried_again_in_order_and_holds_up_no_other_call() {
    let (works, failures) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (does, counted) = (Arc::clone(&works), Arc::clone(&failures));
    let bot = Bot::start(move |it| {
        let fails = it.resource().starts_with("stuck") && !does.load(Ordering::SeqCst);
        counted.fetch_add(fails.into(), Ordering::SeqCst);
        if fails { Says::Status(500, String::new()) } else { Says::ok() }
    })
    .await;
    let app = forwarding(&bot, "").await;
    for n in 0..4 {
        post(&app, "stuck", n).await;
        post(&app, "free", n + 10).await;
    }
    // the others of its call are listed behind it, with no try of their own
    let waiting = until(&app, "/v1/forwards?state=waiting", |list| list.len() == 4).await;
    let attempts: Vec<u64> = waiting.iter().map(|row| row["attempts"].as_u64().unwrap()).collect();
    assert_eq!(attempts.iter().filter(|attempts| **attempts == 0).count(), 3, "{waiting:?}");
    let first = waiting.iter().find(|row| row["attempts"] != 0).unwrap();
    assert_eq!((&first["lastStatus"], &first["callId"], &first["forward"]), (&json!(500), &json!("stuck"), &json!("bot")));
    assert_eq!(app.list("/v1/forwards?callId=free").await.len(), 0);
    assert_eq!(app.list("/v1/forwards?callId=stuck&kind=recordOperation").await.len(), 0);
    let kind = first["kind"].as_str().unwrap();
    assert_eq!(app.list(&format!("/v1/forwards?callId=stuck&kind={kind}")).await.len(), 4);

    // the other call does not wait
    bot.until(|heard| heard.iter().filter(|it| it.resource().starts_with("free")).count() == 4).await;
    works.store(true, Ordering::SeqCst);
    let heard = bot.until(|heard| heard.iter().any(|it| it.resource() == "stuck/operations/operation-3")).await;
    let failures = failures.load(Ordering::SeqCst);
    let resources = |call: &str| heard.iter().map(Heard::resource).filter(|it| it.starts_with(call)).collect::<Vec<_>>();
    let of = |call: &str, numbers: std::ops::Range<usize>| {
        numbers.map(|n| format!("{call}/operations/operation-{n}")).collect::<Vec<_>>()
    };
    assert_eq!(resources("free"), of("free", 10..14));
    let stuck = resources("stuck");
    assert!(failures > 0 && stuck[..failures].iter().all(|it| *it == stuck[0]), "{failures}: {stuck:?}");
    assert_eq!(stuck[failures..], of("stuck", 0..4));
    let ids: HashSet<&str> = heard.iter().filter(|it| it.resource() == stuck[0]).map(Heard::id).collect();
    assert_eq!(ids.len(), 1, "the same id in every try");
    until(&app, "/v1/forwards", <[Value]>::is_empty).await;
    let metrics = String::from_utf8(app.get("/metrics").await.body).unwrap();
    for (outcome, count) in [("failed", failures), ("delivered", 8)] {
        let line = format!("callback_ledger_forwards_total{{forward=\"bot\",outcome=\"{outcome}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
}

#[tokio::test]
async fn a_bot_that_was_away_gets_everything_in_order_also_after_a_restart() {
    let mut bot = Bot::yes().await;
    let mut app = forwarding(&bot, "").await;
    post(&app, "c0", 0).await;
    bot.hears(1).await;
    bot.go();
    for n in 1..40 {
        post(&app, &format!("c{}", n % 3), n).await;
    }
    for _ in 0..200 {
        if target(&app).await["condition"] == "unreachable" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let shown = target(&app).await;
    assert_eq!(shown["condition"], "unreachable", "{shown}");
    assert!(shown["behindSince"].is_string());
    app.restart().await;
    post(&app, "c0", 60).await;
    bot.come_back().await;
    let distinct = |heard: &[Heard]| heard.iter().map(|it| it.id().to_owned()).collect::<HashSet<_>>().len();
    let heard = bot.until(|heard| distinct(heard) == 41).await;
    for call in ["c0", "c1", "c2"] {
        let of_call: Vec<String> = heard.iter().map(Heard::resource).filter(|it| it.starts_with(call)).collect();
        let mut once = of_call.clone();
        once.dedup();
        let numbers: Vec<usize> = once.iter().map(|it| it.rsplit_once('-').unwrap().1.parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "{call}: {numbers:?}");
    }
    let shown = until(&app, "/v1/forwards/targets", |list| list[0]["behindSince"].is_null()).await;
    assert_eq!((&shown[0]["condition"], &shown[0]["dead"]), (&json!("running"), &json!(0)));
}

#[tokio::test]
async fn a_wish_to_be_asked_later_is_heeded() {
    let asked = Arc::new(AtomicUsize::new(0));
    let bot = Bot::start(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Says::WithHeader(503, "retry-after", "2"),
        _ => Says::ok(),
    })
    .await;
    let app = forwarding(&bot, "").await;
    post(&app, "c1", 1).await;
    let heard = bot.hears(2).await;
    assert!(heard[1].at - heard[0].at >= Duration::from_secs(2));
}

#[tokio::test]
async fn a_target_gets_what_is_of_its_receivers_and_kinds() {
    let bot = Bot::yes().await;
    let app = forwarding(&bot, "receivers = [\"/api/calls\"]\nkinds = [\"call\"]").await;
    post(&app, "c1", 1).await;
    let established = graph("updated", "calls/c1", &json!({ "@odata.type": "#microsoft.graph.call", "state": "established" }));
    assert_eq!(app.post(established.to_string()).await.status, 202);
    let heard = bot.hears(1).await;
    assert_eq!(heard[0].json()["data"]["kind"], "call");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(bot.heard().len(), 1);
}

#[tokio::test]
async fn what_is_not_believed_or_sent_elsewhere_is_not_forwarded() {
    let bot = Bot::yes().await;
    let receiver = "[[receiver.redirect]]\nto = \"https://emea.example/\"\nregions = [\"emea\"]\n".to_owned();
    let app = TestApp::start_with(Settings { receiver, sections: section(&bot, ""), ..Settings::default() }).await;
    post(&app, "c1", 1).await;
    bot.hears(1).await;
    // a stranger speaks of our call
    let stranger = app.issuer.token().claim("tid", "99999999-9999-9999-9999-999999999999").sign();
    let posted = app.callback().bearer_auth(stranger).body(ended("c1", 2).to_string()).send().await.unwrap();
    assert_eq!(posted.status(), 202);
    let incoming = json!({ "@odata.type": "#microsoft.graph.call", "state": "incoming", "direction": "incoming" });
    let incoming = graph("created", "calls/c2", &incoming).to_string();
    let token = app.issuer.token().sign();
    let elsewhere = app.callback().bearer_auth(token).header("X-Microsoft-Skype-Caller-Region", "emea").body(incoming);
    assert_eq!(elsewhere.send().await.unwrap().status(), 302);
    assert_eq!(app.post("not json").await.status, 400);
    post(&app, "c1", 3).await;
    let heard = bot.hears(2).await;
    assert_eq!(heard.iter().map(Heard::resource).collect::<Vec<_>>(), ["c1/operations/operation-1", "c1/operations/operation-3"]);
}

fn joining(call: &str) -> Value {
    let data = json!({ "@odata.type": "#microsoft.graph.participantJoiningNotification", "call": { "id": call } });
    graph("created", &format!("calls/{call}/participantjoiningnotification"), &data)
}

#[tokio::test]
async fn a_bot_decides_who_may_join_if_it_does_in_time() {
    let bot = Bot::start(|it| {
        let reject = json!({ "@odata.type": "#microsoft.graph.rejectJoinResponse", "reason": "busy" }).to_string();
        match it.resource().split('/').next().unwrap() {
            "prompt" => Says::Status(200, reject),
            "slow" => Says::Slowly(Duration::from_mins(10), Box::new(Says::Status(200, reject))),
            "odd" => Says::Status(200, "{\"anything\":1}".to_owned()),
            "empty" => Says::Status(204, String::new()),
            _ => Says::Status(500, reject),
        }
    })
    .await;
    let hasty = forwarding(&bot, "decides = true\ndecide_within_ms = 400").await;
    let patient = forwarding(&bot, "decides = true\ndecide_within_ms = 10000").await;
    let accept = "#microsoft.graph.acceptJoinResponse";
    for (call, app, time, kind) in [
        ("prompt", &patient, 0..10_000, "#microsoft.graph.rejectJoinResponse"),
        ("slow", &hasty, 400..u128::MAX, accept),
        ("odd", &patient, 0..10_000, accept),
        ("empty", &patient, 0..10_000, accept),
        ("failing", &hasty, 400..u128::MAX, accept),
    ] {
        let asked = Instant::now();
        let answered = app.post(joining(call).to_string()).await;
        let took = asked.elapsed().as_millis();
        assert!(time.contains(&took), "{call}: {took} ms");
        assert_eq!((answered.status.as_u16(), &answered.json()["@odata.type"]), (200, &json!(kind)), "{call}");
    }
}

#[tokio::test]
async fn nobody_waits_for_a_decision_of_a_bot_that_is_not_asked() {
    let bot = Bot::yes().await;
    let app = forwarding(&bot, "decides = true\ndecide_within_ms = 10000\nkinds = [\"call\"]").await;
    let asked = Instant::now();
    assert_eq!(app.post(joining("c1").to_string()).await.status, 200);
    assert!(asked.elapsed() < Duration::from_secs(10));
}
