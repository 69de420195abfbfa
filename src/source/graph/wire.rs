//! The envelope as it is sent: an object with an array `value` of objects is all that is demanded.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::source::{
    Unreadable,
    json::{Item, few, unreadable},
};

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

impl<'a> Envelope<'a> {
    /// Reads a body.
    pub fn parse(json: &'a str) -> Result<Self, Unreadable> {
        if json.trim_ascii().is_empty() {
            return Err(Unreadable("the body is empty".to_owned()));
        }
        let body: Body<'_> = serde_json::from_str(json).map_err(|error| unreadable("the body", &error))?;
        match body.value {
            Some(value) => items(value).map(Self::Notifications),
            None if body.is_legacy_skype() => Ok(Self::LegacySkype { json }),
            None => Err(Unreadable("a JSON object without `value`".to_owned())),
        }
    }
}

/// What tells what a body is; of a member that comes twice, the last.
#[derive(Debug, Default)]
struct Body<'a> {
    value: Option<Vec<&'a RawValue>>,
    has_call_state: bool,
    participants: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Member {
    Value,
    CallState,
    Participants,
    #[serde(other)]
    Other,
}

impl Body<'_> {
    fn is_legacy_skype(&self) -> bool {
        self.has_call_state && self.participants.is_some_and(|list| list.get().starts_with('['))
    }
}

// by hand: what is derived would take a list for an object, and refuse a member that comes twice
impl<'de> Deserialize<'de> for Body<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Body<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut body = Body::default();
        while let Some(member) = access.next_key()? {
            match member {
                Member::Value => body.value = Some(access.next_value()?),
                Member::Participants => body.participants = Some(access.next_value()?),
                Member::CallState | Member::Other => {
                    body.has_call_state |= matches!(member, Member::CallState);
                    access.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(body)
    }
}

fn items(value: Vec<&RawValue>) -> Result<Vec<Item<'_>>, Unreadable> {
    let items = few("`value`", value)?.into_iter().enumerate();
    items.map(|(at, item)| Item::parse(format_args!("item {at} of `value`"), item.get())).collect()
}
