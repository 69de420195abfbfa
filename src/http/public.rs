//! The internet-facing listener: callbacks and nothing else.
//!
//! ```text
//! POST <receiver path>
//!   1 path            routing: one resource per receiver           404, 405
//!   2 Authorization   receiver.admit                               401, 403, 503
//!   3 body            read, with a bound, only after 2             413
//!   4 read
//!   5 record          receiver.accept                              400, 503
//!   6 reply                                                        2xx
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, USER_AGENT},
    },
    web::{self, Payload, ServiceConfig, ThinData},
};
use tokio::time::timeout;

use super::{
    metrics::Metrics,
    problem::{Problem, not_accepted},
};
use crate::{
    domain::{delivery::Correlation, text::tame},
    receive::{Accepted, Caller, NotAccepted, Receiver},
    source::Reply,
};

/// Adds one resource per receiver; everything else is 404.
pub fn configure(app: &mut ServiceConfig, receivers: &[Arc<Receiver>], metrics: &Metrics) {
    for receiver in receivers {
        let state = (Arc::clone(receiver), metrics.clone());
        app.service(
            web::resource(receiver.path.as_str()).app_data(ThinData(state)).route(web::post().to(callback)).default_service(
                web::to(|request: HttpRequest| async move { Problem::MethodNotAllowed("POST").answer(&request) }),
            ),
        );
    }
    app.default_service(web::to(|request: HttpRequest| async move {
        Problem::NotFound("no receiver is configured at this path".to_owned()).answer(&request)
    }));
}

/// How long a body may take: far less than the slack of the lists' time filters.
const BODY_TIME: Duration = Duration::from_secs(30);

type State = ThinData<(Arc<Receiver>, Metrics)>;

async fn callback(request: HttpRequest, payload: Payload, state: State) -> HttpResponse {
    let started = Instant::now();
    let ThinData((receiver, metrics)) = state;
    let caller = caller(&request, &receiver);
    let outcome = receive(&receiver, &metrics, caller, &request, payload).await;
    let (mut response, name) = match &outcome {
        Ok(accepted) => (reply(&accepted.reply), accepted.recorded.outcome()),
        Err(problem) => (problem.answer(&request), problem.code()),
    };
    if matches!(outcome, Ok(_) | Err(Problem::Unreadable(_))) {
        echo(request.headers(), response.headers_mut()); // whatever was kept
    }
    metrics.delivery(&receiver.path, name, started.elapsed());
    response
}

/// Steps 2 to 5.
async fn receive(
    receiver: &Receiver,
    metrics: &Metrics,
    caller: Caller,
    request: &HttpRequest,
    payload: Payload,
) -> Result<Accepted, Problem> {
    let problem = |reason: NotAccepted| {
        if let NotAccepted::Rejected(reason) = &reason {
            metrics.rejection(*reason);
        }
        not_accepted(reason, receiver.max_body_bytes)
    };
    let admission = receiver.admit(&caller).await.map_err(problem)?;
    if let Some(encoding) = request.headers().get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        let encoding = tame(encoding.to_str().unwrap_or("an unreadable one"));
        return Err(Problem::UnsupportedMediaType(format!("bodies are read as they are, not as {encoding}")));
    }
    if announced(request.headers()).is_some_and(|length| length > receiver.max_body_bytes) {
        return Err(problem(receiver.too_large(&caller, &admission))); // without waiting for any of it
    }
    let body = match timeout(BODY_TIME, payload.to_bytes_limited(receiver.max_body_bytes)).await {
        Ok(Ok(Ok(body))) => body,
        Ok(Ok(Err(_broken))) => return Err(Problem::BodyNotReceived("the body ended before its length".to_owned())),
        Ok(Err(_over)) => return Err(problem(receiver.too_large(&caller, &admission))),
        Err(_elapsed) => return Err(Problem::Timeout("the body did not arrive within 30 seconds".to_owned())),
    };
    receiver.accept(&admission, caller, body.to_vec()).await.map_err(problem)
}

/// The length that a request says its body has (bytes).
fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What is known of a caller before anybody believes it.
fn caller(request: &HttpRequest, receiver: &Receiver) -> Caller {
    let headers = request.headers();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(tame).filter(|text| !text.is_empty());
    Caller {
        authorization: headers.get_all(AUTHORIZATION).map(|value| value.as_bytes().to_vec()).collect(),
        peer: request.peer_addr().map(|address| address.ip().to_string()),
        user_agent: text(USER_AGENT.as_str()),
        correlation: Correlation {
            scenario_id: text("scenario-id"),
            client_request_id: text("client-request-id"),
            chain_id: text("x-microsoft-skype-chain-id"),
            message_id: text("x-microsoft-skype-message-id"),
        },
        received_at: receiver.now(),
    }
}

fn reply(reply: &Reply) -> HttpResponse {
    match reply {
        Reply::Accepted => HttpResponse::Accepted().finish(),
        Reply::SpeakGraph => HttpResponse::NoContent().finish(),
        Reply::Json(answer) => HttpResponse::build(StatusCode::OK).json(answer),
    }
}

/// Answers the correlation headers back as they came, if they are of the harmless kind.
fn echo(sent: &HeaderMap, answered: &mut HeaderMap) {
    for name in ["client-request-id", "scenario-id"].map(HeaderName::from_static) {
        let harmless = |value: &&HeaderValue| {
            (1..=128).contains(&value.len())
                && value.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if let Some(value) = sent.get(&name).filter(harmless) {
            answered.insert(name, value.clone());
        }
    }
}
