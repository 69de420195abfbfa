//! Call Automation: operations that are known by a tag that may be used again, and calls that end what is open in them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use callback_ledger::{
    domain::{clock::Clock, delivery::Correlation},
    store::{rebuild, verify},
};
use jiff::Timestamp;
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use super::{CALLS, LATER, NONE, Told, config, disturbed, holds, one_by_one, post, projection, told_by};
use crate::support::ledger::{TestLedger, count, delivery_of, options};

const TYPES: &[&str] = &[
    "PlayStarted",
    "PlayStarted",
    "PlayCompleted",
    "PlayCanceled",
    "PlayFailed",
    "RecognizeCompleted",
    "RecognizeCanceled",
    "AddParticipantSucceeded",
    "AddParticipantFailed",
    "CancelAddParticipantSucceeded",
    "TranscriptionStarted",
    "TranscriptionStopped",
    "ContinuousDtmfRecognitionToneReceived",
    "ContinuousDtmfRecognitionStopped",
    "RecordingStateChanged",
    "CallConnected",
    "CallDisconnected",
    "ParticipantsUpdated",
    "CreateCallFailed",
    "SomethingNew",
];

prop_compose! {
    fn event()(
        kind in select(TYPES),
        call in select(&CALLS[..]),
        context in select(vec![None, Some("a"), Some("b"), Some("d45324c1-fcb5-430a-902c-f20af696537c")]),
        ticks in proptest::option::weighted(0.9, 0..5_u32),
        code in select(vec![None, Some((200, 0)), Some((487, 5234)), Some((400, 8508))]),
        state in select(vec!["active", "inactive"]),
        (server, correlation) in (select(vec![None, Some("s1"), Some("s2")]), select(vec![None, Some("c1"), Some("c2")])),
    ) -> Value {
        let mut data = json!({ "callConnectionId": call, "participants": [{}] });
        for (name, value) in [("operationContext", context), ("serverCallId", server), ("correlationId", correlation)] {
            if let Some(value) = value {
                data[name] = value.into();
            }
        }
        if let Some((code, subcode)) = code {
            data["resultInformation"] = json!({ "code": code, "subCode": subcode, "message": "said so" });
        }
        if kind == "RecordingStateChanged" {
            data["recordingId"] = "r".into();
            data["state"] = state.into();
        }
        let mut event = json!({ "type": format!("Microsoft.Communication.{kind}"), "source": "calling", "data": data });
        if let Some(ticks) = ticks {
            event["time"] = format!("2026-01-01T00:00:00.00000{ticks:02}+00:00").into();
        }
        event
    }
}

/// Each event has an id of its own, in no order that means anything.
fn life() -> impl Strategy<Value = Vec<Told>> {
    proptest::collection::vec(event(), 1..24).prop_map(|events| {
        let named = |(at, mut event): (usize, Value)| {
            match at % 5 {
                0 => event["id"] = Value::Null, // told apart by their content alone
                1 => event["source"] = format!("calling/{at}").into(),
                _ => {}
            }
            if at % 5 != 0 {
                event["id"] = format!("{}{}", "i".repeat(300), at * 7 % if at % 5 == 1 { 2 } else { 24 }).into();
            }
            Told { item: event, correlation: Correlation::default() }
        };
        events.into_iter().enumerate().map(named).collect()
    })
}

fn write(items: &[Value], correlation: Correlation) -> callback_ledger::domain::delivery::Delivery {
    delivery_of("acs", &Value::from(items), correlation)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_the_ledger_says_does_not_depend_on_the_order_nor_the_company_in_which_events_come(
        life in life(),
        seed in any::<u64>(),
    ) {
        holds(&life, seed, write)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 20, ..config() })]

    /// Half of a life comes before the end of the grace period is written down, half behind.
    #[test]
    fn what_time_has_decided_is_the_same_written_down_or_not(life in life(), seed in any::<u64>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let reference = told_by(&one_by_one(&life), false, write).await;
            let test = TestLedger::with(|path| {
                let later = Arc::new(AtomicBool::new(false));
                let told = Arc::clone(&later);
                let clock = Clock::from_fn(move || {
                    if told.load(Ordering::SeqCst) { Timestamp::now() + LATER } else { Timestamp::now() }
                });
                (callback_ledger::store::Options { clock, ..options(path) }, later)
            })
            .await;
            let (test, later) = test;
            let deliveries = disturbed(&life, seed);
            let (before, behind) = deliveries.split_at(deliveries.len() / 2);
            for delivery in before {
                post(&test.ledger, delivery, write).await;
            }
            later.store(true, Ordering::SeqCst);
            settled(&test).await;
            assert_eq!(rebuild(&test.options).await.unwrap(), [], "once the end was written down");
            for delivery in behind {
                post(&test.ledger, delivery, write).await;
            }
            assert_eq!(rebuild(&test.options).await.unwrap(), [], "with what came behind");
            let said = projection(test.reader(), Timestamp::now() + LATER + LATER).await;
            prop_assert_eq!(said.differences(&reference), NONE);
            prop_assert_eq!(verify(test.reader()).await.unwrap(), []);
            test.close().await;
            Ok(())
        })?;
    }
}

/// Waits until every end that is due has been written down.
async fn settled(test: &TestLedger) {
    for _ in 0..400 {
        if count(test.path(), "SELECT count(*) FROM call WHERE settled = 0 AND lapses_at IS NOT NULL").await == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the ends of calls are never written down");
}
