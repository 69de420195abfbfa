//! The writer goes by what it remembers of calls: the ledger must not show it.

use callback_ledger::{
    domain::{delivery::Correlation, ids::PlatformId, notification::Disposition, operation::State},
    store::{
        RecordError,
        removal::{Forgotten, erase},
    },
};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{
    app::call_event,
    ledger::{BOT, TestLedger, count, delivery, delivery_of, dispositions, envelope, execute, item, operation, operations_of},
};

/// Many times as many as are remembered.
const CALLS: usize = 3000;

fn body(call: usize, operation_of_it: usize, status: &str) -> Value {
    operation(&format!("call-{call}"), &format!("operation-{call}-{operation_of_it}"), status)
}

/// All at once, so that they meet in few commits.
async fn record(ledger: &TestLedger, bodies: impl IntoIterator<Item = Value>) -> Vec<Option<Disposition>> {
    let deliveries: Vec<_> = bodies.into_iter().map(|body| delivery(&body, None)).collect();
    let recorded = join_all(deliveries.into_iter().map(|delivery| ledger.ledger.record(&BOT, delivery))).await;
    recorded.into_iter().flat_map(|recorded| dispositions(&recorded.unwrap())).collect()
}

#[tokio::test]
async fn what_comes_for_a_call_that_is_not_remembered_any_more_finds_it() {
    let ledger = TestLedger::new().await;
    for status in ["running", "completed"] {
        for calls in (0..CALLS).collect::<Vec<_>>().chunks(60) {
            let outcomes = record(&ledger, calls.iter().map(|call| body(*call, 0, status))).await;
            assert!(outcomes.iter().all(|outcome| *outcome == Some(Disposition::Applied)), "{outcomes:?}");
        }
    }
    let calls = i64::try_from(CALLS).unwrap();
    assert_eq!(count(ledger.path(), "SELECT count(*) FROM call").await, calls);
    assert_eq!(
        count(ledger.path(), "SELECT count(*) FROM operation WHERE state = 'completed' AND notifications = 2").await,
        calls
    );
    ledger.agrees_with_its_facts().await;
}

#[tokio::test]
async fn copies_and_operations_of_one_call_may_meet_in_one_commit() {
    let ledger = TestLedger::new().await;
    // each round brings news of the same calls, and every other round what has been told before
    let mut applied = 0;
    for round in 0..20 {
        let news = (0..60).map(|n| body(n % 12, round, if n < 12 { "running" } else { "completed" }));
        let again = (0..60).filter(|_| round % 2 == 1).map(|n| body(n % 12, round / 2, "completed"));
        let outcomes = record(&ledger, news.chain(again)).await;
        applied += outcomes.iter().filter(|outcome| outcome.is_some()).count();
    }
    assert_eq!(applied, 20 * 24, "each once: running and completed of an operation of twelve calls a round");
    let copies = i64::try_from(20 * 60 + 10 * 60 - applied).unwrap();
    assert_eq!(count(ledger.path(), "SELECT sum(duplicates) FROM notification").await, copies);
    for call in 0..12 {
        let told = operations_of(ledger.reader(), &format!("call-{call}")).await;
        assert_eq!(told.len(), 20);
        assert!(told.iter().all(|told| told.state == State::Completed && told.notifications == 2));
    }
    ledger.agrees_with_its_facts().await;
}

#[tokio::test]
async fn what_others_write_beside_is_noticed() {
    let ledger = TestLedger::new().await;
    // the first question is the last
    record(&ledger, [body(100, 0, "running")]).await;
    record(&ledger, (0..40).map(|call| body(call, 0, "running"))).await;
    let call = Forgotten::Call(PlatformId::parse("call-7").unwrap());
    assert_eq!(erase(&ledger.options, &call, false).await.unwrap().calls, 1);

    let outcomes = record(&ledger, (0..40).map(|call| body(call, 0, "completed"))).await;
    assert_eq!(outcomes, vec![Some(Disposition::Applied); 40]);
    for (call, operations, notifications) in [("call-7", 1, 1), ("call-8", 1, 2)] {
        let told = operations_of(ledger.reader(), call).await;
        let completed = told.iter().find(|told| told.state == State::Completed).unwrap();
        assert_eq!((told.len(), completed.notifications), (operations, notifications), "{call}");
    }
    // its key is gone, also from memory
    let sealed =
        "SELECT count(*) FROM delivery JOIN call ON call.id = sealed_for WHERE call_id = 'call-7' OR call.data_key IS NULL";
    assert_eq!(count(ledger.path(), sealed).await, 0);
    assert_eq!(count(ledger.path(), "SELECT count(*) FROM delivery WHERE data_key IS NOT NULL").await, 1);
    ledger.agrees_with_its_facts().await;
}

