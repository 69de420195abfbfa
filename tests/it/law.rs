//! The law of the ledger: what it says is a function of the set of facts, not of their order, nor of how often or in
//! which company they came.

use callback_ledger::{
    domain::{
        delivery::Correlation,
        ids::PlatformId,
        operation::{Flag, State},
        result::ResultInfo,
    },
    store::{Ledger, LedgerReader, rebuild, verify},
};
use futures_util::future::join_all;
use jiff::Timestamp;
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use crate::support::ledger::{BOT, TestLedger, correlated, envelope, item, operations_of};

const CALLS: [&str; 2] = ["57DAB8B1894C409AB240BD8BEAE78896", "c2"];

/// One notification and the headers that it came with.
#[derive(Clone, Debug)]
struct Told {
    item: Value,
    /// Which headers; 0: none.
    headers: u8,
}

impl Told {
    /// Operations bear no more than a Message-ID here: the end of one is the same under every one of them.
    fn correlation(&self) -> Correlation {
        let of_call = (self.headers > 0 && !self.is_operation()).then(|| format!("{}", self.headers));
        Correlation {
            scenario_id: of_call.clone(),
            chain_id: of_call,
            message_id: (self.headers > 0).then(|| format!("m{}", self.headers)),
            client_request_id: None,
        }
    }

    fn is_operation(&self) -> bool {
        self.item["resourceUrl"].as_str().unwrap().contains("/operations")
    }
}

fn result_info() -> impl Strategy<Value = Option<Value>> {
    select(vec![
        None,
        Some(json!({ "code": 200, "subcode": 0, "message": "fine" })),
        Some(json!({ "code": 400, "subCode": "8508", "message": "Action falied, the operation was cancelled." })),
        Some(json!({ "code": 500, "subcode": 8519, "message": "broken" })),
        Some(json!({ "code": 500, "subcode": 8520 })),
    ])
}

fn member(data: &mut Value, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        data[key] = value.into();
    }
}

prop_compose! {
    fn about_an_operation()(
        operation in select(vec!["o1", "0FE0623FD6294210A46F84AA3FEF4A1B", "o3", ""]),
        kind in select(vec![None, Some("#microsoft.graph.commsOperation"), Some("#microsoft.graph.recordOperation"),
                            Some("microsoft.graph.playPromptOperation")]),
        change in select(vec!["created", "updated", "deleted"]),
        status in select(vec![None, Some("notStarted"), Some("running"), Some("completed"), Some("Completed"), Some("failed")]),
        reason in select(vec![None, None, Some("mediaOperationCanceled"), Some("stopToneDetected"), Some("unknown")]),
        context in select(vec![None, Some("a"), Some("d45324c1-fcb5-430a-902c-f20af696537c")]),
        info in result_info(),
    ) -> (String, String, Value) {
        let mut data = json!({});
        member(&mut data, "@odata.type", kind);
        member(&mut data, "status", status);
        member(&mut data, "completionReason", reason);
        member(&mut data, "clientContext", context);
        member(&mut data, "resultInfo", info);
        (change.to_owned(), format!("operations/{operation}").trim_end_matches('/').to_owned(), data)
    }
}

prop_compose! {
    fn about_the_call()(
        state in select(vec!["incoming", "establishing", "established", "established", "transferring", "transferAccepted",
                             "terminating", "terminated", "hold"]),
        change in select(vec!["created", "updated", "updated", "deleted"]),
        direction in select(vec![None, Some("incoming"), Some("outgoing")]),
        chain in select(vec![None, Some("2D8A7CF9-BF0D-4D6F-9B5D-3B5BE1F3E6A1"), Some("another")]),
        info in result_info(),
        tone in proptest::option::weighted(0.2, 0..4_i64),
    ) -> (String, String, Value) {
        let mut data = json!({ "@odata.type": "#microsoft.graph.call", "state": state });
        member(&mut data, "direction", direction);
        member(&mut data, "callChainId", chain);
        member(&mut data, "resultInfo", info);
        member(&mut data, "toneInfo", tone.map(|id| json!({ "sequenceId": id, "tone": "tone1" })));
        (change.to_owned(), String::new(), data)
    }
}

prop_compose! {
    fn roster()(people in 0..3_usize) -> (String, String, Value) {
        let person = json!({ "@odata.type": "#microsoft.graph.participant", "info": { "identity": { "user": { "id": "u" } } } });
        ("updated".to_owned(), "participants".to_owned(), vec![person; people].into())
    }
}

prop_compose! {
    fn told()(
        (change, part, data) in prop_oneof![6 => about_an_operation(), 3 => about_the_call(), 1 => roster()],
        call in select(&CALLS[..]),
        headers in 0..4_u8,
    ) -> Told {
        let resource = format!("calls/{call}/{part}");
        Told { item: item(&change, resource.trim_end_matches('/'), &data), headers }
    }
}

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
        let company = deliveries.iter_mut().find(|others| others[0].correlation() == one.correlation() && random.bool());
        match company {
            Some(others) => others.push(one),
            None => deliveries.push(vec![one]),
        }
    }
    random.shuffle(&mut deliveries);
    deliveries
}

async fn post(ledger: &Ledger, delivery: &[Told]) {
    let items: Vec<Value> = delivery.iter().map(|told| told.item.clone()).collect();
    ledger.record(&BOT, correlated(&envelope(&items), delivery[0].correlation())).await.unwrap();
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

async fn projection(reader: &LedgerReader) -> Projection {
    let mut said = Projection { operations: Vec::new(), calls: Vec::new() };
    for call in CALLS {
        for row in operations_of(reader, call).await {
            let history = reader.history(row.id, Timestamp::now()).await.unwrap().unwrap();
            said.operations.push(OperationSaid {
                call: row.call_id,
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
        for row in reader.call(&PlatformId::parse(call).unwrap(), Timestamp::now()).await.unwrap() {
            let (story, of) = (row.story, (row.tenant_id, row.related_calls, row.operations, row.notifications));
            let when = (story.established_at.is_some(), story.ended_at.is_some());
            let said_of_call = (story.state(), story.direction, story.chain_id, story.scenario_id, story.result, when, of);
            said.calls.push(format!("{call}: {said_of_call:?}"));
        }
    }
    said.operations.sort();
    said
}

/// What a fresh ledger says of these deliveries, and that it agrees with its rebuild.
async fn told_by(deliveries: &Deliveries, together: bool) -> Projection {
    let test = TestLedger::new().await;
    if together {
        join_all(deliveries.iter().map(|delivery| post(&test.ledger, delivery))).await;
    } else {
        for delivery in deliveries {
            post(&test.ledger, delivery).await;
        }
    }
    let said = projection(test.reader()).await;
    assert_eq!(rebuild(&test.options).await.unwrap(), [], "the projections are not what their facts say");
    assert_eq!(verify(test.reader()).await.unwrap(), []);
    test.close().await;
    said
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_the_ledger_says_does_not_depend_on_the_order_nor_the_company_in_which_facts_come(
        life in proptest::collection::vec(told(), 1..24),
        seed in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let reference = told_by(&one_by_one(&life), false).await;
            let mut permuted = one_by_one(&life);
            fastrand::Rng::with_seed(seed).shuffle(&mut permuted);
            prop_assert_eq!(&told_by(&permuted, false).await, &reference, "permuted");
            prop_assert_eq!(&told_by(&disturbed(&life, seed), false).await, &reference, "disturbed");
            prop_assert_eq!(&told_by(&disturbed(&life, !seed), true).await, &reference, "all at once");
            Ok(())
        })?;
    }
}
