//! Asking the private API: over HTTP where a URL is given, else in process, on the ledger that the configuration names.

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    configuration::{Source, surroundings},
    failure::{Failure, not_opened},
};
use crate::{
    app::ledger_options,
    feed::follow::Feed,
    http::{
        api::{Api, Followers},
        in_process,
        metrics::Metrics,
    },
    net::{HttpClient, Method, Request, Secret},
    store::LedgerReader,
};

/// The most bytes of an answer.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Whom to ask.
#[derive(Debug, Args)]
pub(super) struct Whom {
    /// The private API of a running service; without it the ledger is read directly.
    #[arg(long, env = "CALLBACK_LEDGER_URL", value_name = "URL", global = true)]
    url: Option<Url>,
    /// A token of the private API.
    #[arg(long, env = "CALLBACK_LEDGER_TOKEN", hide_env_values = true, value_name = "TOKEN", global = true)]
    api_token: Option<Secret>,
}

/// Somebody who answers.
#[derive(Debug)]
pub(super) enum Asked {
    /// A running service.
    Service { client: HttpClient, base: Url, token: Option<Secret> },
    /// The ledger itself.
    Ledger(Box<Api>),
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Whom {
    pub(super) async fn find(self, source: &Source) -> Result<Asked, Failure> {
        if let Some(base) = self.url {
            let token = self.api_token.map(|token| Secret::new(format!("Bearer {}", token.expose())));
            return Ok(Asked::Service { client: HttpClient::new()?, base, token });
        }
        let config = source.load()?;
        let surroundings = surroundings(&config)?;
        let options = ledger_options(&config, &surroundings, &Metrics::new());
        let reader = LedgerReader::open(&options).await.map_err(not_opened)?;
        let shutdown = CancellationToken::new();
        let clock = surroundings.clock;
        let (feed, followers) = (Feed::new(reader.clone(), clock.clone()), Followers::new(1, 1));
        Ok(Asked::Ledger(Box::new(Api { reader, service: None, feed, followers, clock, shutdown })))
    }
}

impl Asked {
    /// Asks for a path of the API; waits for as long as the answer may be held, and a little more.
    pub(super) async fn get(&self, path_and_query: &str, held: Duration) -> Result<Answer, Failure> {
        match self {
            Self::Ledger(api) => {
                let in_process::Answer { status, body } = in_process::get(api, path_and_query).await;
                Ok(Answer { status, body })
            }
            Self::Service { client, base, token } => {
                let url = base.join(path_and_query).map_err(Failure::usage)?;
                let headers: Vec<_> = token.iter().map(|token| ("authorization", token.expose())).collect();
                let request = Request {
                    method: Method::Get,
                    url: &url,
                    headers: &headers,
                    body: Vec::new(),
                    timeout: held + Duration::from_secs(15),
                    max_bytes: MAX_ANSWER,
                };
                let answer = client.request(request).await?;
                Ok(Answer { status: answer.status, body: answer.body })
            }
        }
    }

    /// Has a running service do something.
    pub(super) async fn order(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let Self::Service { client, base, token } = self else { return Err(nobody_serves()) };
        let url = base.join(path).map_err(Failure::usage)?;
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(token.iter().map(|token| ("authorization", token.expose())));
        let (body, timeout) = (serde_json::to_vec(body)?, Duration::from_secs(75));
        let request = Request { method: Method::Post, url: &url, headers: &headers, body, timeout, max_bytes: MAX_ANSWER };
        let answer = client.request(request).await?;
        let answer = Answer { status: answer.status, body: answer.body };
        if answer.status == 200 { Ok(serde_json::from_slice(&answer.body)?) } else { Err(refused(&answer)) }
    }

    /// Posts a JSON document through the gateway of a running service.
    pub(super) async fn post(&self, path_and_query: &str, body: &Value, platform: Option<&Secret>) -> Result<Answer, Failure> {
        let Self::Service { client, base, token } = self else { return Err(nobody_serves()) };
        let url = base.join(path_and_query).map_err(Failure::usage)?;
        let ours = token.as_ref().and_then(|token| token.expose().strip_prefix("Bearer "));
        let theirs = platform.map(|token| Secret::new(format!("Bearer {}", token.expose())));
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(ours.map(|token| ("callback-ledger-token", token)));
        headers.extend(theirs.as_ref().map(|token| ("authorization", token.expose())));
        let body = serde_json::to_vec(body)?;
        let timeout = Duration::from_secs(75);
        let request = Request { method: Method::Post, url: &url, headers: &headers, body, timeout, max_bytes: MAX_ANSWER };
        let answer = client.request(request).await?;
        Ok(Answer { status: answer.status, body: answer.body })
    }

    /// Asks for a JSON document.
    pub(super) async fn json(&self, path_and_query: &str, held: Duration) -> Result<Value, Failure> {
        let answer = self.get(path_and_query, held).await?;
        if answer.status == 200 {
            return Ok(serde_json::from_slice(&answer.body)?);
        }
        Err(refused(&answer))
    }
}

fn nobody_serves() -> Failure {
    Failure::usage(anyhow::anyhow!("name the private API of the running service: --url or CALLBACK_LEDGER_URL"))
}

/// What a problem document means for the exit code.
pub(super) fn refused(answer: &Answer) -> Failure {
    let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let detail = problem.get("detail").and_then(Value::as_str).unwrap_or("the answer says no more");
    match answer.status {
        404 => Failure::not_found(detail),
        408 => Failure::timed_out(detail),
        400 => Failure::usage(anyhow::anyhow!("{detail}")),
        status => anyhow::anyhow!("status {status}: {detail}").into(),
    }
}
