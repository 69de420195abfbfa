//! Azure Event Grid: what Azure Communication Services tells about calls before or beside Call Automation, above all that
//! somebody calls.
//!
//! Both schemas, Event Grid's own and `CloudEvents`, in batches of up to 5,000 events
//! (<https://learn.microsoft.com/azure/event-grid/delivery-and-retry>). A subscription is confirmed by an answer to its
//! validation event, or by `OPTIONS` (`receive`). What it answers decides whether Event Grid tries again: success is 200 to 204,
//! and 400 or 413 ends it at once, so those are kept for what no second try would better.

mod read;
mod trust;

use serde_json::value::RawValue;

use super::{Inbound, NotificationSource, Reading, Unreadable, cloud_events};
use crate::domain::trust::TrustDefaults;

/// Event Grid.
#[derive(Clone, Copy, Debug)]
pub struct EventGrid;

impl NotificationSource for EventGrid {
    fn name(&self) -> &'static str {
        "event-grid"
    }

    fn usual_path(&self) -> &'static str {
        "/api/events"
    }

    fn trust_defaults(&self) -> TrustDefaults {
        trust::DEFAULTS
    }

    fn read(&self, inbound: &Inbound<'_>) -> Result<Reading, Unreadable> {
        read::read(inbound)
    }

    fn item(&self, body: &[u8], place: usize) -> Option<Box<RawValue>> {
        cloud_events::item(body, place)
    }

    /// Its events carry no results.
    fn meaning(&self, _code: Option<i64>, _subcode: Option<i64>) -> Option<&'static str> {
        None
    }

    /// A batch holds up to 5,000 events of at most 1 MiB in all, unless a single event is larger.
    fn max_body_bytes(&self) -> Option<usize> {
        Some(2 * 1024 * 1024)
    }

    fn asks_first(&self) -> bool {
        true
    }
}
