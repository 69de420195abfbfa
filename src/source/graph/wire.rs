//! The envelope as it is sent: an object with an array `value` of objects is all that is demanded.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::source::{
    Unreadable,
    json::{self, Item, unreadable},
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
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(json).map_err(|error| unreadable("the body", &error))?;
        match members.get("value") {
            Some(value) => items(value).map(Self::Notifications),
            None if is_legacy_skype(&members) => Ok(Self::LegacySkype { json }),
            None => Err(Unreadable("a JSON object without `value`".to_owned())),
        }
    }
}

fn is_legacy_skype(members: &BTreeMap<String, &RawValue>) -> bool {
    members.contains_key("callState") && members.get("participants").is_some_and(|list| list.get().starts_with('['))
}

fn items(value: &RawValue) -> Result<Vec<Item<'_>>, Unreadable> {
    let items = json::items("`value`", value.get())?;
    items.into_iter().enumerate().map(|(at, item)| Item::parse(&format!("item {at} of `value`"), item.get())).collect()
}
