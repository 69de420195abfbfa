//! The envelope as it is sent: an object with an array `value` of objects is all that is demanded.

use serde::{Deserialize, de::IgnoredAny};
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
        if !json.trim_ascii_start().starts_with('{') {
            return Err(Unreadable("the body is not a JSON object".to_owned())); // serde takes a list for one
        }
        let body: Body<'_> = serde_json::from_str(json).map_err(|error| unreadable("the body", &error))?;
        match body.value {
            Some(value) => items(value).map(Self::Notifications),
            None if body.is_legacy_skype() => Ok(Self::LegacySkype { json }),
            None => Err(Unreadable("a JSON object without `value`".to_owned())),
        }
    }
}

/// The members that tell what a body is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(borrow)]
    value: Option<Vec<&'a RawValue>>,
    call_state: Option<IgnoredAny>,
    #[serde(borrow)]
    participants: Option<&'a RawValue>,
}

impl Body<'_> {
    fn is_legacy_skype(&self) -> bool {
        self.call_state.is_some() && self.participants.is_some_and(|list| list.get().starts_with('['))
    }
}

fn items(value: Vec<&RawValue>) -> Result<Vec<Item<'_>>, Unreadable> {
    let items = few("`value`", value)?.into_iter().enumerate();
    items.map(|(at, item)| Item::parse(format_args!("item {at} of `value`"), item.get())).collect()
}
