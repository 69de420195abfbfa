//! What goes: by retention as time passes, for who asks to be forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use callback_ledger::{
    domain::{clock::Clock, delivery::Correlation, ids::PlatformId, request::AnswerFacts},
    store::{
        Ledger, NewRequest, Options, prune,
        removal::{Forgotten, Keep, Removed, erase, retain},
    },
};
use jiff::{SignedDuration, Timestamp};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    child::{configuration, run},
    ledger::{
        BOT, Caller, TestLedger, behind, correlated, count, delivery, delivery_of, envelope, is_sound, item, operation,
        operations_of, options, until,
    },
};

const CALL: &str = "3b1c9f62-0d1e-4a7e-8a39-6f2d5a4e7a01";
const OTHER: &str = "3b1c9f62-0d1e-4a7e-8a39-6f2d5a4e7a02";
const OPERATION: &str = "3b1c9f62-0d1e-4a7e-8a39-6f2d5a4e7b01";

/// Who is in a call.
fn roster(call: &str, id: &str, name: &str) -> Value {
    let person = json!([{ "@odata.type": "#microsoft.graph.participant", "id": "p1",
        "info": { "identity": { "user": { "id": id, "displayName": name } } } }]);
    envelope(&[item("updated", &format!("calls/{call}/participants"), &person)])
}

fn everything_on_disk(path: &Path) -> Vec<u8> {
    ["", "-wal"].iter().filter_map(|end| fs::read(format!("{}{end}", path.display())).ok()).flatten().collect()
}

// ---- erasing

#[tokio::test]
async fn a_call_is_erased_with_all_that_was_told_of_it_and_nothing_else_is() {
    let ledger = TestLedger::new().await;
    let mine = operation(CALL, OPERATION, "completed");
    let both =
        envelope(&[operation(CALL, "a", "running")["value"][0].clone(), operation(OTHER, "b", "running")["value"][0].clone()]);
    for body in [&mine, &roster(CALL, "aad-1", "Erika"), &operation(OTHER, OPERATION, "completed"), &both] {
        ledger.post(body).await.unwrap();
    }
    // and somebody who claims the call
    ledger.ledger.record(&Caller { audience: "another", ..BOT }, delivery(&operation(CALL, "x", "running"), None)).await.unwrap();
    let call = Forgotten::Call(PlatformId::parse(&CALL.to_uppercase()).unwrap());

    let would = erase(&ledger.options, &call, true).await.unwrap();
    assert_eq!(would, Removed { calls: 1, operations: 2, notifications: 4, requests: 0, bodies: 4, personal: 0 });
    assert_eq!(operations_of(ledger.reader(), CALL).await.len(), 2, "a dry run changes nothing");
    assert_eq!(erase(&ledger.options, &call, false).await.unwrap(), would, "and says what the real one does");

    assert_eq!(operations_of(ledger.reader(), CALL).await.len(), 0);
    assert_eq!(operations_of(ledger.reader(), OTHER).await.len(), 2, "what a body told of another call stays known");
    let sql = "SELECT count(*) FROM delivery WHERE body IS NOT NULL";
    assert_eq!(count(ledger.path(), sql).await, 1, "the body that speaks of both is gone");
    assert_eq!(count(ledger.path(), "SELECT count(*) FROM call WHERE erased_at IS NOT NULL AND data_key IS NULL").await, 1);
    is_sound(&ledger.options).await;
    assert_eq!(erase(&ledger.options, &call, false).await.unwrap(), Removed::default(), "there is nothing left");

    // what comes later is recorded, under keys of its own
    ledger.post(&operation(CALL, OPERATION, "running")).await.unwrap();
    assert_eq!(operations_of(ledger.reader(), CALL).await.len(), 1);
    is_sound(&ledger.options).await;
    let ledger = ledger.restart().await;
    is_sound(&ledger.options).await;
}

