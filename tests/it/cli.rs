//! The command line as a user types it.

use std::{path::Path, process::Output};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::support::{
    app::graph,
    child::{Served, Simulated, binary, configuration, issuer_key, run},
};

const OPERATION: &str = "c2f6a8d4-6c1c-4b5e-8a44-2d1b7f3e9001";
const CALL: &str = "c2f6a8d4-6c1c-4b5e-8a44-2d1b7f3e9002";

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

fn stdout(output: &Output) -> String {
    assert_eq!(code(output), 0, "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
}

/// A served ledger with one operation in it, and its body in a file.
fn served(folder: &Path) -> Served {
    let data = json!({
        "@odata.type": "#microsoft.graph.recordOperation", "clientContext": "greeting", "status": "failed",
        "completionReason": "operationCanceled", "resultInfo": { "code": 400, "subcode": 8508 },
    });
    std::fs::write(
        folder.join("body.json"),
        graph("deleted", &format!("calls/{CALL}/operations/{OPERATION}"), &data).to_string(),
    )
    .unwrap();
    let served = Served::start(folder);
    let posted =
        run(folder, &["replay", "body.json", "--to", &format!("{}/api/calls", served.public), "--sign", "dev-issuer.pem"]);
    assert_eq!(lines(&posted)[0]["status"], 202, "{posted:?}");
    served
}

#[test]
fn the_demo_tells_its_stories_and_exits() {
    let folder = tempfile::tempdir().unwrap();
    let told = stdout(&run(folder.path(), &["demo", "--once"]));
    for part in [
        "recordOperation “voice-mail”: canceled",
        "canceled by",
        "playPromptOperation “greeting”: completed",
        ": terminated",
        "CancelAddParticipantSucceeded",
    ] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it leaves nothing behind");
}

/// As in the README: a platform, a service whose gateway leads there, and a bot that knows the gateway alone.
#[tokio::test]
async fn a_simulated_platform_calls_back_for_what_came_through_the_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let key = issuer_key(folder.path()).display().to_string();
    let platform =
        Simulated::start(folder.path(), &["graph", "--issuer-key", &key, "--latency", "10", "--media", "60000", "--seed", "7"]);
    assert_eq!((&platform.told["platform"], &platform.told["seed"]), (&json!("graph"), &json!(7)));
    let served = Served::start_with(folder.path(), &format!("[gateway]\ngraph = \"{}\"\n", platform.url()));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = async |path: &str, body: Value, token: Option<&str>| {
        let request = client.post(format!("{}/gateway/graph/v1.0/communications/calls{path}", served.private));
        let request = token.into_iter().fold(request, |request, token| request.header("authorization", token));
        let answer = request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_slice::<Value>(&answer.bytes().await.unwrap()).unwrap_or_default())
    };
    let create = json!({ "callbackUri": format!("{}/api/calls", served.public) });
    assert_eq!(post("", create.clone(), None).await.0, 401, "a platform wants a token");
    let (status, call) = post("", create, Some("Bearer the-bots")).await;
    assert_eq!(status, 201);
    let call = call["id"].as_str().unwrap();
    let wait = ["operations", "wait", "--url", &served.private, "--timeout", "20", "--output", "ndjson"];
    let created = run(folder.path(), &[&wait[..], &["--call", call, "--kind", "createCall"]].concat());
    assert_eq!(lines(&created)[0]["state"], "completed");
    assert_eq!(post(&format!("/{call}/record"), json!({ "clientContext": "tag" }), Some("Bearer the-bots")).await.0, 200);
    let canceled = run(
        folder.path(),
        &["cancel", "graph", "--call", call, "--platform-token", "the-bots", "--url", &served.private, "--output", "json"],
    );
    assert_eq!(code(&canceled), 0, "{canceled:?}");
    let ended = run(folder.path(), &[&wait[..], &["--call", call, "--context", "tag"]].concat());
    assert_eq!(lines(&ended)[0]["state"], "canceled");

    let elsewhere = run(folder.path(), &["simulate", "acs", "--bind", "0.0.0.0:0"]);
    assert_eq!(code(&elsewhere), 2, "{elsewhere:?}");
    assert_eq!(code(&run(folder.path(), &["simulate", "acs", "--drop", "2"])), 2);
}

