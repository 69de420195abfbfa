//! Bots written with Microsoft's own SDKs, in front of the gateway with a simulated platform behind it, and behind what is forwarded:
//! nothing in them had to change but one address.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use callback_ledger::domain::clock::Clock;
use jiff::Timestamp;

use serde_json::{Value, json};

use crate::support::{
    app::{Settings, TestApp, graph},
    child::{Served, Simulated, hash_of, issuer_key, run},
    fake_issuer::{AUDIENCE, FakeIssuer},
};

/// What a bot answers whose SDK is not installed.
const NOT_INSTALLED: i32 = 77;

/// Our token, of which the configuration holds the hash.
const TOKEN: &str = "the-bots-own";

/// A platform, a service whose gateway leads there, and the call that the bot has lived; `None` where its SDK is not installed.
fn lived(folder: &Path, platform: &str, script: &str, [base, receiver, more]: [&str; 3]) -> Option<(Simulated, Served, String)> {
    let key = issuer_key(folder).display().to_string();
    let simulated = Simulated::start(folder, &[platform, "--issuer-key", &key, "--latency", "5", "--media", "60000"]);
    let gateway = format!("[gateway]\n{platform} = \"{}\"\npass_unrecognised = true\n{more}", simulated.url());
    let served = Served::start_with(folder, &gateway);
    let told = std::env::var_os("REFEREE_PYTHON");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bots").join(script);
    let (gateway, callback) = (format!("{}/gateway/{base}", served.private), format!("{}{receiver}", served.public));
    let bot = Command::new(told.clone().unwrap_or_else(|| "python3".into()))
        .arg(script)
        .args([&gateway, &callback])
        .env("CALLBACK_LEDGER_TOKEN", TOKEN)
        .output();
    let Ok(Output { status, stdout, stderr }) = bot else {
        assert!(told.is_none(), "REFEREE_PYTHON cannot be run");
        eprintln!("skipped: there is no python3 here");
        return None;
    };
    let said = String::from_utf8_lossy(&stderr);
    if status.code() == Some(NOT_INSTALLED) && told.is_none() {
        eprintln!("skipped: {said}");
        return None;
    }
    assert!(status.success(), "{said}");
    Some((simulated, served, String::from_utf8_lossy(&stdout).trim().to_owned()))
}

/// The operation of this kind in the call, once it has ended.
fn ended(folder: &Path, served: &Served, call: &str, kind: &str) -> Value {
    let wait = ["operations", "wait", "--url", &served.private, "--api-token", TOKEN, "--timeout", "20", "--output", "ndjson"];
    let waited = run(folder, &[&wait[..], &["--call", call, "--kind", kind]].concat());
    let told = String::from_utf8_lossy(&waited.stdout);
    serde_json::from_str(told.trim()).unwrap_or_else(|_| panic!("{kind}: {waited:?}"))
}

#[test]
fn a_bot_of_the_call_automation_sdk_needs_another_address_and_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("access-key");
    std::fs::write(&key, "c2VjcmV0LWtleQ==").unwrap();
    let hash = hash_of(TOKEN);
    let signing = format!(
        "[gateway.credentials.acs]\naccess_key_file = \"{}\"\n[[private.token]]\nname = \"bot\"\nsha256 = \"{hash}\"\nscopes = [\"read\", \"write\"]\n",
        key.display()
    );
    let Some((_platform, served, call)) = lived(folder.path(), "acs", "call_automation.py", ["acs", "/api/callbacks", &signing])
    else {
        return;
    };
    for (kind, context, state) in [
        ("createCall", Some("call"), "completed"),
        ("addParticipant", Some("add"), "canceled"),
        ("cancelAddParticipant", Some("take-back"), "completed"),
        ("play", Some("prompt"), "canceled"),
        ("recognize", Some("recognize"), "canceled"),
        ("cancelAllMediaOperations", None, "completed"),
        ("startRecording", None, "completed"),
        ("mute", Some("mute"), "completed"),
        ("hold", Some("hold"), "completed"),
        ("sendDtmfTones", Some("tones"), "completed"),
        ("terminateCall", None, "completed"),
    ] {
        let told = ended(folder.path(), &served, &call, kind);
        assert_eq!((&told["state"], &told["context"]), (&json!(state), &json!(context)), "{told:#}");
        assert!(!told["flags"].as_array().unwrap().contains(&json!("unrequested")), "{told:#}");
    }
}

