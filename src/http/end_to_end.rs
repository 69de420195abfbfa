//! Which headers go on with a message that is passed on.

use actix_web::http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};

/// The headers that concern one connection alone (RFC 9110, §7.6.1), and those that whoever passes a message on says anew: bodies are
/// asked for as they are, so that the answer can be read.
pub(super) const BETWEEN_NEIGHBOURS: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The others; those that `Connection` names are not among them.
pub(super) fn end_to_end(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    let named = move |name: &str| {
        let listed = headers.get_all(CONNECTION).filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        listed.map(str::trim).any(|listed| listed.eq_ignore_ascii_case(name))
    };
    headers.iter().filter(move |(name, _)| !BETWEEN_NEIGHBOURS.contains(&name.as_str()) && !named(name.as_str()))
}
