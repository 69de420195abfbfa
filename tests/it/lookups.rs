//! Operations are found by their ids and contexts at any time, also while what finds them is being sorted.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use callback_ledger::{
    domain::ids::PlatformId,
    store::{
        NewRequest, Options, prune, rebuild,
        removal::{Forgotten, Keep, Removed, erase, retain},
        rows::{OperationFilter, OperationRow, PageRequest},
        verify,
    },
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::ledger::{BOT, Bearer, TestLedger, behind, count, delivery, envelope, execute, item, until};

const SHARED: &str = "always-the-same";
const ITEMS: usize = 200;
const SEGMENTS: &str = "SELECT count(*) FROM lookup_segment";

/// How many lines of the change log are sorted at a time, and how many are still to be.
const LINES: i64 = 4096;
const UNSORTED: &str = "SELECT count(*) FROM change WHERE seq > (SELECT coalesce(max(sorted_to), 0) FROM lookup_segment)";

fn body(bodies: usize) -> Value {
    let items: Vec<Value> = (0..ITEMS)
        .map(|at| {
            let n = bodies * ITEMS + at;
            let context = if n.is_multiple_of(2) { SHARED.to_owned() } else { format!("context-{n}") };
            let data = json!({
                "@odata.type": "#microsoft.graph.playPromptOperation", "id": format!("operation-{n}"), "status": "completed",
                "clientContext": context,
            });
            item("updated", &format!("calls/call-{bodies}/operations/operation-{n}"), &data)
        })
        .collect();
    envelope(&items)
}

/// A request about the first call.
fn request(facts: Value) -> NewRequest {
    NewRequest {
        source: "graph",
        call: PlatformId::parse("call-0"),
        requested_at: Timestamp::now(),
        idempotency: None,
        shows: None,
        facts: serde_json::from_value(facts).unwrap(),
    }
}

async fn found(ledger: &TestLedger, filter: &OperationFilter, page: PageRequest) -> Vec<OperationRow> {
    ledger.reader().operations(filter, page, Timestamp::now()).await.unwrap().rows
}

fn by_id(n: usize) -> OperationFilter {
    OperationFilter { operation_id: PlatformId::parse(&format!("operation-{n}")), ..OperationFilter::default() }
}

fn by_context(context: &str) -> OperationFilter {
    OperationFilter { context: Some(context.to_owned()), ..OperationFilter::default() }
}

