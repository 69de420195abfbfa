//! `/gateway/…`: a bot's own requests on their way to a platform.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{HeaderMap, HeaderValue},
    },
    web::{Data, Payload},
};

use super::{Api, Leave, body::read, register::MAX_DEADLINE};
use crate::{
    gateway::{BotRequest, MAX_REQUEST, NotForwarded},
    http::{
        end_to_end::{BETWEEN_NEIGHBOURS, end_to_end},
        problem::{Problem, not_recorded},
    },
    net::{header_bytes, header_text},
};

/// The header in which our own token travels here, where `Authorization` is the platform's.
pub(super) const TOKEN_HEADER: &str = "callback-ledger-token";

/// The header that says how long what is asked for may take, in seconds.
const DEADLINE_HEADER: &str = "callback-ledger-deadline";

/// What stays behind besides what is between two neighbours: our own, and what tells of the machine that the bot runs on.
const KEPT_BACK: &[&str] = &["cookie", "forwarded", TOKEN_HEADER, DEADLINE_HEADER];

/// Whether a header stays behind on either way.
fn is_kept_back(name: &str) -> bool {
    BETWEEN_NEIGHBOURS.contains(&name) || KEPT_BACK.contains(&name)
}

/// Any method, any path behind `/gateway/<source>`.
pub(super) async fn pass_on(api: Data<Api>, request: HttpRequest, payload: Payload) -> HttpResponse {
    match passed_on(&api, &request, payload).await {
        Ok(answer) => answer,
        Err(problem) => problem.answer(&request),
    }
}

async fn passed_on(api: &Api, request: &HttpRequest, payload: Payload) -> Result<HttpResponse, Problem> {
    let writer = Leave::of(request).writer.ok_or(Problem::ScopeRequired("write"))?;
    let behind = request.uri().path().strip_prefix("/gateway/").unwrap_or_default();
    let (name, _) = behind.split_once('/').unwrap_or((behind, ""));
    let service = api.service.as_ref().ok_or_else(|| Problem::LedgerUnavailable("nobody serves this ledger".to_owned()))?;
    let gateway = service.gateways.iter().find(|gateway| gateway.source.name() == name);
    let gateway = gateway.ok_or_else(|| Problem::NotFound("no gateway is configured for this platform".to_owned()))?;
    let body = read(payload, MAX_REQUEST, service.body_time).await?.to_vec();
    let asked = BotRequest {
        method: request.method().as_str().to_owned(),
        path: behind.get(name.len()..).filter(|path| !path.is_empty()).unwrap_or("/").to_owned(),
        query: request.uri().query().map(ToOwned::to_owned),
        headers: passed(request.headers()),
        body,
        deadline: deadline(request.headers())?,
    };
    let answer = gateway.forward(writer, asked).await.map_err(problem)?;
    let status = StatusCode::from_u16(answer.status).map_err(|_odd| Problem::UpstreamUnreachable)?;
    let mut response = HttpResponse::build(status);
    for (name, value) in answer.headers.iter().filter(|(name, _)| !is_kept_back(name)) {
        if let Ok(value) = HeaderValue::from_bytes(&header_bytes(value)) {
            response.append_header((name.as_str(), value));
        }
    }
    Ok(response.body(answer.body))
}

/// How long what is asked for may take.
fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let Some(told) = headers.get(DEADLINE_HEADER) else { return Ok(None) };
    let seconds: Option<u64> = told.to_str().ok().and_then(|text| text.trim().parse().ok());
    let seconds = seconds.filter(|seconds| (1..=MAX_DEADLINE).contains(seconds));
    let invalid = || Problem::InvalidBody(format!("Callback-Ledger-Deadline: 1 to {MAX_DEADLINE} seconds"));
    seconds.map(|seconds| Some(Duration::from_secs(seconds))).ok_or_else(invalid)
}

/// The headers that are passed on.
fn passed(headers: &HeaderMap) -> Vec<(String, String)> {
    end_to_end(headers)
        .filter(|(name, _)| !KEPT_BACK.contains(&name.as_str()) && !name.as_str().starts_with("x-forwarded-"))
        .map(|(name, value)| (name.as_str().to_owned(), header_text(value.as_bytes())))
        .collect()
}

fn problem(reason: NotForwarded) -> Problem {
    match reason {
        NotForwarded::OddPath => Problem::InvalidPath,
        NotForwarded::Unrecognised => {
            Problem::NotFound("the gateway passes on what acts on calls; see gateway.pass_unrecognised".to_owned())
        }
        NotForwarded::NoToken => Problem::TokenUnavailable,
        NotForwarded::SignatureOfHost => Problem::SignatureOfHost,
        NotForwarded::Method => Problem::MethodNotAllowed("GET, POST, PUT, PATCH, DELETE"),
        NotForwarded::NotRecorded(error) => not_recorded(error),
        NotForwarded::Unreachable | NotForwarded::TooLarge => Problem::UpstreamUnreachable,
        NotForwarded::TooSlow => Problem::UpstreamTimeout,
    }
}
