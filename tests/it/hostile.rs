//! Slow, greedy and malicious peers at both listeners: each gets the right status or its end, the service stays whole and small, and
//! others are served meanwhile.

mod bombs;
mod crowds;
mod heads;
mod slow;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream, tcp::OwnedReadHalf},
    task::JoinHandle,
    time::timeout,
};

use crate::support::{
    app::graph,
    child::{Served, token},
};

/// Where a test waits for what must come: long enough for a machine that is busy, and never waited for in vain.
const PATIENCE: Duration = Duration::from_mins(1);
/// Who means well. Loopback is a whole network: attackers come from other addresses of it, where those are counted.
const FRIEND: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A service under attack.
struct Besieged {
    served: Served,
    folder: TempDir,
    token: String,
}

impl Besieged {
    /// Starts with these limits: variables of the configuration without their prefix.
    fn start(limits: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let token = token(folder.path());
        let served = Served::start_limited(folder.path(), limits, &folder.path().join("log"));
        Self { served, folder, token }
    }

    /// Starts with two seconds for a head and two for a body, at both listeners.
    fn impatient() -> Self {
        let sections =
            ["PUBLIC", "PRIVATE"].map(|door| [format!("{door}__HEAD_TIMEOUT_SECONDS"), format!("{door}__BODY_TIMEOUT_SECONDS")]);
        let limits: Vec<(&str, &str)> = sections.iter().flatten().map(|name| (name.as_str(), "2")).collect();
        Self::start(&limits)
    }

    fn public(&self) -> SocketAddr {
        self.served.public.strip_prefix("http://").unwrap().parse().unwrap()
    }

    fn private(&self) -> SocketAddr {
        self.served.private.strip_prefix("http://").unwrap().parse().unwrap()
    }

    fn doors(&self) -> [SocketAddr; 2] {
        [self.public(), self.private()]
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The head of a POST of somebody who is believed, up to what says how long its body is.
    fn head(&self, path: &str) -> String {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n",
            self.token
        )
    }

    /// The status that answers this body, posted with a good token.
    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> StatusCode {
        let request = client(FRIEND).post(format!("{}{path}", self.served.public)).bearer_auth(&self.token);
        sent(request.header("content-type", "application/json").body(body)).await.status()
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let answer = sent(client(FRIEND).get(format!("{}{path}", self.served.private))).await;
        (answer.status(), answer.text().await.unwrap())
    }

    async fn list(&self, path: &str) -> Vec<Value> {
        let (status, body) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body.parse::<Value>().unwrap()["value"].as_array().unwrap().clone()
    }

    /// What of it is in memory (KiB).
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.served.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    /// What of it is in memory is little more than it was before (KiB).
    fn has_grown_by_less_than(&self, bound: u64, before: u64) {
        let grown = self.resident().saturating_sub(before);
        eprintln!("{grown} KiB more than before, of {bound}");
        assert!(grown < bound, "{grown} KiB more than before, of {bound}");
    }

    /// It is as it was: it takes notifications and tells of them, nothing in it has panicked, and nobody need look.
    async fn stands(&self) {
        assert_eq!(self.post("/api/calls", notification(usize::MAX)).await, StatusCode::ACCEPTED);
        assert_eq!(self.get("/readyz").await.0, StatusCode::OK);
        let log = std::fs::read_to_string(self.log()).unwrap();
        let worst = log.lines().find(|line| line.contains("panicked") || line.contains("\"ERROR\""));
        assert_eq!(worst, None);
    }
}

/// The answer to this; once more where our own head has come too late: this machine may be as busy as that.
async fn sent(request: RequestBuilder) -> Response {
    for _ in 0..5 {
        let answer = request.try_clone().unwrap().send().await.unwrap();
        let is_of_a_head = answer.status() == StatusCode::REQUEST_TIMEOUT && !answer.headers().contains_key("content-type");
        if !is_of_a_head {
            return answer;
        }
    }
    request.send().await.unwrap()
}

/// A notification that begins a call.
fn notification(n: usize) -> String {
    let data = json!({ "@odata.type": "#microsoft.graph.call", "state": "establishing" });
    graph("created", &format!("calls/call-{n}"), &data).to_string()
}

/// A client that connects from this address, anew for each request.
fn client(from: IpAddr) -> Client {
    Client::builder().no_proxy().local_address(from).pool_max_idle_per_host(0).timeout(PATIENCE).build().unwrap()
}

