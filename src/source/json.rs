//! A lenient way to look into JSON that a platform wrote, for every source.
//!
//! Only what a source could not do without is demanded. A member that is missing, blank or of another type than documented
//! is absent, because a platform that changes one member must not cost us the notification.

pub(in crate::source) mod surrogates;

use std::{borrow::Cow, collections::BTreeMap, fmt::Display};

use serde::Deserialize;
use serde_json::{error::Category, value::RawValue};
use serde_json_borrow::ObjectAsVec;
pub(in crate::source) use serde_json_borrow::Value;

use super::Unreadable;

/// The most items of a body. The largest batches are those of Event Grid, of "up to 5,000 events"
/// (<https://learn.microsoft.com/azure/event-grid/delivery-and-retry>). Each becomes a notification of several hundred bytes, though
/// it can have been written with two.
pub(in crate::source) const MAX_ITEMS: usize = 5000;

/// The items of a list, as they were written; `what` names it in the error.
pub(in crate::source) fn items<'a>(what: &str, json: &'a str) -> Result<Vec<&'a RawValue>, Unreadable> {
    few(what, serde_json::from_str(json).map_err(|error| unreadable(what, &error))?)
}

/// Items, unless they are too many; `what` names their list in the error.
pub(in crate::source) fn few<'a>(what: &str, items: Vec<&'a RawValue>) -> Result<Vec<&'a RawValue>, Unreadable> {
    if items.len() > MAX_ITEMS {
        return Err(Unreadable(format!("{what} has more than {MAX_ITEMS} items")));
    }
    Ok(items)
}

/// One item of a body.
#[derive(Debug)]
pub(in crate::source) struct Item<'a> {
    /// Its bytes.
    pub json: &'a str,
    /// In the order in which they came; a key can come twice.
    members: ObjectAsVec<'a>,
}

impl<'a> Item<'a> {
    /// Reads an item; `what` names it in the error.
    pub fn parse(what: impl Display, json: &'a str) -> Result<Self, Unreadable> {
        match lenient(&what, json)? {
            Value::Object(members) => Ok(Self { json, members }),
            _ => Err(Unreadable(format!("{what} is not a JSON object"))),
        }
    }

    /// Its members, leniently.
    pub fn fields(&self) -> Fields<'_> {
        Fields(Some(&self.members))
    }

    /// Takes a member out of it; of those with the same key, the last.
    pub fn into_member(self, key: &str) -> Option<Value<'a>> {
        self.members.into_vec().into_iter().rev().find_map(|(name, value)| (name == key).then_some(value))
    }
}

/// Reads JSON whose texts may end in the middle of a character; `what` names it in the error.
pub(in crate::source) fn lenient<'a, T: Deserialize<'a>>(what: impl Display, json: &'a str) -> Result<T, Unreadable> {
    serde_json::from_str(json)
        .or_else(|error| surrogates::mended(json).map_or(Err(error), |json| outlived(json.as_bytes())))
        .map_err(|error| unreadable(what, &error))
}

/// Reads JSON that is gone before what was read.
pub(in crate::source) fn outlived<'a, T: Deserialize<'a>>(json: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice::<serde_json::Value>(json).and_then(T::deserialize)
}

/// A body as text, without the byte order mark that RFC 8259 §8.1 lets a reader ignore. A capture of 2018 says
/// `charset=Windows-1252`: what happened is told in ASCII, so a name that is not UTF-8 costs that name and no fact.
pub(in crate::source) fn text(body: &[u8]) -> Cow<'_, str> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    // almost always it is, and that is found out many bytes at a time
    str::from_utf8(body).map_or_else(|_not_utf8| String::from_utf8_lossy(body), Cow::Borrowed)
}

/// Says what is wrong and where, but nothing of what is there: bodies name people and hold tokens, and
/// `serde_json`'s own message may quote them.
pub(in crate::source) fn unreadable(what: impl Display, error: &serde_json::Error) -> Unreadable {
    let fault = match error.classify() {
        Category::Data => "has another JSON type than it should",
        Category::Eof => "is cut short",
        Category::Syntax | Category::Io => "is not JSON that can be read",
    };
    Unreadable(format!("{what} {fault} (line {}, column {})", error.line(), error.column()))
}

/// The members of an object that may not be there.
#[derive(Clone, Copy, Debug)]
pub(in crate::source) struct Fields<'a>(pub Option<&'a ObjectAsVec<'a>>);

impl<'a> Fields<'a> {
    /// The members of a value, if it is an object.
    pub fn of(value: &'a Value<'a>) -> Self {
        Self(value.as_object())
    }

    /// A member of any type; of those with the same key, the last.
    pub fn value(self, key: &str) -> Option<&'a Value<'a>> {
        self.0?.as_vec().iter().rev().find_map(|(name, value)| (*name == key).then_some(value))
    }

    /// A member of any type whose key is this one but for the case of its letters; of several, the last.
    pub fn value_in_any_case(self, key: &str) -> Option<&'a Value<'a>> {
        self.0?.as_vec().iter().rev().find_map(|(name, value)| name.eq_ignore_ascii_case(key).then_some(value))
    }

    /// A member that is text and not blank.
    pub fn text(self, key: &str) -> Option<&'a str> {
        self.value(key)?.as_str().filter(|text| !text.chars().all(char::is_whitespace))
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
    pub fn list(self, key: &str) -> &'a [Value<'a>] {
        self.value(key).and_then(Value::as_array).unwrap_or_default()
    }

    /// All members, by their keys.
    pub fn each(self) -> BTreeMap<&'a str, &'a Value<'a>> {
        self.0.into_iter().flat_map(ObjectAsVec::iter).collect()
    }
}

/// Graph's documentation writes codes as numbers and as texts (`"code": "200"` in `call-delete.md`).
pub(in crate::source) fn number(value: &Value<'_>) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}
