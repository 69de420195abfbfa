//! What is secret is shown to those alone who may see it; who may do what is decided by tokens.

use std::{path::Path, process::Output, time::Duration};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    app::graph,
    child::{Served, configuration, configuration_with, run, token},
};

fn command(folder: &Path, arguments: &[&str]) -> Output {
    let file = configuration(folder);
    run(folder, &[&["--config", file.to_str().unwrap()], arguments].concat())
}

/// Makes a token by command.
fn created(folder: &Path, arguments: &[&str]) -> String {
    let made = command(folder, &[&["tokens", "create"], arguments].concat());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

async fn asked(served: &Served, path: &str, token: Option<&str>) -> (StatusCode, Vec<u8>) {
    let client = Client::builder().no_proxy().build().unwrap();
    let mut request = client.get(format!("{}{path}", served.private));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.unwrap();
    (answer.status(), answer.bytes().await.unwrap().to_vec())
}

/// Asks until it is answered so: a service hears of tokens within seconds.
async fn until(served: &Served, token: Option<&str>, status: StatusCode) {
    for _ in 0..200 {
        if asked(served, "/v1/calls", token).await.0 == status {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never answered {status}");
}

#[test]
fn no_token_is_made_with_the_name_of_one_in_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let section = format!("[[private.token]]\nname = \"bot\"\nsha256 = \"{}\"\n", "0".repeat(64));
    let file = configuration_with(folder.path(), &section);
    let create = |name| run(folder.path(), &["--config", file.to_str().unwrap(), "tokens", "create", name]);
    let refused = create("bot");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("a token of the configuration has the name `bot`") && refused.stdout.is_empty(), "{said}");
    assert!(create("another").status.success());
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked_by_command_beside_a_running_service() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let served = Served::start(folder);
    assert_eq!(asked(&served, "/v1/calls", None).await.0, StatusCode::OK);

    let reader = created(folder, &["reader"]);
    until(&served, Some(&reader), StatusCode::OK).await;
    until(&served, None, StatusCode::UNAUTHORIZED).await;
    assert_eq!(asked(&served, "/healthz", None).await.0, StatusCode::OK);

    let writer = created(folder, &["writer", "--scope", "write", "--expires", "1h"]);
    until(&served, Some(&writer), StatusCode::FORBIDDEN).await;
    let (_, body) = asked(&served, "/v1/calls", Some(&writer)).await;
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&problem["code"], &problem["detail"]),
        (&json!("scope_required"), &json!("this takes a token with the scope `read`"))
    );
    let register = async |token: &str| {
        let client = Client::builder().no_proxy().build().unwrap();
        let request = client.post(format!("{}/v1/operations", served.private)).bearer_auth(token);
        let body = json!({ "source": "graph", "callId": "c", "kind": "playPrompt", "context": "x" });
        request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap().status()
    };
    assert_eq!((register(&writer).await, register(&reader).await), (StatusCode::CREATED, StatusCode::FORBIDDEN));
    let order = async |token: &str| {
        let client = Client::builder().no_proxy().build().unwrap();
        let request = client.post(format!("{}/v1/forwards/retry", served.private)).bearer_auth(token);
        request.header("content-type", "application/json").body(r#"{"state":"dead"}"#).send().await.unwrap().status()
    };
    let admin = created(folder, &["admin", "--scope", "read,admin"]);
    until(&served, Some(&admin), StatusCode::OK).await;
    assert_eq!((order(&writer).await, order(&admin).await), (StatusCode::FORBIDDEN, StatusCode::OK));

    let brief = created(folder, &["brief", "--expires", "1s"]);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(asked(&served, "/v1/calls", Some(&brief)).await.0, StatusCode::UNAUTHORIZED);

    assert_eq!(command(folder, &["tokens", "create", "reader"]).status.code(), Some(2), "the name is taken");
    assert_eq!(command(folder, &["tokens", "revoke", "nobody"]).status.code(), Some(3));
    assert!(command(folder, &["tokens", "revoke", "reader"]).status.success());
    until(&served, Some(&reader), StatusCode::UNAUTHORIZED).await;
    let anew = created(folder, &["reader", "--scope", "read", "--scope", "secrets"]);
    until(&served, Some(&anew), StatusCode::OK).await;

    let listed = String::from_utf8(command(folder, &["tokens", "list", "--output", "ndjson"]).stdout).unwrap();
    let rows: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<_> = rows.iter().map(|row| (row["name"].as_str().unwrap(), !row["revokedAt"].is_null())).collect();
    assert_eq!(names, [("reader", true), ("writer", false), ("admin", false), ("brief", false), ("reader", false)]);
    for name in ["writer", "admin", "brief", "reader"] {
        assert!(command(folder, &["tokens", "revoke", name]).status.success(), "{name}");
    }
    until(&served, Some(&anew), StatusCode::UNAUTHORIZED).await;
    assert_eq!(asked(&served, "/v1/calls", None).await.0, StatusCode::UNAUTHORIZED, "it does not stop asking");

    served.sigterm();
    let served = Served::start(folder);
    assert_eq!(asked(&served, "/v1/calls", None).await.0, StatusCode::UNAUTHORIZED, "nor with the next start");
    let on_disk = std::fs::read(folder.join("test.db")).unwrap();
    for token in [reader, writer, admin, brief, anew] {
        assert!(!on_disk.windows(token.len()).any(|window| window == token.as_bytes()), "a token is kept as its hash alone");
    }
}

