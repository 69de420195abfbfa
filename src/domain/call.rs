//! What the facts about a call add up to.
//!
//! Each rule is a minimum, a maximum or a set, so that facts may be taken in one by one, in any order and more than once: a
//! [`CallStory`] never needs the facts before to take in the next. The two ids that come in headers are those of the deliveries
//! that brought something new: like times of receipt, they are marks of the delivery, not facts.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    delivery::Correlation,
    ids::{NotificationId, PlatformId, Seq},
    notification::{Fact, Facts},
    result::ResultInfo,
};

/// Where a call stands: the platforms' own words, in the order of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CallState {
    /// Somebody calls; nobody has answered.
    Incoming,
    /// Being connected.
    Establishing,
    /// The callee is being called.
    Ringing,
    /// Connected.
    Established,
    /// On hold.
    Hold,
    /// A transfer has begun.
    Transferring,
    /// The transfer's target said yes.
    TransferAccepted,
    /// Being passed on before it was answered.
    Redirecting,
    /// Being ended.
    Terminating,
    /// Over; a call does not come back to life.
    Terminated,
}

impl CallState {
    /// All of them, in order.
    pub const ALL: [Self; 10] = [
        Self::Incoming,
        Self::Establishing,
        Self::Ringing,
        Self::Established,
        Self::Hold,
        Self::Transferring,
        Self::TransferAccepted,
        Self::Redirecting,
        Self::Terminating,
        Self::Terminated,
    ];

    /// The name that the platform, the API and the store use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Establishing => "establishing",
            Self::Ringing => "ringing",
            Self::Established => "established",
            Self::Hold => "hold",
            Self::Transferring => "transferring",
            Self::TransferAccepted => "transferAccepted",
            Self::Redirecting => "redirecting",
            Self::Terminating => "terminating",
            Self::Terminated => "terminated",
        }
    }

    /// Whether it is about a transfer, which can fail and leave the call as it was.
    const fn is_transfer(self) -> bool {
        matches!(self, Self::Transferring | Self::TransferAccepted)
    }

    /// The state of this name, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str().eq_ignore_ascii_case(name))
    }
}

/// Who called whom, seen from the bot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// The bot was called.
    Incoming,
    /// The bot called.
    Outgoing,
}

impl Direction {
    /// The name that the platform, the API and the store use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Outgoing => "outgoing",
        }
    }

    /// The direction of this name, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Incoming, Self::Outgoing].into_iter().find(|direction| direction.as_str().eq_ignore_ascii_case(name))
    }
}

/// What one notification says about a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallFact {
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<CallState>,
    /// Who called whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// The conversation that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<String>,
    /// Why it stands there.
    #[serde(default, skip_serializing_if = "ResultInfo::is_empty")]
    pub result: ResultInfo,
    /// Whether it brings a tone that somebody dialled. Which one is a personal fact.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tone: bool,
    /// The tag of the request that it answers, as it was spelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Whether the platform says no more about operations of this call, so that what is open ends with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub releases: bool,
}

impl CallFact {
    /// A transfer that failed is told as an established call with an error.
    fn is_failed_transfer(&self) -> bool {
        self.state == Some(CallState::Established) && self.result.code.is_some_and(|code| code >= 400)
    }
}

/// What the facts about a call add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallStory {
    /// The states that were told.
    #[serde(default)]
    told: BTreeSet<CallState>,
    /// Whether a transfer was told to have failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    transfer_failed: bool,
    /// Who called whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// The conversation that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<String>,
    /// The `Scenario-Id` of its deliveries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario_id: Option<String>,
    /// When word came that it was connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub established_at: Option<Timestamp>,
    /// The tag under which it was connected; of several, the least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected_as: Option<PlatformId>,
    /// When word came of its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultInfo>,
    /// The server's id of the conversation; of several, the least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_call_id: Option<PlatformId>,
    /// What ties it to other calls; of several, the least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<PlatformId>,
    /// Where we sent it; of several, the least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirected_to: Option<String>,
    /// The notification after which the platform says no more about its operations; the first recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
}