#[test]
fn a_question_has_the_same_answer_over_http_and_straight_from_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let served = served(folder.path());
    let config = configuration(folder.path()).display().to_string();
    let listed = lines(&run(folder.path(), &["operations", "list", "--url", &served.private]));
    let (id, notification) = (listed[0]["id"].as_str().unwrap(), "notifications");
    assert_eq!((listed.len(), &listed[0]["state"]), (1, &json!("canceled")));
    let ntf = lines(&run(folder.path(), &[notification, "list", "--url", &served.private]))[0]["id"].as_str().unwrap().to_owned();
    for question in [
        &["operations", "list", "--context", "greeting", "--state", "canceled", "--subcode", "8508", "--kind", "recordOperation"]
            [..],
        &["operations", "list", "--call", &CALL.replace('-', "").to_uppercase()],
        &["operations", "list", "--open"],
        &["operations", "show", id],
        &["operations", "wait", id],
        &["operations", "wait", "--context", "greeting", "--timeout", "5"],
        &["calls", "list"],
        &["calls", "show", CALL],
        &["notifications", "list", "--disposition", "applied"],
        &["notifications", "show", &ntf],
        &["notifications", "raw", &ntf],
        &["rejections", "list"],
        &["operations", "list", "--output", "json"],
        &["operations", "list", "--output", "table"],
    ] {
        let over_http = run(folder.path(), &[question, &["--url", &served.private]].concat());
        let direct = run(folder.path(), &[question, &["--config", &config]].concat());
        assert_eq!(stdout(&over_http), stdout(&direct), "{question:?}");
        assert!(direct.stderr.is_empty(), "{question:?}: {}", String::from_utf8_lossy(&direct.stderr));
    }
    let raw = run(folder.path(), &["notifications", "raw", &ntf, "--config", &config]);
    assert_eq!(raw.stdout, std::fs::read(folder.path().join("body.json")).unwrap());
    let shown = &lines(&run(folder.path(), &["operations", "show", id, "--config", &config]))[0];
    assert_eq!(shown["history"][0]["to"], "canceled");
}

#[test]
fn exit_codes_say_what_kind_of_failure_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let served = served(folder.path());
    std::fs::write(folder.path().join("wrong.toml"), "[public]\nbnd = \"127.0.0.1:0\"\n").unwrap();
    let url = ["--url", &served.private];
    for (expected, arguments) in [
        (2, &["operations", "list", "--state", "nonsense", url[0], url[1]][..]),
        (2, &["operations", "list"]),
        (2, &["db", "verify"]),
        (2, &["config", "show", "--config", "wrong.toml"]),
        (2, &["config", "check"]),
        (2, &["serve"]),
        (2, &["replay", "missing.json"]),
        (2, &["replay", "body.json", "--sign", "missing.pem"]),
        (2, &["token"]),
        (2, &["nonsense"]),
        (3, &["operations", "show", "op_1", url[0], url[1]]),
        (3, &["calls", "show", "unknown", url[0], url[1]]),
        (4, &["operations", "wait", "--context", "never", "--timeout", "0", url[0], url[1]]),
        (1, &["operations", "list", "--url", "http://127.0.0.1:9"]),
    ] {
        let output = run(folder.path(), arguments);
        assert_eq!(code(&output), expected, "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
    let postgres = binary(folder.path())
        .args(["operations", "list"])
        .env("CALLBACK_LEDGER__LEDGER__URL", "postgres://x/y")
        .output()
        .unwrap();
    assert_eq!(code(&postgres), 2);
    assert!(String::from_utf8_lossy(&postgres.stderr).contains("ledger.url"));
}

#[test]
fn a_variable_that_is_not_text_is_named_if_it_is_ours_and_ignored_if_not() {
    use std::os::unix::ffi::OsStringExt;
    let folder = tempfile::tempdir().unwrap();
    let odd = || std::ffi::OsString::from_vec(vec![0xff]);
    assert_eq!(code(&binary(folder.path()).args(["config", "show"]).env("LC_ODD", odd()).output().unwrap()), 0);
    for ours in ["CALLBACK_LEDGER__LOG__FILTER", "CALLBACK_LEDGER_MASTER_KEY"] {
        assert_eq!(code(&binary(folder.path()).args(["operations", "list"]).env(ours, odd()).output().unwrap()), 2, "{ours}");
    }
}

#[test]
fn a_token_holds_what_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let minted = stdout(&run(
        folder.path(),
        &[
            "token",
            "--issuer-key",
            "key.pem",
            "--audience",
            "a",
            "--issuer",
            "i",
            "--expires",
            "2h",
            "--claim",
            "n=5",
            "--claim",
            "tid=t",
        ],
    ));
    let payload = URL_SAFE_NO_PAD.decode(minted.trim().split('.').nth(1).unwrap()).unwrap();
    let payload: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(
        (&payload["aud"], &payload["iss"], &payload["n"], &payload["tid"]),
        (&json!("a"), &json!("i"), &json!(5), &json!("t"))
    );
    let life = payload["exp"].as_i64().unwrap() - payload["iat"].as_i64().unwrap();
    assert!((7190..=7210).contains(&life), "{life}");
}

