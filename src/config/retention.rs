//! `[retention]`: how long what came is kept.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

/// `[retention]`: how long what came is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Bodies and personal facts, in days; 0: as long as everything.
    pub bodies_days: u32,
    /// Everything, in days; 0: for ever.
    pub everything_days: u32,
    /// What is otherwise for some sources, by name.
    #[serde(rename = "source", default)]
    pub by_source: BTreeMap<String, SourceRetention>,
}

/// `[retention.source.NAME]`: what is otherwise for a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRetention {
    /// Bodies and personal facts, in days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bodies_days: Option<u32>,
    /// Everything, in days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub everything_days: Option<u32>,
}

impl Retention {
    /// For what came from this source: bodies, and everything; `None`: for ever.
    #[must_use]
    pub fn of(&self, source: &str) -> (Option<Duration>, Option<Duration>) {
        let own = self.by_source.get(source);
        let days = |own: Option<u32>, all: u32| {
            Some(own.unwrap_or(all)).filter(|days| *days > 0).map(|days| Duration::from_hours(24 * u64::from(days)))
        };
        let everything = days(own.and_then(|own| own.everything_days), self.everything_days);
        (days(own.and_then(|own| own.bodies_days), self.bodies_days), everything)
    }
}
