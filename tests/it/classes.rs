//! Lists by source, state, subcode and kind, in any combination: also of ledgers that are older than what keeps them in order now.

use std::{collections::BTreeSet, path::Path};

use callback_ledger::{
    domain::{delivery::Correlation, ids::PlatformId, operation::State},
    store::{
        LedgerReader, OpenError, rebuild,
        removal::{Forgotten, erase},
        rows::{CallFilter, NotificationFilter, OperationFilter, OperationRow, PageRequest},
        verify,
    },
};
use jiff::Timestamp;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection};

use crate::support::ledger::{ALL, BOT, TestLedger, behind, count, delivery_of, envelope, execute, item, operation};

/// Operations of several kinds, states and subcodes, and calls in several states, of both sources.
async fn some(ledger: &TestLedger) {
    for n in 0..12 {
        let call = format!("calls/call-{n}");
        let kind = ["recordOperation", "playPromptOperation", "muteParticipantOperation"][n % 3];
        let mut data = json!({ "@odata.type": format!("#microsoft.graph.{kind}"), "id": format!("o-{n}"), "status": "running" });
        if n % 4 == 1 {
            data["status"] = json!("completed");
        } else if n % 4 > 1 {
            data["status"] = json!("failed");
            data["resultInfo"] = json!({ "code": 400, "subcode": 8500 + n % 4 });
        }
        let state =
            json!({ "@odata.type": "#microsoft.graph.call", "state": if n % 2 == 0 { "established" } else { "establishing" } });
        let mut items = vec![item("updated", &format!("{call}/operations/o-{n}"), &data)];
        if n % 5 != 0 {
            items.push(item("updated", &call, &state));
        }
        ledger.post(&envelope(&items)).await.unwrap();
        let event = json!([{
            "id": format!("e-{n}"), "source": "calling/callConnections/x", "specversion": "1.0", "time": "2026-07-01T10:00:00Z",
            "type": if n % 2 == 0 { "Microsoft.Communication.CallConnected" } else { "Microsoft.Communication.PlayCompleted" },
            "data": { "callConnectionId": format!("connection-{n}"), "serverCallId": "s", "correlationId": "c" }
        }]);
        let read = delivery_of("acs", &event, Correlation::default());
        ledger.ledger.record(&BOT, read).await.unwrap();
    }
}

/// Each list with each combination of what occurs, and of what does not, and how long it is.
async fn lists(reader: &LedgerReader) -> Vec<(String, usize)> {
    fn with<T: Clone>(values: &[T]) -> Vec<Option<T>> {
        std::iter::once(None).chain(values.iter().cloned().map(Some)).collect()
    }
    let now = Timestamp::now();
    let every = reader.operations(&OperationFilter::default(), ALL, now).await.unwrap().rows;
    let kinds: BTreeSet<String> = every.iter().map(|row| row.kind.clone()).chain(["none".to_owned()]).collect();
    let sources = with(&["graph", "acs", "none"].map(str::to_owned));
    let (mut lists, mut told) = (Vec::new(), 0);
    for source in &sources {
        for kind in with(&kinds.iter().cloned().collect::<Vec<_>>()) {
            for state in with(&[State::Running, State::Completed, State::Failed]) {
                for subcode in with(&[8502, 8503, 1]) {
                    let (source, kind) = (source.clone(), kind.clone());
                    let filter = OperationFilter { source, kind, state, subcode, ..OperationFilter::default() };
                    let page = reader.operations(&filter, ALL, now).await.unwrap().rows;
                    let is_asked_for = |row: &&OperationRow| {
                        filter.source.as_ref().is_none_or(|source| *source == row.source)
                            && filter.kind.as_ref().is_none_or(|kind| *kind == row.kind)
                            && state.is_none_or(|state| state == row.state)
                            && subcode.is_none_or(|code| row.result.as_ref().and_then(|result| result.subcode) == Some(code))
                    };
                    let asked: Vec<_> = every.iter().filter(is_asked_for).collect();
                    assert_eq!(page.iter().collect::<Vec<_>>(), asked, "{filter:?}");
                    told += asked.len();
                    lists.push((format!("{filter:?}"), asked.len()));
                }
            }
        }
    }
    assert!(told > 150, "{told}");
    let notifications = reader.notifications(&NotificationFilter::default(), ALL).await.unwrap().rows;
    let kinds: BTreeSet<String> = notifications.iter().map(|row| row.facts.kind.clone()).collect();
    assert!(kinds.len() > 4, "{kinds:?}");
    for source in &sources {
        for kind in with(&kinds.iter().cloned().collect::<Vec<_>>()) {
            let filter = NotificationFilter { source: source.clone(), kind, ..NotificationFilter::default() };
            let page = reader.notifications(&filter, ALL).await.unwrap().rows;
            let asked = notifications.iter().filter(|row| {
                filter.source.as_ref().is_none_or(|source| *source == row.source)
                    && filter.kind.as_ref().is_none_or(|kind| *kind == row.facts.kind)
            });
            assert_eq!(
                page.iter().map(|row| row.id).collect::<Vec<_>>(),
                asked.map(|row| row.id).collect::<Vec<_>>(),
                "{filter:?}"
            );
            lists.push((format!("{filter:?}"), page.len()));
        }
        for state in with(&["established", "establishing", "none"].map(str::to_owned)) {
            let filter = CallFilter { source: source.clone(), state, ..CallFilter::default() };
            let page = reader.calls(&filter, ALL, now).await.unwrap().rows;
            lists.push((format!("{filter:?}"), page.len()));
        }
    }
    lists
}

