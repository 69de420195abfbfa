//! What bots ask for is a fact like any other: written down before it is sent, so it comes first here; its answer and the
//! notifications come when they like.

use callback_ledger::{
    domain::{
        delivery::Correlation,
        ids::{OperationId, PlatformId, RequestId},
        operation::{Flag, Links, State},
        request::{AnswerFacts, Cancels, RequestFacts, Via},
    },
    store::{LedgerReader, NewRequest, rebuild, verify},
};
use jiff::Timestamp;
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use super::{LATER, NONE, config};
use crate::support::ledger::{BOT, TestLedger, correlated, delivery_of, envelope, item, operations_at};

const CALL: &str = "c";

/// What comes behind the requests.
#[derive(Clone, Debug)]
enum Word {
    Notification(Value),
    Answer(usize, AnswerFacts),
}

#[derive(Clone, Debug)]
struct Life {
    source: &'static str,
    requests: Vec<RequestFacts>,
    words: Vec<Word>,
}

fn context() -> impl Strategy<Value = Option<String>> {
    select(vec![None, Some("a".to_owned()), Some("b".to_owned()), Some("B".to_owned())])
}

fn kind(source: &str) -> impl Strategy<Value = &'static str> + use<> {
    select(match source {
        "graph" => vec!["recordOperation", "playPromptOperation", "cancelMediaProcessingOperation", "subscribeToToneOperation"],
        _ => vec!["play", "recognize", "cancelAllMediaOperations", "addParticipant", "cancelAddParticipant"],
    })
}

prop_compose! {
    fn request(source: &'static str)(
        kind in kind(source),
        context in context(),
        via in select(vec![Via::Gateway, Via::Registered]),
        all in proptest::bool::ANY,
    ) -> RequestFacts {
        let media = |kinds: [&str; 2]| Some(Cancels::Media { kinds: kinds.map(str::to_owned).to_vec(), all });
        let cancels = match kind {
            "cancelMediaProcessingOperation" => media(["recordOperation", "playPromptOperation"]),
            "cancelAllMediaOperations" => media(["play", "recognize"]),
            "cancelAddParticipant" => PlatformId::parse("invitation").map(Cancels::Invitation),
            _ => None,
        };
        RequestFacts { name: kind.to_owned(), kind: kind.to_owned(), context, via, deadline: None, cancels, acts_on: None, conversation: None, shows: None }
    }
}

prop_compose! {
    fn answer()(
        state in select(vec![None, Some(State::Accepted), Some(State::Running), Some(State::Completed), Some(State::Failed), Some(State::Refused)]),
        ids in proptest::collection::vec(select(vec!["o1", "o2", "o3"]), 0..3),
        invitation in proptest::bool::ANY,
        status in select(vec![200, 404, 504]),
        never_sent in proptest::bool::weighted(0.1),
    ) -> AnswerFacts {
        AnswerFacts {
            never_sent,
            status: state.map(|_| status),
            state,
            operation_ids: ids.into_iter().filter_map(PlatformId::parse).collect(),
            invitation_id: PlatformId::parse("invitation").filter(|_| invitation),
            ..AnswerFacts::default()
        }
    }
}

prop_compose! {
    fn graph_word()(
        id in select(vec!["o1", "o2", "o3", "o4"]),
        kind in select(vec!["recordOperation", "playPromptOperation", "commsOperation", "cancelMediaProcessingOperation"]),
        context in context(),
        (change, status) in select(vec![("updated", "running"), ("deleted", "completed"), ("deleted", "failed")]),
        code in select(vec![8508, 8519]),
    ) -> Value {
        let mut data = json!({ "@odata.type": format!("#microsoft.graph.{kind}"), "status": status });
        if status == "failed" {
            data["resultInfo"] = json!({ "code": 400, "subcode": code });
        }
        if let Some(context) = context {
            data["clientContext"] = context.into();
        }
        item(change, &format!("calls/{CALL}/operations/{id}"), &data)
    }
}

prop_compose! {
    fn acs_word()(
        kind in select(vec!["PlayStarted", "PlayCompleted", "PlayCanceled", "RecognizeCanceled", "AddParticipantSucceeded",
                            "AddParticipantFailed", "CancelAddParticipantSucceeded", "CallDisconnected"]),
        context in context(),
        ticks in 0..4_u32,
        id in any::<u32>(),
    ) -> Value {
        let mut data = json!({ "callConnectionId": CALL });
        if kind.starts_with("Cancel") {
            data["invitationId"] = "invitation".into();
        }
        if let Some(context) = context {
            data["operationContext"] = context.into();
        }
        json!({ "id": id.to_string(), "source": "s", "type": format!("Microsoft.Communication.{kind}"), "data": data,
                "time": format!("2026-01-01T00:00:00.00000{ticks:02}Z") })
    }
}

