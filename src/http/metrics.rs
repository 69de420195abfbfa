//! What is counted, and what stands at the moment of a scrape.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{
    auth::KeySetStatus,
    domain::rejection::RejectionReason,
    feed::forward::{Condition, Forwarder, Went},
    store::{Committed, Ledger},
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DeliveryLabels {
    receiver: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ForwardLabels {
    forward: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TargetLabels {
    forward: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    kind: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KeyLabels {
    metadata: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RefreshLabels {
    metadata: String,
    outcome: &'static str,
}

/// The metrics of one service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    deliveries: Family<DeliveryLabels, Counter>,
    answer_seconds: Histogram,
    rejections: Family<ReasonLabels, Counter>,
    notifications: Family<KindLabels, Counter>,
    commit_seconds: Histogram,
    commit_deliveries: Histogram,
    finals: Family<StateLabels, Counter>,
    queue: Gauge,
    overdue: Gauge,
    followers: Gauge,
    forwards: Family<ForwardLabels, Counter>,
    forward_seconds: Histogram,
    forward_running: Family<TargetLabels, Gauge>,
    forward_behind: Family<TargetLabels, Gauge<f64, std::sync::atomic::AtomicU64>>,
    crowded_out: Counter,
    writable: Gauge,
    key_age: Family<KeyLabels, Gauge<f64, std::sync::atomic::AtomicU64>>,
    refreshes: Family<RefreshLabels, Counter>,
}

/// Seconds, from a fraction of a sync to the queue's patience.
const SECONDS: [f64; 14] = [0.000_5, 0.001, 0.002, 0.003, 0.005, 0.008, 0.012, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
/// Deliveries in a commit.
const SIZES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

impl Metrics {
    /// Registers everything, once per service.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("callback_ledger");
        let metrics = Self {
            registry: Arc::new(Registry::default()),
            deliveries: Family::default(),
            answer_seconds: Histogram::new(SECONDS),
            rejections: Family::default(),
            notifications: Family::default(),
            commit_seconds: Histogram::new(SECONDS),
            commit_deliveries: Histogram::new(SIZES),
            finals: Family::default(),
            queue: Gauge::default(),
            overdue: Gauge::default(),
            followers: Gauge::default(),
            forwards: Family::default(),
            forward_seconds: Histogram::new(SECONDS),
            forward_running: Family::default(),
            forward_behind: Family::default(),
            crowded_out: Counter::default(),
            writable: Gauge::default(),
            key_age: Family::default(),
            refreshes: Family::default(),
        };
        let m = &metrics;
        registry.register("deliveries", "Deliveries by receiver and outcome", m.deliveries.clone());
        registry.register("rejections", "Deliveries that were not let in, by reason", m.rejections.clone());
        registry.register("notifications", "New notifications by kind", m.notifications.clone());
        registry.register("operations_ended", "Operations by the final state that they reached", m.finals.clone());
        let seconds = || Unit::Seconds;
        registry.register_with_unit("record", "From head to answer", seconds(), m.answer_seconds.clone());
        registry.register_with_unit("commit", "Time of a commit", seconds(), m.commit_seconds.clone());
        registry.register("commit_deliveries", "Deliveries in a commit", m.commit_deliveries.clone());
        registry.register("queue_depth", "Deliveries waiting for the writer", m.queue.clone());
        registry.register("operations_overdue", "Open operations past their deadlines, counted up to 10,000", m.overdue.clone());
        registry.register("followers", "Open streams of the event feed", m.followers.clone());
        registry.register("forwards", "Tries to forward, by target and outcome", m.forwards.clone());
        registry.register_with_unit("forward", "From commit to arrival at the bot", seconds(), m.forward_seconds.clone());
        registry.register("forward_running", "1 while the target can be reached", m.forward_running.clone());
        registry.register_with_unit(
            "forward_behind",
            "Age of the oldest that a target has not got",
            seconds(),
            m.forward_behind.clone(),
        );
        registry.register("crowded_out", "Connections and requests over the limit for one address", m.crowded_out.clone());
        registry.register("ledger_writable", "1 while the ledger can be written", m.writable.clone());
        registry.register_with_unit("key_store_age", "Age of the keys", seconds(), m.key_age.clone());
        registry.register("key_store_refreshes", "Refreshes of the keys since the start", m.refreshes.clone());
        Self { registry: Arc::new(registry), ..metrics }
    }

    /// A delivery was answered.
    pub fn delivery(&self, receiver: &str, outcome: &'static str, took: Duration) {
        self.deliveries.get_or_create(&DeliveryLabels { receiver: receiver.to_owned(), outcome }).inc();
        self.answer_seconds.observe(took.as_secs_f64());
    }

    /// A delivery was not let in.
    pub fn rejection(&self, reason: RejectionReason) {
        self.rejections.get_or_create(&ReasonLabels { reason: reason.as_str() }).inc();
    }

    /// Somebody was turned away because their address has as many places as it may.
    pub fn crowded_out(&self) {
        self.crowded_out.inc();
    }

    /// A commit was made.
    pub fn committed(&self, committed: &Committed) {
        if committed.deliveries > 0 {
            self.commit_seconds.observe(committed.took.as_secs_f64());
            self.commit_deliveries.observe(u32::try_from(committed.deliveries).map_or(f64::MAX, f64::from));
        }
        for kind in &committed.kinds {
            // Unrecognized kinds are the sender's words: they must not make labels.
            let kind = kind.clone().unwrap_or_else(|| "unrecognized".to_owned());
            self.notifications.get_or_create(&KindLabels { kind }).inc();
        }
        for state in &committed.finals {
            self.finals.get_or_create(&StateLabels { state: state.as_str() }).inc();
        }
    }

    /// A try to forward ended, so long after the commit.
    pub fn forward(&self, target: &str, went: Went, took: Duration) {
        self.forwards.get_or_create(&ForwardLabels { forward: target.to_owned(), outcome: went.as_str() }).inc();
        if went == Went::Delivered {
            self.forward_seconds.observe(took.as_secs_f64());
        }
    }

    /// How the targets stand now.
    pub fn targets(&self, forwarder: &Forwarder, now: Timestamp) {
        for (target, status) in forwarder.targets() {
            let labels = TargetLabels { forward: target.name.clone() };
            self.forward_running.get_or_create(&labels).set(i64::from(status.condition == Condition::Running));
            let behind = status.oldest.map_or(0.0, |oldest| now.duration_since(oldest).as_secs_f64().max(0.0));
            self.forward_behind.get_or_create(&labels).set(behind);
        }
    }

    /// So many follow the event feed now.
    pub fn following(&self, followers: usize) {
        self.followers.set(i64::try_from(followers).unwrap_or(i64::MAX));
    }

    /// The metrics as text, in the `OpenMetrics` form that Prometheus reads. How many operations are `overdue` is as it was, if that
    /// could not be read.
    ///
    /// # Errors
    /// If the text cannot be made.
    pub fn scrape(&self, ledger: &Ledger, keys: &[KeySetStatus], overdue: Option<i64>) -> Result<String, std::fmt::Error> {
        if let Some(overdue) = overdue {
            self.overdue.set(overdue);
        }
        self.queue.set(i64::try_from(ledger.queue_depth()).unwrap_or(i64::MAX));
        self.writable.set(i64::from(ledger.is_writable()));
        for set in keys {
            if let Some(age) = set.age {
                self.key_age.get_or_create(&KeyLabels { metadata: set.metadata.clone() }).set(age.as_secs_f64());
            }
            for (outcome, count) in [("ok", set.refreshes_ok), ("failed", set.refreshes_failed)] {
                let labels = RefreshLabels { metadata: set.metadata.clone(), outcome };
                let counter = self.refreshes.get_or_create(&labels);
                counter.inc_by(count.saturating_sub(counter.get()));
            }
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
