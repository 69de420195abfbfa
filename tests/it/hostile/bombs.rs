//! Bodies that are made to hurt who reads them, from callers who are believed.

use reqwest::StatusCode;
use serde_json::Value;

use super::{Besieged, Meanwhile, client, notification};

/// How deep and how wide. The body is to stay within what is read (1 MiB).
const DEEP: usize = 200_000;
const WIDE: usize = 50_000;

/// The receivers, and what a good body is answered there.
const RECEIVERS: [(&str, StatusCode); 3] =
    [("/api/calls", StatusCode::ACCEPTED), ("/api/callbacks", StatusCode::OK), ("/api/events", StatusCode::OK)];

/// A body of a receiver with these further members where a platform tells what happened.
fn telling(path: &str, members: &[u8]) -> Vec<u8> {
    let (before, after): (&str, &str) = match path {
        "/api/calls" => (
            r##"{"value":[{"changeType":"updated","resourceUrl":"/communications/calls/c1/operations/o1","resourceData":{"@odata.type":"#microsoft.graph.recordOperation","status":"running","##,
            "}}]}",
        ),
        _ => (
            r#"[{"id":"e1","source":"calling/callConnections/c1","type":"Microsoft.Communication.PlayCompleted","specversion":"1.0","data":{"callConnectionId":"c1","#,
            "}}]",
        ),
    };
    [before.as_bytes(), members, after.as_bytes()].concat()
}

/// Members that are JSON, however odd, or come from a sender that means well: the notification is kept and counts.
fn readable() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let wide: Vec<String> = (0..WIDE).map(|n| format!("\"m{n}\":{n}")).collect();
    vec![
        ("as deep as platforms write", text(&format!("\"a\":{}1{}", "[".repeat(100), "]".repeat(100)))),
        ("many members", text(&wide.join(","))),
        ("a long list", text(&format!("\"a\":[{}0]", "0,".repeat(WIDE)))),
        ("a long text", text(&format!("\"operationContext\":\"{0}\",\"clientContext\":\"{0}\"", "x".repeat(100_000)))),
        ("a number beyond all integers", text("\"a\":123456789012345678901234567890,\"sequenceNumber\":99999999999999999999")),
        ("a number with many digits", text(&format!("\"a\":0.{}", "1".repeat(100_000)))),
        ("a code beyond all codes", text("\"resultInfo\":{\"code\":1e300,\"subcode\":-9223372036854775808}")),
        (
            "a member twice",
            text("\"clientContext\":\"a\",\"clientContext\":\"b\",\"operationContext\":\"a\",\"operationContext\":\"b\""),
        ),
        ("a NUL", text("\"clientContext\":\"a\\u0000b\",\"operationContext\":\"a\\u0000b\",\"id\":\"\\u0000\"")),
        ("half a character", text("\"clientContext\":\"x\\ud83d\",\"operationContext\":\"\\ude00x\"")),
        ("no UTF-8", b"\"clientContext\":\"\xff\xfe\xc3\",\"operationContext\":\"\xed\xa0\x80\"".to_vec()),
    ]
}

/// Members that no reader can make anything of: kept in quarantine.
fn unreadable() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("lists in lists", text(&format!("\"a\":{}{}", "[".repeat(DEEP), "]".repeat(DEEP)))),
        ("objects in objects", text(&format!("\"a\":{}1{}", "{\"a\":".repeat(DEEP / 2), "}".repeat(DEEP / 2)))),
        ("lists without an end", text(&format!("\"a\":{}", "[".repeat(DEEP)))),
        ("a number beyond all numbers", text("\"a\":1e999999999")),
        ("a NUL as it is", b"\"clientContext\":\"a\0b\",\"operationContext\":\"a\0b\"".to_vec()),
        ("no number", text("\"a\":NaN")),
        ("a comment", text("\"a\":1/**/")),
    ]
}

/// Bodies that are nothing that any source sends.
fn nonsense() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("nothing", Vec::new()),
        ("blanks", text(&" ".repeat(100_000))),
        ("lists in lists", text(&format!("{}{}", "[".repeat(DEEP), "]".repeat(DEEP)))),
        ("lists without an end", text(&"[".repeat(DEEP))),
        ("objects without an end", text(&"{\"value\":".repeat(DEEP / 2))),
        ("quotes", text(&"\"".repeat(DEEP))),
        ("escapes", text(&format!("\"{}", "\\".repeat(DEEP)))),
        ("halves of characters", text(&format!("[\"{}\"]", "\\ud83d".repeat(DEEP / 4)))),
        ("NULs", vec![0; 100_000]),
        ("no UTF-8", vec![0xff; 100_000]),
        ("a long number", text(&"9".repeat(100_000))),
    ]
}

/// Everything that shows what was kept is answered, whatever was kept.
async fn is_shown(besieged: &Besieged) {
    let mut next = Some("/v1/notifications?limit=250".to_owned());
    while let Some(path) = next {
        let (status, body) = besieged.get(&path).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        let page: Value = body.parse().unwrap();
        for row in page["value"].as_array().unwrap().iter().take(50) {
            let raw = format!("/v1/notifications/{}/raw", row["id"].as_str().unwrap());
            assert!(!besieged.get(&raw).await.0.is_server_error(), "{row}");
        }
        next = page["nextLink"].as_str().map(str::to_owned);
    }
    for path in ["/v1/operations", "/v1/calls", "/v1/calls/c1/timeline", "/metrics"] {
        assert_eq!(besieged.get(path).await.0, StatusCode::OK, "{path}");
    }
}

