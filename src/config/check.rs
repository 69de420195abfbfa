//! What must hold beyond the form of each value. Every message names its key.

use std::{collections::HashSet, ops::RangeInclusive, time::Duration};

use tracing_subscriber::EnvFilter;

use super::{Config, ConfigError, KeyCommand, KnownSource, Receiver, Redirect, Trust, is_loopback};

/// What a body limit may be, in bytes: 1 KiB to 64 MiB.
const BODY_LIMITS: RangeInclusive<usize> = 1024..=64 * 1024 * 1024;

/// How many connections, or callers, may be let in.
const CONNECTION_LIMITS: RangeInclusive<usize> = 1..=1_000_000;

/// How long a part of a request may take, in seconds: less than the minute by which the lists' filters let a position lag behind its time.
const TIME_LIMITS: RangeInclusive<u32> = 1..=45;

/// For how long a second copy of a notification may come, and much more: Event Grid tries for up to 24 hours.
const SECOND_COPIES: Duration = Duration::from_hours(7 * 24);

/// A key and what is wrong with its value.
pub(super) type Fault = (String, String);

impl Config {
    /// Checks what the values alone tell.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.check_listeners()
            .and_then(|()| self.check_tokens())
            .and_then(|()| self.check_receivers())
            .and_then(|()| self.check_forwards())
            .and_then(|()| self.check_gateway())
            .and_then(|()| self.check_ledger())
            .and_then(|()| self.check_deadlines())
            .and_then(|()| self.check_log())
            .map_err(|(key, message)| self.origins.fault(&key, message))
    }

    /// Checks that each receiver's source is one of `known`, and that it demands a token where a secret is not enough.
    pub(super) fn check_sources(&self, known: &[KnownSource]) -> Result<(), ConfigError> {
        if let Some(source) = self.retention.by_source.keys().find(|name| known.iter().all(|source| source.name != **name)) {
            let names: Vec<&str> = known.iter().map(|source| source.name).collect();
            let message = format!("unknown source `{source}`, known: {}", names.join(", "));
            return Err(self.origins.fault(&format!("retention.source.{source}"), message));
        }
        for (index, receiver) in self.receivers.iter().enumerate() {
            let Some(source) = known.iter().find(|source| source.name == receiver.source) else {
                let names: Vec<&str> = known.iter().map(|source| source.name).collect();
                let message = format!("unknown source `{}`, known: {}", receiver.source, names.join(", "));
                return Err(self.origins.fault(&format!("receiver[{index}].source"), message));
            };
            if receiver.audience.is_empty()
                && let Some(key) = about_tokens(receiver)
            {
                let message = "is about tokens, and without an `audience` none is demanded";
                return Err(self.origins.fault(&format!("receiver[{index}].{key}"), message.to_owned()));
            }
            let message = match (receiver.audience.is_empty(), source.secret_suffices, &receiver.secret) {
                (true, false, _) => "must not be empty: it is how a token meant for us is told from others",
                (true, true, None) => "must not be empty unless there is a `secret`: somebody must prove who is calling",
                _ => continue,
            };
            return Err(self.origins.fault(&format!("receiver[{index}].audience"), message.to_owned()));
        }
        Ok(())
    }

    /// Checks that each receiver that demands tokens says whose, where its source cannot.
    pub(super) fn check_issuers(&self, known: &[KnownSource]) -> Result<(), ConfigError> {
        for (index, receiver) in self.receivers.iter().enumerate() {
            let Receiver { audience, tenants, issuers, metadata, trust, .. } = receiver;
            let by_tenant = known.iter().any(|source| source.name == receiver.source && source.issuers_by_tenant);
            let told = !trust.is_empty() || (!issuers.is_empty() && !metadata.is_empty());
            if by_tenant && !audience.is_empty() && tenants.is_empty() && !told {
                let message =
                    "must name the Entra tenants whose tokens are believed, unless both `issuers` and `metadata` are given";
                return Err(self.origins.fault(&format!("receiver[{index}].tenants"), message.to_owned()));
            }
            if by_tenant && !told && tenants.iter().any(|tenant| !is_guid(tenant)) {
                let message = "must be the tenants' ids (GUIDs), not their names: issuers are named after them";
                return Err(self.origins.fault(&format!("receiver[{index}].tenants"), message.to_owned()));
            }
        }
        Ok(())
    }

    fn check_listeners(&self) -> Result<(), Fault> {
        check_body_limit("public.max_body_bytes", Some(self.public.max_body_bytes))?;
        if self.public.remembered_tokens > 1_000_000 {
            return fault("public.remembered_tokens", "must be at most 1000000");
        }
        for (key, limit) in [
            ("public.max_waiting_for_keys", self.public.max_waiting_for_keys),
            ("public.max_connections", self.public.max_connections),
            ("public.max_connections_per_address", self.public.max_connections_per_address),
            ("private.max_connections", self.private.max_connections),
        ] {
            if !CONNECTION_LIMITS.contains(&limit) {
                return fault(key, "must be between 1 and 1000000");
            }
        }
        for (key, seconds) in [
            ("public.head_timeout_seconds", self.public.head_timeout_seconds),
            ("public.body_timeout_seconds", self.public.body_timeout_seconds),
            ("private.head_timeout_seconds", self.private.head_timeout_seconds),
            ("private.body_timeout_seconds", self.private.body_timeout_seconds),
        ] {
            if !TIME_LIMITS.contains(&seconds.get()) {
                return fault(key, "must be between 1 and 45");
            }
        }
        if !self.private.asks_for_tokens() && !is_loopback(self.private.bind) {
            let bind = self.private.bind;
            return fault("private.bind", format!("{bind} is not loopback, so at least one [[private.token]] is needed"));
        }
        Ok(())
    }

    fn check_tokens(&self) -> Result<(), Fault> {
        let mut names = HashSet::new();
        for (index, token) in self.private.tokens.iter().enumerate() {
            let key = format!("private.token[{index}]");
            if token.name.trim().is_empty() {
                return fault(format!("{key}.name"), "must not be empty");
            }
            if !names.insert(&token.name) {
                return fault(format!("{key}.name"), format!("another token is named `{}` already", token.name));
            }
            if token.scopes.is_empty() {
                return fault(format!("{key}.scopes"), "must not be empty");
            }
        }
        Ok(())
    }

    fn check_receivers(&self) -> Result<(), Fault> {
        let mut paths = HashSet::new();
        for (index, receiver) in self.receivers.iter().enumerate() {
            let key = format!("receiver[{index}]");
            check_path(&key, &receiver.path)?;
            if !paths.insert(&receiver.path) {
                return fault(format!("{key}.path"), format!("another receiver has the path `{}` already", receiver.path));
            }
            if receiver.audience.is_empty() && receiver.secret.is_none() {
                return fault(format!("{key}.audience"), "must not be empty");
            }
            for (name, texts) in [
                ("audience", &receiver.audience),
                ("publishers", &receiver.publishers),
                ("allowed_origins", &receiver.allowed_origins),
            ] {
                check_not_blank(&format!("{key}.{name}"), texts)?;
            }
            check_body_limit(&format!("{key}.max_body_bytes"), receiver.max_body_bytes)?;
            if receiver.tenants.iter().any(|tenant| tenant.trim().is_empty()) {
                return fault(format!("{key}.tenants"), "must not hold an empty value; leave the list empty for any tenant");
            }
            check_trust(&key, receiver)?;
            check_redirects(&key, receiver)?;
        }
        Ok(())
    }

    /// Whoever may use a gateway that signs acts in our name.
    fn check_gateway(&self) -> Result<(), Fault> {
        let credentials = &self.gateway.credentials;
        let signs = [("graph", credentials.graph.is_some()), ("acs", credentials.acs.is_some())];
        if let Some((platform, _)) = signs.iter().find(|(_, signs)| *signs && !self.private.asks_for_tokens()) {
            return fault(
                format!("gateway.credentials.{platform}"),
                "needs at least one [[private.token]] with the scope `write`: without, anybody on this machine could act in our name",
            );
        }
        if credentials.acs.is_some() && self.gateway.acs.is_none() {
            return fault("gateway.credentials.acs", "is of no use without `gateway.acs`");
        }
        let graph = credentials.graph.as_ref().map(|graph| graph.application().map(drop));
        let acs = credentials.acs.as_ref().map(|acs| acs.application().map(drop));
        for (platform, checked) in [("graph", graph), ("acs", acs)] {
            if let Some(Err((key, why))) = checked {
                return fault(format!("gateway.credentials.{platform}.{key}"), why);
            }
        }
        Ok(())
    }

    fn check_ledger(&self) -> Result<(), Fault> {
        if self.ledger.master_key_command.as_ref().is_some_and(KeyCommand::is_empty) {
            return fault("ledger.master_key_command", "must name a program, and its arguments");
        }
        let sources = self.retention.by_source.keys().map(|source| (source.as_str(), format!("retention.source.{source}")));
        for (source, key) in sources.chain([("", "retention".to_owned())]) {
            let (bodies, everything) = self.retention.of(source);
            if everything.is_some_and(|kept| kept < SECOND_COPIES) {
                return fault(format!("{key}.everything_days"), "must be 0 or at least 7: until then second copies may come");
            }
            if bodies.is_some_and(|bodies| everything.is_some_and(|everything| everything < bodies)) {
                return fault(format!("{key}.bodies_days"), "must not be more than `everything_days`");
            }
        }
        Ok(())
    }

    fn check_deadlines(&self) -> Result<(), Fault> {
        let deadlines = &self.lifecycle.deadline_seconds;
        let default = ("default", &deadlines.default);
        let mut all = deadlines.by_kind.iter().map(|(kind, allowed)| (kind.as_str(), allowed)).chain([default]);
        match all.find(|(_, allowed)| allowed.is_zero()) {
            Some((kind, _)) => fault(format!("lifecycle.deadline_seconds.{kind}"), "must be at least 1"),
            None => Ok(()),
        }
    }

    fn check_log(&self) -> Result<(), Fault> {
        match EnvFilter::try_new(&self.log.filter) {
            Ok(_) => Ok(()),
            Err(error) => fault("log.filter", error.to_string()),
        }
    }
}

