//! One HTTP POST as it came.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ids::DeliveryId, notification::Notification};

/// A delivery that was let in, read and ready to be recorded.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The name of the source that read it.
    pub source: &'static str,
    /// When its head had been read.
    pub received_at: Timestamp,
    /// The headers by which the platform's support finds it again.
    pub correlation: Correlation,
    /// The body, byte for byte.
    pub body: Vec<u8>,
    /// What it says.
    pub content: Content,
    /// Its headers, where it is to be forwarded as it came.
    pub head: Option<KeptHead>,
}

/// The headers of a delivery that is to be forwarded as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptHead {
    /// As HTTP writes them: `name: value\r\n` for each, with the bytes that came.
    pub headers: Vec<u8>,
    /// Until when its token is good.
    pub expires_at: Timestamp,
    /// For which targets.
    pub targets: Vec<String>,
}

impl fmt::Debug for KeptHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptHead").field("targets", &self.targets).finish_non_exhaustive()
    }
}

/// What a delivery says.
#[derive(Clone, Debug)]
pub enum Content {
    /// Its notifications, in their order.
    Read(Vec<Notification>),
    /// The source could not read it: kept in quarantine.
    Unreadable,
}

impl Content {
    /// How many notifications are made of it: one of what could not be read.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Read(items) => items.len(),
            Self::Unreadable => 1,
        }
    }
}

/// The headers by which the platform's support finds a delivery again. Texts are tame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Correlation {
    /// `Scenario-Id`: one per call, between client and platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario_id: Option<String>,
    /// `Client-Request-Id`: one per request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_id: Option<String>,
    /// `X-Microsoft-Skype-Chain-ID`: one per conversation, inside the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<String>,
    /// `X-Microsoft-Skype-Message-ID`: one per request, inside the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
}

/// What a bot decided about a delivery that was forwarded to it.
#[derive(Clone, Debug, PartialEq)]
pub struct BotAnswer {
    /// The name of the target that the bot is.
    pub target: String,
    /// The delivery.
    pub delivery: DeliveryId,
    /// Its answer; null if that was no JSON.
    pub body: Value,
}