/// Posts all of it at each receiver, and looks at what was kept.
async fn is_bombed(besieged: &Besieged) {
    for (path, good) in RECEIVERS {
        for (name, members) in readable() {
            assert_eq!(besieged.post(path, telling(path, &members)).await, good, "{path}: {name}");
        }
        for (name, members) in unreadable() {
            assert_eq!(besieged.post(path, telling(path, &members)).await, StatusCode::BAD_REQUEST, "{path}: {name}");
        }
        for (name, body) in nonsense() {
            assert_eq!(besieged.post(path, body).await, StatusCode::BAD_REQUEST, "{path}: {name}");
        }
    }
    is_shown(besieged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_made_to_hurt_is_kept_or_quarantined_and_shown() {
    let besieged = Besieged::start(&[]);
    let meanwhile = Meanwhile::at(&besieged);
    is_bombed(&besieged).await;
    let told = (unreadable().len() + nonsense().len()) * RECEIVERS.len();
    assert_eq!(besieged.list("/v1/notifications?disposition=quarantined&limit=250").await.len(), told);
    // large bodies take what they take; the same again takes no more
    let before = besieged.resident();
    is_bombed(&besieged).await;
    meanwhile.were_served().await;
    besieged.stands().await;
    besieged.has_grown_by_less_than(32 * 1024, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_as_many_items_as_may_be_is_recorded_and_others_are_served() {
    const ITEMS: usize = 5000;
    let besieged = Besieged::start(&[]);
    let meanwhile = Meanwhile::at(&besieged);
    let body = |items: usize| {
        let items: Vec<String> = (0..items).map(|n| format!("{{\"a\":{n}}}")).collect();
        format!("{{\"value\":[{}]}}", items.join(","))
    };
    assert_eq!(besieged.post("/api/calls", body(16 * ITEMS)).await, StatusCode::BAD_REQUEST, "nobody sends so many");
    assert_eq!(besieged.post("/api/calls", body(ITEMS)).await, StatusCode::ACCEPTED);
    meanwhile.were_served().await;
    let (_, metrics) = besieged.get("/metrics").await;
    // with the one that was too many
    let count =
        |line: &str| line.starts_with("callback_ledger_notifications_total{") && line.ends_with(&format!(" {}", ITEMS + 1));
    assert!(metrics.lines().any(count), "{metrics}");
    besieged.stands().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_body_is_refused_unread() {
    let besieged = Besieged::start(&[]);
    let client = client(super::FRIEND);
    let operations = format!("{}/v1/operations", besieged.served.private);
    let mut doors: Vec<String> = RECEIVERS.iter().map(|(path, _)| format!("{}{path}", besieged.served.public)).collect();
    doors.push(operations);
    for url in &doors {
        for encoding in ["gzip", "deflate", "br", "zstd", "gzip, identity", "nonsense", "\u{e9}"] {
            let request = client.post(url).bearer_auth(&besieged.token).header("content-type", "application/json");
            let answer = request.header("content-encoding", encoding).body(notification(1)).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{url}: {encoding}");
            let problem: Value = answer.text().await.unwrap().parse().unwrap();
            assert_eq!(problem["code"], "unsupported_media_type", "{url}: {encoding}");
        }
    }
    assert_eq!(besieged.list("/v1/notifications").await.len(), 0);
    besieged.stands().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_a_bots_own_word_that_is_made_to_hurt_is_refused() {
    let besieged = Besieged::start(&[]);
    let client = client(super::FRIEND);
    let url = format!("{}/v1/operations", besieged.served.private);
    let deep = 30_000;
    for (name, body, status) in [
        ("lists in lists", format!("{}{}", "[".repeat(deep), "]".repeat(deep)), 400),
        ("a member of lists in lists", format!("{{\"source\":\"graph\",\"x\":{}", "[".repeat(deep)), 400),
        ("a member twice", r#"{"source":"graph","source":"acs","callId":"1","kind":"record"}"#.to_owned(), 400),
        ("a huge number", r#"{"source":"graph","callId":"1","kind":"record","deadlineSeconds":1e999}"#.to_owned(), 400),
        ("a NUL as it is", "{\"source\":\"graph\",\"callId\":\"\0\",\"kind\":\"record\"}".to_owned(), 400),
        ("a NUL, which is a character", r#"{"source":"graph","callId":"\u0000","kind":"record"}"#.to_owned(), 201),
        ("half a character", r#"{"source":"graph","callId":"\ud83d","kind":"record"}"#.to_owned(), 400),
        ("more than is read", format!("{{\"source\":\"{}\"}}", "x".repeat(100_000)), 413),
    ] {
        let answer = client.post(&url).header("content-type", "application/json").body(body).send().await.unwrap();
        assert_eq!(answer.status(), status, "{name}: {}", answer.text().await.unwrap());
    }
    besieged.stands().await;
}
