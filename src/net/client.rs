//! Requests that go out, within bounds.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use reqwest::{
    Client, RequestBuilder,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, InvalidHeaderName, InvalidHeaderValue},
    redirect::Policy,
};
use url::{Host, Url};

use super::address::{is_loopback, is_public};

/// How long a connection may take to be made, whatever the whole request is allowed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The HTTP client of the whole process: cheap to clone, its connections are shared.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client,
    /// Whether it connects to addresses of the internet alone.
    public_hosts: bool,
}

/// What a request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Sends a body.
    Post,
    /// Replaces.
    Put,
    /// Changes.
    Patch,
    /// Removes.
    Delete,
}

impl Method {
    /// The method of this name, in capitals.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "GET" => Some(Self::Get),
            "POST" => Some(Self::Post),
            "PUT" => Some(Self::Put),
            "PATCH" => Some(Self::Patch),
            "DELETE" => Some(Self::Delete),
            _ => None,
        }
    }
}

/// One request, with its bounds.
#[derive(Debug)]
pub struct Request<'a> {
    /// What it is.
    pub method: Method,
    /// Where it goes.
    pub url: &'a Url,
    /// Names and values; their values are never logged.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body; empty: none.
    pub body: Vec<u8>,
    /// How long the request may take, to the last byte of the answer.
    pub timeout: Duration,
    /// The most bytes that an answer's body may have.
    pub max_bytes: usize,
}

/// An answer, of whatever status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Lower-case names and values; see [`header_text`].
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// A document that was fetched.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The document.
    pub body: Vec<u8>,
    /// How long the sender says that it stays good (`Cache-Control: max-age`).
    pub max_age: Option<Duration>,
}

/// Why there is no answer. The messages contain no address, header or body, which may be secret.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The client could not be set up.
    #[error("the http client cannot be set up")]
    Setup(#[source] reqwest::Error),
    /// Plain text to another machine, no HTTP at all, or an address that this client does not go to.
    #[error("only https is allowed, http to loopback hosts, and where that is asked for hosts of the internet")]
    NotAllowed,
    /// A header name that is none.
    #[error("a request header's name is not allowed")]
    HeaderName(#[source] InvalidHeaderName),
    /// A header value that cannot be sent.
    #[error("a request header's value is not allowed")]
    HeaderValue(#[source] InvalidHeaderValue),
    /// The time was over.
    #[error("no complete answer in time")]
    TimedOut,
    /// No connection: nothing was sent.
    #[error("the host cannot be reached")]
    NotConnected(#[source] reqwest::Error),
    /// A connection that broke.
    #[error("the host cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The answer points elsewhere; it is not followed.
    #[error("the answer is a redirect ({status}), which is not followed")]
    Redirected {
        /// The status code.
        status: u16,
    },
    /// The document was asked for and the answer is something else.
    #[error("the answer's status is {status}")]
    Status {
        /// The status code.
        status: u16,
    },
    /// The answer is longer than we are willing to read.
    #[error("the answer is longer than {max_bytes} bytes")]
    TooLarge {
        /// The bound.
        max_bytes: usize,
    },
}

impl HttpClient {
    /// A client that follows no redirect and asks no proxy.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> Result<Self, FetchError> {
        Self::build(false)
    }

    /// The same for where bots lead it: it connects to no address of a private network, whatever a name resolves to at that
    /// moment, and to none of this machine.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn for_public_hosts() -> Result<Self, FetchError> {
        Self::build(true)
    }

    fn build(public_hosts: bool) -> Result<Self, FetchError> {
        let builder = || {
            let builder = Client::builder()
                .redirect(Policy::none())
                .no_proxy()
                .referer(false)
                .connect_timeout(CONNECT_TIMEOUT)
                .user_agent(concat!("callback-ledger/", env!("CARGO_PKG_VERSION")));
            if public_hosts { builder.dns_resolver(PublicHosts) } else { builder }
        };
        let client = builder().build().or_else(|error| {
            // A slim image without root certificates can still talk to loopback: development mode needs no more.
            tracing::warn!(%error, "no root certificates: nothing is trusted over https");
            builder().tls_certs_only([]).build()
        });
        client.map(|client| Self { client, public_hosts }).map_err(FetchError::Setup)
    }

    /// Whether this client goes there, as far as the address says: one that stands in a URL itself is not resolved, so it is looked at
    /// here.
    #[must_use]
    pub fn may_go_to(&self, url: &Url) -> bool {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            _ => None,
        };
        let is_plain = url.scheme() != "https" && !is_loopback(url);
        let is_private = address.is_some_and(|address| !is_public(address));
        !is_plain && (!self.public_hosts || !is_private)
    }

    /// Fetches a document.
    ///
    /// # Errors
    /// Everything but a 2xx answer within the bounds.
    pub async fn get(&self, url: &Url, max_bytes: usize, timeout: Duration) -> Result<Fetched, FetchError> {
        let request = Request { method: Method::Get, url, headers: &[], body: Vec::new(), timeout, max_bytes };
        let answer = self.request(request).await?;
        match answer.status {
            300..400 => Err(FetchError::Redirected { status: answer.status }),
            200..300 => Ok(Fetched { max_age: max_age(&answer), body: answer.body }),
            status => Err(FetchError::Status { status }),
        }
    }

    /// Sends a request and reads its whole answer, whatever its status.
    ///
    /// # Errors
    /// When there is no answer within the bounds.
    pub async fn request(&self, request: Request<'_>) -> Result<Answer, FetchError> {
        let (timeout, max_bytes) = (request.timeout, request.max_bytes);
        let response = self.outgoing(request)?.timeout(timeout).send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let headers = readable(response.headers());
        let body = bounded(response, max_bytes).await?;
        Ok(Answer { status, headers, body })
    }

    /// Sends a request and reads the head of its answer, within the request's time; the body is then read bit by bit.
    ///
    /// # Errors
    /// When there is no answer within the bounds.
    pub async fn open(&self, request: Request<'_>) -> Result<OpenAnswer, FetchError> {
        let timeout = request.timeout;
        let sent = tokio::time::timeout(timeout, self.outgoing(request)?.send()).await;
        let response = sent.map_err(|_elapsed| FetchError::TimedOut)?.map_err(failed)?;
        let headers = readable(response.headers());
        Ok(OpenAnswer { status: response.status().as_u16(), headers, silence: timeout, response })
    }

    fn outgoing(&self, request: Request<'_>) -> Result<RequestBuilder, FetchError> {
        if !self.may_go_to(request.url) {
            return Err(FetchError::NotAllowed);
        }
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Patch => reqwest::Method::PATCH,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut outgoing = self.client.request(method, request.url.clone()).headers(header_map(request.headers)?);
        if !request.body.is_empty() {
            outgoing = outgoing.body(request.body);
        } else if matches!(request.method, Method::Post | Method::Put | Method::Patch) {
            // some servers want to be told that nothing comes (411)
            outgoing = outgoing.header(CONTENT_LENGTH, 0);
        }
        Ok(outgoing)
    }
}

