//! The master key changes hands; what is hashed with a key of the ledger stays what it is.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    process::{Output, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use callback_ledger::{
    net::Secret,
    store::{Ledger, LedgerReader, OpenError, Options, key_path, rekey, rows::NotificationFilter},
};
use reqwest::StatusCode;
use serde_json::json;

use crate::support::{
    app::{TestApp, send},
    child::{binary, configuration, run},
    ledger::{ALL, BOT, Bearer, TestLedger, delivery, envelope, is_sound, item, open_error, operation, until},
};

const CALL: &str = "8e0c4d11-52f7-4a11-bb39-6f2d5a4e7a01";
const OTHER: &str = "8e0c4d11-52f7-4a11-bb39-6f2d5a4e7a02";
const OPERATION: &str = "8e0c4d11-52f7-4a11-bb39-6f2d5a4e7b01";

fn key(byte: u8) -> String {
    BASE64.encode([byte; 32])
}

#[tokio::test]
async fn another_master_key_opens_everything_and_the_old_one_nothing() {
    let ledger = TestLedger::new().await;
    ledger.post(&operation(CALL, OPERATION, "completed")).await.unwrap();
    let person = json!([{ "@odata.type": "#microsoft.graph.participant", "info": { "identity": { "user": { "id": "u" } } } }]);
    ledger.post(&envelope(&[item("updated", &format!("calls/{CALL}/participants"), &person)])).await.unwrap();
    ledger.post(&json!({ "odd": 1 })).await.unwrap();
    assert!(matches!(rekey(&ledger.options, None).await, Err(OpenError::InUse { .. })), "not while it is served");
    let (options, _folder) = ledger.close().await;
    let before = fs::read_to_string(key_path(&options.path)).unwrap();
    let (sealed, old) = rekey(&options, None).await.unwrap();
    assert_eq!(sealed, 2, "the call's key, and that of what belongs to none");
    assert_ne!(fs::read_to_string(key_path(&options.path)).unwrap(), before);
    assert_eq!(fs::read_to_string(old.unwrap()).unwrap(), before);
    is_sound(&options).await;
    let old = Options { master_key: Some(Secret::new(before)), ..options.clone() };
    assert!(matches!(open_error(&old).await, OpenError::KeyWrong { .. }));

    // keys that come from elsewhere
    let from_file = fs::read_to_string(key_path(&options.path)).unwrap();
    let here = Options { master_key: Some(Secret::new(from_file)), ..options.clone() };
    rekey(&here, Some(&Secret::new(key(1)))).await.unwrap();
    let there = Options { master_key: Some(Secret::new(key(1))), ..options.clone() };
    is_sound(&there).await;
    assert!(matches!(rekey(&there, Some(&Secret::new("short".to_owned()))).await, Err(OpenError::Key(_))));
    is_sound(&there).await;
}

#[tokio::test]
async fn a_change_of_keys_that_was_cut_off_is_brought_to_its_end_or_to_nothing() {
    for cut_off in ["before the commit", "before the renames", "between the renames"] {
        let ledger = TestLedger::new().await;
        ledger.post(&operation(CALL, OPERATION, "completed")).await.unwrap();
        let (options, folder) = ledger.close().await;
        let place = key_path(&options.path);
        let new = place.with_extension("key.new");
        if cut_off == "before the commit" {
            fs::copy(&place, &new).unwrap();
            fs::write(&new, key(9)).unwrap();
        } else {
            let old = rekey(&options, None).await.unwrap().1.unwrap();
            fs::rename(&place, &new).unwrap();
            if cut_off == "before the renames" {
                fs::rename(&old, &place).unwrap();
            }
        }
        // who only reads repairs nothing: it may be happening just now
        let keys = || -> BTreeSet<_> {
            let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.contains(".key")).collect()
        };
        let before = keys();
        LedgerReader::open(&options).await.unwrap().close().await;
        assert_eq!(keys(), before, "{cut_off}");
        is_sound(&options).await;
        let (ledger, writer) = Ledger::open(options.clone()).await.unwrap();
        ledger.record(&BOT, delivery(&operation(OTHER, OPERATION, "running"), None)).await.unwrap();
        ledger.close().await;
        writer.await.unwrap();
        let olds: BTreeSet<_> = [rekey(&options, None).await.unwrap(), rekey(&options, None).await.unwrap()]
            .map(|(sealed, old)| (sealed, old.unwrap()))
            .into();
        assert!(olds.len() == 2 && olds.iter().all(|(sealed, old)| *sealed == 2 && old.is_file()), "{cut_off}: {olds:?}");
        is_sound(&options).await;
    }
}

