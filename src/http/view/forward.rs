//! What the bots have been told, and what they have not.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{time, times};
use crate::{
    domain::ids::PlatformId,
    feed::forward::{Status, Target},
    store::forwards::{ForwardCount, ForwardRow},
};

/// What could not be forwarded at once: it failed, or waits behind something of its call that did.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForwardView {
    /// Its id.
    pub id: String,
    /// The name of the target.
    pub forward: String,
    /// The notification; of a delivery that is forwarded in one piece, the first in it.
    pub notification: String,
    /// What brought it.
    pub delivery: String,
    /// `graph`, `acs` or `event-grid`.
    pub source: String,
    /// Its call.
    pub call_id: Option<String>,
    /// The platform's own name of what it is about.
    pub kind: String,
    /// When it was recorded.
    pub recorded_at: Option<String>,
    /// `waiting`, or `dead` once it was given up.
    #[schema(value_type = String, example = "dead")]
    pub state: Cow<'static, str>,
    /// How often it was tried; 0: it waits behind another.
    pub attempts: u32,
    /// When it was tried last.
    pub attempted_at: Option<String>,
    /// When it will be tried next.
    pub next_at: Option<String>,
    /// What the last try was answered with; null if nothing was answered.
    pub last_status: Option<u16>,
    /// What went wrong last.
    pub last_error: Option<String>,
}

impl From<ForwardRow> for ForwardView {
    fn from(row: ForwardRow) -> Self {
        let ForwardRow { id, target, unit, call_id, state, tries } = row;
        Self {
            id: id.to_string(),
            forward: target,
            notification: unit.id.to_string(),
            delivery: unit.delivery.to_string(),
            source: unit.source,
            call_id: call_id.as_ref().map(PlatformId::to_string),
            kind: unit.kind,
            // positions are microseconds
            recorded_at: times(Timestamp::from_microsecond(unit.id.0.0).ok()),
            state: state.as_str().into(),
            attempts: tries.attempts,
            attempted_at: times(tries.attempted_at),
            next_at: times(tries.next_at),
            last_status: tries.status,
            last_error: tries.error,
        }
    }
}

/// Where notifications go.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetView {
    /// Its name.
    pub name: String,
    /// Its address, without what may be secret in it; null if it is not configured any more.
    pub url: Option<String>,
    /// `original` or `signed`.
    #[schema(value_type = Option<String>, example = "signed")]
    pub mode: Option<Cow<'static, str>>,
    /// `running`, `unreachable` (asked now and then), `disabled` (it answered 410) or `not_configured`.
    #[schema(value_type = String, example = "running")]
    pub condition: Cow<'static, str>,
    /// When it answered 410.
    pub disabled_at: Option<String>,
    /// When the oldest was recorded that it has not got and that was not given up; null if it has got all.
    pub behind_since: Option<String>,
    /// When it got something last, since the service was started.
    pub delivered_at: Option<String>,
    /// How many wait that are listed.
    pub waiting: u64,
    /// How many were given up.
    pub dead: u64,
}

impl TargetView {
    /// A target as it stands; `None` for `running` where it is not configured.
    #[must_use]
    pub fn new(name: String, disabled_at: Option<Timestamp>, running: Option<(&Target, Status)>, count: &ForwardCount) -> Self {
        let address = |target: &Target| {
            let mut url = target.url.clone();
            url.set_query(None);
            url.to_string()
        };
        let status = running.map(|(_, status)| status);
        Self {
            name,
            url: running.map(|(target, _)| address(target)),
            mode: running.map(|(target, _)| target.mode.as_str().into()),
            condition: status.map_or("not_configured", |status| status.condition.as_str()).into(),
            disabled_at: disabled_at.map(time),
            behind_since: times(status.and_then(|status| status.oldest)),
            delivered_at: times(status.and_then(|status| status.delivered_at)),
            waiting: count.waiting,
            dead: count.dead,
        }
    }
}

/// What an order came to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderedView {
    /// How many matched.
    pub matched: u64,
    /// Whether nothing was done but counting.
    pub dry_run: bool,
}
