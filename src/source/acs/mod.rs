//! Azure Communication Services: the callbacks of Call Automation, in every api-version since 2022.
//!
//! Owns what the service writes and what it means; `receive` calls it through [`NotificationSource`].
//!
//! ```text
//! bytes ─► cloud_events: events ─► kind: what each is about ─► read: call, operation, people ─► Notification
//! ```
//!
//! To add a type: one line in `kind.rs`, its fixture in `tests/fixtures/acs`. A result code that means the same to Graph goes to
//! `source/codes/`, any other to `codes.rs`.

mod answer;
mod codes;
mod kind;
mod people;
mod read;
mod request;
mod trust;

use serde_json::value::RawValue;

use super::{
    Answer, Answered, Asked, Inbound, NotificationSource, Outgoing, Reading, Reply, Understood, Unreadable,
    cloud_events::{self, Event},
    json::text,
};
use crate::domain::trust::TrustDefaults;

/// Call Automation.
#[derive(Clone, Copy, Debug)]
pub struct Acs;

impl NotificationSource for Acs {
    fn name(&self) -> &'static str {
        "acs"
    }

    fn usual_path(&self) -> &'static str {
        "/api/callbacks"
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
        let body = text(inbound.body);
        let notifications = Event::all(inbound.head, &body)?.iter().map(read::notification).collect();
        Ok(Reading { notifications, reply: Reply::Done })
    }

    fn item(&self, body: &[u8], place: usize) -> Option<Box<RawValue>> {
        cloud_events::item(body, place)
    }

    fn meaning(&self, code: Option<i64>, subcode: Option<i64>) -> Option<&'static str> {
        codes::meaning(code, subcode)
    }
}
