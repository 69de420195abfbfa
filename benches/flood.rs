//! What strangers take from callers who are believed: how soon those are answered while nobody else is there, and while tokens that
//! are no good come as fast as they are refused.
//!
//! ```text
//! cargo bench --bench flood                 # 5 rounds of 3 s each; FLOOD_ROUNDS, FLOOD_SECONDS
//! ```
//!
//! A release build as a child process, HTTP, an issuer on loopback, a ledger on the disk, what is refused logged as it is by default. The
//! good callers keep a pace, and are timed from the moment they should have posted; the flood connects anew for each token, since
//! whoever is refused is closed. All of it runs on this machine, the flood's own work too, so only the rows of one run compare. The
//! rounds take turns.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark may panic, and prints its figures"
)]

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/support/child.rs"]
mod child;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/support/fake_issuer.rs"]
mod fake_issuer;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use jiff::Timestamp;
use reqwest::Client;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};

use self::{
    child::{Served, binary, configuration_with},
    fake_issuer::{AUDIENCE, FakeIssuer, SigningKey},
};

/// Connections of good callers, and how often each posts: 200 a second in all.
const CALLERS: u64 = 8;
const PACE: Duration = Duration::from_millis(40);
/// Connections of the flood.
const STRANGERS: u8 = 64;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn body(n: u64) -> String {
    let id = format!("operation-{n}");
    json!({ "value": [{
        "changeType": "deleted",
        "resourceUrl": format!("/communications/calls/call-{}/operations/{id}", n / 4),
        "resourceData": { "@odata.type": "#microsoft.graph.playPromptOperation", "id": id, "status": "completed" },
    }] })
    .to_string()
}

/// A service that fetches its keys from this issuer.
async fn served(folder: &Path, issuer: &FakeIssuer) -> Served {
    let (name, metadata) = (issuer.issuer(), issuer.metadata_url());
    let sections = format!(
        "[[receiver]]\npath = \"/api/calls\"\nsource = \"graph\"\naudience = [\"{AUDIENCE}\"]\nissuers = [\"{name}\"]\nmetadata = [\"{metadata}\"]\n"
    );
    let mut command = binary(folder);
    command.args(["serve", "--config"]).arg(configuration_with(folder, &sections)).stderr(Stdio::null());
    let served = Served::listening(command);
    let (client, ready) = (Client::builder().no_proxy().build().unwrap(), format!("{}/readyz", served.private));
    while client.get(&ready).send().await.unwrap().status() != 200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    served
}

/// How long each answer took that good callers were given, in microseconds, sorted.
async fn good(url: &str, token: &str, time: Duration) -> Vec<u128> {
    let begin = Instant::now();
    let caller = |caller: u64| async move {
        let client = Client::builder().no_proxy().build().unwrap();
        let mut took = Vec::new();
        for n in 0.. {
            let due = begin + PACE * n + PACE * u32::try_from(caller).unwrap() / u32::try_from(CALLERS).unwrap();
            if due > begin + time {
                break;
            }
            tokio::time::sleep_until(due.into()).await;
            let posted = client.post(url).bearer_auth(token).body(body(u64::from(n) * CALLERS + caller));
            assert_eq!(posted.send().await.unwrap().status(), 202);
            took.push(due.elapsed().as_micros());
        }
        took
    };
    let mut took = join_all((0..CALLERS).map(caller)).await.concat();
    took.sort_unstable();
    took
}

/// How many of these tokens were refused.
async fn flood(door: SocketAddr, token: &str, time: Duration) -> u32 {
    let request =
        format!("POST /api/calls HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 2\r\n\r\n{{}}");
    let begin = Instant::now();
    let stranger = |n: u8| {
        let request = request.clone();
        tokio::spawn(async move {
            let (mut refused, mut answer) = (0, Vec::new());
            while begin.elapsed() < time {
                let socket = TcpSocket::new_v4().unwrap();
                // from as many addresses as it likes
                socket.bind((Ipv4Addr::new(127, 0, 1, n), 0).into()).unwrap();
                let mut stream = socket.connect(door).await.unwrap();
                stream.write_all(request.as_bytes()).await.unwrap();
                answer.clear();
                stream.read_to_end(&mut answer).await.unwrap();
                assert!(answer.starts_with(b"HTTP/1.1 401"));
                refused += 1;
            }
            refused
        })
    };
    join_all((0..STRANGERS).map(stranger)).await.into_iter().map(Result::unwrap).sum()
}

/// The good callers' p50 and p99 (ms) and rate, and the flood's rate, of each round.
#[derive(Default)]
struct Rounds([Vec<f64>; 4]);

impl Rounds {
    async fn run(&mut self, issuer: &FakeIssuer, bad: Option<&str>, time: Duration) {
        let folder = tempfile::tempdir().unwrap();
        let served = served(folder.path(), issuer).await;
        let token = issuer.token().at(Timestamp::now().as_second()).sign();
        let (url, door) =
            (format!("{}/api/calls", served.public), served.public.strip_prefix("http://").unwrap().parse().unwrap());
        let strangers = async {
            match bad {
                Some(bad) => flood(door, bad, time).await,
                None => 0,
            }
        };
        let (took, refused) = tokio::join!(good(&url, &token, time), strangers);
        let at = |share: usize| f64::from(u32::try_from(took[took.len() * share / 100]).unwrap()) / 1000.0;
        let rate = |count: u32| f64::from(count) / time.as_secs_f64();
        let measured = [at(50), at(99), rate(u32::try_from(took.len()).unwrap()), rate(refused)];
        for (values, value) in self.0.iter_mut().zip(measured) {
            values.push(value);
        }
    }

    fn medians(mut self) -> [f64; 4] {
        self.0.each_mut().map(|values| {
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        })
    }
}

#[tokio::main]
async fn main() {
    let issuer = FakeIssuer::start().await;
    let token = || issuer.token().at(Timestamp::now().as_second());
    let stranger = SigningKey::rsa("rsa-1", 2);
    let forms = [
        ("alone", None),
        ("garbage", Some("x.y.z".to_owned())),
        ("a bad signature, a known key", Some(token().signed_by(&stranger).sign())),
        ("an unknown key", Some(token().key_id("nobody").sign())),
    ];
    let time = Duration::from_secs(number("FLOOD_SECONDS", 3));
    let mut all: [Rounds; 4] = Default::default();
    for _round in 0..number("FLOOD_ROUNDS", 5) {
        for ((_, bad), rounds) in forms.iter().zip(&mut all) {
            rounds.run(&issuer, bad.as_deref(), time).await;
        }
    }
    for ((name, _), rounds) in forms.iter().zip(all) {
        let [p50, p99, rate, refused] = rounds.medians();
        println!("{name}: good callers p50 {p50:.1} ms, p99 {p99:.1} ms, {rate:.0} a second; refused {refused:.0} a second");
    }
}