/// Makes of a ledger what it was when classes were words.
async fn make_old(path: &Path) {
    let mut connection = behind(path).await;
    for (table, class) in [
        ("operation", "source || ' ' || state || ' ' || coalesce(subcode, '') || ' ' || kind"),
        ("notification", "source || ' ' || kind"),
        ("call", "source || ' ' || coalesce(state, '')"),
    ] {
        let sql = format!(
            "DROP INDEX {table}_by_class;
             ALTER TABLE {table} DROP COLUMN class_hash;
             ALTER TABLE {table} ADD COLUMN class TEXT GENERATED ALWAYS AS ({class}) VIRTUAL;
             CREATE INDEX {table}_by_class ON {table} (class);"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
    sqlx::raw_sql("DELETE FROM _sqlx_migrations WHERE version >= 12").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn lists_hold_what_they_are_asked_for_also_in_a_ledger_that_is_older_than_they_are() {
    let ledger = TestLedger::new().await;
    some(&ledger).await;
    let before = lists(ledger.reader()).await;
    let many = 20_001; // more than are brought up to date at once
    let (options, folder) = ledger.close().await;
    make_old(&options.path).await;
    execute(
        &options.path,
        "INSERT INTO call (id, source, call_id, receiver, audience, first_seen_at, story)
         WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 20001)
         SELECT n, 'graph', 'older-' || n, '', '', 0, '{\"told\":[]}' FROM numbers",
    )
    .await;
    assert!(matches!(LedgerReader::open(&options).await.unwrap_err(), OpenError::Older { .. }));

    let ledger = TestLedger::reopen(options, folder).await;
    assert_eq!(verify(ledger.reader()).await.unwrap(), []);
    let calls = CallFilter { source: Some("graph".to_owned()), ..CallFilter::default() };
    let (mut after, mut found) = (None, 0);
    loop {
        let page = ledger.reader().calls(&calls, PageRequest { after, limit: 2000 }, Timestamp::now()).await.unwrap();
        found += page.rows.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, many + 12);
    execute(ledger.path(), "DELETE FROM call WHERE call_id LIKE 'older-%'").await;
    assert_eq!(lists(ledger.reader()).await, before);

    // the same if that was cut off before its end
    let (options, folder) = ledger.close().await;
    execute(&options.path, "UPDATE operation SET class_hash = NULL WHERE id > (SELECT min(id) FROM operation)").await;
    assert!(matches!(LedgerReader::open(&options).await.unwrap_err(), OpenError::Older { .. }));
    let ledger = TestLedger::reopen(options, folder).await;
    assert_eq!(lists(ledger.reader()).await, before);
    ledger.agrees_with_its_facts().await;
}

#[tokio::test]
async fn what_is_in_a_wrong_list_is_found_and_put_into_its_own() {
    for table in ["operation", "notification", "call"] {
        let ledger = TestLedger::new().await;
        some(&ledger).await;
        let before = lists(ledger.reader()).await;
        let mut connection = behind(ledger.path()).await;
        let damage = format!("UPDATE {table} SET class_hash = 1 WHERE id = (SELECT max(id) FROM {table})");
        sqlx::raw_sql(AssertSqlSafe(damage)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        assert_eq!(verify(ledger.reader()).await.unwrap().len(), 1, "{table}");
        assert_eq!(rebuild(&ledger.options).await.unwrap().len(), 1, "{table}");
        assert_eq!(lists(ledger.reader()).await, before, "{table}");
        ledger.agrees_with_its_facts().await;
    }
}

#[tokio::test]
async fn an_operation_leaves_the_list_of_the_state_that_it_was_in() {
    let ledger = TestLedger::new().await;
    let of = async |state| {
        let filter = OperationFilter { state: Some(state), ..OperationFilter::default() };
        ledger.reader().operations(&filter, ALL, Timestamp::now()).await.unwrap().rows.len()
    };
    ledger.post(&operation("call", "operation", "running")).await.unwrap();
    assert_eq!((of(State::Running).await, of(State::Completed).await), (1, 0));
    ledger.post(&operation("call", "operation", "completed")).await.unwrap();
    assert_eq!((of(State::Running).await, of(State::Completed).await), (0, 1));
    assert_eq!(count(ledger.path(), "SELECT count(DISTINCT class_hash) FROM operation").await, 1);
    ledger.agrees_with_its_facts().await;
}

#[tokio::test]
async fn a_call_that_was_erased_leaves_the_list_of_its_state_and_not_that_of_its_source() {
    let ledger = TestLedger::new().await;
    let established = json!({ "@odata.type": "#microsoft.graph.call", "state": "established" });
    ledger.post(&envelope(&[item("updated", "calls/call", &established)])).await.unwrap();
    let of = async |state: Option<&str>| {
        let filter = CallFilter { source: Some("graph".to_owned()), state: state.map(str::to_owned), ..CallFilter::default() };
        ledger.reader().calls(&filter, ALL, Timestamp::now()).await.unwrap().rows.len()
    };
    assert_eq!((of(Some("established")).await, of(None).await), (1, 1));
    let call = Forgotten::Call(PlatformId::parse("call").unwrap());
    assert_eq!(erase(&ledger.options, &call, false).await.unwrap().calls, 1);
    assert_eq!((of(Some("established")).await, of(None).await), (0, 1));
    assert_eq!(verify(ledger.reader()).await.unwrap(), []);
}
