//! One try: what is sent, and what the answer means.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, value::RawValue};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Mode, Target, Told, circuit::Failure, task::READ_AGAIN, webhook::signatures};
use crate::{
    domain::{clock::Clock, ids::Seq},
    net::{FetchError, Method, Request, header_text},
    source::source,
    store::{
        LedgerReader, StoreError,
        forwards::{AsItCame, Unit},
        rows::NotificationRow,
    },
};

/// The most bytes of a bot's answer that are read.
const MAX_ANSWER: usize = 64 * 1024;

/// How a try ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It has arrived, and what was answered, if that is JSON.
    Delivered(Option<Value>),
    /// The endpoint wants no more of any (410).
    Gone,
    /// It has not arrived, or so we must think.
    Failed(Failure),
    /// It cannot be sent at all, now or later.
    Unsendable(String),
    /// The ledger could not be read: our trouble, and no try.
    NotRead,
}

/// Sends to one target.
#[derive(Debug)]
pub(super) struct Postman {
    pub(super) target: Target,
    pub(super) reader: LedgerReader,
    pub(super) clock: Clock,
    pub(super) told: Told,
}

impl Postman {
    /// Sends a unit once.
    pub(super) async fn deliver(&self, unit: &Unit) -> Outcome {
        match self.read(unit).await {
            Ok(letters) => self.send(unit, letters).await,
            Err(Outcome::NotRead) => {
                sleep(READ_AGAIN).await;
                Outcome::NotRead
            }
            Err(outcome) => outcome,
        }
    }

    /// What is to be sent: the delivery as it came while its token lives, else its notifications one by one, signed.
    async fn read(&self, unit: &Unit) -> Result<Letters, Outcome> {
        let came = self.reader.as_it_came(unit.delivery, &self.target.name, self.clock.now()).await;
        let came = came.map_err(|error| self.not_read(&error))?;
        if let (Mode::Original, true, AsItCame { headers: Some(headers), body: Some(body) }) =
            (self.target.mode, unit.whole, &came)
        {
            return Ok(Letters::AsItCame { headers: headers.clone(), body: body.clone() });
        }
        if self.target.keys.is_empty() {
            let why = "its token has expired, and there is no secret to sign it with";
            return Err(Outcome::Unsendable(why.to_owned()));
        }
        let brought = self.reader.brought_by(unit.delivery, unit.id).await.map_err(|error| self.not_read(&error))?;
        let wanted = |row: &NotificationRow| row.id == unit.id || (unit.whole && self.target.wants_kind(&row.facts.kind));
        let rows = brought.into_iter().filter(|(row, _)| wanted(row));
        Ok(Letters::Signed(rows.map(|(row, place)| Letter::of(row, place, came.body.as_deref(), self.told)).collect()))
    }

    fn not_read(&self, error: &StoreError) -> Outcome {
        tracing::warn!(forward.name = %self.target.name, %error, "a notification that is to be forwarded could not be read");
        match error {
            StoreError::Seal(_) | StoreError::Inconsistent { .. } => Outcome::Unsendable(error.to_string()),
            StoreError::TooLong | StoreError::Database(_) | StoreError::File { .. } => Outcome::NotRead,
        }
    }

    async fn send(&self, unit: &Unit, letters: Letters) -> Outcome {
        let letters = match letters {
            Letters::AsItCame { headers, body } => {
                let (id, headers) = (unit.delivery.to_string(), header_text(&headers));
                let named = headers.split("\r\n").filter_map(|line| line.split_once(": "));
                let mut headers: Vec<(&str, &str)> = named.filter(|(name, _)| *name != "webhook-id").collect();
                headers.push(("webhook-id", &id));
                return self.post(&headers, body).await;
            }
            Letters::Signed(letters) => letters,
        };
        let mut outcome = Outcome::Delivered(None);
        for Letter { id, body } in letters {
            let timestamp = self.clock.now().as_second();
            let signature = signatures(&self.target.keys, &id, timestamp, &body);
            let timestamp = timestamp.to_string();
            let headers = [
                ("content-type", "application/json"),
                ("webhook-id", id.as_str()),
                ("webhook-timestamp", timestamp.as_str()),
                ("webhook-signature", signature.as_str()),
            ];
            outcome = self.post(&headers, body).await;
            if !matches!(outcome, Outcome::Delivered(_)) {
                break;
            }
        }
        outcome
    }