/// The end of a call with which its open operations end, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Release {
    /// The notification that brought it; of several the one that was recorded first, which none can come before any more.
    pub by: Seq,
    /// When that was received.
    pub at: Timestamp,
}

impl CallStory {
    /// Where the call stands; `None` while nobody has told: the furthest state that was told. A transfer that failed leaves
    /// the call established; since no body has a time, a second attempt behind it cannot be told from the first, and
    /// a call that was told to be on hold stays so until a later state.
    #[must_use]
    pub fn state(&self) -> Option<CallState> {
        let counts = |state: &&CallState| !(self.transfer_failed && state.is_transfer());
        self.told.iter().rfind(counts).copied()
    }

    /// Whether the call is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state() == Some(CallState::Terminated)
    }

    /// Takes in one notification and the headers that it came with.
    pub fn absorb(&mut self, id: NotificationId, facts: &Facts, correlation: &Correlation, received_at: Timestamp) {
        self.scenario_id = least(self.scenario_id.take(), correlation.scenario_id.as_ref());
        let chain_id = correlation.chain_id.as_deref().and_then(PlatformId::parse).map(|id| id.to_string());
        self.chain_id = least(self.chain_id.take(), chain_id.as_ref());
        self.server_call_id = least(self.server_call_id.take(), facts.server_call_id.as_ref());
        self.correlation_id = least(self.correlation_id.take(), facts.correlation_id.as_ref());
        self.redirected_to = least(self.redirected_to.take(), facts.redirected_to.as_ref());
        let Fact::Call(fact) = &facts.fact else { return };
        self.chain_id = least(self.chain_id.take(), fact.chain_id.as_ref());
        self.direction = least(self.direction.take(), fact.direction.as_ref());
        self.told.extend(fact.state);
        self.transfer_failed |= fact.is_failed_transfer();
        if fact.state == Some(CallState::Established) {
            self.established_at = least(self.established_at.take(), Some(&received_at));
            let tag = fact.context.as_deref().and_then(PlatformId::parse);
            self.connected_as = least(self.connected_as.take(), tag.as_ref());
        }
        if fact.state == Some(CallState::Terminated) {
            self.ended_at = least(self.ended_at.take(), Some(&received_at));
            let result = Some(&fact.result).filter(|result| !result.is_empty());
            self.result = self.result.take().max(result.cloned());
        }
        if fact.releases {
            self.release = least(self.release.take(), Some(&Release { at: received_at, by: id.0 }));
        }
    }
}

/// The lesser of what is known and what comes, so that order does not matter.
fn least<T: Ord + Clone>(known: Option<T>, next: Option<&T>) -> Option<T> {
    match (known, next) {
        (Some(known), Some(next)) if *next < known => Some(next.clone()),
        (None, next) => next.cloned(),
        (known, _) => known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story(states: &[(CallState, i64)]) -> Option<CallState> {
        let mut story = CallStory::default();
        for (state, code) in states {
            let result = ResultInfo { code: Some(*code), ..ResultInfo::default() };
            let fact = CallFact { state: Some(*state), result, ..CallFact::default() };
            let facts = Facts::new("call".to_owned(), "updated".to_owned(), Fact::Call(fact));
            story.absorb(NotificationId(Seq(1)), &facts, &Correlation::default(), Timestamp::UNIX_EPOCH);
        }
        story.state()
    }

    #[test]
    fn a_failed_transfer_returns_to_established_in_any_order() {
        use CallState::{Established, Terminated, TransferAccepted, Transferring};
        assert_eq!(story(&[(Established, 0), (Transferring, 0)]), Some(Transferring));
        assert_eq!(story(&[(Established, 500), (Established, 0), (Transferring, 0)]), Some(Established));
        assert_eq!(story(&[(Transferring, 0), (TransferAccepted, 0)]), Some(TransferAccepted));
        assert_eq!(story(&[(Transferring, 0), (Established, 500), (Established, 500), (TransferAccepted, 0)]), Some(Established));
        assert_eq!(story(&[(Terminated, 0), (Transferring, 0), (Established, 0)]), Some(Terminated));
        assert_eq!(story(&[(Established, 0), (CallState::Hold, 0), (CallState::Incoming, 0)]), Some(CallState::Hold));
    }
}
