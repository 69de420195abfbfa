//! Every fixture of the project, through the front door.

use std::path::{Path, PathBuf};

use callback_ledger::source::{SOURCES, redacted};
use serde_json::Value;

use crate::support::app::TestApp;

/// Whether `actual` has everything that `expected` names.
fn includes(actual: &Value, expected: &Value) -> bool {
    match (actual, expected) {
        (Value::Object(actual), Value::Object(expected)) => {
            expected.iter().all(|(name, value)| includes(actual.get(name).unwrap_or(&Value::Null), value))
        }
        (Value::Array(actual), Value::Array(expected)) => {
            actual.len() == expected.len() && actual.iter().zip(expected).all(|(actual, expected)| includes(actual, expected))
        }
        (actual, expected) => actual == expected,
    }
}

#[tokio::test]
async fn every_fixture_of_graph_is_answered_kept_and_told_as_it_expects() {
    every_fixture("graph", 60).await;
}

#[tokio::test]
async fn every_fixture_of_acs_is_answered_kept_and_told_as_it_expects() {
    every_fixture("acs", 100).await;
}

#[tokio::test]
async fn every_fixture_of_event_grid_is_answered_kept_and_told_as_it_expects() {
    every_fixture("event-grid", 30).await;
}

#[test]
fn every_source_has_fixtures() {
    for source in SOURCES {
        assert!(folder(source.name()).is_dir(), "{}", source.name());
    }
}

fn folder(source: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(source)
}

async fn every_fixture(of: &'static str, at_least: usize) {
    let mut cases: Vec<_> = std::fs::read_dir(folder(of)).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= at_least, "only {} fixtures", cases.len());
    for case in cases {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let body = std::fs::read(case.join("body.json")).unwrap();
        let expected: Value = serde_json::from_slice(&std::fs::read(case.join("expect.json")).unwrap()).unwrap();
        let app = TestApp::of(of).await;

        let answered = app.post(body.clone()).await;
        assert_eq!(Value::from(answered.status.as_u16()), expected["status"], "{name}");
        if !expected["reply"].is_null() {
            assert_eq!(answered.json(), expected["reply"], "{name}");
        }

        let mut notifications = app.list("/v1/notifications").await;
        notifications.reverse();
        let told = Value::from(notifications);
        assert!(includes(&told, &expected["notifications"]), "{name}: {told:#}\nexpected {:#}", expected["notifications"]);
        for notification in told.as_array().unwrap() {
            let raw = app.get(&format!("/v1/notifications/{}/raw", notification["id"].as_str().unwrap())).await;
            match redacted(body.clone()) {
                Some(shown) => assert_eq!(raw.body, shown, "{name}: the body is kept as it came, and shown without secrets"),
                None => assert_eq!(raw.status.as_u16(), 403, "{name}: what cannot be taken apart is not shown"),
            }
        }

        let mut operations = app.list("/v1/operations").await;
        operations.reverse();
        let told = Value::from(operations);
        assert!(includes(&told, &expected["operations"]), "{name}: {told:#}\nexpected {:#}", expected["operations"]);

        if let Some(id) = expected["call"]["callId"].as_str() {
            let told = app.get(&format!("/v1/calls/{id}")).await.json();
            assert!(includes(&told, &expected["call"]), "{name}: {told:#}\nexpected {:#}", expected["call"]);
        }
    }
}
