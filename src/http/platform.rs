//! The listener of a simulated platform: its REST operations, the documents that its tokens are checked with, and a door for the
//! people who call.
//!
//! ```text
//! ANY  …                                     the platform's own operations
//! GET  /.well-known/openid-configuration     discovery; its keys are at /.well-known/keys
//! POST /<tenant>/oauth2/v2.0/token           a token for whoever asks, as the platform's login would give one
//! POST /simulator/incoming-call              somebody calls the bot; likewise hang-up and press
//! GET  /simulator/callbacks                  what was posted, and how the bot answered
//! ```

use std::{collections::BTreeMap, io};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{HOST, HeaderMap, HeaderName, ORIGIN},
    },
    web::{self, Bytes, Data, Path, PayloadConfig, ServiceConfig},
};
use futures_util::stream;
use serde_json::{Value, json};

use super::{is_of_this_machine, problem::Problem};
use crate::simulator::{Ask, Outcome, Reply, Simulator};

/// The most bytes that a request may have.
const MAX_REQUEST: usize = 1024 * 1024;

/// What the listener needs to know.
#[derive(Clone, Debug)]
pub struct SimulatedPlatform {
    /// What it does.
    pub simulator: Simulator,
    /// Whose name is in its tokens.
    pub issuer: String,
    /// The keys that they are signed with, as a JWKS document.
    pub jwks: String,
    /// Its own address, without a path.
    pub base: String,
}

/// Adds the routes.
pub fn configure(app: &mut ServiceConfig, platform: &SimulatedPlatform) {
    app.app_data(Data::new(platform.clone()))
        .app_data(PayloadConfig::new(MAX_REQUEST))
        .route("/.well-known/openid-configuration", web::get().to(discovery))
        .route("/.well-known/keys", web::get().to(keys))
        .route("/{tenant}/oauth2/v2.0/token", web::post().to(token))
        .route("/simulator/callbacks", web::get().to(callbacks))
        .route("/simulator/{what}", web::post().to(people))
        .default_service(web::to(operation));
}

async fn discovery(platform: Data<SimulatedPlatform>) -> HttpResponse {
    HttpResponse::Ok().json(json!({
        "issuer": platform.issuer,
        "jwks_uri": format!("{}/.well-known/keys", platform.base),
        "id_token_signing_alg_values_supported": ["ES256"],
    }))
}

async fn keys(platform: Data<SimulatedPlatform>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(platform.jwks.clone())
}

async fn token() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "token_type": "Bearer", "expires_in": 3599, "access_token": "simulated" }))
}

async fn callbacks(platform: Data<SimulatedPlatform>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "value": platform.simulator.sent() }))
}

async fn people(request: HttpRequest, platform: Data<SimulatedPlatform>, what: Path<String>, body: Bytes) -> HttpResponse {
    let body = match read(&body) {
        Ok(body) => body,
        Err(error) => return Problem::Unreadable(format!("the body is not JSON: {error}")).answer(&request),
    };
    match platform.simulator.people(&what, &body).await {
        Some(reply) => answer(reply),
        None => Problem::NotFound("nobody can do this, or not in this call".to_owned()).answer(&request),
    }
}

async fn operation(request: HttpRequest, platform: Data<SimulatedPlatform>, body: Bytes) -> HttpResponse {
    let body = match read(&body) {
        Ok(body) => body,
        Err(error) => return Problem::Unreadable(format!("the body is not JSON: {error}")).answer(&request),
    };
    let text = |(name, value): (&actix_web::http::header::HeaderName, &actix_web::http::header::HeaderValue)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    };
    let ask = Ask {
        method: request.method().as_str().to_owned(),
        path: request.uri().path().to_owned(),
        query: request.query_string().to_owned(),
        headers: request.headers().iter().filter_map(text).collect::<BTreeMap<_, _>>(),
        body,
    };
    match platform.simulator.ask(&ask).await {
        Outcome::Reply(reply) => answer(reply),
        Outcome::Broken => {
            let broken = stream::once(async { Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset)) });
            HttpResponse::Ok().content_type("application/json").streaming(broken)
        }
    }
}

/// Whether a request is meant for this machine by somebody on it: a web page must not play with the platform behind its reader's back.
pub fn is_from_here(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let is_here = |origin: &str| origin.split_once("://").is_some_and(|(_, authority)| is_of_this_machine(authority));
    let cross = headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    text(HOST).is_some_and(is_of_this_machine) && text(ORIGIN).is_none_or(is_here) && !cross
}

fn read(body: &[u8]) -> Result<Value, serde_json::Error> {
    if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(body) }
}

fn answer(reply: Reply) -> HttpResponse {
    let mut response = HttpResponse::build(StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    for (name, value) in reply.headers {
        response.append_header((name, value));
    }
    match reply.body {
        Some(body) => response.json(body),
        None => response.finish(),
    }
}
