//! Who is in a call and how, without a name.
//!
//! What the platform calls somebody is a personal fact: the ledger keeps it sealed. So that it can still tell that two facts are about
//! the same person, it keeps a token: a hash of the name under the call's own key, which says nothing to anybody else, and nothing
//! about other calls.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Whether somebody is muted, and on hold, as far as it is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Not to be heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted: Option<bool>,
    /// Not to hear or to be heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_hold: Option<bool>,
}

impl Condition {
    /// Whether this is so, by all that the other wants.
    #[must_use]
    pub fn is(self, wanted: Self) -> bool {
        let fits = |told: Option<bool>, wanted: Option<bool>| wanted.is_none() || told == wanted;
        fits(self.muted, wanted.muted) && fits(self.on_hold, wanted.on_hold)
    }
}

/// Somebody, as the platform calls them: never kept, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct NamedPerson {
    /// What the platform calls them (`4:+1425…`, `8:acs:…`).
    pub raw_id: String,
    /// How they are, or are to be.
    pub condition: Condition,
}

impl fmt::Debug for NamedPerson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedPerson").field("condition", &self.condition).finish_non_exhaustive()
    }
}

/// Somebody, by their token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Person {
    /// The same for the same person in the same call.
    pub token: String,
    /// How they are, or are to be.
    #[serde(flatten)]
    pub condition: Condition,
}

/// The shortest name, and the longest, by which somebody is found (characters).
const NAMES: std::ops::RangeInclusive<usize> = 6..=256;

/// Every text in personal facts by which somebody could be found, in lower case: ids and telephone numbers also without what the
/// platforms put in front of them (`4:+1425…`, `8:orgid:…`).
#[must_use]
pub fn names_in(personal: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut rest = vec![personal];
    while let Some(value) = rest.pop() {
        match value {
            Value::String(text) => names.extend(spellings(text)),
            Value::Array(items) => rest.extend(items),
            Value::Object(members) => rest.extend(members.values()),
            _ => {}
        }
    }
    names
}

/// The spellings of a name by which it is kept and looked for.
#[must_use]
pub fn spellings(name: &str) -> Vec<String> {
    let name = name.trim().to_lowercase();
    let bare = name.rsplit_once(':').map(|(_, bare)| bare.to_owned());
    [Some(name), bare].into_iter().flatten().filter(|name| NAMES.contains(&name.chars().count())).collect()
}