#[tokio::test]
async fn a_person_is_found_in_every_call_by_whichever_name_and_nobody_else_is_erased() {
    let acs = |call: &str, id: &str, data: Value| {
        let mut data = data;
        data["callConnectionId"] = call.into();
        json!([{ "id": id, "source": format!("calling/callConnections/{call}"), "type": "Microsoft.Communication.ParticipantsUpdated",
                 "specversion": "1.0", "time": "2026-11-21T03:00:00Z", "data": data }])
    };
    let people = |number: &str| {
        json!({ "sequenceNumber": 1, "participants": [
        { "identifier": { "rawId": format!("4:{number}"), "phoneNumber": { "value": number } }, "isMuted": false }] })
    };
    for (name, expected) in
        [("+4915100000001", 2), ("4:+4915100000001", 1), ("AAD-USER-0001", 1), ("aad-user-000", 0), ("Erika Muster", 1)]
    {
        let ledger = TestLedger::new().await;
        ledger.post(&roster(CALL, "aad-user-0001", "Erika Muster")).await.unwrap();
        ledger.post(&roster(OTHER, "aad-user-00012", "Erika Musterfrau")).await.unwrap();
        for (id, number) in [("one", "+4915100000001"), ("two", "+49151000000012")] {
            let body = acs(id, id, people(number));
            ledger.ledger.record(&BOT, delivery_of("acs", &body, Correlation::default())).await.unwrap();
        }
        // nobody can read it, and it names somebody
        ledger.post(&json!({ "odd": "tel +4915100000001" })).await.unwrap();
        let removed = erase(&ledger.options, &Forgotten::Participant(name.to_owned()), false).await.unwrap();
        assert_eq!(removed.notifications, expected, "{name}: {removed:?}");
        assert_eq!(count(ledger.path(), "SELECT count(*) FROM notification").await, 5 - i64::try_from(expected).unwrap());
        is_sound(&ledger.options).await;
    }

    // when the bodies are gone, the keyed hash of the roster still finds them
    let ledger = TestLedger::new().await;
    ledger
        .ledger
        .record(&BOT, delivery_of("acs", &acs("one", "one", people("+4915100000001")), Correlation::default()))
        .await
        .unwrap();
    let old = Options { retention: retention(1, 0), ..ledger.options.clone() };
    let later = Timestamp::now() + SignedDuration::from_hours(48);
    assert_eq!(retain(&old, later, false).await.unwrap(), Removed { bodies: 1, personal: 1, ..Removed::default() });
    for name in ["4:+4915100000001", "+4915100000001"] {
        let whom = Forgotten::Participant(name.to_owned());
        assert_eq!(erase(&ledger.options, &whom, true).await.unwrap().calls, 1, "{name}");
    }
    for name in ["+491510000000", "4:+4915100000002"] {
        let whom = Forgotten::Participant(name.to_owned());
        assert_eq!(erase(&ledger.options, &whom, true).await.unwrap().calls, 0, "{name}");
    }
}

#[tokio::test]
async fn erasing_beside_a_running_service_leaves_no_key_that_opens_a_copy_of_the_past() {
    let app = TestApp::start().await;
    assert_eq!(app.post(roster(CALL, "aad-user-0001", "Erika Muster").to_string()).await.status, StatusCode::ACCEPTED);
    let key = {
        let mut connection = behind(&app.ledger()).await;
        sqlx::query_scalar::<_, Vec<u8>>("SELECT data_key FROM call").fetch_one(&mut connection).await.unwrap()
    };
    let finds = |bytes: &[u8]| bytes.windows(key.len()).any(|window| window == key);
    assert!(finds(&everything_on_disk(&app.ledger())));

    let file = configuration(app.folder.path());
    let erased = run(app.folder.path(), &["db", "erase", "--participant", "aad-user-0001", "--config", file.to_str().unwrap()]);
    assert_eq!(String::from_utf8(erased.stdout).unwrap(), "removed: 1 call, 1 notification, 1 body\n");
    assert_eq!(app.get(&format!("/v1/calls/{CALL}")).await.json()["notifications"], 0);
    assert_eq!(app.post(operation(OTHER, "x", "completed").to_string()).await.status, StatusCode::ACCEPTED, "it goes on");
    assert!(!finds(&everything_on_disk(&app.ledger())), "neither the file nor its log hold the key");

    let command =
        |arguments: &[&str]| run(app.folder.path(), &[arguments, &["--config", file.to_str().unwrap()]].concat()).status.code();
    assert_eq!(command(&["db", "erase", "--participant", "aad-user-0001"]), Some(3), "there is nothing left to erase");
    assert_eq!(command(&["db", "erase", "--participant", "abc"]), Some(2), "too short to tell anybody");
    assert_eq!(command(&["db", "erase"]), Some(2));
    assert_eq!(command(&["db", "erase", "--call", OTHER, "--participant", "aad-user-0001"]), Some(2));
    assert_eq!(command(&["db", "erase", "--call", OTHER, "--dry-run"]), Some(0));
}

