//! Reading what is posted: JSON documents whose every member is known.

use actix_web::{HttpRequest, http::header::CONTENT_TYPE, web::Payload};
use serde::de::DeserializeOwned;

use crate::http::problem::Problem;

/// The most bytes of a document.
const MAX_BODY: usize = 64 * 1024;

/// The body as `T`; what it does not know is an error that names it.
pub(super) async fn read_json<T: DeserializeOwned>(request: &HttpRequest, payload: Payload) -> Result<T, Problem> {
    let is_json = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|told| told.to_str().ok())
        .is_some_and(|told| told.split(';').next().is_some_and(|told| told.trim().eq_ignore_ascii_case("application/json")));
    if !is_json {
        return Err(Problem::UnsupportedMediaType("send it as application/json".to_owned()));
    }
    let body = match payload.to_bytes_limited(MAX_BODY).await {
        Ok(Ok(body)) => body,
        Ok(Err(_broken)) => return Err(Problem::BodyNotReceived("the body ended before its length".to_owned())),
        Err(_over) => return Err(Problem::TooLarge(MAX_BODY)),
    };
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(&body)).map_err(|error| {
        let name = error.path().to_string();
        let why = error.into_inner().to_string();
        Problem::InvalidBody(if name == "." { why } else { format!("{name}: {why}") })
    })
}