    async fn post(&self, headers: &[(&str, &str)], body: Vec<u8>) -> Outcome {
        let Target { url, timeout, .. } = &self.target;
        let request = Request { method: Method::Post, url, headers, body, timeout: *timeout, max_bytes: MAX_ANSWER };
        let end = Instant::now() + *timeout;
        let answer = match self.target.client.open(request).await {
            Ok(answer) => answer,
            Err(error) => return failed(&error),
        };
        let status = answer.status;
        let retry_after = answer.headers.iter().find(|(name, _)| name == "retry-after").map(|(_, value)| value.clone());
        let retry_after = retry_after.and_then(|value| retry_after_of(&value, self.clock.now()));
        // what it says counts only for decisions; that it cannot be read does not undo the status
        let body = timeout_at(end, answer.rest(MAX_ANSWER)).await.ok().and_then(Result::ok).unwrap_or_default();
        match status {
            200..300 => Outcome::Delivered(serde_json::from_slice(&body).ok()),
            410 => Outcome::Gone,
            status => {
                let why = match status {
                    300..400 => "a redirect, which is not followed",
                    _ => "not accepted",
                };
                Outcome::Failed(Failure { status: Some(status), why: why.to_owned(), retry_after, not_connected: false })
            }
        }
    }
}

fn failed(error: &FetchError) -> Outcome {
    let not_connected = matches!(error, FetchError::NotConnected(_));
    match error {
        FetchError::NotAllowed | FetchError::HeaderName(_) | FetchError::HeaderValue(_) => Outcome::Unsendable(error.to_string()),
        _ => Outcome::Failed(Failure { status: None, why: error.to_string(), retry_after: None, not_connected }),
    }
}

/// `Retry-After`: seconds, or a date (RFC 9110, §10.2.3).
fn retry_after_of(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp();
    Duration::try_from(date.duration_since(now)).ok()
}

enum Letters {
    AsItCame { headers: Vec<u8>, body: Vec<u8> },
    Signed(Vec<Letter>),
}

/// A notification on its way.
struct Letter {
    /// Its id, the same in every try.
    id: String,
    body: Vec<u8>,
}

impl Letter {
    fn of(row: NotificationRow, place: usize, body: Option<&[u8]>, told: Told) -> Self {
        let (id, received_at) = (row.id.to_string(), row.received_at);
        let item = body.and_then(|body| source(&row.source)?.item(body, place));
        let envelope = Envelope { kind: "notification", timestamp: received_at, data: told(row), item };
        // a document of texts and numbers
        Self { id, body: serde_json::to_vec(&envelope).unwrap_or_default() }
    }
}

/// What a signed request says.
#[derive(serde::Serialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: Timestamp,
    /// As the API shows it.
    data: Value,
    /// As the platform wrote it; absent once that is no longer kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<Box<RawValue>>,
}

/// The age of a position, which is its time in microseconds.
pub(super) fn before(now: Timestamp, age: Duration) -> Seq {
    Seq(now.checked_sub(age).unwrap_or(Timestamp::MIN).as_microsecond())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_wish_for_later_is_read_in_both_forms() {
        let now: Timestamp = "2026-11-21T03:00:00Z".parse().unwrap();
        assert_eq!(retry_after_of("120", now), Some(Duration::from_mins(2)));
        assert_eq!(retry_after_of("Sat, 21 Nov 2026 03:00:30 GMT", now), Some(Duration::from_secs(30)));
        for none in ["Sat, 21 Nov 2026 02:00:00 GMT", "-1", "soon", ""] {
            assert_eq!(retry_after_of(none, now), None, "{none}");
        }
    }
}
