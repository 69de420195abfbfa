//! Reading what is asked: query strings whose every member is known, and cursors that were ours.

use std::time::Duration;

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::Uri};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use futures_util::future::{Ready, ready};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use utoipa::{
    IntoParams,
    openapi::schema::{Object, ObjectBuilder, Type},
};

use crate::{
    domain::ids::{PlatformId, Seq},
    http::{problem::Problem, view::List},
    source::{SOURCES, source},
    store::rows::{Page, PageRequest},
};

/// The rows of a page, unless asked otherwise, and at the most.
const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 250;
/// The longest wait, in seconds.
const MAX_WAIT: u64 = 120;

/// The query string as `T`; what it does not know is an error that names it.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(read(request.query_string()).map(Self).map_err(|problem| {
            let answer = problem.answer(request);
            actix_web::error::InternalError::from_response(problem, answer).into()
        }))
    }
}

pub(super) fn read<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let deserializer = serde_urlencoded::Deserializer::new(url::form_urlencoded::parse(query.as_bytes()));
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let name = error.path().to_string();
        let why = error.into_inner().to_string();
        Problem::InvalidQuery(if name == "." { why } else { format!("{name}: {why}") })
    })
}

/// Which page is asked for. Members of every list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// At most so many rows, 1 to 250; 50 unless told.
    pub(super) limit: Option<u32>,
    /// Where the page begins: taken from `nextLink`.
    pub(super) cursor: Option<String>,
}

impl Paging {
    pub(super) fn request(&self) -> Result<PageRequest, Problem> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Problem::InvalidQuery(format!("limit: 1 to {MAX_LIMIT}")));
        }
        let after = self.cursor.as_deref().map(cursor).transpose()?;
        Ok(PageRequest { after, limit })
    }
}

pub(super) fn cursor(text: &str) -> Result<Seq, Problem> {
    let ours = || {
        let bytes: [u8; 8] = BASE64.decode(text).ok()?.try_into().ok()?;
        Some(i64::from_be_bytes(bytes)).filter(|position| *position >= 0).map(Seq)
    };
    ours().ok_or_else(|| Problem::InvalidQuery("cursor: take it from nextLink as it is".to_owned()))
}

/// A page as it is answered, with the link to the next.
pub(super) fn list<Row, View: From<Row>>(page: Page<Row>, uri: &Uri) -> List<View> {
    let next_link = page.next.map(|position| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        query.extend_pairs(pairs.filter(|(name, _)| name != "cursor"));
        query.append_pair("cursor", &BASE64.encode(position.0.to_be_bytes()));
        format!("{}?{}", uri.path(), query.finish())
    });
    List { value: page.rows.into_iter().map(View::from).collect(), next_link }
}

/// A platform's id in any spelling.
pub(super) fn platform_id(text: Option<&String>) -> Option<PlatformId> {
    text.and_then(|text| PlatformId::parse(text))
}

/// A name out of a fixed list.
pub(super) fn named<T>(
    name: &str,
    value: Option<&String>,
    parse: impl Fn(&str) -> Option<T>,
    known: &[&str],
) -> Result<Option<T>, Problem> {
    let Some(value) = value else { return Ok(None) };
    parse(value).map(Some).ok_or_else(|| Problem::InvalidQuery(format!("{name}: one of {}", known.join(", "))))
}

fn known_sources() -> Vec<&'static str> {
    SOURCES.iter().map(|source| source.name()).collect()
}

/// The names that a source can have, for the API's description.
pub(super) fn source_names() -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(known_sources())).build()
}

/// The name of a source.
pub(super) fn source_name(name: Option<&String>) -> Result<Option<String>, Problem> {
    let known = known_sources();
    let source = named("source", name, source, &known)?;
    Ok(source.map(|source| source.name().to_owned()))
}

/// Seconds that somebody is willing to wait.
pub(super) fn patience(name: &str, seconds: u64) -> Result<Duration, Problem> {
    if seconds > MAX_WAIT {
        return Err(Problem::InvalidQuery(format!("{name}: at most {MAX_WAIT} seconds")));
    }
    Ok(Duration::from_secs(seconds))
}

/// A time in RFC 3339.
pub(super) fn instant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(|_error| serde::de::Error::custom("a time as in 2026-11-21T03:00:00Z"))
}