#[test]
fn replay_posts_bodies_scenarios_and_folders_and_says_what_was_refused() {
    let folder = tempfile::tempdir().unwrap();
    let served = served(folder.path());
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/graph").display().to_string();
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/incoming-call.json").display().to_string();
    let (to, key) = (format!("{}/api/calls", served.public), issuer_key(folder.path()).display().to_string());
    let replay = |extra: &[&str]| run(folder.path(), &[&["replay", "--to", &to, "--sign", &key], extra].concat());
    let notifications =
        || lines(&run(folder.path(), &["notifications", "list", "--limit", "1000", "--url", &served.private])).len();

    let before = notifications();
    let dry = lines(&replay(&[&fixtures, "--dry-run"]));
    assert!(dry.len() > 40 && notifications() == before, "a dry run posts nothing");
    assert_eq!(lines(&replay(&[&scenario, "--rate", "200"])).len(), 6);
    let names = |output: &Output| lines(output).iter().map(|row| row["file"].clone()).collect::<Vec<_>>();
    let shuffled = names(&replay(&[&scenario, "--shuffle", "7", "--duplicate", "1"]));
    assert_eq!((shuffled.len(), &shuffled), (12, &names(&replay(&[&scenario, "--shuffle", "7", "--duplicate", "1"]))));
    assert_ne!(shuffled, names(&replay(&[&scenario, "--shuffle", "8", "--duplicate", "1"])));

    std::fs::write(folder.path().join("odd.json"), "[]").unwrap();
    let refused = replay(&["body.json", "odd.json"]);
    assert_eq!(code(&refused), 1);
    let report = String::from_utf8(refused.stdout).unwrap();
    assert!(report.lines().next().unwrap().contains("accepted") && report.lines().nth(1).unwrap().contains("400"), "{report}");
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    assert_eq!(code(&replay(&["empty"])), 2);
}

#[test]
fn the_ledger_is_cared_for_while_it_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let _served = served(folder.path());
    let config = configuration(folder.path()).display().to_string();
    let db = |arguments: &[&str]| run(folder.path(), &[&["db"], arguments, &["--config", &config]].concat());
    assert_eq!(stdout(&db(&["verify"])), "the ledger is sound\n");
    assert_eq!(stdout(&db(&["rebuild"])), "nothing differed\n");
    let backup = db(&["backup", "copy.db"]);
    assert!(stdout(&backup).contains("copy.db") && String::from_utf8_lossy(&backup.stderr).contains("master key"));
    assert_eq!(code(&db(&["backup", "copy.db"])), 1, "an existing file is not written over");
    assert!(stdout(&db(&["prune", "--before", "2100-01-01T00:00:00Z", "--dry-run"])).starts_with("1 bodies would"));
    assert!(stdout(&db(&["prune", "--before", "2100-01-01T00:00:00Z"])).starts_with("1 bodies removed"));
    let doctor = run(folder.path(), &["doctor", "--offline", "--config", &config]);
    assert_eq!(code(&doctor), 1, "no receiver is configured");
    assert!(String::from_utf8(doctor.stdout).unwrap().contains("is sound"));
}

#[test]
fn the_configuration_is_shown_without_what_is_secret() {
    let folder = tempfile::tempdir().unwrap();
    let hash = "ab".repeat(32);
    let toml = format!(
        "[[private.token]]\nname = \"ops\"\nsha256 = \"{hash}\"\n[[receiver]]\npath = \"/api/calls\"\nsource = \"graph\"\naudience = [\"app\"]\n"
    );
    std::fs::write(folder.path().join("c.toml"), toml).unwrap();
    assert_eq!(stdout(&run(folder.path(), &["config", "check", "--config", "c.toml"])), "the configuration is good\n");
    let shown = stdout(&run(folder.path(), &["config", "show", "--config", "c.toml"]));
    assert!(shown.contains("ops") && !shown.contains(&hash), "{shown}");
}

#[test]
fn every_command_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    for command in [
        "demo",
        "serve",
        "simulate",
        "cancel",
        "replay",
        "token",
        "operations",
        "calls",
        "notifications",
        "rejections",
        "config",
        "doctor",
        "db",
        "completions",
    ] {
        assert!(stdout(&run(folder.path(), &[command, "--help"])).contains("Usage"), "{command}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&run(folder.path(), &["completions", shell])).contains("callback-ledger"), "{shell}");
    }
}
