//! `replay`: posts recorded bodies and scenarios to a receiver, like any other HTTP client.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Map, json};
use tokio::time::Instant;
use url::Url;

use super::{
    configuration::Source,
    failure::Failure,
    output::{self, Column, Output},
    scenario::{Post, posts},
    token,
};
use crate::{
    auth::DevIssuer,
    config::Config,
    domain::{clock::Clock, delivery::Correlation, text::tame},
    net::{HttpClient, Method, Request, Secret},
    source::{Answers, Head, Inbound, NotificationSource, Reading, SOURCES, Unreadable, graph::Graph, source},
};

/// From how many posts on a terminal shows their progress.
const MANY: usize = 20;

/// `replay`
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Bodies, scenarios, or folders of them.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// The receiver's address; the configured receiver of the source on this machine unless told.
    #[arg(long, value_name = "URL")]
    to: Option<Url>,
    /// Whose bodies they are (graph, acs, event-grid); as the scenario, the address or the bodies themselves say unless told.
    #[arg(long, value_parser = known_source)]
    source: Option<String>,
    /// The token to send.
    #[arg(long, conflicts_with = "sign")]
    token: Option<Secret>,
    /// The development issuer's private key (PEM) to sign tokens with; `dev.issuer_key` unless told.
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// At most so many posts a second.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Post in an order that this number decides.
    #[arg(long, value_name = "SEED")]
    shuffle: Option<u64>,
    /// Post each so many times more.
    #[arg(long, value_name = "N", default_value_t = 0)]
    duplicate: usize,
    /// Read the bodies and say what they hold, but post nothing.
    #[arg(long)]
    dry_run: bool,
    /// How to write the report: a table on a terminal, one JSON document a line when piped.
    #[arg(long, value_enum)]
    output: Option<Output>,
}

const COLUMNS: &[Column] = &[("FILE", "file"), ("OUTCOME", "outcome"), ("STATUS", "status"), ("DETAIL", "detail")];

impl Replay {
    pub(super) async fn run(self, source: &Source) -> Result<(), Failure> {
        let config = source.load()?;
        let mut posts: Vec<Post> = posts(&self.paths)?.into_iter().flat_map(|post| vec![post; self.duplicate + 1]).collect();
        if let Some(seed) = self.shuffle {
            fastrand::Rng::with_seed(seed).shuffle(&mut posts);
        }
        if posts.is_empty() {
            return Err(Failure::usage(anyhow::anyhow!("there is nothing to post in what was named")));
        }
        let output = Output::or_default(self.output);
        if self.dry_run {
            let report: Vec<_> = posts.iter().map(|post| describe(post, self.source_of(&config, post))).collect();
            return output::rows(&report, COLUMNS, output);
        }
        let posters = self.posters(&config, &posts)?;
        let report = self.post_all(&config, &posters, &posts).await;
        output::rows(&report, COLUMNS, output)?;
        let refused = report.iter().filter(|row| row.get("outcome") != Some(&json!("accepted"))).count();
        eprintln!("{} accepted, {refused} not", report.len() - refused);
        if refused == 0 { Ok(()) } else { Err(Failure::reported()) }
    }

    fn authorization(&self, config: &Config, url: &Url) -> Result<Secret, Failure> {
        if let Some(token) = &self.token {
            return Ok(Secret::new(format!("Bearer {}", token.expose())));
        }
        // Loaded, never made: a token of a key that nobody believes would only be refused.
        let path = self.sign.as_ref().or(config.dev.issuer_key.as_ref());
        let issuer = path.map(|path| DevIssuer::load(path)).transpose().map_err(Failure::usage)?.ok_or_else(|| {
            Failure::usage(anyhow::anyhow!("say who calls: --token TOKEN, --sign KEY, or dev.issuer_key in the configuration"))
        })?;
        dev_authorization(&issuer, &token::audience(config, Some(url.path())))
    }

    /// The source that a body is for: as the flag, the scenario or the receiver at the address says, else the first that
    /// understands it.
    fn source_of(&self, config: &Config, post: &Post) -> &'static dyn NotificationSource {
        let path = self.to.as_ref().map(Url::path);
        let there = || config.receivers.iter().find(|receiver| path == Some(receiver.path.as_str()));
        let receiver = || there().map(|receiver| receiver.source.as_str());
        let usual = || SOURCES.iter().find(|source| path == Some(source.usual_path())).map(|source| source.name());
        let told = self.source.as_deref().or(post.source.as_deref());
        told.or_else(receiver).or_else(usual).and_then(source).unwrap_or_else(|| understanding(post))
    }

    /// Who posts to whom, by source.
    fn posters(&self, config: &Config, posts: &[Post]) -> Result<BTreeMap<&'static str, Poster>, Failure> {
        let client = HttpClient::new()?;
        let mut posters = BTreeMap::new();
        for post in posts {
            let source = self.source_of(config, post);
            if !posters.contains_key(source.name()) {
                let url = self.to.clone().map_or_else(|| receiver_of(config, source), Ok)?;
                let receiver = config.receivers.iter().find(|receiver| receiver.path == url.path());
                let by_secret = receiver.is_some_and(|receiver| receiver.audience.is_empty());
                let authorization = if by_secret { None } else { Some(self.authorization(config, &url)?) };
                posters.insert(source.name(), Poster { client: client.clone(), url, authorization });
            }
        }
        Ok(posters)
    }

    async fn post_all(&self, config: &Config, posters: &BTreeMap<&str, Poster>, posts: &[Post]) -> Vec<serde_json::Value> {
        let progress = (posts.len() >= MANY && io::stderr().is_terminal())
            .then(|| ProgressBar::new(u64::try_from(posts.len()).unwrap_or(u64::MAX)));
        let mut due = Instant::now();
        let mut report = Vec::with_capacity(posts.len());
        for post in posts {
            if self.shuffle.is_none() {
                tokio::time::sleep(post.pause).await;
            }
            if let Some(rate) = self.rate {
                tokio::time::sleep_until(due).await;
                due += Duration::from_secs(1) / rate;
            }
            if let Some(poster) = posters.get(self.source_of(config, post).name()) {
                report.push(poster.post(post).await.row(&post.name));
            }
            if let Some(progress) = &progress {
                progress.inc(1);
            }
        }
        if let Some(progress) = progress {
            progress.finish_and_clear();
        }
        report
    }
}