/// An answer whose body is still coming.
#[derive(Debug)]
pub struct OpenAnswer {
    /// The status code.
    pub status: u16,
    /// Lower-case names and values; see [`header_text`].
    pub headers: Vec<(String, String)>,
    /// How long it may be silent.
    silence: Duration,
    response: reqwest::Response,
}

impl OpenAnswer {
    /// The next bytes of the body; `None` at its end.
    ///
    /// # Errors
    /// When the connection breaks, or is silent for longer than the request's time.
    pub async fn more(&mut self) -> Result<Option<Vec<u8>>, FetchError> {
        let chunk = tokio::time::timeout(self.silence, self.response.chunk()).await.map_err(|_elapsed| FetchError::TimedOut)?;
        Ok(chunk.map_err(failed)?.map(|bytes| bytes.to_vec()))
    }

    /// The whole body.
    ///
    /// # Errors
    /// When it does not come, or is longer than `max_bytes`.
    pub async fn rest(self, max_bytes: usize) -> Result<Vec<u8>, FetchError> {
        tokio::time::timeout(self.silence, bounded(self.response, max_bytes)).await.map_err(|_elapsed| FetchError::TimedOut)?
    }
}

/// Resolves names to addresses of the internet alone.
#[derive(Debug)]
struct PublicHosts;

impl Resolve for PublicHosts {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err("the name leads to no address of the internet".into());
            }
            let addresses: Addrs = Box::new(public.into_iter());
            Ok(addresses)
        })
    }
}

/// The value of a header as text: one character for each byte, whatever it meant (RFC 9110, §5.5: "opaque data").
#[must_use]
pub fn header_text(value: &[u8]) -> String {
    value.iter().copied().map(char::from).collect()
}

/// The bytes of a value that is such a text; of any other text, its UTF-8.
#[must_use]
pub fn header_bytes(value: &str) -> Vec<u8> {
    value.chars().map(|c| u8::try_from(u32::from(c))).collect::<Result<_, _>>().unwrap_or_else(|_wider| value.as_bytes().to_vec())
}

/// The headers as the client wants them, none of which it may show.
fn header_map(headers: &[(&str, &str)]) -> Result<HeaderMap, FetchError> {
    let mut map = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(FetchError::HeaderName)?;
        let mut value = HeaderValue::from_bytes(&header_bytes(value)).map_err(FetchError::HeaderValue)?;
        value.set_sensitive(true);
        map.append(name, value);
    }
    Ok(map)
}

fn readable(headers: &HeaderMap) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), header_text(value.as_bytes()))).collect()
}

/// The body, refused unread when it announces more than the bound, and left where it crosses it.
async fn bounded(mut response: reqwest::Response, max_bytes: usize) -> Result<Vec<u8>, FetchError> {
    let announced = response.content_length().map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX));
    if announced > max_bytes {
        return Err(FetchError::TooLarge { max_bytes });
    }
    let mut body = Vec::with_capacity(announced);
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > max_bytes {
            return Err(FetchError::TooLarge { max_bytes });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An address may carry a secret in its query: no error keeps it.
fn failed(error: reqwest::Error) -> FetchError {
    match (error.is_connect(), error.is_timeout()) {
        (true, _) => FetchError::NotConnected(error.without_url()),
        (false, true) => FetchError::TimedOut,
        (false, false) => FetchError::Unreachable(error.without_url()),
    }
}

/// `max-age` of the first `Cache-Control` that has one.
fn max_age(answer: &Answer) -> Option<Duration> {
    answer
        .headers
        .iter()
        .filter(|(name, _)| name.as_str() == CACHE_CONTROL.as_str())
        .flat_map(|(_, value)| value.split(','))
        .filter_map(|directive| directive.trim().split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("max-age"))
        .and_then(|(_, seconds)| seconds.trim().trim_matches('"').parse().ok())
        .map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_document_is_read_from_its_directives() {
        let answer =
            |value: &str| Answer { status: 200, headers: vec![("cache-control".to_owned(), value.to_owned())], body: Vec::new() };
        assert_eq!(max_age(&answer("public, Max-Age=86400")), Some(Duration::from_hours(24)));
        assert_eq!(max_age(&answer("max-age=\"60\"")), Some(Duration::from_mins(1)));
        for none in ["no-store", "max-age", "max-age=-1", "s-maxage=5", ""] {
            assert_eq!(max_age(&answer(none)), None, "{none}");
        }
    }
}
