//! The steps of the straight line, one by one.
//!
//! ```text
//! cargo bench --bench hot_path              # all; a filter as with tests: -- verify
//! ```
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a benchmark may panic")]

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/support/fake_issuer.rs"]
mod fake_issuer;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/support/ledger.rs"]
mod ledger;

use std::{hint::black_box, time::Duration};

use callback_ledger::{
    auth::{Authenticator, KeySettings, KeyStore},
    domain::{
        clock::Clock,
        delivery::{Correlation, Delivery},
        ids::{NotificationId, Seq},
        notification::{Fact, Identity},
        operation::{HeldFact, operations},
    },
    net::HttpClient,
    source::{Answers, Head, Inbound, SOURCES, redacted, source},
};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use self::{
    fake_issuer::{FakeIssuer, NOW},
    ledger::{BOT, TestLedger, delivery},
};

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// One token, verified each time, and one that is remembered.
fn verify(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("verify a token");
    for (name, remembered_tokens) in [("each time", 0), ("that is remembered", 8192)] {
        let door = runtime.block_on(async {
            let issuer = FakeIssuer::start().await;
            let settings = KeySettings { remembered_tokens, ..KeySettings::default() };
            let keys = KeyStore::new(HttpClient::new().unwrap(), settings);
            let clock = Clock::from_fn(|| Timestamp::from_second(NOW).unwrap());
            let door = Authenticator::new("/api/calls", &issuer.policy(), &keys, clock).unwrap();
            let authorization = format!("Bearer {}", issuer.token().sign());
            door.admit(&[authorization.as_bytes()], None).await.unwrap(); // fetches the keys
            (door, authorization)
        });
        group.bench_function(name, |bencher| {
            bencher.iter(|| runtime.block_on(door.0.admit(&[black_box(door.1.as_bytes())], None)).unwrap());
        });
    }
    group.finish();
}

/// A typical body of each source.
fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read a body");
    for (name, case) in
        [("graph", "record-canceled"), ("acs", "cancel-add-participant-succeeded"), ("event-grid", "incoming-call-from-user")]
    {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        let body = std::fs::read(folder.join(case).join("body.json")).expect(case);
        let source = SOURCES.iter().find(|source| source.name() == name).unwrap();
        let (head, correlation, answers) = (Head::default(), Correlation::default(), Answers::default());
        group.throughput(Throughput::Bytes(body.len().try_into().unwrap()));
        group.bench_function(name, |bencher| {
            let inbound = Inbound { body: &body, head: &head, correlation: &correlation, answers: &answers };
            bencher.iter(|| source.read(black_box(&inbound)).unwrap());
        });
    }
    group.finish();
}