#[tokio::test]
async fn a_listener_that_requires_tokens_lets_nobody_in_until_one_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let first = created(folder.path(), &["first"]);
    let served = Served::start(folder.path());
    assert_eq!(asked(&served, "/v1/calls", Some(&first)).await.0, StatusCode::OK, "made before the first start");
    drop(served);

    let other = tempfile::tempdir().unwrap();
    let served = Served::start_requiring_tokens(other.path());
    for path in ["/v1/calls", "/metrics", "/openapi.json"] {
        assert_eq!(asked(&served, path, None).await.0, StatusCode::UNAUTHORIZED, "{path}");
    }
    let token = created(other.path(), &["first"]);
    until(&served, Some(&token), StatusCode::OK).await;
}

/// What must not be seen by those who may not.
const PLANTED: &[&str] = &[
    "planted-recording-token",
    "planted-meeting-token",
    "planted-replaces-context",
    "planted-replacement-link",
    "planted-incoming-context",
    "Planted Displayname",
    "4915112345678",
    "planted-aad-id",
    "planted speech",
    "planted-acs-user",
    "planted-custom-value",
    "planted-bearer",
];

fn graph_bodies() -> Vec<String> {
    let call = "7f1c4a2e-2f6b-4d6e-9a54-3d2d1f0a9b11";
    let somebody =
        json!({ "user": { "id": "planted-aad-id", "displayName": "Planted Displayname" }, "phone": { "id": "+4915112345678" } });
    let incoming = json!({
        "@odata.type": "#microsoft.graph.call", "state": "incoming", "source": { "identity": somebody }, "targets": [{ "identity": somebody }],
        "meetingInfo": { "@odata.type": "#microsoft.graph.tokenMeetingInfo", "token": "planted-meeting-token" },
        "replacesContext": "planted-replaces-context", "replacementLink": "https://x.example/planted-replacement-link",
        "incomingContext": { "onBehalfOf": somebody, "transferor": somebody },
    });
    let recorded = json!({
        "@odata.type": "#microsoft.graph.recordOperation", "clientContext": "ours", "status": "completed",
        "recordingLocation": "https://x.example/planted-recording-token", "recordingAccessToken": "planted-recording-token",
        "resultInfo": { "code": 200, "subcode": 0, "message": "done for tel:+4915112345678" },
    });
    let people = json!([{ "@odata.type": "#microsoft.graph.participant", "id": "p", "info": { "identity": somebody } }]);
    vec![
        graph("created", &format!("calls/{call}"), &incoming).to_string(),
        graph("deleted", &format!("calls/{call}/operations/0fe0623f-d628-42ed-b4bd-8ac290072cc6"), &recorded).to_string(),
        graph("updated", &format!("calls/{call}/participants"), &people).to_string(),
        // what cannot be read, and what is said of it
        json!({ "value": { "odd": [{ "recordingAccessToken": PLANTED, "source": { "identity": PLANTED } }] } }).to_string(),
        PLANTED.join(" "),
    ]
}

fn acs_bodies() -> Vec<String> {
    let event = |kind: &str, id: &str, data: &Value| {
        json!([{ "id": id, "source": "calling/callConnections/planted-connection", "type": format!("Microsoft.Communication.{kind}"),
                 "specversion": "1.0", "datacontenttype": "application/json", "time": "2026-11-21T03:00:00Z", "data": data }])
        .to_string()
    };
    let who = json!({ "rawId": "8:acs:planted-acs-user", "communicationUser": { "id": "8:acs:planted-acs-user" } });
    let caller = json!({ "rawId": "4:+4915112345678", "phoneNumber": { "value": "+4915112345678" } });
    vec![
        event(
            "RecognizeCompleted",
            "e1",
            &json!({
                "callConnectionId": "planted-connection", "operationContext": "ours", "recognitionType": "speech",
                "speechResult": { "speech": "planted speech" }, "resultInformation": { "code": 200, "subCode": 8545, "message": "heard +4915112345678" },
            }),
        ),
        event(
            "AddParticipantSucceeded",
            "e2",
            &json!({
                "callConnectionId": "planted-connection", "operationContext": "theirs", "participant": who,
            }),
        ),
        event(
            "IncomingCall",
            "e3",
            &json!({
                "correlationId": "planted-correlation", "from": caller, "to": who, "callerDisplayName": "Planted Displayname",
                "incomingCallContext": "planted-incoming-context", "customContext": { "sipHeaders": { "x": "planted-custom-value" } },
            }),
        ),
        event(
            "ParticipantsUpdated",
            "e4",
            &json!({
                "callConnectionId": "planted-connection", "sequenceNumber": 1, "participants": [{ "identifier": caller, "isMuted": true }],
            }),
        ),
    ]
}

