//! The keys behind one metadata URL, kept fresh.
//!
//! Readers never wait for a lock: the current set is behind an `ArcSwap`. There is at most one fetch at a time
//! (`Progress::running`); whoever needs its outcome waits for it and shares it. A fetch runs in a task of its
//! own, so that a caller who gives up does not end it for the others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use url::Url;

use super::{
    discovery::{DiscoveryError, Published, fetch_keys},
    keys::Key,
};
use crate::net::HttpClient;

/// The bounds within which a publisher's `max-age` is respected.
const MAX_AGE_BOUNDS: (Duration, Duration) = (Duration::from_mins(5), Duration::from_hours(24));

/// The wait before the first retry of a first load; it doubles up to `retry_every`.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// How keys are kept fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySettings {
    /// How often keys are fetched again, unless their publisher says otherwise.
    pub refresh_every: Duration,
    /// The shortest time between two fetches that unknown key ids ask for, and between two attempts while an
    /// older set still serves.
    pub min_refresh_interval: Duration,
    /// How old a set may become before it is not believed any more. Sets are renewed by half that age, whatever
    /// their publisher says, so that there is time to try.
    pub max_stale: Duration,
    /// How often keys are asked for while there are none, at the least: the first retries come sooner.
    pub retry_every: Duration,
    /// The longest that one request waits for keys.
    pub request_wait: Duration,
    /// How many believed tokens a receiver remembers, so that they are verified once; 0: none.
    pub remembered_tokens: usize,
    /// How many callers of a receiver may wait for keys at the same moment.
    pub max_waiting: usize,
}

impl Default for KeySettings {
    fn default() -> Self {
        Self {
            refresh_every: Duration::from_hours(1),
            min_refresh_interval: Duration::from_mins(1),
            max_stale: Duration::from_hours(24),
            retry_every: Duration::from_secs(5),
            request_wait: Duration::from_secs(5),
            remembered_tokens: 8192,
            max_waiting: 256,
        }
    }
}

/// How the keys behind one metadata URL are doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySetStatus {
    /// The metadata URL.
    pub metadata: String,
    /// Whether there is a set that may be believed.
    pub loaded: bool,
    /// How long ago the newest set was fetched, if ever.
    pub age: Option<Duration>,
    /// How many usable keys are in it.
    pub keys: usize,
    /// How many fetches went well since the start.
    pub refreshes_ok: u64,
    /// How many did not.
    pub refreshes_failed: u64,
}

/// Whether we know what the publisher says now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knowledge {
    /// As well as the limits allow.
    Current,
    /// No: it did not answer.
    Missing,
}

/// The keys behind one metadata URL.
#[derive(Debug)]
pub(super) struct KeySource {
    metadata: Url,
    client: HttpClient,
    settings: KeySettings,
    current: ArcSwapOption<KeySet>,
    progress: watch::Sender<Progress>,
    refreshes_ok: AtomicU64,
    refreshes_failed: AtomicU64,
}

/// Keys and when they came.
#[derive(Debug)]
pub(super) struct KeySet {
    pub keys: Vec<Key>,
    fetched_at: Instant,
    fresh_for: Duration,
}

#[cfg(test)]
impl KeySet {
    pub(super) fn of_no_keys() -> Self {
        Self { keys: Vec::new(), fetched_at: Instant::now(), fresh_for: Duration::ZERO }
    }
}

/// How far the fetching is. The watch channel is both its lock and the way to wait for a change.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    running: bool,
    started_at: Option<Instant>,
    /// When an unknown key id last started a fetch.
    asked_at: Option<Instant>,
    finished: u64,
    last_failed: bool,
}

/// What to do about a set that does not have a key.
enum Plan {
    /// Wait for the fetch with this number.
    Wait(u64),
    /// Nothing: the last outcome counts.
    Settled(Knowledge),
}

impl KeySource {
    pub fn new(metadata: Url, client: HttpClient, settings: KeySettings) -> Self {
        Self {
            metadata,
            client,
            settings,
            current: ArcSwapOption::empty(),
            progress: watch::Sender::new(Progress::default()),
            refreshes_ok: AtomicU64::new(0),
            refreshes_failed: AtomicU64::new(0),
        }
    }

    pub fn metadata(&self) -> &Url {
        &self.metadata
    }

    /// The newest set, unless it is too old to be believed.
    pub fn usable(&self) -> Option<Arc<KeySet>> {
        self.current.load_full().filter(|set| set.fetched_at.elapsed() <= self.settings.max_stale)
    }

    /// Makes the set as current as the limits allow, for a request whose key is not in it.
    pub async fn renew(self: &Arc<Self>) -> Knowledge {
        let attempt = match self.plan() {
            Plan::Settled(knowledge) => return knowledge,
            Plan::Wait(attempt) => attempt,
        };
        let mut progress = self.progress.subscribe();
        let finished = timeout(self.settings.request_wait, progress.wait_for(|now| now.finished >= attempt)).await;
        match finished {
            Ok(Ok(now)) if !now.last_failed => Knowledge::Current,
            _ => Knowledge::Missing,
        }
    }

