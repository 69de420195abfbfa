//! The clients that the README shows, as they stand there: over a server that is killed they print every event once and in order.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use super::tail::{free_address, post};
use crate::support::child::{Served, token};

/// A block of code out of the README, pointed at this address.
fn shown(language: &str, private: &str) -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let feed = readme.split("## What changes, as it happens").nth(1).unwrap();
    let block = feed.split(&format!("```{language}\n")).nth(1).unwrap().split("```").next().unwrap();
    let code = block.replace("http://127.0.0.1:8081/v1/events", &format!("{private}/v1/events?type=operation"));
    assert_ne!(code, block, "the {language} client names no address");
    code
}

/// A client that is ended with its test.
struct Running(Child, BufReader<ChildStdout>);

impl Running {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _dead = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn prints_every_event_once(language: &str, file: &str, runtime: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (token, bind) = (token(folder.path()), free_address());
    let file = folder.path().join(file);
    std::fs::write(&file, shown(language, &format!("http://{bind}"))).unwrap();
    let served = Served::start_at(folder.path(), "", &bind);
    let started = Command::new(runtime).arg(&file).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let Ok(mut client) = started else {
        eprintln!("skipped: there is no {runtime} here");
        return;
    };
    let lines = BufReader::new(client.stdout.take().unwrap());
    let mut client = Running(client, lines);
    // it follows once it is counted among those that do
    while !follows(&served) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    post(&served, &token, "o1");
    let first = client.line();
    assert!(first.starts_with("operation op_") && first.trim_end().ends_with("canceled"), "{first}");
    served.sigkill();
    let served = Served::start_at(folder.path(), "", &bind);
    // before the client is back
    post(&served, &token, "o2");
    let second = client.line();
    assert!(second.starts_with("operation op_") && second != first, "{first}{second}");
}

/// Whether anybody follows.
fn follows(served: &Served) -> bool {
    let url = format!("{}/metrics", served.private);
    let metrics = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap().text().await.unwrap()
    });
    metrics.lines().any(|line| line == "callback_ledger_followers 1")
}

#[test]
fn the_python_client_of_the_readme_misses_nothing() {
    prints_every_event_once("python", "feed.py", "python3");
}

#[test]
fn the_javascript_client_of_the_readme_misses_nothing() {
    prints_every_event_once("js", "feed.mjs", "node");
}