#[test]
fn a_bot_of_the_graph_sdk_needs_another_address_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let Some((_platform, served, call)) = lived(folder.path(), "graph", "graph.py", ["graph/v1.0", "/api/calls", ""]) else {
        return;
    };
    for (kind, context, state) in [
        ("createCall", None, "completed"),
        ("playPromptOperation", Some("prompt"), "canceled"),
        ("subscribeToToneOperation", Some("tones"), "completed"),
        ("cancelMediaProcessingOperation", Some("cancel"), "completed"),
        ("deleteCall", None, "completed"),
    ] {
        let told = ended(folder.path(), &served, &call, kind);
        assert_eq!((&told["state"], &told["context"]), (&json!(state), &json!(context)), "{told:#}");
    }
    let list = run(
        folder.path(),
        &[
            "operations",
            "list",
            "--url",
            &served.private,
            "--kind",
            "recordOperation",
            "--state",
            "canceled",
            "--output",
            "ndjson",
        ],
    );
    let told: Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!((&told["context"], &told["flags"], &told["callId"]), (&json!("record"), &json!([]), &json!(call)));
}

/// A script of `tests/bots` that is killed when its test ends.
struct Script(std::process::Child);

impl Drop for Script {
    fn drop(&mut self) {
        let _dead = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_believes_the_platform_alone_believes_what_is_forwarded_as_it_came() {
    let issuer = FakeIssuer::start().await;
    let told = std::env::var_os("REFEREE_PYTHON");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bots/bot_framework.py");
    let python = Command::new(told.clone().unwrap_or_else(|| "python3".into()))
        .arg(script)
        .args([issuer.metadata_url().as_str(), AUDIENCE])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn();
    let Ok(mut python) = python else {
        assert!(told.is_none(), "REFEREE_PYTHON cannot be run");
        return eprintln!("skipped: there is no python3 here");
    };
    let mut says = BufReader::new(python.stdout.take().unwrap()).lines();
    let mut bot = Script(python);
    let mut heard = move || says.next().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let Some(port) = heard() else {
        let status = bot.0.wait().unwrap();
        assert!(status.code() == Some(NOT_INSTALLED) && told.is_none(), "{status}");
        return eprintln!("skipped: its SDK is not installed");
    };

    let sections = format!("[[forward]]\nurl = \"http://127.0.0.1:{}/api/calls\"\nmode = \"original\"\n", port["port"]);
    let settings = Settings { sections, clock: Clock::system, ..Settings::default() };
    let app = TestApp::start_without_keys(issuer, settings).await;
    app.until_ready().await;
    for n in 0..3 {
        let now = Timestamp::now().as_second();
        let token = app.issuer.token().claim("iat", json!(now)).claim("nbf", json!(now)).claim("exp", json!(now + 3600)).sign();
        let body = graph("updated", &format!("calls/c{n}"), &json!({ "@odata.type": "#microsoft.graph.call" })).to_string();
        let posted = app.callback().bearer_auth(token).header("X-Microsoft-Skype-Message-ID", n).body(body.clone());
        assert_eq!(posted.send().await.unwrap().status(), 202);
        let told = tokio::task::block_in_place(&mut heard).unwrap();
        assert_eq!((&told["status"], &told["messageId"]), (&json!(202), &json!(n.to_string())), "{told}");
        assert_eq!(told["sha256"], hash_of(&body), "byte for byte");
        assert_eq!(told["path"], "/api/calls");
    }
    assert_eq!(app.list("/v1/forwards").await, Vec::<Value>::new());
}
