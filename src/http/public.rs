//! The internet-facing listener: callbacks and nothing else.
//!
//! ```text
//! POST <receiver path>
//!   1 path            routing: one resource per receiver           404, 405
//!   2 who calls       their network, receiver.admit                401, 403, 503
//!   3 body            read, with a bound, only after 2             408, 413, 415
//!   4 read
//!   5 record          receiver.accept                              400, 503
//!   6 reply                                                        2xx
//!
//! OPTIONS <receiver path>      receiver.greet                      200, 400, 401, 403, 405
//! ```

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method, StatusCode,
        header::{
            ALLOW, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
            USER_AGENT,
        },
    },
    web::{self, Payload, ServiceConfig, ThinData},
};
use percent_encoding::{percent_decode, percent_decode_str};
use tokio::time::timeout;

use super::{
    crowd::{Crowd, Full},
    end_to_end::end_to_end,
    metrics::Metrics,
    problem::{Problem, not_accepted},
};
use crate::{
    domain::{delivery::Correlation, text::tame},
    net::Secret,
    receive::{Accepted, Caller, Greeting, NotAccepted, NotGreeted, Receiver},
    source::{Head, Reply},
};

/// What all receivers have in common.
#[derive(Clone, Debug)]
pub struct Entrance {
    /// Who is there.
    pub crowd: Crowd,
    /// How long a body may take.
    pub body_time: Duration,
    /// What is counted.
    pub metrics: Metrics,
}

/// Adds one resource per receiver; everything else is 404.
pub fn configure(app: &mut ServiceConfig, receivers: &[Arc<Receiver>], entrance: &Entrance) {
    mount(app, receivers, entrance);
    app.default_service(web::to(|request: HttpRequest| async move {
        Problem::NotFound("no receiver is configured at this path".to_owned()).answer(&request)
    }));
}

/// Adds one resource per receiver, and nothing else.
pub fn mount(app: &mut ServiceConfig, receivers: &[Arc<Receiver>], entrance: &Entrance) {
    let entrance = Arc::new(entrance.clone()); // each request has a share of it
    for receiver in receivers {
        let state = (Arc::clone(receiver), Arc::clone(&entrance));
        app.service(
            web::resource(receiver.path.as_str())
                .app_data(ThinData(state))
                .route(web::post().to(callback))
                .route(web::method(Method::OPTIONS).to(preflight))
                .default_service(web::to(method_not_allowed)),
        );
    }
}

type State = ThinData<(Arc<Receiver>, Arc<Entrance>)>;

async fn method_not_allowed(request: HttpRequest, state: State) -> HttpResponse {
    let ThinData((receiver, _)) = state;
    Problem::MethodNotAllowed(if receiver.source.asks_first() { "POST, OPTIONS" } else { "POST" }).answer(&request)
}

/// "HTTP 1.1 Web Hooks for Event Delivery" of `CloudEvents`, §4: a sender asks whether its events are wanted.
async fn preflight(request: HttpRequest, state: State) -> HttpResponse {
    let ThinData((receiver, entrance)) = state;
    let origin = request.headers().get("webhook-request-origin").and_then(|origin| origin.to_str().ok());
    let problem = match receiver.greet(&caller(&request, &receiver, &entrance), origin) {
        Ok(Greeting { origin, rate }) => {
            return HttpResponse::Ok()
                .insert_header(("WebHook-Allowed-Origin", origin))
                .insert_header(("WebHook-Allowed-Rate", rate.map_or_else(|| "*".to_owned(), |rate| rate.to_string())))
                .insert_header((ALLOW, "POST, OPTIONS"))
                .finish();
        }
        Err(NotGreeted::NotAsked) => Problem::MethodNotAllowed("POST"),
        Err(NotGreeted::NoOrigin) => Problem::OriginMissing,
        Err(NotGreeted::OriginNotAllowed) => Problem::SenderNotAllowed,
        Err(NotGreeted::NotAccepted(reason)) => problem(reason, &receiver, &entrance.metrics),
    };
    problem.answer(&request)
}

fn problem(reason: NotAccepted, receiver: &Receiver, metrics: &Metrics) -> Problem {
    if let NotAccepted::Rejected(reason) = &reason {
        metrics.rejection(*reason);
    }
    not_accepted(reason, receiver.max_body_bytes)
}

async fn callback(request: HttpRequest, payload: Payload, state: State) -> HttpResponse {
    let started = Instant::now();
    let ThinData((receiver, entrance)) = state;
    let caller = caller(&request, &receiver, &entrance);
    let outcome = match entrance.crowd.place(request.peer_addr(), caller.address) {
        Ok(_place) => receive(&receiver, &entrance, caller, &request, payload).await,
        Err(Full) => Err(Problem::Crowded),
    };
    let (mut response, name) = match &outcome {
        Ok(accepted) if matches!(accepted.reply, Reply::Elsewhere(_)) => (reply(&accepted.reply), "redirected"),
        Ok(accepted) => (reply(&accepted.reply), accepted.recorded.outcome()),
        Err(problem) => (problem.answer(&request), problem.code()),
    };
    if matches!(outcome, Ok(_) | Err(Problem::Unreadable(_))) {
        echo(request.headers(), response.headers_mut()); // whatever was kept
    }
    entrance.metrics.delivery(&receiver.path, name, started.elapsed());
    response
}

