//! Followers of a server that is killed under load: each hears every change exactly once and in order.

use std::{
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use callback_ledger::client::{Client, Follow, Heard};
use sqlx::Row;
use tokio::task::JoinSet;

use crate::support::{
    child::{Served, token},
    ledger::behind,
    load::{Acknowledged, Load, kills},
};

/// What a follower has heard, over all connections.
type Heards = Arc<Mutex<Vec<i64>>>;

/// Follows until the server is gone: at its own pace, and coming back now and then.
async fn follow(private: String, heard: Heards, slow: Duration, patience: usize) {
    let client = Client::new(private.parse().unwrap()).unwrap();
    loop {
        let after = heard.lock().unwrap().last().copied().unwrap_or(0);
        let mut following = client.follow(Follow { after: Some(after), ..Follow::default() });
        let mut events = 0;
        while events < patience {
            match following.next().await.unwrap() {
                Heard::Event(event) => heard.lock().unwrap().push(event.seq),
                Heard::Connected => {}
                Heard::Interrupted(_) => return,
            }
            events += 1;
            tokio::time::sleep(slow).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_reaches_every_follower_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let token = token(folder.path());
    let (next, acknowledged) = (Arc::new(AtomicUsize::new(0)), Acknowledged::default());
    let mut random = fastrand::Rng::new();
    let followers: Vec<(Heards, Duration, usize)> =
        (0..6).map(|n| (Heards::default(), Duration::from_micros([0, 0, 200, 2000][n % 4]), random.usize(1..200))).collect();
    for round in 0..=kills(20) / 4 {
        let served = Served::start(folder.path());
        let mut following = JoinSet::new();
        for (heard, slow, patience) in &followers {
            following.spawn(follow(served.private.clone(), Arc::clone(heard), *slow, *patience));
        }
        let before = acknowledged.0.lock().unwrap().len();
        let load = Load::start(&served.public, &token, &next, &acknowledged);
        while acknowledged.0.lock().unwrap().len() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.u64(0..200))).await;
        served.sigkill();
        load.end().await;
        // what is not dead by itself is killed in the middle of what it does
        if round % 2 == 0 {
            following.abort_all();
        }
        while let Some(ended) = following.join_next().await {
            assert!(ended.is_ok() || ended.unwrap_err().is_cancelled());
        }
    }
    let mut connection = behind(&folder.path().join("test.db")).await;
    let log = sqlx::query("SELECT seq FROM change ORDER BY seq").fetch_all(&mut connection).await.unwrap();
    let log: Vec<i64> = log.iter().map(|row| row.get(0)).collect();
    assert!(log.len() > acknowledged.0.lock().unwrap().len());

    // the slow ones get their time
    let served = Served::start(folder.path());
    let last = *log.last().unwrap();
    for (heard, ..) in followers {
        let following = tokio::spawn(follow(served.private.clone(), Arc::clone(&heard), Duration::ZERO, usize::MAX));
        // the log of the long form is long: a minute is for hearing anything more
        let (mut so_far, mut since) = (0, Instant::now());
        while heard.lock().unwrap().last() != Some(&last) {
            let now = heard.lock().unwrap().len();
            if now > so_far {
                (so_far, since) = (now, Instant::now());
            }
            assert!(since.elapsed() < Duration::from_mins(1), "a follower does not come to the end: {now} of {}", log.len());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        following.abort();
        assert_eq!(*heard.lock().unwrap(), log);
    }
}
