//! What is no HTTP, or too much of it: heads, lengths, chunks, requests behind each other.

use reqwest::StatusCode;

use super::{Besieged, Meanwhile, PATIENCE, Peer, notification, statuses, statuses_of};

/// A request line and what every head needs.
const GET: &str = "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_too_long_or_has_too_many_headers_is_refused() {
    let besieged = Besieged::start(&[]);
    besieged.stands().await;
    let (meanwhile, before) = (Meanwhile::at(&besieged), besieged.resident());
    let headers = |count: usize| "x: y\r\n".repeat(count);
    let closed = "Connection: close\r\n\r\n";
    let cases = [
        ("as long as may be", format!("{GET}x: {}\r\n{closed}", "a".repeat(100 * 1024)), "404"),
        ("a header without an end", format!("{GET}x: {}", "a".repeat(256 * 1024)), "431"),
        ("headers without an end", format!("{GET}{}", headers(40_000)), "431"),
        ("a name without an end", format!("{GET}{}", "a".repeat(256 * 1024)), "431"),
        ("a path without an end", format!("GET /{}", "a".repeat(256 * 1024)), "431"),
        ("a path that is too long", format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(70_000)), "400"),
        ("as many headers as may be", format!("{GET}{}{closed}", headers(94)), "404"),
        ("one header too many", format!("{GET}{}{closed}", headers(95)), "431"),
    ];
    for door in besieged.doors() {
        for (name, head, status) in &cases {
            assert_eq!(statuses_of(door, head.clone()).await, [*status], "{name}");
        }
        let many = (0..100).map(|_| statuses_of(door, cases[1].1.clone()));
        for answered in futures_util::future::join_all(many).await {
            assert_eq!(answered, ["431"]);
        }
    }
    meanwhile.were_served().await;
    besieged.stands().await;
    besieged.has_grown_by_less_than(32 * 1024, before); // 100 heads of 128 KiB at a time, and what they leave
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_be_read_in_two_ways_is_read_in_none() {
    let besieged = Besieged::start(&[]);
    let hidden = format!("{}Content-Length: 2\r\n\r\n{{}}", besieged.head("/api/calls"));
    let post = besieged.head("/api/calls");
    let cases = [
        ("a length and chunks", format!("{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("chunks and a length", format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{hidden}")),
        ("two lengths", format!("{post}Content-Length: 5\r\nContent-Length: 0\r\n\r\n{hidden}")),
        ("the same length twice", format!("{post}Content-Length: 0\r\nContent-Length: 0\r\n\r\n{hidden}")),
        ("a list of lengths", format!("{post}Content-Length: 0, 0\r\n\r\n{hidden}")),
        ("a length with a sign", format!("{post}Content-Length: +0\r\n\r\n{hidden}")),
        ("a negative length", format!("{post}Content-Length: -1\r\n\r\n{hidden}")),
        ("a length in hex", format!("{post}Content-Length: 0x0\r\n\r\n{hidden}")),
        ("a length beyond all numbers", format!("{post}Content-Length: 99999999999999999999\r\n\r\n{hidden}")),
        ("two codings", format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("chunks twice", format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("a coding that nobody knows", format!("{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("no coding at all", format!("{post}Transfer-Encoding: identity\r\n\r\n{hidden}")),
        ("a coding hidden behind a tab", format!("{post}Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("chunks in HTTP/1.0", format!("{}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}", post.replace("1.1", "1.0"))),
        ("no host", format!("POST /api/calls HTTP/1.1\r\nContent-Length: 0\r\n\r\n{hidden}")),
        ("two hosts", format!("{post}Host: elsewhere\r\nContent-Length: 0\r\n\r\n{hidden}")),
        ("a blank before the colon", format!("{post}Content-Length : 0\r\n\r\n{hidden}")),
        ("a folded line", format!("{post}X: a\r\n Content-Length: 0\r\n\r\n{hidden}")),
        ("a NUL", format!("{post}X: a\0b\r\nContent-Length: 0\r\n\r\n{hidden}")),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n".to_owned()),
    ];
    for (name, text) in cases {
        for door in besieged.doors() {
            assert_eq!(statuses_of(door, text.clone()).await, ["400"], "{name}");
        }
    }
    assert_eq!(besieged.list("/v1/notifications").await.len(), 0, "nothing that was hidden came through");
    besieged.stands().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_that_are_none_end_the_request() {
    let besieged = Besieged::start(&[]);
    besieged.stands().await;
    let (meanwhile, before) = (Meanwhile::at(&besieged), besieged.resident());
    let heads = [
        (besieged.public(), besieged.head("/api/calls")),
        (besieged.private(), besieged.head("/v1/operations")),
        (besieged.private(), besieged.head("/gateway/graph/v1.0/communications/calls")),
    ];
    let garbage = [
        ("no size", "zz\r\n{}\r\n0\r\n\r\n".to_owned()),
        ("a size beyond all numbers", "FFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n".to_owned()),
        ("a negative size", "-2\r\n{}\r\n0\r\n\r\n".to_owned()),
        ("nothing before the end of the size", "\r\n\r\n".to_owned()),
        ("more than the size", "2\r\n{}{}{}\r\n0\r\n\r\n".to_owned()),
        ("a line end of its own", "2\n{}\n0\n\n".to_owned()),
        ("a control character in an extension", "2;a=\x01\r\n{}\r\n0\r\n\r\n".to_owned()),
        ("noise", "\u{1}\u{2}\u{3}".repeat(1000)),
    ];
    for (door, head) in &heads {
        for (name, chunks) in &garbage {
            let text = format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}");
            let answered = statuses_of(*door, text).await;
            assert!(!answered.is_empty() && answered.iter().all(|status| status == "400"), "{name}: {answered:?}\n{head}");
        }
    }
    assert_eq!(besieged.list("/v1/notifications?disposition=quarantined").await.len(), 0, "half a body is none");

    // an extension as long as somebody likes is read past, and kept nowhere
    let endless = format!("{}Transfer-Encoding: chunked\r\n\r\n2;{}\r\n{{}}\r\n0\r\n\r\n", heads[0].1, "a".repeat(8 << 20));
    let mut peer = Peer::at(besieged.public()).await;
    peer.says(endless).await;
    assert_eq!(statuses(&peer.answer().await), ["400"], "read as it is: no envelope");
    meanwhile.were_served().await;
    besieged.stands().await;
    besieged.has_grown_by_less_than(16 * 1024, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_come_before_they_are_answered_are_answered_in_their_order() {
    const MANY: usize = 200;
    let besieged = Besieged::start(&[]);
    let meanwhile = Meanwhile::at(&besieged);
    let post = |path: &str, body: &str| format!("{}Content-Length: {}\r\n\r\n{body}", besieged.head(path), body.len());
    let kinds = [
        (post("/api/calls", &notification(0)), StatusCode::ACCEPTED),
        (post("/api/calls", "{}"), StatusCode::BAD_REQUEST),
        (post("/api/callbacks", "[]"), StatusCode::OK),
        (post("/nowhere", "{}"), StatusCode::NOT_FOUND),
    ];
    let all: String = (0..MANY).map(|n| kinds[n % kinds.len()].0.as_str()).collect();
    // what comes behind nonsense is not looked at
    let all = format!("{all}nonsense\r\n\r\n{}", kinds[0].0);
    let mut expected: Vec<&str> = (0..MANY).map(|n| kinds[n % kinds.len()].1.as_str()).collect();
    expected.push("400");
    let peer = Peer::at(besieged.public()).await;
    let heard = tokio::time::timeout(PATIENCE, peer.hears_out(all)).await.unwrap();
    assert_eq!(statuses(&heard), expected);
    meanwhile.were_served().await;
    besieged.stands().await;
}
