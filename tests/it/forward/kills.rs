//! Bots that fail in every way, and a server that is killed under load: each is told everything, in order within a call.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::Row;

use super::SECRET;
use crate::support::{
    bot::{Bot, Heard, Says},
    child::{Served, token},
    ledger::behind,
    load::{Acknowledged, Load, kills},
};

/// What a bot has heard: the id and the call, and whether it said yes.
type Log = Arc<Mutex<Vec<(i64, String, bool)>>>;

fn position(heard: &Heard) -> i64 {
    i64::from_str_radix(heard.id().split_once('_').unwrap().1, 16).unwrap()
}

/// A bot that fails now and then, as long as it is `bad`, and keeps a log.
async fn failing(log: &Log, bad: &Arc<AtomicBool>) -> Bot {
    let (log, bad) = (Arc::clone(log), Arc::clone(bad));
    Bot::start(move |it| {
        let chance = if bad.load(Ordering::Relaxed) { fastrand::u8(0..100) } else { 100 };
        let (says, yes) = match chance {
            0..6 => (Says::Status(500, String::new()), false),
            6..8 => (Says::WithHeader(503, "retry-after", "1"), false),
            8..12 => (Says::Reset, false),
            12..13 => (Says::Hang, false),
            // it has taken it, whether or not anybody still listens to its yes
            13..20 => (Says::Slowly(Duration::from_millis(fastrand::u64(0..300)), Box::new(Says::ok())), true),
            _ => (Says::ok(), true),
        };
        let call = it.resource().split('/').next().unwrap().to_owned();
        log.lock().unwrap().push((position(it), call, yes));
        says
    })
    .await
}

/// Nothing is told before all that came before it in its call has been taken.
fn assert_in_order(log: &[(i64, String, bool)], all: &BTreeMap<i64, String>) {
    let mut left: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
    for (id, call) in all {
        left.entry(call).or_default().insert(*id);
    }
    for (id, call, yes) in log {
        let left = left.get_mut(call.as_str()).unwrap();
        assert!(left.first().is_none_or(|first| id <= first), "{id} of {call} was told before {:?} was taken", left.first());
        if *yes {
            left.remove(id);
        }
    }
    assert!(left.values().all(BTreeSet::is_empty), "not told: {left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_notification_reaches_every_bot_in_order_within_its_call() {
    let folder = tempfile::tempdir().unwrap();
    let token = token(folder.path());
    let (next, acknowledged) = (Arc::new(AtomicUsize::new(0)), Acknowledged::default());
    let logs: [Log; 2] = Default::default();
    let bad = Arc::new(AtomicBool::new(true));
    let mut bots = [failing(&logs[0], &bad).await, failing(&logs[1], &bad).await];
    let sections = format!(
        "[[forward]]\nname = \"signed\"\nurl = \"{}\"\nsecrets = [\"{SECRET}\"]\ntimeout_seconds = 1\n\
         [[forward]]\nname = \"original\"\nurl = \"{}\"\nmode = \"original\"\ntimeout_seconds = 1\n",
        bots[0].url(),
        bots[1].url()
    );
    for _ in 0..=kills(20) / 4 {
        let served = Served::start_with(folder.path(), &sections);
        let before = acknowledged.0.lock().unwrap().len();
        let load = Load::start(&served.public, &token, &next, &acknowledged);
        while acknowledged.0.lock().unwrap().len() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..300))).await;
        let bot = &mut bots[fastrand::usize(0..2)];
        if fastrand::bool() {
            bot.go();
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..1500))).await;
        served.sigkill();
        load.end().await;
        bot.go();
        bot.come_back().await;
    }
    bad.store(false, Ordering::Relaxed);
    let _served = Served::start_with(folder.path(), &sections);
    let mut connection = behind(&folder.path().join("test.db")).await;
    let rows = sqlx::query(
        "SELECT notification.id, delivery_id, call.call_id FROM notification JOIN call ON call.id = notification.call_id",
    );
    let rows = rows.fetch_all(&mut connection).await.unwrap();
    assert!(rows.len() >= acknowledged.0.lock().unwrap().len());
    for (which, log) in logs.iter().enumerate() {
        let all: BTreeMap<i64, String> = rows.iter().map(|row| (row.get(which), row.get(2))).collect();
        for _ in 0..6000 {
            let said_yes: BTreeSet<i64> = log.lock().unwrap().iter().filter(|(.., yes)| *yes).map(|(id, ..)| *id).collect();
            if all.keys().all(|id| said_yes.contains(id)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_in_order(&log.lock().unwrap(), &all);
    }
}
