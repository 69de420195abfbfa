//! What has been forwarded to the bots behind the ledger, and what has not.

use std::fmt;

use jiff::Timestamp;

use crate::domain::ids::{DeliveryId, ForwardId, NotificationId, PlatformId, Seq};

/// Where a forward stands that was not delivered at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardState {
    /// It will be tried again, or waits behind something of its call that will.
    Waiting,
    /// It was given up.
    Dead,
}

impl ForwardState {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Waiting, Self::Dead];

    /// The name that the API and the store use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Dead => "dead",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// A notification that may be of interest to a target: believed, new, and of a call that stays here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// It.
    pub id: NotificationId,
    /// What brought it.
    pub delivery: DeliveryId,
    /// Its call's position; `None` if it is about none.
    pub call: Option<Seq>,
    /// The receiver that it came to.
    pub receiver: String,
    /// Whose it is.
    pub source: String,
    /// The platform's own name of what it is about.
    pub kind: String,
}

/// What is sent to a target in one piece: a notification, or a delivery with all that was new in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The notification, or the first of them.
    pub id: NotificationId,
    /// What brought it.
    pub delivery: DeliveryId,
    /// Whether it is all that this delivery brought from there on, or that notification alone.
    pub whole: bool,
    /// The positions of the calls that it is about, in no order, each once.
    pub calls: Vec<Seq>,
    /// Whose it is.
    pub source: String,
    /// The platform's own name of what (the first of) it is about.
    pub kind: String,
}

/// How the tries of a unit went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// How many there were.
    pub attempts: u32,
    /// When the last one was made.
    pub attempted_at: Option<Timestamp>,
    /// From when its time counts, where somebody wanted it tried again that had been given up; else from when it was recorded.
    pub since: Option<Timestamp>,
    /// When the next one is due; `None` if it waits for something else.
    pub next_at: Option<Timestamp>,
    /// The status that the last one was answered with.
    pub status: Option<u16>,
    /// What went wrong.
    pub error: Option<String>,
}

/// A forward as it stands in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardRow {
    /// Its id.
    pub id: ForwardId,
    /// The name of the target.
    pub target: String,
    /// What is to be sent.
    pub unit: Unit,
    /// The first of its calls, as the platform names it.
    pub call_id: Option<PlatformId>,
    /// Where it stands.
    pub state: ForwardState,
    /// How it went.
    pub tries: Tries,
}

/// Which forwards. Empty members do not filter.
#[derive(Clone, Debug, Default)]
pub struct ForwardFilter {
    /// This one alone.
    pub id: Option<ForwardId>,
    /// To this target.
    pub target: Option<String>,
    /// In this state.
    pub state: Option<ForwardState>,
    /// About this call.
    pub call_id: Option<PlatformId>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Recorded then or later.
    pub since: Option<Timestamp>,
    /// Recorded before.
    pub until: Option<Timestamp>,
}

impl ForwardFilter {
    /// Whether it matches all there are.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        let Self { id, target, state, call_id, kind, since, until } = self;
        id.is_none()
            && target.is_none()
            && state.is_none()
            && call_id.is_none()
            && kind.is_none()
            && since.is_none()
            && until.is_none()
    }
}

/// A target as the ledger remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetRow {
    /// Its name.
    pub name: String,
    /// Up to where all is delivered or has a row.
    pub settled_to: Seq,
    /// When it said that it wants no more.
    pub disabled_at: Option<Timestamp>,
}

/// A target with what has a row, as a service begins.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The target.
    pub target: TargetRow,
    /// What waits.
    pub waiting: Vec<ForwardRow>,
    /// What lies behind the target's position and is dealt with nevertheless, or waits.
    pub known: Vec<NotificationId>,
}

/// How many forwards a target has in each state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardCount {
    /// The target.
    pub target: String,
    /// That wait.
    pub waiting: u64,
    /// That were given up.
    pub dead: u64,
}

/// What a forwarder has got done since it last told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The name of the target.
    pub name: String,
    /// The target as it now stands; `None`: as it stood.
    pub target: Option<TargetRow>,
    /// What failed or waits behind that, as it now stands.
    pub rows: Vec<(Unit, ForwardState, Tries)>,
    /// What had a row and needs it no more.
    pub settled: Vec<NotificationId>,
    /// The deliveries whose headers this target needs no more.
    pub heads: Vec<DeliveryId>,
}

/// A delivery as it is to be forwarded.
#[derive(Clone)]
pub struct AsItCame {
    /// Its headers ([`crate::domain::delivery::KeptHead::headers`]); `None` once they are gone or their token has expired.
    pub headers: Option<Vec<u8>>,
    /// Its body; `None` once retention or erasure has taken it.
    pub body: Option<Vec<u8>>,
}

impl fmt::Debug for AsItCame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AsItCame")
    }
}
