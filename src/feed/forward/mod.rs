//! Forwarding: each committed notification goes to the bot's own endpoint, at least once, in commit order per call.
//!
//! ```text
//! the ledger ─► candidates ─► units ─► queue: whose turn is it? ─► postman: one try ─► delivered, or a row and a pause
//! ```
//!
//! A target keeps a position, like a follower of the feed; what goes well moves it and leaves nothing behind. What fails, and what
//! waits behind that because it is about the same call, gets a row, so that the position can pass it (`queue`).
//! Position and rows are written about once a second: after a crash what was delivered since then is sent again, under the same id.
//! `app` starts one task for each target; `http` lists what has a row, and orders it to be tried or skipped.

mod circuit;
mod post;
mod queue;
mod task;
mod webhook;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::Value;
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::task::{Order, Task};
pub use self::webhook::{BadSecret, WebhookKey};
use crate::{
    domain::{clock::Clock, delivery::BotAnswer},
    net::HttpClient,
    store::{
        Ledger, StoreError,
        forwards::{Candidate, ForwardFilter, ForwardRow, Progress, Unit},
        rows::{NotificationRow, PageRequest},
    },
};

/// How a notification is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The delivery as it came, while its token lives; then as [`Self::Signed`].
    Original,
    /// One notification a request, signed as Standard Webhooks.
    Signed,
}

impl Mode {
    /// The name that configuration and API use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Signed => "signed",
        }
    }
}

/// Where notifications go.
#[derive(Clone, Debug)]
pub struct Target {
    /// What tells it from others, for ever.
    pub name: String,
    /// The bot's endpoint.
    pub url: Url,
    /// Those that came to these receivers; empty: to any.
    pub receivers: Vec<String>,
    /// Those of these kinds; empty: of any.
    pub kinds: Vec<String>,
    /// How.
    pub mode: Mode,
    /// What signs them.
    pub keys: Vec<WebhookKey>,
    /// How long a try may take.
    pub timeout: Duration,
    /// How many are on their way at the same moment.
    pub concurrency: usize,
    /// How long after it was recorded a notification is given up.
    pub give_up_after: Duration,
    /// Whether its answers are decisions for the platform.
    pub decides: bool,
    /// What sends.
    pub client: HttpClient,
}

impl Target {
    /// Whether this is of its kinds.
    #[must_use]
    pub fn wants_kind(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind)
    }

    /// Whether what came to this receiver is for it.
    #[must_use]
    pub fn wants_receiver(&self, path: &str) -> bool {
        self.receivers.is_empty() || self.receivers.iter().any(|wanted| wanted == path)
    }

    /// What is to be sent of these, in one piece each.
    fn units(&self, candidates: Vec<Candidate>) -> Vec<Unit> {
        let wanted = candidates.into_iter().filter(|it| self.wants_receiver(&it.receiver) && self.wants_kind(&it.kind));
        let mut units: Vec<Unit> = Vec::new();
        for Candidate { id, delivery, call, source, kind, .. } in wanted {
            let whole = self.mode == Mode::Original;
            if let Some(unit) = units.last_mut().filter(|unit| whole && unit.delivery == delivery) {
                unit.calls.extend(call.filter(|call| !unit.calls.contains(call)));
            } else {
                units.push(Unit { id, delivery, whole, calls: call.into_iter().collect(), source, kind });
            }
        }
        units
    }
}

/// Makes of a notification what a signed request says of it.
pub type Told = fn(NotificationRow) -> Value;

/// How a forward went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Went {
    /// It has arrived.
    Delivered,
    /// A try failed.
    Failed,
    /// It was given up.
    Dead,
}

impl Went {
    /// The name that the metrics use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Dead => "dead",
        }
    }
}

/// Is told how each try went: the target's name, and how long after the commit that was.
pub type Observer = Arc<dyn Fn(&str, Went, Duration) + Send + Sync>;

/// Whether a target gets anything at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// It does.
    #[default]
    Running,
    /// It cannot be reached, and is asked now and then.
    Unreachable,
    /// It said that it wants no more (410).
    Disabled,
}

impl Condition {
    /// The name that the API uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Unreachable => "unreachable",
            Self::Disabled => "disabled",
        }
    }
}

/// How a target stands at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether it gets anything.
    pub condition: Condition,
    /// When the oldest was recorded that it has not got; `None` if it has got all.
    pub oldest: Option<Timestamp>,
    /// When it got something last, since the start.
    pub delivered_at: Option<Timestamp>,
}

/// What is to be done with forwards that have a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Try them now; a target that is named begins again if it was disabled.
    Retry,
    /// Do not try them any more, and forget them.
    Skip,
}

/// An order could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The target is not configured, so nothing can be sent to it.
    #[error("nothing is forwarded to `{0}` any more: it is not configured")]
    NotConfigured(String),
    /// The target said that it wants no more (410), and was not named.
    #[error("`{0}` said that it wants no more (410): name it to begin again")]
    Disabled(String),
    /// The target did not get to it in time: it may be done yet.
    #[error("the order to `{0}` was not carried out in time; it may be yet")]
    NotCarriedOut(String),
    /// The ledger could not be read.
    #[error(transparent)]
    Read(#[from] StoreError),
    /// What was done could not be written down.
    #[error(transparent)]
    NotRecorded(#[from] crate::store::RecordError),
}

/// The targets of a running service. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Forwarder {
    handles: Arc<Vec<Handle>>,
}

