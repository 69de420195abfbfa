//! Microsoft Graph cloud communications: `commsNotifications`, in every spelling since 2018.
//!
//! Owns what the platform writes and what it means; `receive` calls it through
//! [`NotificationSource`]. The steps of `read.rs`:
//!
//! ```text
//! bytes ─► wire: envelope, items ─► resource: which call, what of it ─► kind: what it is called
//!       ─► operation · call · people: what it says ─► identity ─► Notification
//! ```
//!
//! To add a type: one line in `kind.rs`, its fixture in `tests/fixtures/graph`. To add a result code: one line
//! in `source/codes/`.

mod answer;
mod call;
mod identity;
mod kind;
mod operation;
mod people;
mod read;
mod request;
mod resource;
#[cfg(test)]
mod tests;
mod trust;
mod wire;

use serde_json::{Value, value::RawValue};

use super::{Answer, Answered, Asked, Inbound, NotificationSource, Outgoing, Reading, Understood, Unreadable, codes};
use crate::domain::trust::TrustDefaults;

/// Microsoft Graph cloud communications.
#[derive(Clone, Copy, Debug)]
pub struct Graph;

impl NotificationSource for Graph {
    fn name(&self) -> &'static str {
        "graph"
    }

    fn usual_path(&self) -> &'static str {
        "/api/calls"
    }

    fn asks_for(&self, request: &str) -> Option<Asked> {
        request::asked(request)
    }

    fn outgoing(&self, request: &Outgoing<'_>) -> Option<Understood> {
        request::understood(request)
    }

    fn answered(&self, request: &str, answer: &Answered<'_>) -> Answer {
        answer::read(request, answer)
    }

    fn trust_defaults(&self) -> TrustDefaults {
        trust::DEFAULTS
    }

    fn read(&self, inbound: &Inbound<'_>) -> Result<Reading, Unreadable> {
        read::read(inbound)
    }

    fn item(&self, body: &[u8], place: usize) -> Option<Box<RawValue>> {
        read::item(body, place)
    }

    fn is_decision(&self, answer: &Value) -> bool {
        read::is_decision(answer)
    }

    fn meaning(&self, code: Option<i64>, subcode: Option<i64>) -> Option<&'static str> {
        codes::meaning(code, subcode)
    }
}