#[test]
fn the_master_key_can_come_from_a_command_and_be_changed_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = configuration(folder);
    let text = fs::read_to_string(&file).unwrap();
    let with = |command: &str| {
        fs::write(&file, text.replace("[ledger]\n", &format!("[ledger]\nmaster_key_command = {command}\n"))).unwrap();
    };
    let command = |arguments: &[&str], new: &str| -> Output {
        let config = ["--config", file.to_str().unwrap()];
        binary(folder)
            .args(arguments)
            .args(config)
            .env("NEW_KEY", new)
            .env("PATH", std::env::var("PATH").unwrap())
            .output()
            .unwrap()
    };
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();

    with(&format!("[\"printf\", \"{}\"]", key(1)));
    let made = command(&["tokens", "create", "first"], "");
    assert!(made.status.success(), "{}", said(&made));
    assert!(!key_path(&folder.join("test.db")).exists(), "no key file");
    assert!(command(&["db", "verify"], "").status.success());

    let unnamed = command(&["db", "rekey"], "");
    assert_eq!(unnamed.status.code(), Some(2), "{}", said(&unnamed));
    assert_eq!(command(&["db", "rekey", "--new-key-from", "NOT_SET"], "").status.code(), Some(2));
    assert!(command(&["db", "rekey", "--new-key-from", "NEW_KEY"], &key(2)).status.success());
    let wrong = command(&["db", "verify"], "");
    assert!(said(&wrong).contains("the master key is not that of"), "{}", said(&wrong));
    with(&format!("[\"printf\", \"{}\"]", key(2)));
    assert!(command(&["db", "verify"], "").status.success());

    for (bad, says) in [
        ("[\"false\"]", "failed"),
        ("[\"no-such-program\"]", "cannot be run"),
        ("[\"printf\", \"half-a-key\"]", "32 bytes in base64"),
    ] {
        with(bad);
        let ended = command(&["db", "verify"], "");
        assert!(!ended.status.success() && said(&ended).contains(says), "{bad}: {}", said(&ended));
        assert!(!said(&ended).contains("half-a-key"));
    }
}

// ---- what one token wrote

#[tokio::test]
async fn everything_that_one_token_wrote_is_found_by_its_hash() {
    let app = TestApp::start().await;
    let (leaked, other) = (app.issuer.token().sign(), app.issuer.token().claim("nonce", "x").sign());
    let post = async |token: &str, body: String| send(app.callback().bearer_auth(token).body(body)).await.status;
    for number in 0..60 {
        let status = post(&leaked, operation(CALL, &format!("leaked-{number}"), "running").to_string()).await;
        assert_eq!(status, StatusCode::ACCEPTED);
        post(&other, operation(CALL, &format!("other-{number}"), "running").to_string()).await;
    }
    post(&leaked, "unreadable".to_owned()).await;

    let file = configuration(app.folder.path());
    let hash = |token: &str| {
        let mut asking = binary(app.folder.path());
        let asking =
            asking.args(["tokens", "hash", "--config", file.to_str().unwrap()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut asking = asking.stderr(Stdio::null()).spawn().unwrap();
        asking.stdin.take().unwrap().write_all(format!("{token}\n").as_bytes()).unwrap();
        let told = asking.wait_with_output().unwrap();
        (told.status.code(), String::from_utf8(told.stdout).unwrap().trim().to_owned())
    };
    let (code, of_leaked) = hash(&leaked);
    assert_eq!(code, Some(0));
    assert_eq!(hash("no token").0, Some(2));
    let mut found = Vec::new();
    let mut next = Some(format!("/v1/notifications?limit=25&tokenHash={of_leaked}"));
    while let Some(path) = next {
        let page = app.get(&path).await.json();
        found.extend(page["value"].as_array().unwrap().clone());
        next = page["nextLink"].as_str().map(str::to_owned);
    }
    assert_eq!(found.len(), 61, "what could not be read too");
    assert!(found.iter().all(|row| row["tokenHash"] == of_leaked.as_str()));
    assert!(found.iter().skip(1).all(|row| row["operation"].is_string()));
    let quarantined = format!("/v1/notifications?tokenHash={of_leaked}&disposition=quarantined");
    assert_eq!(app.list(&quarantined).await.len(), 1);
    let unknown = app.list("/v1/notifications?tokenHash=0000000000000000").await;
    assert!(unknown.is_empty());
    assert_eq!(app.get("/v1/notifications?tokenHash=xyz").await.status, StatusCode::BAD_REQUEST);
    let listed = run(
        app.folder.path(),
        &["notifications", "list", "--token-hash", &of_leaked, "--limit", "100", "--config", file.to_str().unwrap()],
    );
    assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().count(), 61);
}

#[tokio::test]
async fn what_a_token_wrote_is_found_when_it_was_sorted_and_after_another_master_key() {
    let ledger = TestLedger::new().await;
    let (mine, other) = (Bearer([1; 32]), Bearer([2; 32]));
    for number in 0..4000 {
        let body = delivery(&operation(CALL, &format!("o{number}"), "running"), None);
        let who = if number % 100 == 0 { &mine } else { &other };
        ledger.ledger.record(who, body).await.unwrap();
    }
    until(ledger.path(), "SELECT count(*) > 0 FROM lookup_segment WHERE entries > 0", 1).await;
    let brought = async |reader: &LedgerReader| {
        let token_hash = reader.token_hash(&mine.0).await.unwrap();
        let filter = NotificationFilter { token_hash, ..NotificationFilter::default() };
        reader.notifications(&filter, ALL).await.unwrap().rows.len()
    };
    assert_eq!(brought(ledger.reader()).await, 40);
    let (options, _folder) = ledger.close().await;
    rekey(&options, None).await.unwrap();
    assert_eq!(brought(&LedgerReader::open(&options).await.unwrap()).await, 40);
}
