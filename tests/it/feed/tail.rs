//! `tail` through the built binary.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Stdio},
};

use reqwest::StatusCode;
use serde_json::Value;

use super::ended;
use crate::support::{
    bot::own_address,
    child::{Served, binary, configuration, token},
};

/// A running `tail` whose lines can be read.
struct Tail {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Tail {
    fn start(folder: &std::path::Path, arguments: &[&str]) -> Self {
        let mut child = binary(folder).arg("tail").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    /// Asks it to end, and returns its exit code and what it said besides.
    fn end(mut self) -> (Option<i32>, String) {
        std::process::Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _dead = self.child.kill();
        let _reaped = self.child.wait();
    }
}

pub fn post(served: &Served, token: &str, operation: &str) {
    let body = ended("c1", operation, 8508).to_string();
    let url = format!("{}/api/calls", served.public);
    let posted = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .post(url)
            .bearer_auth(token)
            .body(body)
            .send()
            .await
            .unwrap()
            .status()
    });
    assert_eq!(posted, StatusCode::ACCEPTED);
}

#[test]
fn tail_prints_what_happens_and_comes_back_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let token = token(folder.path());
    let bind = free_address();
    let served = Served::start_at(folder.path(), "", &bind);
    let mut tail = Tail::start(
        folder.path(),
        &["--url", &served.private, "--after", "0", "--kind", "recordOperation", "--type", "operation"],
    );
    post(&served, &token, "o1");
    let told: Value = serde_json::from_str(&tail.line()).unwrap();
    assert_eq!((told["operationId"].as_str(), told["change"]["state"].as_str()), (Some("o1"), Some("canceled")));

    served.sigkill();
    let served = Served::start_at(folder.path(), "", &bind);
    post(&served, &token, "o2");
    let told: Value = serde_json::from_str(&tail.line()).unwrap();
    assert_eq!(told["operationId"], "o2");
    let (code, said) = tail.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("interrupted: ") && said.contains("connected again"), "{said}");
}

#[test]
fn tail_reads_a_ledger_that_nobody_serves_and_filters_by_state() {
    let folder = tempfile::tempdir().unwrap();
    let token = token(folder.path());
    let served = Served::start(folder.path());
    post(&served, &token, "o1");
    served.sigterm();
    let file = configuration(folder.path()).display().to_string();
    let arguments = ["--config", &file, "--after", "0", "--state", "canceled", "--output", "table", "--call", "C1"];
    // an id that is no GUID is taken as it is
    let mut none = Tail::start(folder.path(), &arguments);
    let mut tail = Tail::start(folder.path(), &[&arguments[..8], &["--call", "c1"]].concat());
    let lines = [tail.line(), tail.line()];
    assert!(lines[0].contains("notification  recordOperation"), "{lines:?}");
    assert!(lines[1].contains("operation     recordOperation") && lines[1].contains("canceled (8508)"), "{lines:?}");
    assert!(lines[1].contains("c1") && lines[1].trim_end().ends_with("tag-o1"), "{lines:?}");
    assert!(!lines[1].contains('\u{1b}'), "colours in a pipe: {lines:?}");
    none.child.kill().unwrap();
    assert_eq!(none.line(), "");
}

#[test]
fn tail_says_what_is_wrong_with_where_it_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("http://{}", free_address());
    let mut tail = Tail::start(folder.path(), &["--url", &address]);
    assert_eq!(tail.line(), "");
    assert_eq!(tail.child.wait().unwrap().code(), Some(1));
}

/// An address that is free now.
pub fn free_address() -> String {
    std::net::TcpListener::bind((own_address(), 0)).unwrap().local_addr().unwrap().to_string()
}