/// A caller who means well, at both listeners, for as long as an attack lasts.
struct Meanwhile {
    over: Arc<AtomicBool>,
    caller: JoinHandle<usize>,
}

impl Meanwhile {
    fn at(besieged: &Besieged) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (until, client, token) = (Arc::clone(&over), client(FRIEND), besieged.token.clone());
        let (public, private) = (format!("{}/api/calls", besieged.served.public), format!("{}/healthz", besieged.served.private));
        let caller = tokio::spawn(async move {
            let mut answered = 0;
            while !until.load(Ordering::Relaxed) {
                let posted = client.post(&public).bearer_auth(&token).body(notification(answered)).send().await.unwrap().status();
                let asked = client.get(&private).send().await.unwrap().status();
                // where heads have little time, a machine that is busy can take it all: who means well tries again
                if posted != StatusCode::REQUEST_TIMEOUT && asked != StatusCode::REQUEST_TIMEOUT {
                    assert_eq!((posted, asked), (StatusCode::ACCEPTED, StatusCode::OK));
                    answered += 1;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            answered
        });
        Self { over, caller }
    }

    /// The attack is over: they have been served throughout.
    async fn were_served(self) {
        self.over.store(true, Ordering::Relaxed);
        assert!(self.caller.await.unwrap() > 0);
    }
}

/// A peer that speaks HTTP by hand.
struct Peer {
    stream: TcpStream,
}

impl Peer {
    async fn at(door: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(door).await.unwrap() }
    }

    async fn from(address: IpAddr, door: SocketAddr) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(address, 0))?;
        Ok(Self { stream: socket.connect(door).await? })
    }

    async fn says(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).await.unwrap();
    }

    /// The next answer whose length is told, head and body.
    async fn answer(&mut self) -> String {
        let mut answer = Vec::new();
        while !is_whole(&answer) {
            let read = timeout(PATIENCE, self.stream.read_u8()).await.expect("an answer");
            answer.push(read.unwrap_or_else(|error| panic!("{error} after {:?}", String::from_utf8_lossy(&answer))));
        }
        String::from_utf8(answer).unwrap()
    }

    /// Waits until this has come.
    async fn hears(&mut self, text: &str) {
        let mut heard = Vec::new();
        while !String::from_utf8_lossy(&heard).contains(text) {
            heard.push(timeout(PATIENCE, self.stream.read_u8()).await.expect("a word").unwrap());
        }
    }

    /// All that comes until the service ends the connection, while this is said, of which some may find no listener any more.
    async fn hears_out(self, text: impl AsRef<[u8]> + Send + 'static) -> String {
        let (reader, mut writer) = self.stream.into_split();
        let saying = tokio::spawn(async move {
            let _ended = writer.write_all(text.as_ref()).await;
            writer // else our end would be heard
        });
        let heard = end_of(reader).await;
        saying.abort();
        heard
    }

    /// The same, while a byte is said every few milliseconds.
    async fn hears_out_dribbling(self) -> String {
        let (reader, mut writer) = self.stream.into_split();
        let saying = tokio::spawn(async move {
            while writer.write_all(b"a").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let heard = end_of(reader).await;
        saying.abort();
        heard
    }
}

/// All that comes until the other side ends the connection, in good order or not.
async fn end_of(mut reader: OwnedReadHalf) -> String {
    let mut heard = Vec::new();
    let mut piece = vec![0; 16 * 1024];
    loop {
        match timeout(PATIENCE, reader.read(&mut piece)).await.expect("an end of the connection") {
            Ok(0) | Err(_) => return String::from_utf8_lossy(&heard).into_owned(),
            Ok(read) => heard.extend_from_slice(&piece[..read]),
        }
    }
}

/// Whether an answer that tells its length has come whole.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let told = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= told.map_or(0, |length| length.parse().unwrap())
}

/// The statuses of answers that came one behind the other.
fn statuses(heard: &str) -> Vec<&str> {
    heard.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)).collect()
}

/// What is said at a new connection to its end, and the statuses that answer it.
async fn statuses_of(door: SocketAddr, text: impl AsRef<[u8]> + Send + 'static) -> Vec<String> {
    let heard = Peer::at(door).await.hears_out(text).await;
    statuses(&heard).into_iter().map(str::to_owned).collect()
}