fn assert_hidden(what: &str, bytes: &[u8]) {
    for secret in PLANTED {
        let seen = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!seen, "{secret} is in {what}: {}", String::from_utf8_lossy(bytes).chars().take(2000).collect::<String>());
    }
}

#[tokio::test]
async fn planted_secrets_are_nowhere_but_in_bodies_for_those_who_may_see_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (log, platform_token) = (folder.join("log"), token(folder));
    let reader = created(folder, &["reader"]);
    let trusted = created(folder, &["trusted", "--scope", "read,secrets"]);
    let served = Served::start_logging(folder, "[log]\nfilter = \"trace\"\n", &log);
    let client = Client::builder().no_proxy().build().unwrap();
    let post = async |path: &str, authorization: &str, body: &str| {
        let request = client.post(format!("{}{path}", served.public)).header("content-type", "application/json");
        request.header("authorization", authorization).body(body.to_owned()).send().await.unwrap()
    };
    for (path, bodies) in [("/api/calls", graph_bodies()), ("/api/callbacks", acs_bodies()), ("/api/events", acs_bodies())] {
        for body in bodies {
            let answer = post(path, &format!("Bearer {platform_token}"), &body).await;
            assert!(answer.status().is_success() || answer.status() == StatusCode::BAD_REQUEST, "{path}: {body}");
            assert_hidden("an answer to the platform", &answer.bytes().await.unwrap());
        }
        // and somebody who is not let in at all
        let refused = post(
            &format!("{path}?secret=planted-bearer"),
            "Bearer planted-bearer.planted-bearer.planted-bearer",
            "planted speech",
        )
        .await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    }

    let list = async |path: &str| -> Vec<Value> {
        let (status, body) = asked(&served, path, Some(&reader)).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert_hidden(path, &body);
        serde_json::from_slice::<Value>(&body).unwrap()["value"].as_array().unwrap().clone()
    };
    let mut paths: Vec<String> = vec!["/metrics".into(), "/readyz".into(), "/openapi.json".into()];
    let (calls, operations) = (list("/v1/calls?limit=250").await, list("/v1/operations?limit=250").await);
    let notifications = list("/v1/notifications?limit=250").await;
    list("/v1/rejections").await;
    list("/v1/forwards").await;
    assert!(calls.len() >= 3 && operations.len() >= 3 && notifications.len() >= 12, "{calls:#?}");
    for call in &calls {
        let id = call["callId"].as_str().unwrap();
        paths.extend([format!("/v1/calls/{id}"), format!("/v1/calls/{id}/timeline")]);
    }
    for operation in &operations {
        let id = operation["id"].as_str().unwrap();
        paths.extend([format!("/v1/operations/{id}"), format!("/v1/operations/{id}/history")]);
    }
    for path in paths {
        assert_hidden(&path, &asked(&served, &path, Some(&reader)).await.1);
    }
    let (mut as_it_came, mut seen) = (0, Vec::new());
    for notification in &notifications {
        let path = format!("/v1/notifications/{}", notification["id"].as_str().unwrap());
        assert_hidden(&path, &asked(&served, &path, Some(&reader)).await.1);
        let (status, raw) = asked(&served, &format!("{path}/raw"), Some(&reader)).await;
        assert!(status == StatusCode::OK || status == StatusCode::FORBIDDEN, "{status}");
        assert_hidden("a raw body", &raw);
        let (status, raw) = asked(&served, &format!("{path}/raw"), Some(&trusted)).await;
        assert_eq!(status, StatusCode::OK);
        as_it_came +=
            usize::from(PLANTED.iter().any(|secret| raw.windows(secret.len()).any(|window| window == secret.as_bytes())));
        seen.push(raw);
    }
    assert_eq!(as_it_came, notifications.len(), "those who may see them do");
    assert!(graph_bodies().iter().chain(&acs_bodies()).all(|body| seen.iter().any(|raw| raw == body.as_bytes())));

    let mut events = client.get(format!("{}/v1/events?after=0", served.private)).bearer_auth(&reader).send().await.unwrap();
    let mut told = Vec::new();
    let is_told = |told: &[u8], id: &str| told.windows(id.len()).any(|window| window == id.as_bytes());
    let hear = async {
        while !notifications.iter().all(|notification| is_told(&told, notification["id"].as_str().unwrap())) {
            told.extend_from_slice(&events.chunk().await.unwrap().unwrap());
        }
    };
    tokio::time::timeout(Duration::from_mins(10), hear).await.expect("the feed tells of every notification");
    assert_hidden("the feed", &told);
    drop(events);

    let files = || std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    for file in files().filter(|file| file.to_string_lossy().contains("test.db")) {
        assert_hidden(&file.display().to_string(), &std::fs::read(&file).unwrap());
    }
    served.sigterm();
    let logged = std::fs::read(&log).unwrap();
    assert!(logged.len() > 10_000, "it logs at trace level");
    assert_hidden("the log", &logged);
    for file in files().filter(|file| file.to_string_lossy().contains("test.db")) {
        assert_hidden(&file.display().to_string(), &std::fs::read(&file).unwrap());
    }
}