#[tokio::test]
async fn no_key_of_an_erased_call_is_left_however_often_its_row_was_moved() {
    let ledger = TestLedger::new().await;
    let call = |n: usize| format!("call-{n}");
    let mut keys = BTreeSet::new();
    for round in 0..6 {
        for n in 0..40 {
            // its story grows, so that its row moves
            let body = roster(&call(n), &format!("aad-user-{n}"), &"x".repeat(1 + round * 40));
            let correlation = Correlation { chain_id: Some(format!("{n}-{}", "c".repeat(round * 30))), ..Correlation::default() };
            ledger.ledger.record(&BOT, correlated(&body, correlation)).await.unwrap();
        }
        let mut connection = behind(ledger.path()).await;
        keys.extend(sqlx::query_scalar::<_, Vec<u8>>("SELECT data_key FROM call").fetch_all(&mut connection).await.unwrap());
    }
    assert_eq!(keys.len(), 40);
    for n in 0..40 {
        let whom = Forgotten::Call(PlatformId::parse(&call(n)).unwrap());
        assert_eq!(erase(&ledger.options, &whom, false).await.unwrap().notifications, 6);
    }
    let (options, _folder) = ledger.close().await;
    let bytes = everything_on_disk(&options.path);
    let left = keys.iter().filter(|key| bytes.windows(key.len()).any(|window| window == key.as_slice())).count();
    assert_eq!(left, 0, "of {} keys", keys.len());
    is_sound(&options).await;
}

#[tokio::test]
async fn what_comes_for_an_erased_call_can_be_erased_as_well() {
    let ledger = TestLedger::new().await;
    let whom = [Forgotten::Call(PlatformId::parse(CALL).unwrap()), Forgotten::Participant("aad-user-0001".to_owned())];
    for whom in [&whom[0], &whom[1], &whom[0]] {
        ledger.post(&roster(CALL, "aad-user-0001", "Erika Muster")).await.unwrap();
        let removed = erase(&ledger.options, whom, false).await.unwrap();
        assert_eq!((removed.calls, removed.notifications, removed.bodies), (1, 1, 1), "{whom:?}");
        assert_eq!(erase(&ledger.options, whom, false).await.unwrap(), Removed::default());
    }
    is_sound(&ledger.options).await;
}

#[tokio::test]
async fn erasing_one_call_changes_nothing_of_another_that_a_body_told_of_as_well() {
    let ledger = TestLedger::new().await;
    let both =
        envelope(&[operation(CALL, "a", "running")["value"][0].clone(), operation(OTHER, "b", "running")["value"][0].clone()]);
    let correlation =
        Correlation { chain_id: Some("chain".to_owned()), scenario_id: Some("scenario".to_owned()), ..Correlation::default() };
    ledger.ledger.record(&BOT, correlated(&both, correlation)).await.unwrap();
    erase(&ledger.options, &Forgotten::Call(PlatformId::parse(CALL).unwrap()), false).await.unwrap();
    is_sound(&ledger.options).await;
}

