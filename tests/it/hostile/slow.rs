//! Peers that take their time: with heads, with bodies, between requests, with answers.

use std::time::Duration;

use callback_ledger::config::Config;
use futures_util::future::join_all;
use reqwest::StatusCode;
use tokio::{io::AsyncWriteExt, net::TcpSocket, time::timeout};

use super::{Besieged, Meanwhile, PATIENCE, Peer, notification, statuses};

/// So many of each kind.
const PEERS: usize = 20;
/// So many at each listener that take no answers: they cost more.
const DEAF: usize = 5;
/// A request that nobody need be let in for, at either listener.
const NOWHERE: &str = "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn a_head_has_ten_seconds_and_a_body_thirty_unless_told() {
    let config = Config::load(None, []).unwrap();
    let (public, private) = (&config.public, &config.private);
    for (head, body) in
        [(public.head_timeout_seconds, public.body_timeout_seconds), (private.head_timeout_seconds, private.body_timeout_seconds)]
    {
        assert_eq!((head.get(), body.get()), (10, 30));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_does_not_arrive_in_its_time_is_answered_408_and_costs_others_nothing() {
    let besieged = Besieged::impatient();
    let meanwhile = Meanwhile::at(&besieged);
    for door in besieged.doors() {
        let silent = join_all((0..PEERS).map(async |_| Peer::at(door).await.hears_out("").await));
        let dribbling = join_all((0..PEERS).map(async |_| {
            let mut peer = Peer::at(door).await;
            peer.says("POST /api/calls HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await;
            peer.hears_out_dribbling().await
        }));
        let (silent, dribbling) = futures_util::join!(silent, dribbling);
        for heard in silent {
            assert_eq!(statuses(&heard), ["408"]);
        }
        for heard in dribbling {
            // what is still said when the answer comes can tear it up
            assert!(heard.is_empty() || statuses(&heard) == ["408"], "{heard}");
        }
    }
    meanwhile.were_served().await;
    besieged.stands().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_arrive_in_its_time_is_answered_408_and_costs_others_nothing() {
    let besieged = Besieged::impatient();
    let meanwhile = Meanwhile::at(&besieged);
    let heads = [
        (besieged.public(), besieged.head("/api/calls")),
        (besieged.public(), besieged.head("/api/callbacks")),
        (besieged.private(), besieged.head("/v1/operations")),
    ];
    let lengths = ["Content-Length: 60000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nFFF0\r\n"];
    let cases = heads.iter().flat_map(|(door, head)| lengths.map(|length| (*door, format!("{head}{length}"))));
    let slow = cases.flat_map(|case| vec![case; PEERS]).map(async |(door, opened)| {
        let mut peer = Peer::at(door).await;
        peer.says(&opened).await;
        let heard = peer.hears_out_dribbling().await;
        assert!(heard.is_empty() || statuses(&heard) == ["408"], "{opened}{heard}");
    });
    join_all(slow).await;
    meanwhile.were_served().await;
    besieged.stands().await;
}

/// The server itself times the first head of a connection, and the pause behind an answer until something comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_answered_once_is_not_held_by_what_follows_slowly() {
    let besieged = Besieged::impatient();
    let meanwhile = Meanwhile::at(&besieged);
    let unread = |name: &'static str, head: String| (name, format!("{head}Transfer-Encoding: chunked\r\n\r\nFFF0\r\n"));
    let refused = || "POST /api/calls HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x.y.z\r\n".to_owned();
    let mut cases = Vec::new();
    for door in besieged.doors() {
        cases.push((door, ("a second head", format!("{NOWHERE}GET /"))));
        cases.push((door, unread("the body of a request for nothing", NOWHERE.replace("\r\n\r\n", "\r\n"))));
    }
    cases.push((besieged.public(), unread("the body of a stranger", refused())));
    cases.push((
        besieged.public(),
        unread("a compressed body", format!("{}Content-Encoding: gzip\r\n", besieged.head("/api/calls"))),
    ));
    let slow = cases.iter().flat_map(|(door, case)| vec![(*door, case); PEERS]).map(async |(door, (name, opened))| {
        let mut peer = Peer::at(door).await;
        peer.says(opened).await;
        let answered = peer.answer().await;
        assert_eq!(statuses(&answered).len(), 1, "{name}");
        let ended = timeout(PATIENCE / 2, peer.hears_out_dribbling()).await;
        ended.unwrap_or_else(|_| panic!("{name} is waited for"));
    });
    join_all(slow).await;
    meanwhile.were_served().await;
    besieged.stands().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_being_answered_may_wait_for_longer_than_that() {
    let besieged = Besieged::impatient();
    let follow = async {
        let mut peer = Peer::at(besieged.private()).await;
        peer.says("GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(besieged.post("/api/calls", notification(1)).await, StatusCode::ACCEPTED);
        peer.hears("event: call").await;
    };
    let ((), (status, _)) = futures_util::join!(follow, besieged.get("/v1/operations/wait?context=never&timeout=6"));
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
    besieged.stands().await;
}

/// Each asks without end and takes no answer, until it is let go.
async fn is_asked_by_the_deaf(besieged: &Besieged) {
    let requests = NOWHERE.as_bytes().repeat(1000);
    let deaf = besieged.doors().into_iter().flat_map(|door| vec![door; DEAF]).map(async |door| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap(); // what its system reads for it
        let mut stream = socket.connect(door).await.unwrap();
        let saying = async { while stream.write_all(&requests).await.is_ok() {} };
        timeout(PATIENCE, saying).await.expect("an end of the connection");
    });
    join_all(deaf).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_read_its_answers_is_let_go_and_nothing_of_it_stays() {
    let besieged = Besieged::impatient();
    let meanwhile = Meanwhile::at(&besieged);
    is_asked_by_the_deaf(&besieged).await;
    // 128 KiB that are read ahead become requests a hundred times as large; the same again takes no more
    let before = besieged.resident();
    is_asked_by_the_deaf(&besieged).await;
    meanwhile.were_served().await;
    besieged.stands().await;
    besieged.has_grown_by_less_than(2 * u64::try_from(DEAF).unwrap() * 12 * 1024, before);
}