/// The first setting of a receiver that means nothing unless tokens are demanded.
fn about_tokens(receiver: &Receiver) -> Option<&'static str> {
    [
        ("tenants", receiver.tenants.is_empty()),
        ("publishers", receiver.publishers.is_empty()),
        ("issuers", receiver.issuers.is_empty()),
        ("metadata", receiver.metadata.is_empty()),
        ("trust", receiver.trust.is_empty()),
    ]
    .into_iter()
    .find_map(|(key, is_empty)| (!is_empty).then_some(key))
}

fn is_guid(text: &str) -> bool {
    let digits = text.trim().chars().filter(|c| *c != '-');
    digits.clone().count() == 32 && digits.clone().all(|c| c.is_ascii_hexdigit())
}

fn check_path(key: &str, path: &str) -> Result<(), Fault> {
    let key = || format!("{key}.path");
    if !path.starts_with('/') {
        return fault(key(), format!("`{path}` must start with `/`"));
    }
    if path.contains("//") {
        return fault(key(), format!("`{path}` must not contain `//`"));
    }
    match path.chars().find(|c| matches!(c, '{' | '}' | '?' | '#') || !c.is_ascii_graphic()) {
        Some(c) => fault(key(), format!("`{path}` must be a plain path, without `{c}`")),
        None => Ok(()),
    }
}

