//! A request goes out: what a bot asks of a platform is written down before it is sent.
//!
//! [`Gateway`] passes requests on and writes down their answers; [`register`] takes the word of a bot that sends by itself.
//! Called by `http`.

mod entra_token;
mod forward;
mod in_flight;
mod path;
mod signing;

use std::time::Duration;

use aws_lc_rs::digest;
use jiff::Timestamp;

pub use self::{
    entra_token::{EntraTokens, NoToken, Proof},
    forward::{BotRequest, Gateway, MAX_REQUEST, NotForwarded, PlatformAnswer, Signer},
    in_flight::InFlight,
    signing::{AcsSigner, BadKey},
};
use crate::{
    domain::{
        ids::PlatformId,
        request::{RequestFacts, Via},
        trust::Asking,
    },
    source::NotificationSource,
    store::{Ledger, NewRequest, RecordError, Requested},
};

/// What a bot says that it asks for.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Whose platform it asks.
    pub source: &'static dyn NotificationSource,
    /// The call that it is about; `None` if it begins one.
    pub call: Option<PlatformId>,
    /// The kind of operation, or the platform's name of the request.
    pub kind: String,
    /// The caller's own tag.
    pub context: Option<String>,
    /// How long it may take.
    pub deadline: Option<Duration>,
    /// What makes a second copy of this recognisable.
    pub idempotency_key: Option<String>,
}

/// Writes down a request that the bot sends by itself.
///
/// # Errors
/// [`RecordError`]; then nothing of it was kept.
pub async fn register(ledger: &Ledger, by: &impl Asking, asked: Registration, now: Timestamp) -> Result<Requested, RecordError> {
    let Registration { source, call, kind, context, deadline, idempotency_key } = asked;
    let known = source.asks_for(&kind);
    let facts = RequestFacts {
        kind: known.as_ref().map_or_else(|| kind.clone(), |known| known.kind.to_owned()),
        cancels: known.and_then(|known| known.cancels),
        name: kind,
        context,
        via: Via::Registered,
        deadline: deadline.and_then(|allowed| now.checked_add(allowed).ok()),
        acts_on: None,
        conversation: None,
        shows: None,
    };
    let idempotency = idempotency_key.map(|key| idempotency(by.name(), &key));
    let request = NewRequest { source: source.name(), call, shows: None, requested_at: now, idempotency, facts };
    ledger.request(by, request).await
}

/// A key is its sender's own: others may use the same.
fn idempotency(sender: &str, key: &str) -> [u8; 16] {
    let digest = digest::digest(&digest::SHA256, format!("{sender}\0{key}").as_bytes());
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}
