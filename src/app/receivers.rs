//! The receivers as they are configured, and whom they believe.

use std::num::NonZeroU32;

use tokio::sync::broadcast;

use super::{BuildError, Surroundings, forwards};
use crate::{
    auth::{Authenticator, KeyStore},
    config::{Config, Network, ParticipantJoining, Receiver as ReceiverConfig},
    domain::{
        delivery::BotAnswer,
        ids::PlatformId,
        trust::{KeyOrigin, SharedSecret, TrustEntry, TrustPolicy},
    },
    receive::{Greetings, Receiver, Redirect},
    source::{Answers, JoinAnswer, NotificationSource, source},
    store::Ledger,
};

/// Builds a receiver.
pub(super) fn build_receiver(
    config: &Config,
    receiver: &ReceiverConfig,
    ledger: &Ledger,
    keys: &KeyStore,
    answers: &broadcast::Sender<BotAnswer>,
    surroundings: &Surroundings,
) -> Result<Receiver, BuildError> {
    let source = source(&receiver.source).ok_or_else(|| BuildError::NoSource(receiver.source.clone()))?;
    let mut policy = trust_policy(receiver, source);
    if let Some(issuer) = &surroundings.dev_issuer {
        policy.entries = vec![issuer.trust_entry()];
        policy.publishers.clone_from(&receiver.publishers);
    }
    let clock = surroundings.clock.clone();
    let authenticator = Authenticator::new(&receiver.path, &policy, keys, clock.clone())?;
    Ok(Receiver {
        path: receiver.path.clone(),
        source,
        authenticator,
        networks: receiver.allow_networks.iter().map(Network::net).collect(),
        greetings: Greetings {
            allowed_origins: receiver.allowed_origins.clone(),
            allowed_rate: receiver.allowed_rate.map(NonZeroU32::get),
        },
        redirects: receiver
            .redirects
            .iter()
            .map(|rule| Redirect {
                to: rule.to.clone(),
                tenants: rule.tenants.iter().filter_map(|tenant| PlatformId::parse(tenant)).collect(),
                regions: rule.regions.clone(),
                percent: rule.percent,
            })
            .collect(),
        kept_for: forwards::kept_for(config, receiver),
        decider: forwards::decider(config, receiver, answers),
        answers: Answers {
            participant_joining: match receiver.participant_joining {
                ParticipantJoining::Accept => JoinAnswer::Accept,
                ParticipantJoining::Reject(reason) => JoinAnswer::Reject(reason.as_str().to_owned()),
            },
        },
        max_body_bytes: receiver.max_body_bytes.or(source.max_body_bytes()).unwrap_or(config.public.max_body_bytes),
        ledger: ledger.clone(),
        clock,
    })
}

/// Whom a receiver believes: what is configured, else what its source's senders use.
fn trust_policy(receiver: &ReceiverConfig, source: &dyn NotificationSource) -> TrustPolicy {
    let defaults = source.trust_defaults();
    let entries = if receiver.trust.is_empty() {
        // issuers that depend on no tenant are the same for any
        let tenants = if defaults.are_by_tenant() { receiver.tenants.clone() } else { vec![String::new()] };
        let entry = |tenant: &String| {
            let tenant = PlatformId::parse(tenant).map(|id| id.to_string()).unwrap_or_default(); // as issuers spell it
            let (issuers, metadata) = defaults.of_tenant(&tenant);
            let metadata = metadata.iter().filter_map(|url| url.parse().ok()).collect();
            TrustEntry {
                issuers: if receiver.issuers.is_empty() { issuers } else { receiver.issuers.clone() },
                keys: KeyOrigin::Metadata(if receiver.metadata.is_empty() { metadata } else { receiver.metadata.clone() }),
            }
        };
        if receiver.issuers.is_empty() || receiver.metadata.is_empty() {
            tenants.iter().map(entry).collect()
        } else {
            vec![entry(&String::new())]
        }
    } else {
        let entry = |trust: &crate::config::Trust| TrustEntry {
            issuers: trust.issuers.clone(),
            keys: KeyOrigin::Metadata(trust.metadata.clone()),
        };
        receiver.trust.iter().map(entry).collect()
    };
    TrustPolicy {
        audiences: receiver.audience.clone(),
        tenant_required: defaults.tenant_required,
        tenants: receiver.tenants.clone(),
        publishers: if receiver.publishers.is_empty() {
            defaults.publishers.iter().map(|publisher| (*publisher).to_owned()).collect()
        } else {
            receiver.publishers.clone()
        },
        secret: receiver.secret.as_ref().map(|secret| SharedSecret::new(secret.expose())),
        entries,
    }
}
