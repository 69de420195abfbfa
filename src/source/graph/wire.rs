//! The envelope as it is sent, and a lenient way to look into it.
//!
//! Only what [`read`](super::read) could not do without is demanded: an object with an array `value` of objects. Inside,
//! a member that is missing, blank or of another type than documented is absent, because a platform that changes
//! one member must not cost us the notification.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::{Map, Value, error::Category, value::RawValue};

use super::surrogates;
use crate::source::Unreadable;

/// What a body can be.
#[derive(Debug)]
pub(super) enum Envelope<'a> {
    /// `commsNotifications`: the items of `value`.
    Notifications(Vec<Item<'a>>),
    /// An incoming call in the shape of the Skype calling API, older than Graph ("call-notifications" of the Teams
    /// platform documentation).
    LegacySkype {
        /// The whole body.
        json: &'a str,
    },
}

/// One item of `value`.
#[derive(Debug)]
pub(super) struct Item<'a> {
    /// Its bytes.
    pub json: &'a str,
    /// Its members; of a key that comes twice, the last.
    pub members: Map<String, Value>,
}

impl<'a> Envelope<'a> {
    /// Reads a body.
    pub fn parse(json: &'a str) -> Result<Self, Unreadable> {
        if json.trim_ascii().is_empty() {
            return Err(Unreadable("the body is empty".to_owned()));
        }
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(json).map_err(|error| unreadable("the body", &error))?;
        match members.get("value") {
            Some(value) => items(value).map(Self::Notifications),
            None if is_legacy_skype(&members) => Ok(Self::LegacySkype { json }),
            None => Err(Unreadable("a JSON object without `value`".to_owned())),
        }
    }
}

/// A body as text, without the byte order mark that RFC 8259 §8.1 lets a reader ignore. A capture of 2018 says
/// `charset=Windows-1252`: what happened is told in ASCII, so a name that is not UTF-8 costs that name and no fact.
pub(super) fn text(body: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body))
}

fn is_legacy_skype(members: &BTreeMap<String, &RawValue>) -> bool {
    members.contains_key("callState") && members.get("participants").is_some_and(|list| list.get().starts_with('['))
}

fn items(value: &RawValue) -> Result<Vec<Item<'_>>, Unreadable> {
    let items: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(|error| unreadable("`value`", &error))?;
    items.into_iter().enumerate().map(|(at, item)| Item::parse(at, item.get())).collect()
}

impl<'a> Item<'a> {
    fn parse(at: usize, json: &'a str) -> Result<Self, Unreadable> {
        let members = serde_json::from_str(json)
            .or_else(|error| surrogates::mended(json).map_or(Err(error), |json| serde_json::from_str(&json)))
            .map_err(|error| unreadable(&format!("item {at} of `value`"), &error))?;
        Ok(Self { json, members })
    }

    /// Its members, leniently.
    pub fn fields(&self) -> Fields<'_> {
        Fields(Some(&self.members))
    }
}

/// Says what is wrong and where, but nothing of what is there: bodies name people and hold tokens, and
/// `serde_json`'s own message may quote them.
fn unreadable(what: &str, error: &serde_json::Error) -> Unreadable {
    let fault = match error.classify() {
        Category::Data => "has another JSON type than it should",
        Category::Eof => "is cut short",
        Category::Syntax | Category::Io => "is not JSON that can be read",
    };
    Unreadable(format!("{what} {fault} (line {}, column {})", error.line(), error.column()))
}

/// The members of an object that may not be there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub Option<&'a Map<String, Value>>);

impl<'a> Fields<'a> {
    /// The members of a value, if it is an object.
    pub fn of(value: &'a Value) -> Self {
        Self(value.as_object())
    }

    /// A member of any type.
    pub fn value(self, key: &str) -> Option<&'a Value> {
        self.0?.get(key)
    }

    /// A member that is text and not blank.
    pub fn text(self, key: &str) -> Option<&'a str> {
        self.value(key)?.as_str().filter(|text| !text.trim().is_empty())
    }

    /// A member that is a whole number, or a text that spells one.
    pub fn number(self, key: &str) -> Option<i64> {
        number(self.value(key)?)
    }

    /// A member that is true or false.
    pub fn flag(self, key: &str) -> Option<bool> {
        self.value(key)?.as_bool()
    }

    /// A member that is an object.
    pub fn object(self, key: &str) -> Self {
        Self(self.value(key).and_then(Value::as_object))
    }

    /// A member that is a list.
    pub fn list(self, key: &str) -> &'a [Value] {
        self.value(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// All members.
    pub fn each(self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.0.into_iter().flatten()
    }
}

/// Graph's documentation writes codes as numbers and as texts (`"code": "200"` in `call-delete.md`).
pub(super) fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}