#[derive(Debug)]
struct Handle {
    target: Target,
    orders: mpsc::Sender<Order>,
    status: watch::Receiver<Status>,
}

/// What the targets work with.
#[derive(Clone)]
pub struct Works {
    /// Where notifications come from, and what was done is written.
    pub ledger: Ledger,
    /// Where "now" comes from.
    pub clock: Clock,
    /// What a signed request says.
    pub told: Told,
    /// Is told how it went.
    pub observer: Observer,
    /// Where decisions of bots go.
    pub answers: broadcast::Sender<BotAnswer>,
}

impl std::fmt::Debug for Works {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Works")
    }
}

/// How long an order is waited for.
const ORDER_PATIENCE: Duration = Duration::from_secs(5);
/// How many forwards an order reads at once.
const READ_AT_ONCE: u32 = 5000;

impl Forwarder {
    /// Starts to forward to each of these targets, from where it stopped, until `stop`. The ledger must know them
    /// ([`crate::store::Options::forward_targets`]).
    #[must_use]
    pub fn start(targets: Vec<Target>, works: &Works, stop: &CancellationToken) -> (Self, Vec<JoinHandle<()>>) {
        let (handles, tasks) = targets
            .into_iter()
            .map(|target| {
                let (orders, ordered) = mpsc::channel(16);
                let (status_tx, status) = watch::channel(Status::default());
                let task = Task::new(target.clone(), works.clone(), ordered, status_tx, stop.clone());
                (Handle { target, orders, status }, tokio::spawn(task.run()))
            })
            .unzip();
        (Self { handles: Arc::new(handles) }, tasks)
    }

    /// The targets, and how each stands.
    pub fn targets(&self) -> impl Iterator<Item = (&Target, Status)> {
        self.handles.iter().map(|handle| (&handle.target, *handle.status.borrow()))
    }

    /// Has everything written down that is known by now.
    pub async fn settle(&self) {
        for handle in self.handles.iter() {
            // what is not written down is not listed yet
            let _told = handle.order(|reply| Order::Tell { reply }).await;
        }
    }

    /// Does this with the forwards that match, and says how many they are; with `dry_run` it only counts them.
    ///
    /// # Errors
    /// [`OrderError`]; nothing was done if it says so.
    pub async fn order(
        &self,
        ledger: &Ledger,
        command: Command,
        filter: &ForwardFilter,
        dry_run: bool,
    ) -> Result<u64, OrderError> {
        self.settle().await;
        let by_target = matching(ledger, filter).await?;
        let count = by_target.values().map(Vec::len).sum::<usize>();
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        if dry_run {
            return Ok(count);
        }
        if command == Command::Retry {
            self.check(by_target.keys().chain(&filter.target), filter)?;
            if let Some(handle) = filter.target.as_ref().and_then(|name| self.handle(name)) {
                handle.order(|reply| Order::Resume { reply }).await?;
            }
        }
        for (name, rows) in by_target {
            if let Some(handle) = self.handle(&name) {
                handle.order(|reply| Order::Do { command, rows, reply }).await?;
                continue;
            }
            let settled = rows.iter().map(|row| row.unit.id).collect();
            let heads = rows.iter().map(|row| row.unit.delivery).collect();
            ledger.forwarded(Progress { name, target: None, rows: Vec::new(), settled, heads }).await?;
        }
        Ok(count)
    }

    fn handle(&self, name: &str) -> Option<&Handle> {
        self.handles.iter().find(|handle| handle.target.name == name)
    }

    /// Whether something can be sent to all of these.
    fn check<'n>(&self, names: impl Iterator<Item = &'n String>, filter: &ForwardFilter) -> Result<(), OrderError> {
        for name in names {
            let handle = self.handle(name).ok_or_else(|| OrderError::NotConfigured(name.clone()))?;
            if handle.status.borrow().condition == Condition::Disabled && filter.target.is_none() {
                return Err(OrderError::Disabled(name.clone()));
            }
        }
        Ok(())
    }
}

/// The forwards that match, by target, oldest first: those of a call go in their order.
async fn matching(ledger: &Ledger, filter: &ForwardFilter) -> Result<BTreeMap<String, Vec<ForwardRow>>, StoreError> {
    let mut by_target: BTreeMap<String, Vec<ForwardRow>> = BTreeMap::new();
    let mut after = None;
    loop {
        let page = ledger.reader().forwards(filter, PageRequest { after, limit: READ_AT_ONCE }).await?;
        for row in page.rows {
            by_target.entry(row.target.clone()).or_default().push(row);
        }
        after = page.next;
        if after.is_none() {
            for rows in by_target.values_mut() {
                rows.sort_by_key(|row| row.unit.id);
            }
            return Ok(by_target);
        }
    }
}

impl Handle {
    /// Gives an order and waits until it is carried out, for a while: a target that has ended carries out none, nor does one that
    /// cannot find out where it stopped.
    async fn order(&self, order: impl FnOnce(oneshot::Sender<()>) -> Order) -> Result<(), OrderError> {
        let (reply, done) = oneshot::channel();
        let carried_out = async { self.orders.send(order(reply)).await.is_ok() && done.await.is_ok() };
        match timeout(ORDER_PATIENCE, carried_out).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(OrderError::NotCarriedOut(self.target.name.clone())),
        }
    }
}