#[tokio::test]
async fn an_answer_to_a_request_of_an_erased_call_is_no_trouble() {
    let ledger = TestLedger::new().await;
    let facts = json!({ "name": "playPrompt", "kind": "playPromptOperation", "context": "x", "via": "gateway" });
    let asked = NewRequest {
        source: "graph",
        call: PlatformId::parse(CALL),
        requested_at: Timestamp::now(),
        idempotency: None,
        shows: None,
        facts: serde_json::from_value(facts).unwrap(),
    };
    let requested = ledger.ledger.request(&BOT, asked).await.unwrap();
    let removed = erase(&ledger.options, &Forgotten::Call(PlatformId::parse(CALL).unwrap()), false).await.unwrap();
    assert_eq!((removed.requests, removed.operations), (1, 1));
    ledger.ledger.answer(requested.request, Timestamp::now(), AnswerFacts::default(), None).await.unwrap();
    assert!(ledger.ledger.is_writable());
    is_sound(&ledger.options).await;
}

#[tokio::test]
async fn a_call_of_very_many_notifications_goes_in_parts_and_nothing_leads_to_it() {
    let ledger = TestLedger::new().await;
    for n in 0..1300 {
        ledger.post(&operation(CALL, &format!("operation-{n}"), "running")).await.unwrap();
    }
    ledger.post(&operation(OTHER, OPERATION, "running")).await.unwrap();
    let ledger = ledger.restart().await;
    until(ledger.path(), "SELECT count(*) > 1 FROM lookup", 0).await; // too few lines to be sorted
    prune(&ledger.options, Timestamp::now() + SignedDuration::from_hours(1), false).await.unwrap();
    until(ledger.path(), "SELECT count(*) FROM lookup", 1301).await;
    let whom = Forgotten::Call(PlatformId::parse(CALL).unwrap());
    let would = erase(&ledger.options, &whom, true).await.unwrap();
    assert_eq!((would.operations, would.notifications), (1300, 1300));
    assert_eq!(erase(&ledger.options, &whom, false).await.unwrap(), Removed { bodies: 0, ..would });
    assert_eq!(count(ledger.path(), "SELECT count(*) FROM lookup").await, 1);
    is_sound(&ledger.options).await;
}

// ---- retention

fn retention(bodies: u64, everything: u64) -> BTreeMap<String, Keep> {
    let days = |days: u64| (days > 0).then(|| Duration::from_hours(24 * days));
    let keep = Keep { bodies: days(bodies), everything: days(everything) };
    ["graph", "acs"].map(|source| (source.to_owned(), keep)).into()
}

/// A clock that is moved by hand, in days from now.
fn movable() -> (Clock, Arc<AtomicI64>) {
    let days = Arc::new(AtomicI64::new(0));
    let moved = Arc::clone(&days);
    let start = Timestamp::now();
    let began = std::time::Instant::now();
    let clock = Clock::from_fn(move || {
        let days = SignedDuration::from_hours(24 * moved.load(Ordering::SeqCst));
        start + days + SignedDuration::try_from(began.elapsed()).unwrap()
    });
    (clock, days)
}

const BODIES: &str = "SELECT count(*) FROM delivery WHERE body IS NOT NULL";

