//! What `operations`, `calls`, `notifications` and `rejections` share: whom to ask, how to page, how to write.

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use url::form_urlencoded::Serializer;

use super::{
    ask::{Asked, Whom},
    configuration::Source,
    failure::Failure,
    output::{self, Column, Output},
};

/// The rows of a list, unless told.
pub(super) const DEFAULT_LIMIT: usize = 50;
/// The most rows of one page of the API.
const PAGE: usize = 250;

/// What all of these take.
#[derive(Debug, Args)]
pub(super) struct Common {
    #[command(flatten)]
    whom: Whom,
    /// How to write the answer: a table on a terminal, one JSON document a line when piped.
    #[arg(long, value_enum, global = true)]
    output: Option<Output>,
}

impl Common {
    /// Somebody to ask, and how to write the answer.
    pub(super) async fn ready(self, source: &Source) -> Result<(Asked, Output), Failure> {
        Ok((self.whom.find(source).await?, Output::or_default(self.output)))
    }
}

/// Asks for a list and writes it.
pub(super) async fn list(common: Common, source: &Source, query: Query, limit: usize, columns: &[Column]) -> Result<(), Failure> {
    let (asked, output) = common.ready(source).await?;
    output::rows(&pages(&asked, query, limit).await?, columns, output)
}

/// Follows the pages of a list until there are enough rows.
pub(super) async fn pages(asked: &Asked, mut query: Query, limit: usize) -> Result<Vec<Value>, Failure> {
    query.add("limit", Some(limit.clamp(1, PAGE).to_string()));
    let mut next = Some(query.finish());
    let mut rows = Vec::new();
    while let Some(path) = next.filter(|_| rows.len() < limit) {
        let mut page = asked.json(&path, Duration::ZERO).await?;
        next = page.get("nextLink").and_then(Value::as_str).map(ToOwned::to_owned);
        if let Some(Value::Array(more)) = page.get_mut("value").map(Value::take) {
            rows.extend(more);
        }
    }
    rows.truncate(limit);
    Ok(rows)
}

/// A path and its query.
pub(super) struct Query {
    path: String,
    query: Serializer<'static, String>,
}

impl Query {
    pub(super) fn new(path: &str) -> Self {
        Self { path: path.to_owned(), query: Serializer::new(String::new()) }
    }

    pub(super) fn add(&mut self, name: &str, value: Option<String>) -> &mut Self {
        if let Some(value) = value {
            self.query.append_pair(name, &value);
        }
        self
    }

    pub(super) fn finish(mut self) -> String {
        format!("{}?{}", self.path, self.query.finish())
    }
}

/// An id as one segment of a path.
pub(super) fn segment(id: &str) -> String {
    url::form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>().replace('+', "%20")
}
