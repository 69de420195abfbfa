//! What no event tells, a roster shows: that somebody was put on hold, taken off it, or muted.

use std::time::Duration;

use callback_ledger::{
    domain::{
        delivery::Correlation,
        ids::{PlatformId, RequestId},
        operation::{Flag, State},
        people::{Condition, NamedPerson},
        request::{AnswerFacts, Cancels, RequestFacts, Via},
    },
    store::{
        NewRequest,
        rows::{OperationFilter, PageRequest},
    },
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::{
    app::call_event,
    ledger::{ALL, BOT, TestLedger, count, delivery_of, operations_at},
    world::World,
};

const VERSION: &str = "api-version=2025-06-15";

fn number(last: u32) -> Value {
    json!({ "kind": "phoneNumber", "phoneNumber": { "value": format!("+1425555010{last}") } })
}

/// A call with two telephones in it.
async fn call(world: &World) -> String {
    let body = json!({ "callbackUri": format!("{}/platform/callbacks", world.app.public), "targets": [number(1), number(2)] });
    let created = world.ask(&format!("acs/calling/callConnections?{VERSION}"), &body).await.json();
    world.moment().await;
    created["callConnectionId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_hold_is_done_once_a_roster_shows_it() {
    let world = World::acs().await;
    let call = call(&world).await;
    let ask = async |action: &str, body: Value| {
        world.ask(&format!("acs/calling/callConnections/{call}{action}?{VERSION}"), &body).await
    };
    for (action, body, context) in [
        (":hold", json!({ "targetParticipant": number(2), "operationContext": "hold-1" }), "hold-1"),
        (":unhold", json!({ "targetParticipant": number(2), "operationContext": "unhold-1" }), "unhold-1"),
        ("/participants:mute", json!({ "targetParticipants": [number(1)], "operationContext": "mute-1" }), "mute-1"),
        (":hold", json!({ "targetParticipant": number(2), "operationContext": "hold-2" }), "hold-2"),
    ] {
        ask(action, body).await;
        let accepted = world.tagged(context).await;
        assert_eq!((&accepted["state"], &accepted["flags"]), (&json!("accepted"), &json!([])), "{context}");
        world.moment().await;
        let done = world.tagged(context).await;
        assert_eq!((&done["state"], &done["flags"], &done["id"]), (&json!("completed"), &json!(["inferred"]), &accepted["id"]));
        let history = world.app.list(&format!("/v1/operations/{}/history", done["id"].as_str().unwrap())).await;
        assert_eq!(history.last().unwrap()["cause"]["type"], "notification");
        assert_eq!(history.last().unwrap()["note"], "inferred: a roster shows it");
    }
    // what was inferred yields to what is notified
    let failed =
        json!({ "callConnectionId": call, "operationContext": "hold-2", "resultInformation": { "code": 400, "subCode": 8500 } });
    let body = call_event("Microsoft.Communication.HoldFailed", "e1", &failed).to_string();
    let post = world.app.client.post(format!("{}/platform/callbacks", world.app.public));
    let token = world.token();
    assert_eq!(post.bearer_auth(token).header("content-type", "application/json").body(body).send().await.unwrap().status(), 200);
    let failed = world.tagged("hold-2").await;
    assert_eq!((&failed["state"], &failed["flags"]), (&json!("failed"), &json!(["corrected"])));
    assert_eq!(count(&world.app.ledger(), "SELECT count(*) FROM request WHERE facts LIKE '%142555%'").await, 0);
    assert_eq!(count(&world.app.ledger(), "SELECT count(*) FROM notification WHERE facts LIKE '%142555%'").await, 0);
    assert!(count(&world.app.ledger(), "SELECT count(*) FROM notification WHERE facts LIKE '%\"roster\"%'").await > 3);
}

fn event(kind: &str, time: u32, more: &Value) -> Value {
    let mut data = json!({ "callConnectionId": "leg" });
    data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!([{ "id": format!("{kind} {time}"), "source": "s", "specversion": "1.0", "data": data,
             "type": format!("Microsoft.Communication.{kind}"), "time": format!("2026-01-01T00:00:0{time}Z") }])
}

fn roster(sequence: u32, on_hold: bool) -> Value {
    let people = json!([{ "identifier": number(2), "isMuted": false, "isOnHold": on_hold }]);
    event("ParticipantsUpdated", sequence, &json!({ "sequenceNumber": sequence, "participants": people }))
}

async fn ask(test: &TestLedger, kind: &str, on_hold: bool) -> RequestId {
    let facts = RequestFacts {
        name: kind.to_owned(),
        kind: kind.to_owned(),
        context: None,
        via: Via::Gateway,
        deadline: None,
        cancels: None,
        acts_on: None,
        conversation: None,
        shows: None,
    };
    let condition = Condition { on_hold: Some(on_hold), muted: None };
    let shows = Some(NamedPerson { raw_id: "4:+14255550102".to_owned(), condition });
    let call = PlatformId::parse("leg");
    let new = NewRequest { source: "acs", call, shows, requested_at: Timestamp::now(), idempotency: None, facts };
    test.ledger.request(&BOT, new).await.unwrap().request
}

async fn hear(test: &TestLedger, body: &Value) {
    test.ledger.record(&BOT, delivery_of("acs", body, Correlation::default())).await.unwrap();
}

async fn accepted(test: &TestLedger, request: RequestId) {
    let yes = AnswerFacts { status: Some(200), state: Some(State::Accepted), ..AnswerFacts::default() };
    test.ledger.answer(request, Timestamp::now(), yes, None).await.unwrap();
}

/// State, and whether it was inferred, of the operations of a kind, the eldest first, behind every grace period.
async fn said(test: &TestLedger, kind: &str) -> Vec<(State, bool)> {
    let later = Timestamp::now() + Duration::from_mins(2);
    let mut rows = operations_at(test.reader(), "leg", later).await;
    rows.sort_by_key(|row| row.id);
    rows.into_iter().filter(|row| row.kind == kind).map(|row| (row.state, row.flags.contains(&Flag::Inferred))).collect()
}

#[tokio::test]
async fn rosters_tell_the_same_in_whichever_order_they_come() {
    let words = [roster(3, false), roster(4, true), roster(5, false)];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for answered_first in [true, false] {
            let test = TestLedger::new().await;
            let (hold, unhold) = (ask(&test, "hold", true).await, ask(&test, "unhold", false).await);
            if answered_first {
                accepted(&test, hold).await;
            }
            for at in order {
                hear(&test, &words[at]).await;
            }
            accepted(&test, unhold).await;
            assert_eq!(said(&test, "hold").await, [(State::Completed, true)], "{order:?}");
            assert_eq!(said(&test, "unhold").await, [(State::Completed, true)], "{order:?}");
            test.agrees_with_its_facts().await;
        }
    }
}

#[tokio::test]
async fn a_roster_of_a_later_request_puts_nothing_right_in_an_earlier_one() {
    let test = TestLedger::new().await;
    let first = ask(&test, "hold", true).await;
    accepted(&test, first).await;
    hear(&test, &event("HoldFailed", 1, &json!({}))).await;
    let second = ask(&test, "hold", true).await;
    accepted(&test, second).await;
    hear(&test, &roster(2, true)).await;
    assert_eq!(said(&test, "hold").await, [(State::Failed, false), (State::Completed, true)]);
    let rows = operations_at(test.reader(), "leg", Timestamp::now()).await;
    assert!(rows.iter().all(|row| !row.flags.contains(&Flag::Corrected)), "{rows:#?}");
    test.agrees_with_its_facts().await;
}

#[tokio::test]
async fn a_roster_from_before_is_not_the_doing_of_a_request() {
    let test = TestLedger::new().await;
    hear(&test, &roster(4, true)).await;
    hear(&test, &roster(5, false)).await;
    let hold = ask(&test, "hold", true).await;
    accepted(&test, hold).await;
    hear(&test, &roster(3, true)).await; // was on its way for long
    assert_eq!(said(&test, "hold").await, [(State::Accepted, false)]);
    hear(&test, &roster(6, true)).await;
    assert_eq!(said(&test, "hold").await, [(State::Completed, true)]);
    test.agrees_with_its_facts().await;
}

#[tokio::test]
async fn of_what_no_roster_shows_silence_to_the_end_of_the_call_says_that_it_was_done() {
    let test = TestLedger::new().await;
    let (said_yes, lost) = (ask(&test, "hold", true).await, ask(&test, "unhold", false).await);
    accepted(&test, said_yes).await;
    test.ledger.answer(lost, Timestamp::now(), AnswerFacts::default(), None).await.unwrap();
    hear(&test, &event("CallDisconnected", 9, &json!({}))).await;
    assert_eq!(said(&test, "hold").await, [(State::Completed, true)]);
    assert_eq!(said(&test, "unhold").await, [(State::Completed, true)], "a failure would have been told");
    test.agrees_with_its_facts().await;
}

/// Nobody has written down yet what the end of the call means: readers tell it as it will be written.
#[tokio::test]
async fn what_ends_with_its_call_is_told_before_it_is_written() {
    let test = TestLedger::new().await;
    let media = |kind: &str, cancels: Option<Cancels>| RequestFacts {
        name: kind.to_owned(),
        kind: kind.to_owned(),
        context: None,
        via: Via::Gateway,
        deadline: None,
        cancels,
        acts_on: None,
        conversation: None,
        shows: None,
    };
    let hold = ask(&test, "hold", true).await;
    accepted(&test, hold).await;
    let request = async |facts: RequestFacts, state: State| {
        let call = PlatformId::parse("leg");
        let new = NewRequest { source: "acs", call, shows: None, requested_at: Timestamp::now(), idempotency: None, facts };
        let id = test.ledger.request(&BOT, new).await.unwrap().request;
        let yes = AnswerFacts { status: Some(202), state: Some(state), ..AnswerFacts::default() };
        test.ledger.answer(id, Timestamp::now(), yes, None).await.unwrap();
        id
    };
    let play = request(media("play", None), State::Accepted).await;
    let takes_back = Cancels::Media { kinds: vec!["play".to_owned()], all: true };
    let cancel = request(media("cancelAllMediaOperations", Some(takes_back)), State::Completed).await;
    hear(&test, &event("CallDisconnected", 9, &json!({}))).await;

    let later = Timestamp::now() + Duration::from_mins(2);
    let of_state = async |state: State| {
        let filter = OperationFilter { state: Some(state), ..OperationFilter::default() };
        let page = PageRequest { after: None, limit: 1 };
        test.reader().operations(&filter, page, later).await.unwrap().rows.remove(0)
    };
    assert_eq!(of_state(State::Failed).await.id.0, play.0);
    let rows = operations_at(test.reader(), "leg", later).await;
    let row = |request: RequestId| rows.iter().find(|row| row.id.0 == request.0).unwrap();
    assert_eq!((row(hold).state, row(play).state), (State::Completed, State::Failed));
    assert_eq!(row(cancel).links.escaped, [row(play).id]);
    let filter = OperationFilter { state: Some(State::Completed), ..OperationFilter::default() };
    let completed = test.reader().operations(&filter, ALL, later).await.unwrap().rows;
    assert_eq!(completed.iter().map(|row| row.id.0).collect::<Vec<_>>(), [cancel.0, hold.0]);
    test.agrees_with_its_facts().await;
}
