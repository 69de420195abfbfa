//! Nothing acknowledged is lost: the real process, killed under load again and again, and ended in good order under load.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use callback_ledger::store::{LedgerReader, rebuild, verify};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    child::{Served, token},
    ledger::options,
    load::{Acknowledged, Load, kills},
};

/// Every acknowledged notification is there exactly once.
pub async fn holds(private: &str, acknowledged: &Acknowledged) {
    let client = Client::builder().no_proxy().build().unwrap();
    let mut found = Vec::new();
    let mut next = Some("/v1/operations?limit=250".to_owned());
    while let Some(path) = next {
        let page: Value = client.get(format!("{private}{path}")).send().await.unwrap().text().await.unwrap().parse().unwrap();
        for row in page["value"].as_array().unwrap() {
            assert_eq!((&row["notifications"], &row["state"]), (&json!(1), &json!("completed")), "{row}");
            found.push(row["operationId"].as_str().unwrap().strip_prefix("operation-").unwrap().parse::<usize>().unwrap());
        }
        next = page["nextLink"].as_str().map(str::to_owned);
    }
    let distinct: BTreeSet<usize> = found.iter().copied().collect();
    assert_eq!(found.len(), distinct.len(), "an operation stands twice");
    let lost: Vec<usize> = acknowledged.0.lock().unwrap().difference(&distinct).copied().collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

/// After so many kills another ledger begins: each restart looks through all of it.
const OF_ONE_LEDGER: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_under_load_loses_nothing_that_it_acknowledged() {
    let kills = kills(50);
    for begun in (0..kills).step_by(OF_ONE_LEDGER) {
        killed_under_load(OF_ONE_LEDGER.min(kills - begun)).await;
    }
}

async fn killed_under_load(kills: usize) {
    let folder = tempfile::tempdir().unwrap();
    let (token, options) = (token(folder.path()), options(folder.path().join("test.db")));
    let (next, acknowledged) = (Arc::new(AtomicUsize::new(0)), Acknowledged::default());
    let mut random = fastrand::Rng::new();
    for _ in 0..kills {
        let served = Served::start(folder.path());
        holds(&served.private, &acknowledged).await;
        let before = acknowledged.0.lock().unwrap().len();
        let load = Load::start(&served.public, &token, &next, &acknowledged);
        // A moment under load: at least one answer, then any instant.
        while acknowledged.0.lock().unwrap().len() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.u64(0..150))).await;
        served.sigkill();
        load.end().await;
        assert_eq!(rebuild(&options).await.unwrap(), [], "what stands is what the facts say");
    }
    let served = Served::start(folder.path());
    holds(&served.private, &acknowledged).await;
    served.sigkill();

    assert!(acknowledged.0.lock().unwrap().len() >= kills);
    assert_eq!(verify(&LedgerReader::open(&options).await.unwrap()).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_asked_to_end_under_load_ends_in_time_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let token = token(folder.path());
    let (next, acknowledged) = (Arc::new(AtomicUsize::new(0)), Acknowledged::default());
    let served = Served::start(folder.path());
    let load = Load::start(&served.public, &token, &next, &acknowledged);
    let wait = format!("{}/v1/operations/wait?context=never&timeout=60", served.private);
    let waiting = Client::builder().no_proxy().build().unwrap().get(wait);
    let waiting = tokio::spawn(async move { waiting.send().await.map(|answered| answered.status()) });
    tokio::time::sleep(Duration::from_secs(2)).await; // it has come
    let (code, took) = tokio::task::spawn_blocking(|| served.sigterm()).await.unwrap();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(10), "it took {took:?}");
    load.end().await;
    assert_eq!(waiting.await.unwrap().unwrap(), StatusCode::SERVICE_UNAVAILABLE, "an open wait is answered");

    let served = Served::start(folder.path());
    holds(&served.private, &acknowledged).await;
}