fn life() -> impl Strategy<Value = Life> {
    select(vec!["graph", "acs"]).prop_flat_map(|source| {
        let words = match source {
            "graph" => proptest::collection::vec(graph_word(), 0..8).boxed(),
            _ => proptest::collection::vec(acs_word(), 0..8).boxed(),
        };
        (proptest::collection::vec((request(source), proptest::option::of(answer())), 1..5), words).prop_map(
            move |(asked, words)| {
                let answers = asked.iter().enumerate().filter_map(|(at, (_, answer))| Some(Word::Answer(at, answer.clone()?)));
                Life {
                    source,
                    words: words.into_iter().map(Word::Notification).chain(answers).collect(),
                    requests: asked.iter().map(|(request, _)| request.clone()).collect(),
                }
            },
        )
    })
}

/// An operation as it is told, ids aside: others are named by what they are.
fn said(rows: &[callback_ledger::store::rows::OperationRow], index: usize, requests: &[RequestId]) -> String {
    let row = &rows[index];
    let named = |id: &OperationId| {
        let asked = requests.iter().position(|request| request.0 == id.0);
        let other = rows.iter().find(|row| row.id == *id);
        format!("{asked:?} {:?}", other.map(|row| (row.kind.clone(), row.context.clone(), row.operation_id.clone(), row.state)))
    };
    let all = |ids: &[OperationId]| {
        let mut told: Vec<String> = ids.iter().map(named).collect();
        told.sort();
        told
    };
    let Links { canceled_by, cancels, escaped, candidates } = &row.links;
    let links = (canceled_by.as_ref().map(named), all(cancels), all(escaped), all(candidates));
    let flags: Vec<Flag> = row.flags.iter().copied().filter(|flag| !matches!(flag, Flag::Late | Flag::Corrected)).collect();
    let passed = (row.requested_at.is_some(), row.accepted_at.is_some(), row.started_at.is_some(), row.finished_at.is_some());
    let what = (&row.kind, &row.context, &row.operation_id, row.state, &row.result);
    format!("{what:?} {flags:?} {passed:?} {links:?} {}", row.notifications)
}

async fn projection(reader: &LedgerReader, requests: &[RequestId]) -> Vec<String> {
    let rows = operations_at(reader, CALL, Timestamp::now() + LATER).await;
    let mut all: Vec<String> = (0..rows.len()).map(|at| said(&rows, at, requests)).collect();
    all.sort();
    for row in &rows {
        let history = reader.history(row.id, Timestamp::now() + LATER).await.unwrap().unwrap();
        assert_eq!(history.last().map(|step| step.to), Some(row.state), "the history ends where the operation stands");
    }
    all
}

async fn told_by(life: &Life, order: &[usize], twice: bool) -> Vec<String> {
    let test = TestLedger::new().await;
    let mut ids = Vec::new();
    for facts in &life.requests {
        let source = callback_ledger::source::source(life.source).unwrap().name();
        let call = PlatformId::parse(CALL);
        let request =
            NewRequest { source, call, shows: None, requested_at: Timestamp::now(), idempotency: None, facts: facts.clone() };
        ids.push(test.ledger.request(&BOT, request).await.unwrap().request);
    }
    for at in order {
        for _ in 0..if twice { 2 } else { 1 } {
            match &life.words[*at] {
                Word::Notification(item) if life.source == "graph" => {
                    let body = correlated(&envelope(std::slice::from_ref(item)), Correlation::default());
                    test.ledger.record(&BOT, body).await.unwrap();
                }
                Word::Notification(event) => {
                    let body = delivery_of("acs", &json!([event]), Correlation::default());
                    test.ledger.record(&BOT, body).await.unwrap();
                }
                Word::Answer(request, facts) => {
                    test.ledger.answer(ids[*request], Timestamp::now(), facts.clone(), None).await.unwrap();
                }
            }
        }
    }
    let said = projection(test.reader(), &ids).await;
    assert_eq!(rebuild(&test.options).await.unwrap(), [], "the projections are not what their facts say");
    assert_eq!(verify(test.reader()).await.unwrap(), []);
    test.close().await;
    said
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_the_ledger_says_of_requests_does_not_depend_on_when_their_answers_and_outcomes_come(life in life(), seed in any::<u64>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut order: Vec<usize> = (0..life.words.len()).collect();
            let reference = told_by(&life, &order, false).await;
            let mut random = fastrand::Rng::with_seed(seed);
            for twice in [false, true] {
                random.shuffle(&mut order);
                let told = told_by(&life, &order, twice).await;
                let missing: Vec<_> = reference.iter().filter(|line| !told.contains(line)).cloned().collect();
                let added: Vec<_> = told.iter().filter(|line| !reference.contains(line)).cloned().collect();
                prop_assert_eq!((missing, added), (NONE, NONE), "order {:?}", order);
                prop_assert_eq!(told.len(), reference.len());
            }
            Ok(())
        })?;
    }
}
