//! The ledger's own ids, and the platforms' ids in one spelling.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// A position in the ledger: the microsecond since 1970 at which the writer took it, made strictly
/// increasing. Every row that can be named from outside is named after its position, so that the newest rows
/// have the greatest ids, a page needs no other key, and an id is never given out twice, not even
/// after a restore from a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seq(pub i64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is not an id of the kind asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the form {prefix}_…")]
pub struct NotAnId {
    prefix: &'static str,
}

macro_rules! ledger_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Seq);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{:x}"), self.0.0)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
                    .and_then(|digits| i64::from_str_radix(digits, 16).ok())
                    .map(|seq| Self(Seq(seq)))
                    .ok_or(NotAnId { prefix: $prefix })
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

ledger_id!(
    /// One HTTP POST as it came.
    DeliveryId,
    "dlv"
);
ledger_id!(
    /// One item of a delivery.
    NotificationId,
    "ntf"
);
ledger_id!(
    /// An operation, named after the first fact that the ledger got about it. When a later fact shows
    /// two operations to be one, the elder name stays; the id of any fact of an operation finds it.
    OperationId,
    "op"
);
ledger_id!(
    /// What a bot asked for.
    RequestId,
    "req"
);
ledger_id!(
    /// What could not be forwarded to a bot at once.
    ForwardId,
    "fwd"
);
ledger_id!(
    /// A POST that was not let in.
    RejectionId,
    "rej"
);

/// A platform's id in one spelling: GUIDs lower-case with dashes, however they were written (Graph writes
/// `57DAB8B1894C409AB240BD8BEAE78896` in URLs and `57dab8b1-894c-…` in bodies); anything else untouched.
///
/// ```
/// use callback_ledger::domain::ids::PlatformId;
///
/// let in_a_url = PlatformId::parse("57DAB8B1894C409AB240BD8BEAE78896");
/// let in_a_body = PlatformId::parse("57dab8b1-894c-409a-b240-bd8beae78896");
/// assert_eq!(in_a_url, in_a_body);
/// ```
///
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlatformId(Arc<str>);

impl PlatformId {
    /// Reads an id in any spelling; `None` if it is blank.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(respelled(text).map_or_else(|| text.into(), Into::into)))
    }

    /// The id in its one spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&PlatformId> for Arc<str> {
    fn from(id: &PlatformId) -> Self {
        Self::clone(&id.0)
    }
}

impl fmt::Display for PlatformId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The lower-case dashed form of a GUID with its dashes or without any; `None` if `text` is no GUID, or has that form.
fn respelled(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    if !matches!(bytes.len(), 32 | 36) {
        return None;
    }
    // without a way out in the middle, many bytes are looked at together
    let digits = bytes.iter().fold(0, |count: u8, byte| count + u8::from(byte.is_ascii_hexdigit()));
    let is_dashed = bytes.len() == 36 && [8, 13, 18, 23].iter().all(|at| bytes.get(*at) == Some(&b'-'));
    if digits != 32 || !is_dashed && bytes.len() != 32 {
        return None;
    }
    if is_dashed {
        return bytes.iter().any(u8::is_ascii_uppercase).then(|| text.to_ascii_lowercase());
    }
    let (mut spelled, mut rest) = (String::with_capacity(36), text);
    for group in [8, 4, 4, 4, 12] {
        let (digits, more) = rest.split_at_checked(group)?;
        if !spelled.is_empty() {
            spelled.push('-');
        }
        spelled.push_str(digits);
        rest = more;
    }
    spelled.make_ascii_lowercase();
    Some(spelled)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_guid_has_one_spelling_and_other_ids_are_left_alone() {
        let dashed = "57dab8b1-894c-409a-b240-bd8beae78896";
        for spelling in [dashed, "57DAB8B1894C409AB240BD8BEAE78896", " 57DAB8B1-894C-409A-B240-BD8BEAE78896 "] {
            assert_eq!(PlatformId::parse(spelling).unwrap().as_str(), dashed);
        }
        let nearly =
            ["57dab8b1-894c-409a-b240-bd8beae7889", "57dab8b1_894c-409a-b240-bd8beae78896", "57DAB8B1894C409AB240BD8BEAE7889G"];
        for other in nearly.into_iter().chain([
            "Abc/=",
            &"a1".repeat(150),
            "57DAB8B18-94C-409A-B240-BD8BEAE78896",
            "57DAB8B1894C409AB240BD8BEAE7889-",
        ]) {
            assert_eq!(PlatformId::parse(other).unwrap().as_str(), other);
        }
        assert_eq!(PlatformId::parse("  "), None);
    }

    #[test]
    fn a_ledger_id_reads_back_and_refuses_other_kinds() {
        let id = OperationId(Seq(1_763_695_918_123_456));
        assert_eq!(id.to_string().parse::<OperationId>(), Ok(id));
        for wrong in ["ntf_1f", "op_", "op_-1", "op_xyz", "op_+1", "op_fffffffffffffffff", ""] {
            assert!(wrong.parse::<OperationId>().is_err(), "{wrong}");
        }
    }
}
