//! Peers that take their time: with heads, with bodies, between requests, with answers.

use callback_ledger::config::Config;
use futures_util::future::join_all;

use super::{Besieged, Meanwhile, Peer, statuses};

/// So many of each kind.
const PEERS: usize = 20;

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
    let lengths = ["Content-Length: 60000\r\n\r\n"];
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
