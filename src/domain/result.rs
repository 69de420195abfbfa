//! Code, subcode, message: why a platform says that something ended as it did.

use serde::{Deserialize, Serialize};

/// `resultInfo` (Graph) or `resultInformation` (ACS), with the reason that came beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResultInfo {
    /// HTTP-like: below 400 is a success, 0 counts as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// The platform's own number; its meaning is in the source's table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subcode: Option<i64>,
    /// The platform's sentence, telephone numbers taken out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `completionReason` and its like, as spelled by the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl ResultInfo {
    /// Whether anything was said at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
