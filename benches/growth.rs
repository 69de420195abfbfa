//! What a ledger costs as it grows: ingest, the first page of each documented query, and bytes.
//!
//! ```text
//! cargo bench --bench growth                                     # with 0 and 100,000 operations
//! GROWTH_OPERATIONS=0,1000000,5000000 cargo bench --bench growth # as long as it takes to write them; about 2 KiB each on the disk
//! ```
//!
//! The ledger alone, in this process, in a folder of its own under `TMPDIR`; operations are written as the platform tells of them, four
//! to a call, a quarter of them with a second notification.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark may panic, and prints its figures"
)]

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/support/ledger.rs"]
mod ledger;

use std::time::{Duration, Instant};

use callback_ledger::{
    domain::{
        delivery::{Correlation, Delivery},
        ids::{PlatformId, Seq},
        operation::State,
    },
    store::{
        LedgerReader,
        rows::{OperationFilter, PageRequest},
    },
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::task::JoinSet;

use self::ledger::{BOT, TestLedger, delivery_of};

/// How many are on their way at the same moment.
const CLIENTS: usize = 64;

/// An id as the platform makes them: nothing in it tells of others.
fn id(what: u64, n: u64) -> String {
    let mix = |seed: u64| {
        let mut x = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    };
    let (a, b) = (mix(n ^ (what << 56)), mix(n ^ (what << 48) ^ 0xABCD));
    format!("{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}", a >> 32, (a >> 16) & 0xffff, a & 0xfff, b >> 52, b & 0xffff_ffff_ffff)
}

fn report(n: u64, status: &str) -> Delivery {
    let (call, operation) = (id(1, n / 4), id(2, n));
    let result = if n.is_multiple_of(3) {
        json!({ "code": 400, "subcode": 8508, "message": "Action failed, the operation was cancelled." })
    } else {
        json!({ "code": 200, "subcode": 0 })
    };
    let kind = ["recordOperation", "playPromptOperation", "muteParticipantOperation", "inviteParticipantsOperation"]
        [usize::try_from(n % 4).unwrap()];
    let status = if status == "failed" && !n.is_multiple_of(3) { "completed" } else { status };
    let body = json!({ "value": [{
        "changeType": if status == "running" { "updated" } else { "deleted" },
        "resourceUrl": format!("/communications/calls/{call}/operations/{operation}"),
        "resourceData": {
            "@odata.type": format!("#microsoft.graph.{kind}"), "id": operation, "clientContext": id(3, n), "status": status,
            "resultInfo": result,
        },
    }] });
    delivery_of("graph", &body, Correlation { message_id: Some(id(4, n)), ..Correlation::default() })
}

/// Writes the operations of these numbers, and says how many deliveries a second that were.
async fn write(ledger: &TestLedger, numbers: std::ops::Range<u64>) -> f64 {
    let begun = Instant::now();
    let (mut writing, mut written) = (JoinSet::new(), 0_u32);
    for n in numbers {
        for status in if n.is_multiple_of(4) { &["running", "failed"][..] } else { &["failed"] } {
            let (ledger, delivery) = (ledger.ledger.clone(), report(n, status));
            writing.spawn(async move { ledger.record(&BOT, delivery).await.unwrap() });
            written += 1;
            while writing.len() >= CLIENTS * 8 {
                writing.join_next().await.unwrap().unwrap();
            }
        }
    }
    while writing.join_next().await.is_some() {}
    f64::from(written) / begun.elapsed().as_secs_f64()
}

/// The p50 and p99 of a query, in milliseconds, over numbers out of all that there are.
async fn asked(reader: &LedgerReader, count: u64, filter: impl Fn(u64) -> (OperationFilter, Option<Seq>)) -> (f64, f64) {
    let mut took = Vec::new();
    for turn in 0..200 {
        let n = (turn * 7_919_017) % count.max(1);
        let (filter, after) = filter(n);
        let begun = Instant::now();
        reader.operations(&filter, PageRequest { after, limit: 50 }, Timestamp::now()).await.unwrap();
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    let at = |share: usize| took[took.len() * share / 100].as_secs_f64() * 1000.0;
    (at(50), at(99))
}

async fn measure(count: u64, growing: &TestLedger) {
    // so many more, while it has so many
    let rate = write(growing, count..count + 100_000).await;
    let count = count + 100_000;
    let path = growing.path();
    let size: u64 = ["", "-wal"]
        .iter()
        .filter_map(|suffix| std::fs::metadata(format!("{}{suffix}", path.display())).ok())
        .map(|file| file.len())
        .sum();
    println!("operations {count}: ingest {rate:.0} a second, {} bytes an operation on the disk", size / count);
    let reader = growing.reader();
    let by = |change: fn(&mut OperationFilter, u64)| {
        move |n: u64| {
            let mut filter = OperationFilter::default();
            change(&mut filter, n);
            (filter, None)
        }
    };
    let hour_ago = |filter: &mut OperationFilter| filter.since = Some(Timestamp::now() - SignedDuration::from_hours(1));
    let begin = reader.operations(&OperationFilter::default(), PageRequest { after: None, limit: 1 }, Timestamp::now()).await;
    let newest = begin.unwrap().rows[0].id.0.0;
    for (name, (p50, p99)) in [
        ("by operation id", asked(reader, count, by(|filter, n| filter.operation_id = PlatformId::parse(&id(2, n)))).await),
        ("by call", asked(reader, count, by(|filter, n| filter.call_id = PlatformId::parse(&id(1, n / 4)))).await),
        ("by context", asked(reader, count, by(|filter, n| filter.context = Some(id(3, n)))).await),
        (
            "by state and time",
            asked(reader, count, move |_| {
                let mut filter = OperationFilter { state: Some(State::Failed), ..OperationFilter::default() };
                hour_ago(&mut filter);
                (filter, None)
            })
            .await,
        ),
        ("by subcode", asked(reader, count, by(|filter, _| filter.subcode = Some(8508))).await),
        ("by kind", asked(reader, count, by(|filter, _| filter.kind = Some("recordOperation".to_owned()))).await),
        ("open", asked(reader, count, by(|filter, _| filter.open = Some(true))).await),
        ("newest page", asked(reader, count, by(|_, _| ())).await),
        (
            "deep cursor",
            asked(reader, count, move |n| (OperationFilter::default(), Some(Seq(newest - i64::try_from(n).unwrap() * 10)))).await,
        ),
    ] {
        println!("operations {count}: {name}: p50 {p50:.2} ms, p99 {p99:.2} ms");
    }
}

#[tokio::main]
async fn main() {
    let sizes = std::env::var("GROWTH_OPERATIONS").unwrap_or_else(|_unset| "0,100000".to_owned());
    let growing = TestLedger::new().await;
    let mut count = 0;
    for size in sizes.split(',').map(|size| size.trim().parse::<u64>().unwrap()) {
        if size > count {
            let begun = Instant::now();
            write(&growing, count..size).await;
            println!("written up to {size} operations in {:.0?}", begun.elapsed());
            count = size;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        measure(count, &growing).await;
        count += 100_000;
    }
    growing.close().await;
}