#[tokio::test]
async fn what_a_failed_commit_would_have_made_is_forgotten() {
    let ledger = TestLedger::new().await;
    record(&ledger, (0..12).map(|call| body(call, 0, "running"))).await;
    execute(
        ledger.path(),
        "CREATE TRIGGER full BEFORE INSERT ON change WHEN new.state = 'completed' BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    .await;
    let completed: Vec<_> = (0..12).map(|call| delivery(&body(call, 0, "completed"), None)).collect();
    for refused in join_all(completed.iter().map(|delivery| ledger.ledger.record(&BOT, delivery.clone()))).await {
        refused.unwrap_err();
    }
    assert_eq!(count(ledger.path(), "SELECT count(*) FROM operation WHERE state = 'running'").await, 12);
    execute(ledger.path(), "DROP TRIGGER full").await;
    for recorded in join_all(completed.into_iter().map(|delivery| ledger.ledger.record(&BOT, delivery))).await {
        assert_eq!(dispositions(&recorded.unwrap()), [Some(Disposition::Applied)]);
    }
    assert_eq!(count(ledger.path(), "SELECT count(*) FROM operation WHERE state = 'completed' AND notifications = 2").await, 12);
    ledger.agrees_with_its_facts().await;
}

#[tokio::test]
async fn a_call_that_only_a_copy_spoke_of_has_not_begun() {
    let ledger = TestLedger::new().await;
    let post = async |kind: &str, id: &str, call: &str| {
        let mut event = call_event(&format!("Microsoft.Communication.{kind}"), id, &json!({ "callConnectionId": call }));
        event[0]["source"] = json!("calling");
        let recorded = ledger.ledger.record(&BOT, delivery_of("acs", &event, Correlation::default())).await;
        dispositions(&recorded.unwrap())
    };
    for n in 0..4 {
        assert_eq!(post("CallConnected", &format!("event-{n}"), "call").await, [Some(Disposition::Applied)]);
    }
    assert_eq!(post("CallConnected", "event-3", "another").await, [None], "an event has one name, whatever it speaks of");
    // after a wrong guess it is asked for a while
    for n in 4..8 {
        assert_eq!(post("CallConnected", &format!("event-{n}"), "call").await, [Some(Disposition::Applied)]);
    }
    assert_eq!(post("SomethingNew", "event-8", "another").await, [Some(Disposition::Unrecognized)]);
    let homeless = "SELECT count(*) FROM notification WHERE call_id NOT IN (SELECT id FROM call)";
    assert_eq!(count(ledger.path(), homeless).await, 0);
    assert_eq!(count(ledger.path(), "SELECT count(*) FROM call").await, 2);
    ledger.agrees_with_its_facts().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_planned_beside_a_commit_that_fails_is_planned_anew() {
    const RECORDERS: usize = 16;
    const ROUNDS: usize = 200;
    let ledger = TestLedger::new().await;
    execute(
        ledger.path(),
        "CREATE TRIGGER no BEFORE INSERT ON operation WHEN new.operation_id LIKE 'refused-%' BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    .await;
    // all speak of the same call, one after another, so that what is planned builds on a call that is about to begin
    let recorder = async |recorder: usize| {
        let mut refused = 0;
        for round in 0..ROUNDS {
            let call = format!("call-{round}");
            if (recorder + round).is_multiple_of(8) {
                let body = operation(&call, &format!("refused-{recorder}-{round}"), "running");
                assert_eq!(ledger.ledger.record(&BOT, delivery(&body, None)).await.unwrap_err(), RecordError::Refused);
                refused += 1;
            }
            let state = json!({ "@odata.type": "#microsoft.graph.call", "state": "established" });
            let state = envelope(&[item("updated", &format!("calls/{call}"), &state)]);
            let recorded = ledger.ledger.record(&BOT, delivery(&state, Some(&format!("{recorder}-{round}")))).await.unwrap();
            assert_eq!(dispositions(&recorded), [Some(Disposition::Applied)]);
        }
        refused
    };
    let refused: usize = join_all((0..RECORDERS).map(recorder)).await.into_iter().sum();
    assert_eq!(refused, RECORDERS * ROUNDS / 8);
    let (calls, each) = (i64::try_from(ROUNDS).unwrap(), i64::try_from(RECORDERS * ROUNDS).unwrap());
    assert_eq!(count(ledger.path(), "SELECT count(*) FROM call").await, calls);
    assert_eq!(count(ledger.path(), "SELECT count(*) FROM operation").await, 0);
    assert_eq!(count(ledger.path(), "SELECT count(*) FROM notification WHERE duplicates = 0").await, each);
    let homeless = "SELECT count(*) FROM notification WHERE call_id NOT IN (SELECT id FROM call)";
    assert_eq!(count(ledger.path(), homeless).await, 0);
    ledger.agrees_with_its_facts().await;
}