fn check_trust(key: &str, receiver: &Receiver) -> Result<(), Fault> {
    let Receiver { issuers, metadata, trust, .. } = receiver;
    match (issuers.is_empty(), metadata.is_empty(), trust.is_empty()) {
        (true, true, _) | (true, false, true) => {}
        (false, _, true) => check_texts(&format!("{key}.issuers"), issuers)?,
        (_, _, false) => {
            return fault(format!("{key}.trust"), "cannot be used together with the receiver's own `issuers` and `metadata`");
        }
    }
    for (index, Trust { issuers, metadata }) in trust.iter().enumerate() {
        check_texts(&format!("{key}.trust[{index}].issuers"), issuers)?;
        if metadata.is_empty() {
            return fault(format!("{key}.trust[{index}].metadata"), "must not be empty");
        }
    }
    Ok(())
}

/// Only Graph lets an incoming call be sent elsewhere, and a rule behind one that matches every call is never asked.
fn check_redirects(key: &str, receiver: &Receiver) -> Result<(), Fault> {
    if !receiver.redirects.is_empty() && receiver.source != "graph" {
        return fault(
            format!("{key}.redirect"),
            format!("`{}` cannot be told to send a call elsewhere, only `graph`", receiver.source),
        );
    }
    let mut catches_all = None;
    for (index, Redirect { to, tenants, regions, percent }) in receiver.redirects.iter().enumerate() {
        let key = format!("{key}.redirect[{index}]");
        if let Some(before) = catches_all {
            return fault(key, format!("is never asked: rule {before} matches every call"));
        }
        if !(1..=100).contains(percent) {
            return fault(format!("{key}.percent"), "must be from 1 to 100");
        }
        check_not_blank(&format!("{key}.tenants"), tenants)?;
        check_not_blank(&format!("{key}.regions"), regions)?;
        let others = receiver.tenants.iter().map(|tenant| tenant.to_ascii_lowercase()).collect::<HashSet<_>>();
        if let Some(tenant) = tenants.iter().find(|tenant| !others.is_empty() && !others.contains(&tenant.to_ascii_lowercase())) {
            return fault(
                format!("{key}.tenants"),
                format!("`{tenant}` is not among the receiver's `tenants`, so it never calls"),
            );
        }
        if to.fragment().is_some() {
            return fault(format!("{key}.to"), "must not hold a fragment (`#`): it is not sent");
        }
        if tenants.is_empty() && regions.is_empty() && *percent == 100 {
            catches_all = Some(index);
        }
    }
    Ok(())
}

/// At least one, and none of them blank.
fn check_texts(key: &str, texts: &[String]) -> Result<(), Fault> {
    if texts.is_empty() {
        return fault(key, "must not be empty");
    }
    check_not_blank(key, texts)
}

fn check_body_limit(key: &str, limit: Option<usize>) -> Result<(), Fault> {
    match limit {
        Some(limit) if !BODY_LIMITS.contains(&limit) => {
            fault(key, format!("must be between {} (1 KiB) and {} (64 MiB)", BODY_LIMITS.start(), BODY_LIMITS.end()))
        }
        _ => Ok(()),
    }
}

pub(super) fn check_not_blank(key: &str, texts: &[String]) -> Result<(), Fault> {
    if texts.iter().any(|text| text.trim().is_empty()) {
        return fault(key, "must not hold an empty value");
    }
    Ok(())
}

pub(super) fn fault<T>(key: impl Into<String>, message: impl Into<String>) -> Result<T, Fault> {
    Err((key.into(), message.into()))
}
