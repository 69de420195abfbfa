//! What retention takes from those who record meanwhile: it works off a backlog in small steps beside them.
//!
//! ```text
//! cargo bench --bench retention                                # RETENTION_OLD=200000 deliveries whose bodies are to go
//! ```
//!
//! The ledger alone, in this process. Rounds with retention and without take turns on the same ledger, so that only their ratio counts:
//! 64 recorders at full speed, then a steady 500 a second.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark may panic, and prints its figures"
)]

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/support/ledger.rs"]
mod ledger;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use callback_ledger::{
    domain::clock::Clock,
    store::{Ledger, Options, removal::Keep},
};
use jiff::{SignedDuration, Timestamp};
use tokio::{task::JoinSet, time::interval};

use self::ledger::{BOT, count, delivery, operation, options};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
const RECORDERS: usize = 64;
const BODIES: &str = "SELECT count(*) FROM delivery WHERE body IS NOT NULL";

static NEXT: AtomicU64 = AtomicU64::new(0);

async fn record(ledger: &Ledger, clock: &Clock) -> Duration {
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut delivery = delivery(&operation(&format!("call-{}", n / 4), &format!("operation-{n}"), "completed"), None);
    delivery.received_at = clock.now();
    let begun = Instant::now();
    ledger.record(&BOT, delivery).await.unwrap();
    begun.elapsed()
}

/// As many as can be, by so many at once, for as long as a round lasts; how long each took.
async fn at_full_speed(ledger: &Ledger, clock: &Clock, until: impl Fn(usize) -> bool + Clone + Send + 'static) -> Vec<Duration> {
    let mut recorders = JoinSet::new();
    for _ in 0..RECORDERS {
        let (ledger, clock, until) = (ledger.clone(), clock.clone(), until.clone());
        recorders.spawn(async move {
            let mut took = Vec::new();
            while !until(took.len()) {
                took.push(record(&ledger, &clock).await);
            }
            took
        });
    }
    recorders.join_all().await.concat()
}

async fn steadily(ledger: &Ledger, clock: &Clock) -> Vec<Duration> {
    let (mut ticks, mut recording) = (interval(Duration::from_millis(2)), JoinSet::new());
    let end = Instant::now() + ROUND;
    while Instant::now() < end {
        ticks.tick().await;
        let (ledger, clock) = (ledger.clone(), clock.clone());
        recording.spawn(async move { record(&ledger, &clock).await });
    }
    recording.join_all().await
}

/// p50 and p99, in milliseconds.
fn percentiles(took: &mut [Duration]) -> (f64, f64) {
    took.sort_unstable();
    let at = |share: usize| took[took.len() * share / 100].as_secs_f64() * 1000.0;
    (at(50), at(99))
}

fn main() {
    tokio::runtime::Runtime::new().unwrap().block_on(run());
}

async fn run() {
    let old: usize = std::env::var("RETENTION_OLD").ok().and_then(|text| text.parse().ok()).unwrap_or(200_000);
    let folder = tempfile::tempdir().unwrap();
    let days = Arc::new(AtomicI64::new(0));
    let clock = {
        let days = Arc::clone(&days);
        Clock::from_fn(move || Timestamp::now() + SignedDuration::from_hours(24 * days.load(Ordering::Relaxed)))
    };
    let keeps = Options { clock: clock.clone(), ..options(folder.path().join("bench.db")) };
    let removes = Options {
        retention: [("graph".to_owned(), Keep { bodies: Some(Duration::from_hours(720)), everything: None })].into(),
        ..keeps.clone()
    };
    let (ledger, writer) = Ledger::open(keeps.clone()).await.unwrap();
    at_full_speed(&ledger, &clock, move |written| written >= old / RECORDERS).await;
    ledger.close().await;
    writer.await.unwrap();
    days.store(31, Ordering::Relaxed);
    for round in 0..2 * ROUNDS {
        let (name, options) = if round % 2 == 0 { ("without", &keeps) } else { ("with   ", &removes) };
        let before = count(&options.path, BODIES).await;
        let (ledger, writer) = Ledger::open(options.clone()).await.unwrap();
        let end = Instant::now() + ROUND;
        let mut full = at_full_speed(&ledger, &clock, move |_| Instant::now() >= end).await;
        let mut steady = steadily(&ledger, &clock).await;
        ledger.close().await;
        writer.await.unwrap();
        let added = i64::try_from(full.len() + steady.len()).unwrap();
        let gone = before + added - count(&options.path, BODIES).await;
        let rate = full.len() / usize::try_from(ROUND.as_secs()).unwrap();
        let ((full50, full99), (steady50, steady99)) = (percentiles(&mut full), percentiles(&mut steady));
        println!(
            "{name} full speed {rate:6}/s p50 {full50:6.2} ms p99 {full99:6.2} ms | 500/s p50 {steady50:6.2} ms p99 {steady99:6.2} ms | {gone} bodies removed"
        );
    }
}