/// The body of a notification as it may be shown, and bodies made to be slow to read: a second for a megabyte would be too much.
fn show(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("show a body");
    let typical = std::fs::read("tests/fixtures/graph/record-canceled/body.json").unwrap();
    let hostile = |part: &str| format!(r#"["{}"]"#, part.repeat(256 * 1024 / part.len())).into_bytes();
    for (name, body) in [
        ("typical", typical),
        ("names without values", hostile(r#"{\"mri\" "#)),
        ("beginnings of texts", hostile(r#"\""#)),
        ("beginnings of texts in texts", hostile(r#"\\\""#)),
        ("beginnings of lists", hostile("[")),
        ("dials", hostile("4:")),
    ] {
        group.throughput(Throughput::Bytes(body.len().try_into().unwrap()));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(|| body.clone(), |body| redacted(black_box(body)), BatchSize::LargeInput);
        });
    }
    group.finish();
}

/// The facts of an operation that reported so often.
fn facts(count: i64) -> Vec<HeldFact> {
    let item = |status: &str| {
        let data = json!({ "@odata.type": "#microsoft.graph.recordOperation", "id": "o", "status": status });
        json!({ "value": [{ "changeType": "updated", "resourceUrl": "/communications/calls/c/operations/o", "resourceData": data }] })
    };
    let read = |body: Value| {
        let body = body.to_string().into_bytes();
        let (head, correlation, answers) = (Head::default(), Correlation::default(), Answers::default());
        let inbound = Inbound { body: &body, head: &head, correlation: &correlation, answers: &answers };
        source("graph").unwrap().read(&inbound).unwrap().notifications.remove(0).facts
    };
    let (running, completed) = (read(item("running")), read(item("completed")));
    (1..=count)
        .map(|n| {
            let facts = if n == count { &completed } else { &running };
            assert!(matches!(facts.fact, Fact::Operation(_)));
            let identity = Identity(u128::try_from(n).unwrap().to_be_bytes());
            HeldFact::of(NotificationId(Seq(n)), identity, Timestamp::from_second(NOW + n).unwrap(), false, facts).unwrap()
        })
        .collect()
}

fn derive(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("derive an operation");
    for count in [1, 10, 1000] {
        let facts = facts(count);
        group.bench_with_input(BenchmarkId::from_parameter(count), &facts, |bencher, facts| {
            bencher.iter(|| operations(black_box(facts), None));
        });
    }
    group.finish();
}

/// What a benchmark records at once: one delivery for each notification, or all in one.
#[derive(Clone, Copy)]
enum Shape {
    Graph,
    Acs,
    OneBody,
}

/// So many notifications from the `nth` on, each of an operation that nobody has seen, four to a call.
fn deliveries(shape: Shape, nth: usize, count: usize) -> Vec<Delivery> {
    let of_graph = |n: usize| ledger::operation(&format!("call-{}", n / 4), &format!("operation-{n}"), "completed");
    let of_acs = |n: usize| {
        json!([{
            "id": format!("event-{n}"), "source": format!("calling/callConnections/call-{}", n / 4),
            "type": "Microsoft.Communication.PlayCompleted", "specversion": "1.0", "time": "2026-03-01T10:00:00.1234567+00:00",
            "data": {
                "callConnectionId": format!("call-{}", n / 4), "serverCallId": "server", "correlationId": "correlation",
                "operationContext": format!("context-{n}"),
                "resultInformation": { "code": 200, "subCode": 0, "message": "Action completed successfully." },
            },
        }])
    };
    let all = nth..nth + count;
    match shape {
        Shape::Graph => all.map(|n| delivery(&of_graph(n), None)).collect(),
        Shape::Acs => all.map(|n| ledger::delivery_of("acs", &of_acs(n), Correlation::default())).collect(),
        Shape::OneBody => {
            vec![delivery(&ledger::envelope(&all.map(|n| of_graph(n)["value"][0].clone()).collect::<Vec<_>>()), None)]
        }
    }
}

fn record(criterion: &mut Criterion) {
    let runtime = runtime();
    let ledger = runtime.block_on(TestLedger::new());
    let mut next = 0;
    let mut group = criterion.benchmark_group("record");
    group.measurement_time(Duration::from_secs(10)).sample_size(20);
    let shapes = [
        ("1", Shape::Graph, 1),
        ("64", Shape::Graph, 64),
        ("512", Shape::Graph, 512),
        ("64 of Call Automation", Shape::Acs, 64),
        ("100 in one body", Shape::OneBody, 100),
    ];
    for (name, shape, count) in shapes {
        group.throughput(Throughput::Elements(count.try_into().unwrap()));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || {
                    next += count;
                    deliveries(shape, next, count)
                },
                |deliveries| {
                    runtime.block_on(async {
                        let recorded = deliveries.into_iter().map(|delivery| ledger.ledger.record(&BOT, delivery));
                        for recorded in futures_util::future::join_all(recorded).await {
                            recorded.unwrap();
                        }
                    });
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    runtime.block_on(ledger.close());
}

criterion_group!(benches, verify, read, show, derive, record);
criterion_main!(benches);