#[tokio::test]
async fn bodies_go_first_everything_goes_later_and_a_call_goes_as_a_whole() {
    let (clock, days) = movable();
    let folder = tempfile::tempdir().unwrap();
    let options = Options { retention: retention(30, 400), clock: clock.clone(), ..options(folder.path().join("test.db")) };
    let open = async || Ledger::open(options.clone()).await.unwrap();
    let record = async |ledger: &Ledger, body: &Value| {
        let mut delivery = delivery(body, None);
        delivery.received_at = clock.now();
        ledger.record(&BOT, delivery).await.unwrap()
    };
    let (ledger, writer) = open().await;
    for number in 0..250 {
        record(&ledger, &operation(&format!("{CALL}{number}"), OPERATION, "running")).await;
    }
    record(&ledger, &roster(OTHER, "aad-user-0001", "Erika")).await;
    record(&ledger, &json!({ "nobody": "can read this" })).await;
    ledger.close().await;
    writer.await.unwrap();

    days.store(31, Ordering::SeqCst);
    let (ledger, writer) = open().await;
    let late = operation(&format!("{CALL}7"), OPERATION, "completed");
    record(&ledger, &late).await;
    until(&options.path, BODIES, 1).await;
    until(&options.path, "SELECT count(*) FROM notification WHERE personal IS NOT NULL", 0).await;
    assert_eq!(count(&options.path, "SELECT count(*) FROM notification").await, 253, "what happened stays known");
    assert_eq!(record(&ledger, &late).await.outcome(), "duplicate");
    let old = operation(&format!("{CALL}9"), OPERATION, "running");
    assert_eq!(record(&ledger, &old).await.outcome(), "duplicate", "a copy is recognised without its body");
    ledger.close().await;
    writer.await.unwrap();
    is_sound(&options).await;

    days.store(401, Ordering::SeqCst);
    let would = retain(&options, clock.now(), true).await.unwrap();
    assert_eq!((would.calls, would.operations, would.notifications), (250, 249, 251), "and what nobody can read");
    let (ledger, writer) = open().await;
    until(&options.path, "SELECT count(*) FROM call", 1).await;
    until(&options.path, "SELECT count(*) FROM notification", 2).await;
    let told = operations_of(ledger.reader(), &format!("{CALL}7")).await;
    assert_eq!((told.len(), told[0].notifications), (1, 2), "word came of it later, so all of it stays");
    until(&options.path, "SELECT count(*) FROM delivery", 2).await;
    record(&ledger, &old).await;
    assert_eq!(operations_of(ledger.reader(), &format!("{CALL}9")).await.len(), 1);
    ledger.close().await;
    writer.await.unwrap();
    is_sound(&options).await;

    days.store(900, Ordering::SeqCst);
    retain(&options, clock.now(), false).await.unwrap();
    for table in ["call", "operation", "notification", "delivery", "change"] {
        let sql: &'static str = format!("SELECT count(*) FROM {table}").leak();
        assert_eq!(count(&options.path, sql).await, 0, "{table}");
    }
    is_sound(&options).await;
}

#[tokio::test]
async fn sources_are_kept_as_long_as_each_is_to_be() {
    let ledger = TestLedger::new().await;
    ledger.post(&operation(CALL, OPERATION, "running")).await.unwrap();
    let event = json!([{ "id": "e", "source": "calling/callConnections/c", "type": "Microsoft.Communication.PlayStarted",
        "specversion": "1.0", "time": "2026-11-21T03:00:00Z", "data": { "callConnectionId": "c", "operationContext": "x" } }]);
    ledger.ledger.record(&BOT, delivery_of("acs", &event, Correlation::default())).await.unwrap();
    let mut kept = retention(30, 400);
    kept.insert("acs".to_owned(), Keep { bodies: Some(Duration::from_hours(24)), everything: None });
    let options = Options { retention: kept, ..ledger.options.clone() };
    let in_days = |days: i64| Timestamp::now() + SignedDuration::from_hours(24 * days);
    let only_body = Removed { bodies: 1, ..Removed::default() };
    assert_eq!(retain(&options, in_days(2), true).await.unwrap(), only_body);
    assert_eq!(retain(&options, in_days(2), false).await.unwrap(), only_body);
    assert_eq!(retain(&options, in_days(3), false).await.unwrap(), Removed::default());
    let removed = retain(&options, in_days(500), false).await.unwrap();
    assert_eq!((removed.calls, removed.notifications, removed.bodies), (1, 1, 1));
    assert_eq!(count(ledger.path(), "SELECT count(*) FROM call WHERE source = 'acs'").await, 1);
    is_sound(&options).await;
}
