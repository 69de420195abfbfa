//! Reading what is posted: JSON documents whose every member is known.

use std::time::Duration;

use actix_web::{
    HttpRequest,
    http::header::{CONTENT_ENCODING, CONTENT_TYPE},
    web::{Bytes, Payload},
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::http::{problem::Problem, public::too_slow};

/// The most bytes of a document.
const MAX_BODY: usize = 64 * 1024;

/// The body as `T`; what it does not know is an error that names it.
pub(super) async fn read_json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: Payload,
    within: Duration,
) -> Result<T, Problem> {
    let is_json = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|told| told.to_str().ok())
        .is_some_and(|told| told.split(';').next().is_some_and(|told| told.trim().eq_ignore_ascii_case("application/json")));
    if !is_json {
        return Err(Problem::UnsupportedMediaType("send it as application/json".to_owned()));
    }
    if request.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(Problem::UnsupportedMediaType("bodies are read as they are: send it without a Content-Encoding".to_owned()));
    }
    let body = read(payload, MAX_BODY, within).await?;
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(&body)).map_err(|error| {
        let name = error.path().to_string();
        let why = error.into_inner().to_string();
        Problem::InvalidBody(if name == "." { why } else { format!("{name}: {why}") })
    })
}

/// The body as it is: at most so many bytes, within this time.
pub(super) async fn read(payload: Payload, limit: usize, within: Duration) -> Result<Bytes, Problem> {
    match timeout(within, payload.to_bytes_limited(limit)).await {
        Ok(Ok(Ok(body))) => Ok(body),
        Ok(Ok(Err(_broken))) => Err(Problem::BodyNotReceived("the body ended before its length".to_owned())),
        Ok(Err(_over)) => Err(Problem::TooLarge(limit)),
        Err(_elapsed) => Err(too_slow(within)),
    }
}