/// An `Authorization` value of the development issuer.
pub(super) fn dev_authorization(issuer: &DevIssuer, audience: &str) -> Result<Secret, Failure> {
    let mut claims = Map::new();
    claims.insert("aud".to_owned(), audience.into());
    claims.insert("tid".to_owned(), token::DEV_TENANT.into());
    let minted = issuer.mint(claims, Clock::system().now())?;
    Ok(Secret::new(format!("Bearer {minted}")))
}

/// Posts bodies to one receiver.
pub(super) struct Poster {
    pub(super) client: HttpClient,
    pub(super) url: Url,
    /// `None` where no token is demanded.
    pub(super) authorization: Option<Secret>,
}

/// What became of a post.
pub(super) enum Posted {
    /// 2xx.
    Accepted { status: u16, answer: String },
    /// Another status.
    Refused { status: u16, detail: String },
    /// No answer.
    Failed { why: String },
}

impl Poster {
    pub(super) async fn post(&self, post: &Post) -> Posted {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(self.authorization.iter().map(|token| ("authorization", token.expose())));
        headers.extend(post.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let request = Request {
            method: Method::Post,
            url: &self.url,
            headers: &headers,
            body: post.body.clone(),
            timeout: Duration::from_secs(30),
            max_bytes: 1024 * 1024,
        };
        match self.client.request(request).await {
            Ok(answer) if (200..300).contains(&answer.status) => {
                Posted::Accepted { status: answer.status, answer: tame(&String::from_utf8_lossy(&answer.body)) }
            }
            Ok(answer) => Posted::Refused { status: answer.status, detail: detail(&answer.body) },
            Err(error) => Posted::Failed { why: error.to_string() },
        }
    }
}

impl Posted {
    /// A row of the report.
    pub(super) fn row(&self, file: &str) -> serde_json::Value {
        match self {
            Self::Accepted { status, answer } => {
                json!({ "file": file, "outcome": "accepted", "status": status, "detail": answer })
            }
            Self::Refused { status, detail } => {
                json!({ "file": file, "outcome": "refused", "status": status, "detail": detail })
            }
            Self::Failed { why } => json!({ "file": file, "outcome": "failed", "status": null, "detail": why }),
        }
    }
}

fn detail(body: &[u8]) -> String {
    let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    tame(problem.get("detail").and_then(serde_json::Value::as_str).unwrap_or_default())
}

/// The first source that knows all that is in a body, else the first that can read it.
fn understanding(post: &Post) -> &'static dyn NotificationSource {
    let knows = |source: &&&dyn NotificationSource| {
        read(post, **source).is_ok_and(|reading| reading.notifications.iter().all(|item| item.recognized))
    };
    let reads = |source: &&&dyn NotificationSource| read(post, **source).is_ok();
    SOURCES.iter().find(knows).or_else(|| SOURCES.iter().find(reads)).copied().unwrap_or(&Graph)
}

fn known_source(name: &str) -> Result<String, String> {
    let names: Vec<&str> = SOURCES.iter().map(|source| source.name()).collect();
    source(name).map(|source| source.name().to_owned()).ok_or_else(|| format!("one of {}", names.join(", ")))
}

/// The configured receiver of a source on this machine, with its secret; where there is none, that of development mode.
fn receiver_of(config: &Config, source: &dyn NotificationSource) -> Result<Url, Failure> {
    let receiver = config.receivers.iter().find(|receiver| receiver.source == source.name());
    let path = receiver.map_or(source.usual_path(), |receiver| receiver.path.as_str());
    let port = config.public.bind.port();
    let mut url = Url::parse(&format!("http://127.0.0.1:{port}{path}")).map_err(Failure::usage)?;
    if let Some(secret) = receiver.and_then(|receiver| receiver.secret.as_ref()) {
        url.query_pairs_mut().append_pair("secret", secret.expose());
    }
    Ok(url)
}

/// What a body holds, without posting it.
fn describe(post: &Post, source: &dyn NotificationSource) -> serde_json::Value {
    match read(post, source) {
        Ok(reading) => {
            let kinds: Vec<&str> = reading.notifications.iter().map(|item| item.facts.kind.as_str()).collect();
            json!({ "file": post.name, "outcome": "readable", "detail": kinds.join(", ") })
        }
        Err(unreadable) => json!({ "file": post.name, "outcome": "unreadable", "detail": unreadable.to_string() }),
    }
}

/// A body as its source reads it.
pub(super) fn read(post: &Post, source: &dyn NotificationSource) -> Result<Reading, Unreadable> {
    let header =
        |name: &str| post.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone());
    let attribute = |(header, value): (&String, &String)| {
        header.to_ascii_lowercase().strip_prefix("ce-").map(|name| (name.to_owned(), value.clone()))
    };
    let head = Head { content_type: header("content-type"), attributes: post.headers.iter().filter_map(attribute).collect() };
    let correlation = Correlation { message_id: header("x-microsoft-skype-message-id"), ..Correlation::default() };
    source.read(&Inbound { body: &post.body, head: &head, correlation: &correlation, answers: &Answers::default() })
}
