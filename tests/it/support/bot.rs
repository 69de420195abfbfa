//! A bot's own endpoint: hears what is forwarded to it, and answers as a test wants, also badly.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};

/// An address of this machine at which nobody else listens, so that what has left a port finds it free when it comes back.
pub fn own_address() -> Ipv4Addr {
    let [a, b, c] = [fastrand::u8(64..), fastrand::u8(..), fastrand::u8(1..255)];
    Ipv4Addr::new(127, a, b, c)
}

/// A POST that came.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Lower-case names.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    pub at: Instant,
}

impl Heard {
    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Of a signed one: which notification it tells of.
    pub fn resource(&self) -> String {
        let body = self.json();
        let item = body.get("item").unwrap_or(&body["value"][0]);
        item["resourceUrl"].as_str().unwrap().trim_start_matches("/communications/calls/").to_owned()
    }
}

/// How it answers.
#[derive(Clone, Debug)]
pub enum Says {
    /// A status and a body.
    Status(u16, String),
    /// A status and a header.
    WithHeader(u16, &'static str, &'static str),
    /// Later.
    Slowly(Duration, Box<Says>),
    /// Yes, but the body of that takes its time.
    BodyLater(Duration),
    /// Never.
    Hang,
    /// It hangs up.
    Reset,
}

impl Says {
    pub const fn ok() -> Self {
        Self::Status(200, String::new())
    }
}

type Answer = Arc<dyn Fn(&Heard) -> Says + Send + Sync>;

/// A bot.
pub struct Bot {
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    serving: Option<AbortHandle>,
    answer: Answer,
}

impl Bot {
    /// Starts one that answers like this.
    pub async fn start(answer: impl Fn(&Heard) -> Says + Send + Sync + 'static) -> Self {
        let (address, heard) = (SocketAddr::from((own_address(), 0)), Arc::default());
        let mut bot = Self { address, heard, serving: None, answer: Arc::new(answer) };
        bot.come_back().await;
        bot
    }

    /// Starts one that says yes to all.
    pub async fn yes() -> Self {
        Self::start(|_| Says::ok()).await
    }

    pub fn url(&self) -> String {
        format!("http://{}/bot", self.address)
    }

    /// It is gone: nobody listens there, and open connections break.
    pub fn go(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
    }

    /// It is there again, at the same address.
    pub async fn come_back(&mut self) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        let bound = async {
            loop {
                match socket.bind(self.address) {
                    Ok(()) => return,
                    Err(_busy) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        tokio::time::timeout(Duration::from_mins(1), bound).await.unwrap();
        let listener = socket.listen(1024).unwrap();
        self.address = listener.local_addr().unwrap();
        self.serving = Some(tokio::spawn(serve(listener, Arc::clone(&self.heard), Arc::clone(&self.answer))).abort_handle());
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Waits until it has heard so many.
    pub async fn hears(&self, count: usize) -> Vec<Heard> {
        self.until(|heard| heard.len() >= count).await
    }

    /// Waits until what it has heard is so.
    pub async fn until(&self, is_so: impl Fn(&[Heard]) -> bool) -> Vec<Heard> {
        for _ in 0..2000 {
            let heard = self.heard();
            if is_so(&heard) {
                return heard;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let heard = self.heard();
        panic!("the bot has heard {} only: {:?}", heard.len(), heard.last());
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        self.go();
    }
}

async fn serve(listener: TcpListener, heard: Arc<Mutex<Vec<Heard>>>, answer: Answer) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        connections.spawn(connection(stream, Arc::clone(&heard), Arc::clone(&answer)));
        while connections.try_join_next().is_some() {}
    }
}

/// Until it breaks.
async fn connection(mut stream: TcpStream, heard: Arc<Mutex<Vec<Heard>>>, answer: Answer) -> Option<()> {
    let mut read = Vec::new();
    loop {
        let begin = loop {
            if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            (stream.read_buf(&mut read).await.ok()? > 0).then_some(())?;
        };
        let text = String::from_utf8_lossy(&read[..begin]).into_owned();
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        let headers: HashMap<String, String> = text.lines().skip(1).filter_map(header).collect();
        let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        while read.len() < begin + length {
            (stream.read_buf(&mut read).await.ok()? > 0).then_some(())?;
        }
        let body = read[begin..begin + length].to_vec();
        read.drain(..begin + length);
        let it = Heard { headers, body, at: Instant::now() };
        let mut says = answer(&it);
        heard.lock().unwrap().push(it);
        let (status, header, body) = loop {
            match says {
                Says::Status(status, body) => break (status, String::new(), body),
                Says::WithHeader(status, name, value) => break (status, format!("{name}: {value}\r\n"), String::new()),
                Says::Slowly(pause, then) => {
                    tokio::time::sleep(pause).await;
                    says = *then;
                }
                Says::BodyLater(pause) => {
                    stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\n").await.ok()?;
                    tokio::time::sleep(pause).await;
                    return None;
                }
                Says::Hang => std::future::pending().await,
                Says::Reset => return None,
            }
        };
        let answer = format!("HTTP/1.1 {status} x\r\n{header}content-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}
