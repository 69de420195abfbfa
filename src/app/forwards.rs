//! Where notifications go, as it is configured.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::broadcast;

use super::{BuildError, Surroundings};
use crate::{
    config::{Config, Forward, ForwardMode, Receiver as ReceiverConfig},
    domain::delivery::BotAnswer,
    feed::forward::{Mode, Target, WebhookKey},
    http::view::NotificationView,
    net::{HttpClient, is_here},
    receive::{Decider, KeptFor},
    store::rows::NotificationRow,
};

/// The names by which the ledger knows them.
pub(super) fn names(config: &Config) -> Vec<String> {
    config.forwards.iter().map(Forward::name).collect()
}

/// What a signed request says of a notification: what the API says.
pub(super) fn told(row: NotificationRow) -> Value {
    // a document of texts and numbers
    serde_json::to_value(NotificationView::from(row)).unwrap_or_default()
}

/// The targets.
pub(super) fn targets(config: &Config, client: &HttpClient, surroundings: &Surroundings) -> Result<Vec<Target>, BuildError> {
    let public = HttpClient::for_public_hosts().map_err(BuildError::Client)?;
    let target = |forward: &Forward| {
        let key = |secret: &crate::config::WebhookSecret| WebhookKey::new(secret.expose());
        let keys = forward.secrets.iter().map(key).collect::<Result<_, _>>();
        let private_too = forward.allow_private || is_here(&forward.url) || surroundings.dev_issuer.is_some();
        let client = if private_too { client } else { &public };
        if !client.may_go_to(&forward.url) {
            return Err(BuildError::PrivateForward { name: forward.name() });
        }
        Ok(Target {
            name: forward.name(),
            url: forward.url.clone(),
            receivers: forward.receivers.clone(),
            kinds: forward.kinds.clone(),
            mode: match forward.mode {
                ForwardMode::Original => Mode::Original,
                ForwardMode::Signed => Mode::Signed,
            },
            keys: keys.map_err(|why| BuildError::Forward { name: forward.name(), why })?,
            timeout: Duration::from_secs(u64::from(forward.timeout_seconds.get())),
            concurrency: usize::try_from(forward.concurrency.get()).unwrap_or(usize::MAX),
            give_up_after: Duration::from_secs(forward.give_up_after_seconds.get()),
            decides: forward.decides,
            client: client.clone(),
        })
    };
    config.forwards.iter().map(target).collect()
}

fn gets_from(forward: &Forward, receiver: &ReceiverConfig) -> bool {
    forward.receivers.is_empty() || forward.receivers.contains(&receiver.path)
}

/// Those who get what comes to this receiver as it came.
pub(super) fn kept_for(config: &Config, receiver: &ReceiverConfig) -> Vec<KeptFor> {
    let originals = config.forwards.iter().filter(|forward| forward.mode == ForwardMode::Original);
    originals
        .filter(|forward| gets_from(forward, receiver))
        .map(|forward| KeptFor { target: forward.name(), kinds: forward.kinds.clone() })
        .collect()
}

/// Who decides where the senders of this receiver ask: the first that is to.
pub(super) fn decider(config: &Config, receiver: &ReceiverConfig, answers: &broadcast::Sender<BotAnswer>) -> Option<Decider> {
    let deciding = config.forwards.iter().find(|forward| forward.decides && gets_from(forward, receiver))?;
    Some(Decider {
        target: deciding.name(),
        kinds: deciding.kinds.clone(),
        answers: answers.clone(),
        within: Duration::from_millis(u64::from(deciding.decide_within_ms.get())),
    })
}
