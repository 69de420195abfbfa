//! Events as `CloudEvents` 1.0 writes them, and as Event Grid wrote them before: what `acs` and `event-grid` share.
//!
//! A body is a list of events, one event (both "structured"), or the data of one event whose attributes came as headers
//! ("binary": <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md>, §3). Every
//! attribute but the type may be missing; which ones there are says nothing about what happened.

mod incoming_call;

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::value::RawValue;

pub(in crate::source) use self::incoming_call::incoming_call;
use super::{
    Head, Unreadable,
    identity::identity_of,
    json::{Fields, Item, Value, items, lenient, outlived, text as text_of},
};
use crate::domain::{
    ids::PlatformId,
    notification::{Facts, Identity, Notification},
    people::NamedPerson,
    text,
};

/// One event, whichever way it was written.
#[derive(Debug)]
pub(in crate::source) struct Event<'a> {
    /// What it is; empty if it does not tell.
    pub kind: String,
    /// What happened to what.
    pub data: Value<'a>,
    /// Where within the source.
    pub subject: Option<String>,
    /// Who tells.
    pub source: Option<String>,
    id: Option<String>,
    time: Option<Timestamp>,
    /// All of it, to recognise an event again that has no id.
    content: Cow<'a, [u8]>,
}

/// What a source has found out about an event.
#[derive(Debug)]
pub(in crate::source) struct Said {
    /// The call; `None` if the event names none.
    pub call: Option<PlatformId>,
    /// See [`Notification::subject`].
    pub subject: String,
    /// Whether the source knows its type.
    pub recognized: bool,
    /// Its kind and its fact; what every event may tell is added.
    pub facts: Facts,
    /// Facts about people.
    pub personal: Option<serde_json::Value>,
    /// Who is in the call and how.
    pub people: Vec<NamedPerson>,
}

impl<'a> Event<'a> {
    /// The events of a body that came with this head.
    ///
    /// # Errors
    /// [`Unreadable`] if it is not JSON, or no event is in it. Among events, what is none is kept as one without a type.
    pub fn all(head: &Head, body: &'a str) -> Result<Vec<Self>, Unreadable> {
        let json = body.trim_ascii();
        if let Some(kind) = binary_kind(head) {
            return Self::binary(kind, head, json).map(|event| vec![event]);
        }
        if json.is_empty() {
            return Err(Unreadable("the body is empty".to_owned()));
        }
        let events = if json.starts_with('[') {
            let items = items("the body", json)?;
            let event =
                |item: &'a RawValue| Item::parse("an event", item.get()).map_or_else(|_| Self::none(item), Self::structured);
            items.into_iter().map(event).collect()
        } else {
            vec![Self::structured(Item::parse("the body", json)?)]
        };
        if !events.is_empty() && events.iter().all(|event| event.kind.is_empty()) {
            return Err(Unreadable("no event has a `type`".to_owned()));
        }
        Ok(events)
    }

    /// `CloudEvents` and the Event Grid schema differ in the names of four members
    /// (<https://learn.microsoft.com/azure/event-grid/event-schema>).
    fn structured(item: Item<'a>) -> Self {
        let fields = item.fields();
        let either = |name: &str, older: &str| fields.text(name).or_else(|| fields.text(older)).map(str::to_owned);
        let encoded = if fields.value("data").is_none() { encoded(fields) } else { None };
        Self {
            kind: either("type", "eventType").unwrap_or_default(),
            subject: either("subject", "subject"),
            source: either("source", "topic"),
            id: either("id", "id"),
            time: either("time", "eventTime").and_then(|time| time.parse().ok()),
            content: item.json.as_bytes().into(),
            data: item.into_member("data").or(encoded).unwrap_or_default(),
        }
    }

    /// What stands among events and is none.
    fn none(item: &'a RawValue) -> Self {
        let content = item.get().as_bytes().into();
        Self { kind: String::new(), data: Value::Null, subject: None, source: None, id: None, time: None, content }
    }