    /// Fetches when the keys are due, until this future is dropped.
    pub async fn keep_fresh(self: Arc<Self>) {
        loop {
            sleep_until(self.due()).await;
            if self.due() > Instant::now() {
                continue; // a request has fetched meanwhile
            }
            let mut progress = self.progress.subscribe();
            self.begin(|_, _| true);
            if progress.wait_for(|now| !now.running).await.is_err() {
                return;
            }
        }
    }

    pub fn status(&self) -> KeySetStatus {
        let newest = self.current.load_full();
        KeySetStatus {
            metadata: self.metadata.to_string(),
            loaded: self.usable().is_some(),
            age: newest.as_ref().map(|set| set.fetched_at.elapsed()),
            keys: newest.as_ref().map_or(0, |set| set.keys.len()),
            refreshes_ok: self.refreshes_ok.load(Ordering::Relaxed),
            refreshes_failed: self.refreshes_failed.load(Ordering::Relaxed),
        }
    }

    /// Decides, for all requests that come at once as for one, whether to fetch.
    fn plan(self: &Arc<Self>) -> Plan {
        let within = |then: Option<Instant>, limit| then.is_some_and(|then: Instant| then.elapsed() < limit);
        let started = self.begin(|progress, now| {
            if self.usable().is_none() {
                return !within(progress.started_at, self.settings.retry_every);
            }
            let allowed = !within(progress.asked_at, self.settings.min_refresh_interval);
            progress.asked_at = if allowed { Some(now) } else { progress.asked_at };
            allowed
        });
        match started {
            Some(number) => Plan::Wait(number),
            None if self.progress.borrow().last_failed => Plan::Settled(Knowledge::Missing),
            None => Plan::Settled(Knowledge::Current),
        }
    }

    /// When the next fetch is due.
    fn due(&self) -> Instant {
        let progress = *self.progress.borrow();
        let Some(started_at) = progress.started_at else { return Instant::now() };
        match self.usable() {
            None => started_at + self.retry_delay(progress.finished),
            Some(_) if progress.last_failed => started_at + self.settings.min_refresh_interval,
            Some(set) => set.fetched_at + set.fresh_for,
        }
    }

    /// How long to wait before the next attempt while there are no keys: short at first, since an issuer that starts beside
    /// us is there in a moment, then as long as the settings say.
    fn retry_delay(&self, attempts: u64) -> Duration {
        let doubled = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
        (FIRST_RETRY * 2_u32.pow(doubled)).min(self.settings.retry_every)
    }

    /// Starts a fetch if none is running and it is `wanted`, and gives the number of the one that is then running.
    fn begin(self: &Arc<Self>, wanted: impl FnOnce(&mut Progress, Instant) -> bool) -> Option<u64> {
        let mut running = None;
        let started = self.progress.send_if_modified(|progress| {
            let now = Instant::now();
            let start = !progress.running && wanted(progress, now);
            if start {
                progress.running = true;
                progress.started_at = Some(now);
            }
            running = progress.running.then_some(progress.finished + 1);
            start
        });
        if started {
            tokio::spawn(Landing { source: Arc::clone(self), failed: true }.fetch());
        }
        running
    }

    fn accept(&self, published: Published) {
        let (least, most) = MAX_AGE_BOUNDS;
        let fresh_for = published.max_age.map_or(self.settings.refresh_every, |age| age.clamp(least, most));
        let set =
            KeySet { keys: published.keys, fetched_at: Instant::now(), fresh_for: fresh_for.min(self.settings.max_stale / 2) };
        self.refreshes_ok.fetch_add(1, Ordering::Relaxed);
        tracing::info!(metadata.url = %self.metadata, keys = set.keys.len(), "keys fetched");
        self.current.store(Some(Arc::new(set)));
    }

    fn refuse(&self, error: &DiscoveryError) {
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        let serving = self.usable().is_some();
        tracing::warn!(metadata.url = %self.metadata, %error, cause, serving, "keys cannot be fetched");
    }
}

/// A fetch that ends for those who wait even if it panics or is dropped.
struct Landing {
    source: Arc<KeySource>,
    failed: bool,
}

impl Landing {
    async fn fetch(mut self) {
        match fetch_keys(&self.source.client, &self.source.metadata).await {
            Ok(published) => {
                self.source.accept(published);
                self.failed = false;
            }
            Err(error) => self.source.refuse(&error),
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if self.failed {
            self.source.refreshes_failed.fetch_add(1, Ordering::Relaxed);
        }
        self.source.progress.send_modify(|progress| {
            progress.running = false;
            progress.finished += 1;
            progress.last_failed = self.failed;
        });
    }
}
