//! Graph: operations that have ids, ends that contradict each other, headers.

use callback_ledger::domain::delivery::Correlation;
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use super::{CALLS, Told, config, holds};
use crate::support::ledger::{correlated, envelope, item};

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

/// Operations bear no more than a Message-ID here: the end of one is the same under every one of them.
fn correlation(headers: u8, of_an_operation: bool) -> Correlation {
    let of_call = (headers > 0 && !of_an_operation).then(|| format!("{headers}"));
    Correlation {
        scenario_id: of_call.clone(),
        chain_id: of_call,
        message_id: (headers > 0).then(|| format!("m{headers}")),
        client_request_id: None,
    }
}

prop_compose! {
    fn told()(
        (change, part, data) in prop_oneof![6 => about_an_operation(), 3 => about_the_call(), 1 => roster()],
        call in select(&CALLS[..]),
        headers in 0..4_u8,
    ) -> Told {
        let resource = format!("calls/{call}/{part}");
        let item = item(&change, resource.trim_end_matches('/'), &data);
        Told { item, correlation: correlation(headers, part.contains("operations")) }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_the_ledger_says_does_not_depend_on_the_order_nor_the_company_in_which_facts_come(
        life in proptest::collection::vec(told(), 1..24),
        seed in any::<u64>(),
    ) {
        holds(&life, seed, |items, correlation| correlated(&envelope(items), correlation))?;
    }
}
