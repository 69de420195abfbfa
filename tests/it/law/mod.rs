//! The law of the ledger: what it says is a function of the set of facts, not of their order, nor of how often or in
//! which company they came.

mod acs;
mod graph;
mod requests;

use std::time::Duration;

use callback_ledger::{
    domain::{
        delivery::{Correlation, Delivery},
        ids::PlatformId,
        operation::{Flag, State},
        result::ResultInfo,
    },
    store::{Ledger, LedgerReader, rebuild, verify},
};
use futures_util::future::join_all;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::Value;

use crate::support::ledger::{BOT, TestLedger, operations_at};

const CALLS: [&str; 2] = ["57DAB8B1894C409AB240BD8BEAE78896", "c2"];

/// One notification and the headers that it came with.
#[derive(Clone, Debug)]
struct Told {
    item: Value,
    correlation: Correlation,
}

/// How a source writes several items as one body.
type Write = fn(&[Value], Correlation) -> Delivery;

/// Deliveries: each a list of items that came under the same headers.
type Deliveries = Vec<Vec<Told>>;

fn one_by_one(life: &[Told]) -> Deliveries {
    life.iter().map(|told| vec![told.clone()]).collect()
}

/// The same facts in another order, some more than once, some together.
fn disturbed(life: &[Told], seed: u64) -> Deliveries {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut told: Vec<Told> = life.to_vec();
    told.extend(life.iter().filter(|_| random.u8(..) < 80).cloned());
    random.shuffle(&mut told);
    let mut deliveries: Deliveries = Vec::new();
    for one in told {
        let company = deliveries.iter_mut().find(|others| others[0].correlation == one.correlation && random.bool());
        match company {
            Some(others) => others.push(one),
            None => deliveries.push(vec![one]),
        }
    }
    random.shuffle(&mut deliveries);
    deliveries
}

async fn post(ledger: &Ledger, delivery: &[Told], write: Write) {
    let items: Vec<Value> = delivery.iter().map(|told| told.item.clone()).collect();
    ledger.record(&BOT, write(&items, delivery[0].correlation.clone())).await.unwrap();
}

/// Everything that the ledger says of the calls, marks, ids and times aside.
#[derive(Debug, PartialEq)]
struct Projection {
    operations: Vec<OperationSaid>,
    calls: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct OperationSaid {
    call: PlatformId,
    operation_id: Option<PlatformId>,
    kind: String,
    context: Option<String>,
    state: State,
    result: Option<ResultInfo>,
    flags: Vec<Flag>,
    notifications: i64,
    passed: (bool, bool, bool),
    history: Vec<(Option<State>, State, Option<String>)>,
}

impl Projection {
    /// What only one of two projections says: nothing, if the law holds.
    fn differences(&self, other: &Self) -> Vec<String> {
        let lines = |said: &Self| -> Vec<String> {
            said.operations.iter().map(|operation| format!("{operation:?}")).chain(said.calls.iter().cloned()).collect()
        };
        let (ours, theirs) = (lines(self), lines(other));
        let only = |some: &[String], others: &[String], sign: &str| -> Vec<String> {
            let mut rest = others.to_vec();
            let mut kept = some.to_vec();
            kept.retain(|line| rest.iter().position(|other| other == line).map(|at| rest.swap_remove(at)).is_none());
            kept.into_iter().map(|line| format!("{sign} {line}")).collect()
        };
        [only(&ours, &theirs, "+"), only(&theirs, &ours, "-")].concat()
    }
}

async fn projection(reader: &LedgerReader, now: Timestamp) -> Projection {
    let mut said = Projection { operations: Vec::new(), calls: Vec::new() };
    for call in CALLS {
        for row in operations_at(reader, call, now).await {
            let history = reader.history(row.id, now).await.unwrap().unwrap();
            said.operations.push(OperationSaid {
                call: row.call_id.unwrap(),
                operation_id: row.operation_id,
                kind: row.kind,
                context: row.context,
                state: row.state,
                result: row.result,
                flags: row.flags.into_iter().filter(|flag| !matches!(flag, Flag::Late | Flag::Corrected)).collect(),
                notifications: row.notifications,
                passed: (row.accepted_at.is_some(), row.started_at.is_some(), row.finished_at.is_some()),
                history: history.into_iter().map(|step| (step.from, step.to, step.note)).collect(),
            });
        }
        for row in reader.call(&PlatformId::parse(call).unwrap(), now).await.unwrap() {
            let (story, of) = (row.story, (row.tenant_id, row.related_calls, row.operations, row.notifications));
            let when = (story.established_at.is_some(), story.ended_at.is_some());
            let ids = (story.server_call_id.clone(), story.correlation_id.clone());
            let said_of_call = (ids, story.state(), story.direction, story.chain_id, story.scenario_id, story.result, when, of);
            said.calls.push(format!("{call}: {said_of_call:?}"));
        }
    }
    said.operations.sort();
    said
}

/// Behind every grace period.
const LATER: Duration = Duration::from_secs(90);

/// What a fresh ledger says of these deliveries, and that it agrees with its rebuild.
async fn told_by(deliveries: &Deliveries, together: bool, write: Write) -> Projection {
    let test = TestLedger::new().await;
    if together {
        join_all(deliveries.iter().map(|delivery| post(&test.ledger, delivery, write))).await;
    } else {
        for delivery in deliveries {
            post(&test.ledger, delivery, write).await;
        }
    }
    let said = projection(test.reader(), Timestamp::now() + LATER).await;
    assert_eq!(rebuild(&test.options).await.unwrap(), [], "the projections are not what their facts say");
    assert_eq!(verify(test.reader()).await.unwrap(), []);
    test.close().await;
    said
}

const NONE: Vec<String> = Vec::new();

/// The law, for one life.
fn holds(life: &[Told], seed: u64, write: Write) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let reference = told_by(&one_by_one(life), false, write).await;
        let mut permuted = one_by_one(life);
        fastrand::Rng::with_seed(seed).shuffle(&mut permuted);
        prop_assert_eq!(told_by(&permuted, false, write).await.differences(&reference), NONE, "permuted");
        prop_assert_eq!(told_by(&disturbed(life, seed), false, write).await.differences(&reference), NONE, "disturbed");
        prop_assert_eq!(told_by(&disturbed(life, !seed), true, write).await.differences(&reference), NONE, "all at once");
        Ok(())
    })
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() }
}
