//! Peers that are many: they come, take a place, and say nothing.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use futures_util::future::join_all;
use reqwest::StatusCode;

use super::{Besieged, Meanwhile, Peer, client, notification, statuses};

/// What the service may keep for a connection that has said nothing (KiB): its buffers, and what the parts of a server make of it.
const KEPT_FOR_EACH: u64 = 32;
/// What may come and go for other reasons (KiB).
const AT_REST: u64 = 16 * 1024;

/// How many connections are idle: `CALLBACK_LEDGER_IDLE` for the long form, else so many.
fn idle() -> usize {
    std::env::var("CALLBACK_LEDGER_IDLE").ok().and_then(|text| text.parse().ok()).unwrap_or(2000)
}

/// An address that attackers come from.
fn stranger(n: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 1, n).into()
}

/// So many connections of this address that say nothing.
async fn crowd(from: IpAddr, door: SocketAddr, count: usize) -> Vec<Peer> {
    let mut peers = Vec::with_capacity(count);
    for n in 0..count {
        peers.push(Peer::from(from, door).await.unwrap_or_else(|error| panic!("{error} at {n} of {count}")));
    }
    peers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_idle_connections_cost_little_and_others_are_served() {
    let count = idle();
    // ours, and two of the service for each of them
    let files = u64::try_from(count * 2 + 1024).unwrap();
    let (_, allowed) = rlimit::Resource::NOFILE.get().unwrap();
    if allowed < files {
        eprintln!("skipped: this system lets nobody have more than {allowed} files open, and this takes {files}");
        return;
    }
    rlimit::increase_nofile_limit(files).unwrap();
    // room for all of them at either listener, from a few addresses, and time enough that none ends by itself
    let (all, each) = ((count * 2 + 64).to_string(), (count / 4 + 64).to_string());
    let besieged = Besieged::start(&[
        ("PUBLIC__MAX_CONNECTIONS", &all),
        ("PRIVATE__MAX_CONNECTIONS", &all),
        ("PUBLIC__MAX_CONNECTIONS_PER_ADDRESS", &each),
        ("PUBLIC__HEAD_TIMEOUT_SECONDS", "45"),
        ("PRIVATE__HEAD_TIMEOUT_SECONDS", "45"),
    ]);
    besieged.stands().await;
    let (meanwhile, before) = (Meanwhile::at(&besieged), besieged.resident());

    let mut idlers = Vec::new();
    for address in 1..=3 {
        idlers.extend(crowd(stranger(address), besieged.public(), count / 4).await);
    }
    idlers.extend(crowd(stranger(4), besieged.private(), count / 4).await);
    besieged.stands().await;
    besieged.has_grown_by_less_than(AT_REST + KEPT_FOR_EACH * u64::try_from(count).unwrap(), before);

    // they are there: each can still be served
    for peer in idlers.iter_mut().step_by(97) {
        peer.says("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert_eq!(statuses(&peer.answer().await), ["404"]);
    }
    drop(idlers);
    meanwhile.were_served().await;
    besieged.stands().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_all_places_are_taken_the_next_caller_waits_until_idle_heads_are_closed_and_is_served() {
    let limits = [("PUBLIC__MAX_CONNECTIONS", "64"), ("PRIVATE__MAX_CONNECTIONS", "64")];
    let besieged = Besieged::start(
        &[limits.as_slice(), &[("PUBLIC__HEAD_TIMEOUT_SECONDS", "2"), ("PRIVATE__HEAD_TIMEOUT_SECONDS", "2")]].concat(),
    );
    for door in besieged.doors() {
        // more than are served at once: the last of them wait as well
        let idlers = crowd(stranger(1), door, 100).await;
        besieged.stands().await;
        for heard in join_all(idlers.into_iter().map(|peer| peer.hears_out(""))).await {
            assert_eq!(statuses(&heard), ["408"]);
        }
    }
    besieged.stands().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_may_wait_for_a_place() {
    const WAITING: usize = 500;
    let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    if allowed.trim().parse::<usize>().unwrap() < WAITING {
        eprintln!("skipped: this system lets no more than {} wait", allowed.trim());
        return;
    }
    let limits = [("PUBLIC__MAX_CONNECTIONS", "1"), ("PUBLIC__HEAD_TIMEOUT_SECONDS", "45")];
    let besieged = Besieged::start(&limits);
    // who is dropped instead tries again until there is room: not before the first one's head is given up
    let waiting = tokio::time::timeout(super::PATIENCE / 2, crowd(stranger(1), besieged.public(), WAITING)).await;
    drop(waiting.expect("a place in the queue"));
    besieged.stands().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_takes_all_its_places_takes_none_of_the_others() {
    const PLACES: usize = 50;
    let places = PLACES.to_string();
    let besieged =
        Besieged::start(&[("PUBLIC__MAX_CONNECTIONS_PER_ADDRESS", places.as_str()), ("PUBLIC__HEAD_TIMEOUT_SECONDS", "45")]);
    let idlers = crowd(stranger(1), besieged.public(), PLACES).await;
    let too_many = join_all((0..PLACES).map(async |_| {
        // closed as it comes: what it hears is the end, long before a head would have been waited for
        let peer = Peer::from(stranger(1), besieged.public()).await.unwrap();
        tokio::time::timeout(Duration::from_secs(30), peer.hears_out("")).await.expect("no place")
    }));
    assert_eq!(too_many.await, vec![""; PLACES]);
    besieged.stands().await;
    let (_, metrics) = besieged.get("/metrics").await;
    assert!(metrics.lines().any(|line| line.contains("crowded_out") && line.ends_with(" 50")), "{metrics}");

    drop(idlers);
    let post = || {
        let request = client(stranger(1)).post(format!("{}/api/calls", besieged.served.public));
        request.bearer_auth(&besieged.token).body(notification(1)).send()
    };
    let again = async {
        // that they have gone is noticed in a moment
        while !post().await.is_ok_and(|answer| answer.status() == StatusCode::ACCEPTED) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(super::PATIENCE, again).await.expect("a place that somebody has left");
    besieged.stands().await;
}