    /// The event whose attributes came as headers.
    fn binary(kind: &str, head: &Head, json: &'a str) -> Result<Self, Unreadable> {
        let attribute = |name: &str| head.attributes.get(name).filter(|text| !text.trim().is_empty()).cloned();
        Ok(Self {
            kind: kind.to_owned(),
            subject: attribute("subject"),
            source: attribute("source"),
            id: attribute("id"),
            time: attribute("time").and_then(|time| time.parse().ok()),
            content: [kind.as_bytes(), json.as_bytes()].concat().into(),
            data: if json.is_empty() { Value::Null } else { lenient("the event's data", json)? },
        })
    }

    /// Its type as it is kept and shown.
    pub fn shown_kind(&self) -> String {
        text::tame(&self.kind)
    }

    /// Its data, leniently.
    pub fn fields(&self) -> Fields<'_> {
        Fields::of(&self.data)
    }

    /// The event as a notification.
    pub fn notification(&self, said: Said) -> Notification {
        let Said { call, subject, recognized, facts, personal, people } = said;
        let id = |name: &str| self.fields().text(name).and_then(PlatformId::parse);
        let facts = Facts {
            event_id: self.id.as_deref().map(text::tame),
            occurred_at: self.time,
            server_call_id: id("serverCallId").or(facts.server_call_id),
            correlation_id: id("correlationId").or(facts.correlation_id),
            ..facts
        };
        let (identity, named) = self.identity();
        Notification { call, subject, identity, named, facts, recognized, personal, people }
    }

    /// "Producers MUST ensure that source + id is unique for each distinct event" (`CloudEvents` 1.0.2, §"id"). An event that
    /// lacks one of them is known by its content.
    fn identity(&self) -> (Identity, bool) {
        match (&self.source, &self.id) {
            (Some(source), Some(id)) => (identity_of(&[source.as_bytes(), id.as_bytes()]), true),
            _ => (identity_of(&[&self.content]), false),
        }
    }
}

/// An event as it was written; of one whose attributes came as headers, its data.
pub(in crate::source) fn item(body: &[u8], place: usize) -> Option<Box<RawValue>> {
    let body = text_of(body);
    let json = body.trim_ascii();
    if json.starts_with('[') {
        return items("the body", json).ok()?.get(place).map(|item| (*item).to_owned());
    }
    RawValue::from_string(json.to_owned()).ok()
}

/// The type of the event whose attributes came as headers; `None` if none did, or if the content type says that the body is all.
fn binary_kind(head: &Head) -> Option<&str> {
    let whole = |told: &String| told.trim().to_ascii_lowercase().starts_with("application/cloudevents");
    let kind = head.attributes.get("type").filter(|kind| !kind.trim().is_empty())?;
    (!head.content_type.as_ref().is_some_and(whole)).then_some(kind)
}

/// `data_base64` ("JSON Event Format for `CloudEvents`", §3.1.1), if JSON is in it.
fn encoded(fields: Fields<'_>) -> Option<Value<'static>> {
    let bytes = STANDARD.decode(fields.text("data_base64")?).ok()?;
    outlived(&bytes).ok()
}

/// What of `kind` is the name of an event of Azure Communication Services.
pub(in crate::source) fn communication_event(kind: &str) -> Option<&str> {
    kind.strip_prefix("Microsoft.Communication.")
}

/// How an event of an unknown type is called: by the last part of its name, or by the whole if it is somebody else's.
pub(in crate::source) fn unknown_kind(kind: &str) -> String {
    let tame = text::tame(if kind.is_empty() { "untyped" } else { kind });
    let mut name = communication_event(&tame).unwrap_or_default().chars();
    name.next().map(|first| first.to_ascii_lowercase()).map_or_else(|| tame.clone(), |first| first.to_string() + name.as_str())
}
