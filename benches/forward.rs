//! What forwarding costs: how soon a bot hears of a notification, and what a bot that is no use takes from ingest.
//!
//! ```text
//! cargo bench --bench forward               # 5 rounds of 3 s each; FORWARD_ROUNDS, FORWARD_SECONDS
//! ```
//!
//! A release build as a child process, HTTP, signed tokens, a ledger on the disk; the load comes from this machine as well, so only
//! ratios within one run mean anything. The rounds take turns.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark may panic, and prints its figures"
)]

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/support/bot.rs"]
mod bot;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/support/child.rs"]
mod child;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use reqwest::Client;
use serde_json::json;

use self::{
    bot::{Bot, Says},
    child::{Served, token},
};

const CONNECTIONS: usize = 64;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn body(n: usize) -> String {
    let id = format!("operation-{n}");
    json!({ "value": [{
        "changeType": "deleted",
        "resourceUrl": format!("/communications/calls/call-{}/operations/{id}", n / 4),
        "resourceData": { "@odata.type": "#microsoft.graph.playPromptOperation", "id": id, "status": "completed" },
    }] })
    .to_string()
}

fn section(bot: &Bot, mode: &str) -> String {
    let secret = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
    format!("[log]\nfilter = \"error\"\n[[forward]]\nurl = \"{}\"\nmode = \"{mode}\"\nsecrets = [\"{secret}\"]\n", bot.url())
}

/// From the position that a notification is given just before its commit to its arrival, in microseconds, sorted. It is idle else.
async fn latencies(mode: &str, count: usize) -> Vec<i64> {
    let folder = tempfile::tempdir().unwrap();
    let arrived = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&arrived);
    let bot = Bot::start(move |it| {
        log.lock().unwrap().push((it.id().to_owned(), Timestamp::now().as_microsecond()));
        Says::ok()
    })
    .await;
    let served = Served::start_with(folder.path(), &section(&bot, mode));
    let (client, token) = (Client::builder().no_proxy().build().unwrap(), token(folder.path()));
    for n in 0..count {
        let posted = client.post(format!("{}/api/calls", served.public)).bearer_auth(&token).body(body(n));
        assert_eq!(posted.send().await.unwrap().status(), 202);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bot.hears(count).await;
    let position = |id: &str| i64::from_str_radix(id.split_once('_').unwrap().1, 16).unwrap();
    let mut took: Vec<i64> = arrived.lock().unwrap().iter().map(|(id, at)| at - position(id)).collect();
    took.sort_unstable();
    took
}

/// Acknowledged deliveries a second.
async fn rate(sections: &str, time: Duration) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start_with(folder.path(), sections);
    let (token, next) = (token(folder.path()), Arc::new(AtomicUsize::new(0)));
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let client = Client::builder().no_proxy().pool_max_idle_per_host(CONNECTIONS).build().unwrap();
    let begin = Instant::now();
    let load = (0..CONNECTIONS).map(|_| {
        let (client, token, next, acknowledged) = (client.clone(), token.clone(), Arc::clone(&next), Arc::clone(&acknowledged));
        let url = format!("{}/api/calls", served.public);
        tokio::spawn(async move {
            while begin.elapsed() < time {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let answer = client.post(&url).bearer_auth(&token).body(body(n)).send().await.unwrap();
                acknowledged.fetch_add(usize::from(answer.status() == 202), Ordering::Relaxed);
            }
        })
    });
    for client in load.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let count = u32::try_from(acknowledged.load(Ordering::Relaxed)).unwrap();
    f64::from(count) / begin.elapsed().as_secs_f64()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() {
    for mode in ["signed", "original"] {
        let took = latencies(mode, 300).await;
        let at = |share: usize| took[took.len() * share / 100];
        println!("first try, {mode}, microseconds from commit to bot: p50 {} p90 {} p99 {}", at(50), at(90), at(99));
    }

    let black_hole = Bot::start(|_| Says::Hang).await;
    let slow = Bot::start(|_| Says::Slowly(Duration::from_secs(1), Box::new(Says::ok()))).await;
    let quick = Bot::yes().await;
    let mut gone = Bot::yes().await;
    gone.go();
    let quiet = "[log]\nfilter = \"error\"\n".to_owned();
    let forms = [
        ("no forwarding", quiet),
        ("to a black hole, signed", section(&black_hole, "signed")),
        ("to a black hole, original", section(&black_hole, "original")),
        ("to a bot that takes 1 s", section(&slow, "signed")),
        ("to nobody (refused)", section(&gone, "signed")),
        ("to a quick bot", section(&quick, "signed")),
    ];
    let time = Duration::from_secs(number("FORWARD_SECONDS", 3));
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); forms.len()];
    for _round in 0..number("FORWARD_ROUNDS", 5) {
        for ((_, sections), rates) in forms.iter().zip(&mut rates) {
            rates.push(rate(sections, time).await);
        }
    }
    let without = median(&mut rates[0]);
    for ((name, _), rates) in forms.iter().zip(&mut rates) {
        println!("ingest, {name}: {:.0} a second, {:.2} of without", median(rates), median(rates) / without);
    }
}
