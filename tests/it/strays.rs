//! Requests that name no call find the one that they belong to, in whichever order the words come that lead there.

use callback_ledger::{
    domain::{
        delivery::Correlation,
        ids::{PlatformId, RequestId},
        operation::{Flag, State},
        request::{AnswerFacts, RequestFacts, Via},
    },
    store::NewRequest,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::ledger::{BOT, TestLedger, delivery_of, operations_of};

const CONVERSATION: &str = "aHR0cHM6Ly9jb252Lw==";

/// What comes behind the requests.
#[derive(Clone, Debug)]
enum Word {
    Event(Value),
    /// To the request at this place: what it says, and the call that it names.
    Answer(usize, AnswerFacts, Option<&'static str>),
}

fn event(kind: &str, call: &str, more: &Value) -> Word {
    let mut data = json!({ "callConnectionId": call, "serverCallId": CONVERSATION });
    data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Word::Event(json!([{ "id": format!("{kind} {call} {more}"), "source": "s", "specversion": "1.0",
                         "type": format!("Microsoft.Communication.{kind}"), "data": data, "time": "2026-01-01T00:00:00Z" }]))
}

fn answered(ids: &[&str]) -> AnswerFacts {
    let operation_ids = ids.iter().filter_map(|id| PlatformId::parse(id)).collect();
    AnswerFacts { status: Some(200), state: Some(State::Accepted), operation_ids, ..AnswerFacts::default() }
}

fn facts(kind: &str, context: Option<&str>) -> RequestFacts {
    RequestFacts {
        name: kind.to_owned(),
        kind: kind.to_owned(),
        context: context.map(str::to_owned),
        via: Via::Gateway,
        deadline: None,
        cancels: None,
        acts_on: None,
        conversation: None,
        shows: None,
    }
}

async fn request(test: &TestLedger, facts: RequestFacts, conversation: Option<&str>) -> RequestId {
    let facts = RequestFacts { conversation: conversation.and_then(PlatformId::parse), ..facts };
    let new = NewRequest { source: "acs", call: None, shows: None, requested_at: Timestamp::now(), idempotency: None, facts };
    test.ledger.request(&BOT, new).await.unwrap().request
}

async fn hear(test: &TestLedger, word: &Word, requests: &[RequestId]) {
    match word {
        Word::Event(body) => {
            test.ledger.record(&BOT, delivery_of("acs", body, Correlation::default())).await.unwrap();
        }
        Word::Answer(request, facts, call) => {
            let call = call.and_then(PlatformId::parse);
            test.ledger.answer(requests[*request], Timestamp::now(), facts.clone(), call).await.unwrap();
        }
    }
}

/// Every order of these.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(count - 1);
    let put = |order: Vec<usize>| {
        (0..count).map(move |at| {
            let mut order = order.clone();
            order.insert(at, count - 1);
            order
        })
    };
    shorter.into_iter().flat_map(put).collect()
}

/// The operations of a call: kind, context, state, marks that are not about order, notifications.
async fn said(test: &TestLedger, call: &str) -> Vec<(String, Option<String>, State, Vec<Flag>, i64)> {
    let rows = operations_of(test.reader(), call).await;
    let mut said: Vec<_> = rows
        .into_iter()
        .map(|row| {
            let flags = row.flags.into_iter().filter(|flag| !matches!(flag, Flag::Late | Flag::Corrected)).collect();
            (row.kind, row.context, row.state, flags, row.notifications)
        })
        .collect();
    said.sort();
    said
}

/// One tag in three spellings.
const TAGS: [&str; 3] =
    ["c2f6a8d4-6c1c-4b5e-8a44-2d1b7f3e9001", "C2F6A8D46C1C4B5E8A442D1B7F3E9001", "C2F6A8D4-6C1C-4B5E-8A44-2D1B7F3E9001"];

#[tokio::test]
async fn a_call_whose_answer_was_lost_is_found_by_its_tag_beside_one_that_was_answered() {
    let words = [
        Word::Answer(0, AnswerFacts::default(), None),
        Word::Answer(1, answered(&[]), Some("leg-2")),
        event("CallConnected", "leg-1", &json!({ "operationContext": TAGS[0] })),
        event("CallConnected", "leg-2", &json!({ "operationContext": TAGS[2] })),
    ];
    for order in orders(words.len()) {
        let test = TestLedger::new().await;
        let requests = [
            request(&test, facts("createCall", Some(TAGS[0])), None).await,
            request(&test, facts("createCall", Some(TAGS[1])), None).await,
        ];
        for at in &order {
            hear(&test, &words[*at], &requests).await;
        }
        let completed = |context: &str, flags: &[Flag]| {
            ("createCall".to_owned(), Some(context.to_owned()), State::Completed, flags.to_vec(), 1)
        };
        assert_eq!(said(&test, "leg-1").await, [completed(TAGS[0], &[Flag::Unanswered])], "{order:?}");
        assert_eq!(said(&test, "leg-2").await, [completed(TAGS[2], &[])], "{order:?}");
        test.agrees_with_its_facts().await;
    }
}

#[tokio::test]
async fn a_call_that_is_registered_by_its_tag_is_found_before_and_after_it_is_told() {
    for (word, kind, state) in
        [("CallConnected", "createCall", State::Completed), ("CreateCallFailed", "createCall", State::Failed)]
    {
        for registered_first in [true, false] {
            let test = TestLedger::new().await;
            let word = event(word, "leg-1", &json!({ "operationContext": "out" }));
            let registered = || RequestFacts { via: Via::Registered, ..facts(kind, Some("out")) };
            if registered_first {
                request(&test, registered(), None).await;
                hear(&test, &word, &[]).await;
            } else {
                hear(&test, &word, &[]).await;
                request(&test, registered(), None).await;
            }
            assert_eq!(
                said(&test, "leg-1").await,
                [(kind.to_owned(), Some("out".to_owned()), state, Vec::new(), 1)],
                "{registered_first}"
            );
            test.agrees_with_its_facts().await;
        }
    }
}

#[tokio::test]
async fn a_recording_whose_answer_was_lost_is_found_by_its_conversation() {
    let words = [
        Word::Answer(0, AnswerFacts::default(), None),
        event("CallConnected", "leg-1", &json!({})),
        event("CallConnected", "leg-2", &json!({})),
        event("RecordingStateChanged", "leg-2", &json!({ "recordingId": "r1", "state": "active" })),
    ];
    for order in orders(words.len()) {
        let test = TestLedger::new().await;
        let start = request(&test, facts("startRecording", None), Some(CONVERSATION)).await;
        for at in &order {
            hear(&test, &words[*at], &[start]).await;
        }
        let told = ("startRecording".to_owned(), None, State::Running, vec![Flag::Unanswered], 1);
        assert_eq!(said(&test, "leg-2").await, [told], "{order:?}");
        assert_eq!(said(&test, "leg-1").await, [], "{order:?}");
        test.agrees_with_its_facts().await;
    }
}

#[tokio::test]
async fn of_two_calls_that_were_lost_under_one_tag_none_is_guessed() {
    let test = TestLedger::new().await;
    let asked = || facts("createCall", Some("out"));
    let requests = [request(&test, asked(), None).await, request(&test, asked(), None).await];
    for word in [
        Word::Answer(0, AnswerFacts::default(), None),
        event("CallConnected", "leg-1", &json!({ "operationContext": "out" })),
        event("CallConnected", "leg-2", &json!({ "operationContext": "out" })),
        Word::Answer(1, AnswerFacts::default(), None),
    ] {
        hear(&test, &word, &requests).await;
    }
    assert_eq!((said(&test, "leg-1").await, said(&test, "leg-2").await), (Vec::new(), Vec::new()));
    for request in requests {
        let place = operations_of(test.reader(), &format!("request/{request}")).await;
        assert_eq!((place.len(), place[0].state), (1, State::Requested));
    }
    test.agrees_with_its_facts().await;
}

#[tokio::test]
async fn a_recording_of_a_conversation_belongs_to_the_call_that_its_notifications_name() {
    let recorded = |state: &str| event("RecordingStateChanged", "leg-2", &json!({ "recordingId": "r1", "state": state }));
    let words = [
        event("CallConnected", "leg-1", &json!({})),
        event("CallConnected", "leg-2", &json!({})),
        Word::Answer(0, answered(&["r1"]), None),
        recorded("active"),
        recorded("inactive"),
    ];
    for before in [0, 1, 2] {
        for order in orders(words.len() - before) {
            let test = TestLedger::new().await;
            for word in &words[..before] {
                hear(&test, word, &[]).await;
            }
            let start = request(&test, facts("startRecording", None), Some(CONVERSATION)).await;
            for at in &order {
                hear(&test, &words[before + at], &[start]).await;
            }
            let told = ("startRecording".to_owned(), None, State::Completed, Vec::new(), 2);
            assert_eq!(said(&test, "leg-2").await, [told], "{before} {order:?}");
            assert_eq!(said(&test, "leg-1").await, [], "{before} {order:?}");
            let stop =
                request(&test, RequestFacts { acts_on: PlatformId::parse("r1"), ..facts("stopRecording", None) }, None).await;
            hear(&test, &Word::Answer(0, AnswerFacts { state: Some(State::Completed), ..answered(&[]) }, None), &[stop]).await;
            let stopped = ("stopRecording".to_owned(), None, State::Completed, Vec::new(), 0);
            assert!(said(&test, "leg-2").await.contains(&stopped), "{before} {order:?}");
            test.agrees_with_its_facts().await;
        }
    }
}