#[tokio::test]
async fn operations_are_found_while_their_lookups_are_sorted() {
    let ledger = TestLedger::new().await;
    let page = PageRequest { after: None, limit: 50 };
    let mut bodies = 0;
    // one segment takes in 262,144 ids and contexts, and whatever else is sorted together with the last of them; the first one here
    // already has most of them
    execute(ledger.path(), "UPDATE lookup_segment SET entries = 262144 - 32768").await;
    while count(ledger.path(), SEGMENTS).await < 2 {
        ledger.ledger.record(&BOT, delivery(&body(bodies), None)).await.unwrap();
        bodies += 1;
        assert!(bodies < 500, "nothing begins another segment");
        let last = bodies * ITEMS - 1;
        for n in [1, last, last / 4 * 2 + 1] {
            assert_eq!(found(&ledger, &by_id(n), page).await.len(), 1, "{n} of {last} by its id");
            assert_eq!(found(&ledger, &by_context(&format!("context-{n}")), page).await.len(), 1, "{n} of {last} by its context");
        }
        let newest = found(&ledger, &by_context(SHARED), page).await;
        assert_eq!(newest.len(), 50);
        assert_eq!(newest[0].operation_id.as_ref().unwrap().as_str(), format!("operation-{}", last - 1));
    }
    while count(ledger.path(), UNSORTED).await >= LINES {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let (mut after, mut all) = (None, Vec::new());
    loop {
        let filter = OperationFilter { kind: Some("playPromptOperation".to_owned()), ..by_context(SHARED) };
        let page = ledger.reader().operations(&filter, PageRequest { after, limit: 700 }, Timestamp::now()).await.unwrap();
        all.extend(page.rows.into_iter().map(|row| row.id.0.0));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(all.len(), bodies * ITEMS / 2);
    assert!(all.is_sorted_by(|newer, older| newer > older));
    ledger.agrees_with_its_facts().await;
}

/// Entries of lines that do not count as sorted yet.
const AHEAD: &str = "SELECT count(*) FROM lookup WHERE operation > (SELECT max(sorted_to) FROM lookup_segment)";
/// Entries that lead to what is no more.
const ASTRAY: &str = "SELECT count(*) FROM lookup
     WHERE NOT EXISTS (SELECT 1 FROM operation WHERE id = operation) AND NOT EXISTS (SELECT 1 FROM notification WHERE id = operation)";

#[tokio::test]
async fn nothing_leads_to_what_is_erased_while_that_is_being_sorted() {
    for is_restarted in [false, true] {
        let mut ledger = TestLedger::new().await;
        let record = async |ledger: &TestLedger, bodies: usize| {
            ledger.ledger.record(&Bearer([7; 32]), delivery(&body(bodies), None)).await.unwrap();
        };
        let mut bodies = 0;
        // a run is under way then, unless the writer has found time to end each of them; what follows is so in any case
        while bodies < 10 || (bodies < 100 && count(ledger.path(), AHEAD).await < 2000) {
            record(&ledger, bodies).await;
            bodies += 1;
        }
        if is_restarted {
            ledger = ledger.restart().await;
        }
        // most likely one of which all is still to be written, one of which that has begun, and one that was sorted before
        let erased = [bodies - 1, bodies / 2, 0];
        for call in erased {
            let call = PlatformId::parse(&format!("call-{call}")).unwrap();
            let removed = erase(&ledger.options, &Forgotten::Call(call), false).await.unwrap();
            assert_eq!(removed.operations, 200);
            assert_eq!(count(ledger.path(), ASTRAY).await, 0);
        }
        for _ in 0..25 {
            record(&ledger, bodies).await;
            bodies += 1;
        }
        while count(ledger.path(), UNSORTED).await >= LINES {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(count(ledger.path(), ASTRAY).await, 0);
        let page = PageRequest { after: None, limit: 2 };
        for body in 0..bodies {
            let expected = usize::from(!erased.contains(&body));
            assert_eq!(found(&ledger, &by_id(body * ITEMS), page).await.len(), expected, "{body} of {bodies}");
        }
        ledger.agrees_with_its_facts().await;
    }
}

/// Records until all lines that there are so far have been sorted, beginning with this body.
async fn record_until_sorted(ledger: &TestLedger, bodies: std::ops::Range<usize>) {
    let last = count(ledger.path(), "SELECT max(seq) FROM change").await;
    for bodies in bodies {
        ledger.ledger.record(&Bearer([7; 32]), delivery(&body(bodies), None)).await.unwrap();
    }
    let begun = Instant::now();
    while count(ledger.path(), "SELECT max(sorted_to) FROM lookup_segment").await < last {
        assert!(begun.elapsed() < Duration::from_mins(2), "never sorted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_an_erasure_that_is_cut_off_has_left_is_noticed_and_goes_with_the_next() {
    let asked = || request(json!({ "name": "record", "kind": "recordOperation", "via": "gateway", "context": "asked-with" }));
    for (cut, is_told) in [
        ("CREATE TRIGGER cut BEFORE DELETE ON change BEGIN SELECT RAISE(ABORT, 'cut'); END", true),
        ("CREATE TRIGGER cut BEFORE DELETE ON operation BEGIN SELECT RAISE(ABORT, 'cut'); END", true),
        ("CREATE TRIGGER cut BEFORE DELETE ON operation BEGIN SELECT RAISE(ABORT, 'cut'); END", false),
    ] {
        let ledger = TestLedger::new().await;
        ledger.ledger.request(&BOT, asked()).await.unwrap();
        if is_told {
            ledger.ledger.record(&Bearer([7; 32]), delivery(&body(0), None)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(2)).await; // it is erased later
        execute(ledger.path(), cut).await;
        let call = Forgotten::Call(PlatformId::parse("call-0").unwrap());
        erase(&ledger.options, &call, false).await.unwrap_err();
        execute(ledger.path(), "DROP TRIGGER cut").await;
        let findings = verify(ledger.reader()).await.unwrap();
        assert!(findings.len() == if is_told { 20 } else { 1 } && findings[0].0.contains("to be, erased"), "{findings:?}");
        record_until_sorted(&ledger, 1..13).await;
        let other = Forgotten::Participant("nobody-here".to_owned());
        let would = erase(&ledger.options, &other, true).await.unwrap();
        assert_eq!((would.requests, would.operations), (1, if is_told { 201 } else { 1 }), "{cut}");
        assert_eq!(erase(&ledger.options, &other, false).await.unwrap(), would, "{cut}");
        // what is told of it from now on stays
        ledger.post(&envelope(&[body(0)["value"][1].clone()])).await.unwrap();
        assert_eq!(erase(&ledger.options, &other, false).await.unwrap(), Removed::default(), "{cut}");
        assert_eq!(found(&ledger, &by_id(1), PageRequest { after: None, limit: 2 }).await.len(), 1, "{cut}");
        assert_eq!(erase(&ledger.options, &call, false).await.unwrap().notifications, 1, "{cut}");
        for sql in [ASTRAY, "SELECT count(*) FROM change WHERE call_id = (SELECT id FROM call WHERE erased_at IS NOT NULL)"] {
            assert_eq!(count(ledger.path(), sql).await, 0, "{cut}: {sql}");
        }
        ledger.agrees_with_its_facts().await;
    }
}

#[tokio::test]
async fn nothing_leads_to_what_time_has_taken_before_it_was_sorted() {
    let ledger = TestLedger::new().await;
    ledger.ledger.record(&Bearer([7; 32]), delivery(&body(0), None)).await.unwrap();
    let keep = Keep { bodies: None, everything: Some(Duration::from_hours(1)) };
    let options = Options { retention: [("graph".to_owned(), keep)].into(), ..ledger.options.clone() };
    let later = Timestamp::now() + SignedDuration::from_hours(2);
    assert_eq!(retain(&options, later, false).await.unwrap().operations, 200);
    assert_eq!(count(ledger.path(), "SELECT count(*) FROM change").await, 0);
    assert_eq!(count(ledger.path(), "SELECT count(*) FROM lookup").await, 0);
}

/// Entries that lead to what is not found by them.
const WRONG: &str = "SELECT count(*) FROM lookup
     WHERE NOT EXISTS (SELECT 1 FROM operation WHERE id = operation AND hash IN (operation_hash, context_hash))
       AND NOT EXISTS (SELECT 1 FROM notification JOIN delivery ON delivery.id = delivery_id
                       WHERE notification.id = operation AND token_hash = hash)";

#[tokio::test]
async fn nothing_leads_to_an_operation_by_what_is_no_longer_said_of_it() {
    let recording = |operation: &str, context: Option<&str>| {
        let data = json!({ "@odata.type": "#microsoft.graph.recordOperation", "id": operation, "status": "running", "clientContext": context });
        envelope(&[item("updated", &format!("calls/call-0/operations/{operation}"), &data)])
    };
    for is_sorted in [false, true] {
        let ledger = TestLedger::new().await;
        let sort = async || prune(&ledger.options, Timestamp::now() + SignedDuration::from_hours(1), false).await.unwrap();
        let asked = request(json!({ "name": "record", "kind": "recordOperation", "via": "gateway", "context": "asked-with" }));
        let requested = ledger.ledger.request(&BOT, asked).await.unwrap();
        // of which nothing says that it is the one that was asked for, before the answer does
        for (operation, context) in [("operation-1", Some("told-with")), ("operation-2", None)] {
            ledger.ledger.record(&Bearer([7; 32]), delivery(&recording(operation, context), None)).await.unwrap();
        }
        if is_sorted {
            sort().await;
        }
        let answer =
            serde_json::from_value(json!({ "status": 200, "state": "running", "operationIds": ["operation-1"] })).unwrap();
        ledger.ledger.answer(requested.request, Timestamp::now(), answer, None).await.unwrap();
        assert_eq!(count(ledger.path(), "SELECT count(*) FROM operation").await, 2);
        sort().await;
        let entries = if is_sorted { "sorted before" } else { "sorted behind" };
        assert_eq!(count(ledger.path(), WRONG).await, 0, "{entries}");
        // the two ids, one context, and the token of two notifications
        assert_eq!(count(ledger.path(), "SELECT count(*) FROM lookup").await, 5, "{entries}");
        let page = PageRequest { after: None, limit: 2 };
        for filter in [by_id(1), by_context("told-with")] {
            assert_eq!(found(&ledger, &filter, page).await[0].id, requested.operation, "{entries}");
        }
        ledger.agrees_with_its_facts().await;
    }
}

/// How many entries each segment has.
async fn sizes(ledger: &TestLedger) -> BTreeMap<i64, i64> {
    let sql = "SELECT segment.id, count(lookup.segment) FROM lookup_segment AS segment
               LEFT JOIN lookup ON lookup.segment = segment.id
               GROUP BY 1";
    sqlx::query_as(sql).fetch_all(&mut behind(ledger.path()).await).await.unwrap().into_iter().collect()
}

#[tokio::test]
async fn full_segments_are_merged_and_nothing_is_lost_or_left_behind() {
    const FULL: i64 = 5;
    let ledger = TestLedger::new().await;
    let mut bodies = 0;
    for segment in 1..=FULL {
        while bodies < 25 * usize::try_from(segment).unwrap() {
            ledger.ledger.record(&Bearer([7; 32]), delivery(&body(bodies), None)).await.unwrap();
            bodies += 1;
        }
        while count(ledger.path(), UNSORTED).await >= LINES {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // so full that the next begins, and so much larger than that that it stays as it is
        execute(
            ledger.path(),
            "UPDATE lookup_segment SET entries = 262144 << (2 * (10 - id)) WHERE id = (SELECT max(id) FROM lookup_segment)",
        )
        .await;
    }
    for _more in 0..25 {
        ledger.ledger.record(&Bearer([7; 32]), delivery(&body(bodies), None)).await.unwrap();
        bodies += 1;
    }
    let all = sizes(&ledger).await;
    assert_eq!(all.keys().copied().collect::<Vec<_>>(), (1..=FULL + 1).collect::<Vec<_>>());
    assert!(all.range(..=FULL).all(|(_, entries)| *entries > 8_000), "{all:?}");
    // what was written into a segment before it counted as sorted can have gone on from there
    execute(ledger.path(), "UPDATE lookup SET segment = 1 WHERE segment = 3 AND hash IN (SELECT token_hash FROM delivery)").await;
    let erase = async |body: usize| {
        let call = PlatformId::parse(&format!("call-{body}")).unwrap();
        let removed = erase(&ledger.options, &Forgotten::Call(call), false).await.unwrap();
        assert_eq!((removed.operations, count(ledger.path(), ASTRAY).await), (200, 0), "{body}");
    };
    erase(60).await;

    let before = sizes(&ledger).await;
    let merged = async |is_so: &dyn Fn(&BTreeMap<i64, i64>) -> bool| {
        let (page, begun) = (PageRequest { after: None, limit: 2 }, Instant::now());
        while !is_so(&sizes(&ledger).await) {
            assert!(begun.elapsed() < Duration::from_mins(2), "never merged: {:?}", sizes(&ledger).await);
            for body in [1, 26, 51, 76, 101] {
                assert_eq!(found(&ledger, &by_id(body * ITEMS), page).await.len(), 1, "{body}");
            }
        }
    };
    // one of them cannot end, and stays between two
    execute(ledger.path(), "CREATE TRIGGER stuck BEFORE DELETE ON lookup_segment BEGIN SELECT RAISE(ABORT, 'stuck'); END").await;
    execute(ledger.path(), "UPDATE lookup_segment SET entries = 262144 WHERE entries > 262144").await;
    merged(&|now| (2..FULL).any(|segment| (1..before[&segment] / 4 * 3).contains(&now[&segment]))).await;
    for body in [2, 27, 52, 77, 102, 149] {
        erase(body).await;
    }
    execute(ledger.path(), "DROP TRIGGER stuck").await;
    merged(&|now| now.len() == 3).await;
    // four of them are as one, which is four times as large as the fifth
    assert_eq!(sizes(&ledger).await.into_keys().collect::<Vec<_>>(), [1, FULL, FULL + 1]);
    for body in 0..bodies {
        let expected = usize::from(![60, 2, 27, 52, 77, 102, 149].contains(&body));
        let page = PageRequest { after: None, limit: 2 };
        assert_eq!(found(&ledger, &by_id(body * ITEMS + 7), page).await.len(), expected, "{body} of {bodies}");
    }
    erase(53).await;
    ledger.agrees_with_its_facts().await;
}

#[tokio::test]
async fn a_segment_that_cannot_move_is_in_nobody_s_way() {
    let ledger = TestLedger::new().await;
    ledger.post(&envelope(&[body(0)["value"][1].clone()])).await.unwrap();
    for sql in [
        // ends the transaction as a full disk does
        "CREATE TRIGGER full BEFORE INSERT ON lookup WHEN NEW.segment = 1 BEGIN SELECT RAISE(ROLLBACK, 'full'); END",
        "INSERT INTO lookup VALUES (2, 7, (SELECT max(id) FROM operation))",
        "INSERT INTO lookup_segment SELECT 3, sorted_to, 0, NULL, NULL FROM lookup_segment",
        "INSERT INTO lookup_segment SELECT 2, sorted_to, 262144, oldest, newest FROM lookup_segment WHERE id = 1",
        "UPDATE lookup_segment SET entries = 262144 WHERE id = 1",
    ] {
        execute(ledger.path(), sql).await;
    }
    tokio::time::sleep(Duration::from_millis(2500)).await; // it has been tried
    let asked = request(json!({ "name": "playPrompt", "kind": "playPromptOperation", "via": "gateway" }));
    ledger.ledger.request(&BOT, asked).await.unwrap();
    ledger.post(&envelope(&[body(0)["value"][3].clone()])).await.unwrap();
    execute(ledger.path(), "DROP TRIGGER full").await;
    until(ledger.path(), SEGMENTS, 2).await;
    assert_eq!(count(ledger.path(), "SELECT count(*) FROM lookup WHERE segment = 1 AND hash = 7").await, 1);
    ledger.agrees_with_its_facts().await;
}

#[tokio::test]
async fn a_page_of_a_kind_is_filled_where_the_newest_of_it_do_not_match() {
    let ledger = TestLedger::new().await;
    let post = async |n: usize| ledger.post(&envelope(&[body(0)["value"][n].clone()])).await.unwrap();
    for n in 0..3 {
        post(n).await;
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    let until = Some(Timestamp::now());
    tokio::time::sleep(Duration::from_millis(5)).await;
    for n in 3..12 {
        post(n).await;
    }
    let filter = OperationFilter { kind: Some("playPromptOperation".to_owned()), until, ..OperationFilter::default() };
    let rows = found(&ledger, &filter, PageRequest { after: None, limit: 2 }).await;
    let ids: Vec<_> = rows.iter().map(|row| row.operation_id.as_ref().unwrap().as_str()).collect();
    assert_eq!(ids, ["operation-2", "operation-1"]);
}

#[tokio::test]
async fn what_is_taken_from_the_change_log_is_still_found() {
    let ledger = TestLedger::new().await;
    for bodies in 0..2 {
        ledger.ledger.record(&BOT, delivery(&body(bodies), None)).await.unwrap();
    }
    assert_eq!(count(ledger.path(), "SELECT count(*) FROM lookup").await, 0, "too few to be sorted");
    prune(&ledger.options, Timestamp::now() + SignedDuration::from_hours(1), false).await.unwrap();
    assert_eq!(count(ledger.path(), "SELECT count(*) FROM change").await, 0);
    let page = PageRequest { after: None, limit: 500 };
    for n in [0, 1, 399] {
        assert_eq!(found(&ledger, &by_id(n), page).await.len(), 1, "{n}");
    }
    assert_eq!(found(&ledger, &by_context(SHARED), page).await.len(), ITEMS);
    ledger.agrees_with_its_facts().await;
}

#[tokio::test]
async fn an_operation_that_nothing_finds_is_noticed_and_mended() {
    for damage in [
        "DELETE FROM change WHERE type = 'operation'",
        "UPDATE change SET context_hash = NULL",
        "UPDATE change SET operation_hash = 1",
    ] {
        let ledger = TestLedger::new().await;
        ledger.post(&envelope(&[body(0)["value"][1].clone()])).await.unwrap();
        execute(ledger.path(), damage).await;
        assert_eq!(verify(ledger.reader()).await.unwrap().len(), 1, "{damage}");
        let differences = rebuild(&ledger.options).await.unwrap();
        assert!(differences.len() == 1 && differences[0].what.starts_with("lookup of op_"), "{damage}: {differences:?}");
        assert_eq!(found(&ledger, &by_id(1), PageRequest { after: None, limit: 1 }).await.len(), 1);
        ledger.agrees_with_its_facts().await;
    }
}