/// Steps 2 to 5.
async fn receive(
    receiver: &Receiver,
    entrance: &Entrance,
    caller: Caller,
    request: &HttpRequest,
    payload: Payload,
) -> Result<Accepted, Problem> {
    let problem = |reason: NotAccepted| problem(reason, receiver, &entrance.metrics);
    let admission = receiver.admit(&caller).await.map_err(problem)?;
    if let Some(encoding) = request.headers().get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        let encoding = tame(encoding.to_str().unwrap_or("an unreadable one"));
        return Err(Problem::UnsupportedMediaType(format!("bodies are read as they are, not as {encoding}")));
    }
    if announced(request.headers()).is_some_and(|length| length > receiver.max_body_bytes) {
        return Err(problem(receiver.too_large(&caller, &admission))); // without waiting for any of it
    }
    let body = match timeout(entrance.body_time, payload.to_bytes_limited(receiver.max_body_bytes)).await {
        Ok(Ok(Ok(body))) => body,
        Ok(Ok(Err(_broken))) => return Err(Problem::BodyNotReceived("the body ended before its length".to_owned())),
        Ok(Err(_over)) => return Err(problem(receiver.too_large(&caller, &admission))),
        Err(_elapsed) => return Err(too_slow(entrance.body_time)),
    };
    receiver.accept(&admission, caller, body.to_vec()).await.map_err(problem)
}

/// A body that takes longer than it may.
pub(super) fn too_slow(limit: Duration) -> Problem {
    Problem::TooSlow(format!("the body did not arrive within {} seconds", limit.as_secs()))
}

/// The length that a request says its body has (bytes).
fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

// what the platform says of a delivery besides its body; looked for by a name that need not be read first
static CALLER_REGION: HeaderName = HeaderName::from_static("x-microsoft-skype-caller-region");
static SCENARIO_ID: HeaderName = HeaderName::from_static("scenario-id");
static CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("client-request-id");
static CHAIN_ID: HeaderName = HeaderName::from_static("x-microsoft-skype-chain-id");
static MESSAGE_ID: HeaderName = HeaderName::from_static("x-microsoft-skype-message-id");

/// What is known of a caller before anybody believes it.
fn caller(request: &HttpRequest, receiver: &Receiver, entrance: &Entrance) -> Caller {
    let headers = request.headers();
    let text =
        |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(tame).filter(|text| !text.is_empty());
    Caller {
        secret: secret(request.query_string()),
        head: Head { content_type: text(&CONTENT_TYPE), attributes: attributes(headers) },
        authorization: headers.get_all(AUTHORIZATION).map(|value| value.as_bytes().to_vec()).collect(),
        address: entrance.crowd.caller(request.peer_addr(), headers),
        user_agent: text(&USER_AGENT),
        region: text(&CALLER_REGION),
        correlation: Correlation {
            scenario_id: text(&SCENARIO_ID),
            client_request_id: text(&CLIENT_REQUEST_ID),
            chain_id: text(&CHAIN_ID),
            message_id: text(&MESSAGE_ID),
        },
        headers: if receiver.keeps_heads() { header_block(headers) } else { Vec::new() },
        received_at: receiver.now(),
    }
}

/// The headers that concern who reads the body in the end, as HTTP writes them.
fn header_block(headers: &HeaderMap) -> Vec<u8> {
    let mut block = Vec::with_capacity(2048);
    for (name, value) in end_to_end(headers) {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            block.extend_from_slice(part);
        }
    }
    block
}

/// The secret in the query; of several, none. A `+` in it is a plus: secrets have no spaces.
pub(in crate::http) fn secret(query: &str) -> Option<Secret> {
    let mut sent = query.split('&').filter_map(|pair| pair.strip_prefix("secret="));
    let (Some(secret), None) = (sent.next(), sent.next()) else { return None };
    percent_decode_str(secret).decode_utf8().ok().map(|secret| Secret::new(secret.into_owned()))
}

/// The attributes of an event in binary mode ("HTTP Protocol Binding for `CloudEvents`", §3.1.3: percent-encoded UTF-8).
fn attributes(headers: &HeaderMap) -> BTreeMap<String, String> {
    let attribute = |(name, value): (&HeaderName, &HeaderValue)| {
        let name = name.as_str().strip_prefix("ce-")?;
        let value = percent_decode(value.as_bytes()).decode_utf8().ok()?;
        Some((name.to_owned(), value.into_owned()))
    };
    headers.iter().filter_map(attribute).collect()
}

fn reply(reply: &Reply) -> HttpResponse {
    match reply {
        Reply::Accepted => HttpResponse::Accepted().finish(),
        Reply::Done => HttpResponse::Ok().finish(),
        Reply::SpeakGraph => HttpResponse::NoContent().finish(),
        Reply::Elsewhere(to) => HttpResponse::Found().insert_header((LOCATION, to.as_str())).finish(),
        Reply::Json(answer) | Reply::Decision(answer) => HttpResponse::build(StatusCode::OK).json(answer),
    }
}

/// Answers the correlation headers back as they came, if they are of the harmless kind.
fn echo(sent: &HeaderMap, answered: &mut HeaderMap) {
    for name in [&CLIENT_REQUEST_ID, &SCENARIO_ID] {
        let harmless = |value: &&HeaderValue| {
            (1..=128).contains(&value.len())
                && value.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if let Some(value) = sent.get(name).filter(harmless) {
            answered.insert(name.clone(), value.clone());
        }
    }
}
