//! Remembering: the ledger and its reader, over SQLite.
//!
//! [`Ledger`] writes, [`LedgerReader`] reads; both are cheap to clone. One method is one transaction, and transactions do
//! not cross this module's border. Writes queue for a single writer that commits them in groups (`sqlite/writer.rs`); one
//! group is one pass through `sqlite/batch/`. Called by `receive`, `feed` and `http`; `app` opens it.
//!
//! What is stored about an operation or a call is what [`crate::domain::operation::operations`] and
//! [`crate::domain::call::CallStory`] say: this module loads, calls and saves.

mod courier;
mod error;
pub mod forwards;
pub mod log;
mod rejections;
pub mod removal;
mod requests;
pub mod rows;
pub mod seal;
mod sqlite;
pub mod tokens;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Semaphore, broadcast, mpsc, oneshot, watch},
};
use tokio_util::sync::CancellationToken;

pub use self::{
    courier::arrive_together,
    error::{OpenError, RecordError, StoreError},
    requests::{NewRequest, Requested},
    sqlite::read::LedgerReader,
};
use self::{
    forwards::Progress,
    rejections::RejectionRing,
    removal::Retention,
    rows::{ChangedOperation, Difference, Finding},
    seal::{MasterKey, TokenHasher},
    sqlite::{
        work::{Job, Work},
        writer::Writer,
    },
};
use crate::domain::{
    clock::Clock,
    delivery::Delivery,
    ids::{DeliveryId, NotificationId},
    notification::Disposition,
    operation::{Deadlines, State},
    rejection::Rejection,
    trust::Admitted,
};
use crate::net::Secret;

/// How long a delivery waits for room in the queue before it is refused.
const ROOM_WAIT: Duration = Duration::from_secs(2);
/// What the queue holds at the most: deliveries, and KiB of their bodies.
const QUEUE_DELIVERIES: usize = 4096;
const QUEUE_KIB: u32 = 64 * 1024;

/// How to open a ledger.
#[derive(Clone)]
pub struct Options {
    /// The database file; its key lies beside it as `<file>.key`.
    pub path: PathBuf,
    /// The master key as text, if the environment brings it instead of the key file.
    pub master_key: Option<Secret>,
    /// Where "now" comes from.
    pub clock: Clock,
    /// When open operations are overdue.
    pub deadlines: Deadlines,
    /// How long after the end of a call word may come of its operations, where the platform then says no more.
    pub disconnect_grace: Duration,
    /// The names of those to whom notifications are forwarded; one that is new begins with what is recorded from now on.
    pub forward_targets: Vec<String>,
    /// How long what came is kept.
    pub retention: Retention,
    /// Is told of every commit; called on the writer's task, so it must be quick.
    pub observer: Observer,
}

/// Is told of every commit.
pub type Observer = Arc<dyn Fn(&Committed) + Send + Sync>;

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What a commit did.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    /// How many deliveries it recorded; none where only time has passed.
    pub deliveries: usize,
    /// How long it took.
    pub took: Duration,
    /// The kinds of the notifications that it recorded; `None` for kinds that the source does not know.
    pub kinds: Vec<Option<String>>,
    /// The final states that operations reached.
    pub finals: Vec<State>,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its id; no row bears it if everything in it was known.
    pub delivery: DeliveryId,
    /// Its notifications, in their order.
    pub notifications: Vec<RecordedNotification>,
}

impl Recorded {
    /// The first of its notifications that is new.
    #[must_use]
    pub fn first_new(&self) -> Option<NotificationId> {
        self.notifications.iter().find_map(|item| match item {
            RecordedNotification::New(id, _) => Some(*id),
            RecordedNotification::Duplicate => None,
        })
    }

    /// What became of it as a whole, as metrics and log call it.
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        let items = &self.notifications;
        let known = !items.is_empty() && items.iter().all(|item| *item == RecordedNotification::Duplicate);
        if known { "duplicate" } else { "recorded" }
    }
}

/// What became of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordedNotification {
    /// It is new.
    New(NotificationId, Disposition),
    /// It was known; the first one counts it.
    Duplicate,
}

/// The ledger: what is recorded here is remembered.
#[derive(Clone, Debug)]
pub struct Ledger {
    queue: mpsc::Sender<Work>,
    room: Arc<Semaphore>,
    rejections: Arc<RejectionRing>,
    writable: watch::Receiver<bool>,
    closing: CancellationToken,
    hasher: TokenHasher,
    reader: LedgerReader,
}

impl Ledger {
    /// Opens the ledger, makes it if there is none, brings it up to date, and starts its writer.
    ///
    /// The returned handle resolves when the ledger was closed (see [`Self::close`]) or its last handle is gone, and everything
    /// queued is committed.
    ///
    /// # Errors
    /// [`OpenError`], each with what to do about it. A ledger whose key is missing or wrong is not opened.
    pub async fn open(options: Options) -> Result<(Self, tokio::task::JoinHandle<()>), OpenError> {
        let opened = sqlite::open(&options).await?;
        let (queue, jobs) = mpsc::channel(QUEUE_DELIVERIES);
        let (writable_tx, writable) = watch::channel(true);
        let changed = Changes { operations: broadcast::channel(1024).0, log: watch::Sender::new(()) };
        let rejections = Arc::new(RejectionRing::default());
        let closing = CancellationToken::new();
        let reader = LedgerReader::new(
            opened.readers.clone(),
            Arc::clone(&opened.master),
            options.deadlines.clone(),
            Some(changed.clone()),
        );
        let hasher = opened.hasher.clone();
        let writer = Writer::new(opened, &options, jobs, Arc::clone(&rejections), writable_tx, changed, closing.clone());
        let room = Arc::new(Semaphore::new(usize::try_from(QUEUE_KIB).unwrap_or(usize::MAX)));
        let (started, ready) = oneshot::channel();
        // on a thread of its own: each of its many wakings would else wake a second thread of the runtime, to look for more to do
        let runtime = Handle::current();
        let writing = tokio::task::spawn_blocking(move || runtime.block_on(writer.run(started)));
        // the requests of a process that died are marked before anybody can ask
        let _started = ready.await;
        Ok((Self { queue, room, rejections, writable, closing, hasher, reader }, writing))
    }

    /// Records a delivery: when this returns `Ok`, it is on the disk.
    ///
    /// # Errors
    /// [`RecordError`]; then nothing of it was kept.
    pub async fn record(&self, admitted: &impl Admitted, delivery: Delivery) -> Result<Recorded, RecordError> {
        let kib = u32::try_from(delivery.body.len() / 1024 + 1).unwrap_or(QUEUE_KIB).min(QUEUE_KIB);
        let room = Arc::clone(&self.room);
        let enqueue = async {
            let room = room.acquire_many_owned(kib).await.map_err(|_closed| RecordError::Closed)?;
            let place = self.queue.reserve().await.map_err(|_closed| RecordError::Closed)?;
            Ok((room, place))
        };
        let (room, place) = tokio::time::timeout(ROOM_WAIT, enqueue).await.map_err(|_elapsed| RecordError::Busy)??;
        let (reply, answer) = oneshot::channel();
        let token_hash = admitted.token().map(|token| self.hasher.hash(token));
        place.send(Work::Delivery(Job::new(admitted, token_hash, delivery, room, reply)));
        answer.await.map_err(|_gone| RecordError::Closed)?
    }

    /// Records what a forwarder has got done.
    ///
    /// # Errors
    /// [`RecordError`]; then nothing of it was kept.
    pub async fn forwarded(&self, progress: Progress) -> Result<(), RecordError> {
        let (reply, answer) = oneshot::channel();
        self.enqueue(Work::Progress { progress, reply }).await?;
        answer.await.map_err(|_gone| RecordError::Closed)?
    }

    /// Notes a rejection: at once in memory, soon in the ledger. It may be lost in a crash.
    pub fn note_rejection(&self, rejection: Rejection) {
        self.rejections.push(rejection);
    }

    /// Asks for the noted rejections to be written, and waits for it for up to a second.
    pub async fn flush_rejections(&self) {
        self.rejections.flushed(Duration::from_secs(1)).await;
    }

    /// Takes no more deliveries, commits what is queued, and closes the file, whoever still holds a handle.
    pub async fn close(&self) {
        self.closing.cancel();
        self.reader.close().await;
    }

    /// Whether the last write went well, and there is a writer for the next.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        *self.writable.borrow() && !self.queue.is_closed()
    }

    /// How many deliveries wait for the writer.
    #[must_use]
    pub fn queue_depth(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// The reader of this ledger.
    #[must_use]
    pub fn reader(&self) -> &LedgerReader {
        &self.reader
    }
}

impl LedgerReader {
    /// Opens an existing ledger for reading alone, beside a server or without one.
    ///
    /// # Errors
    /// [`OpenError`], each with what to do about it.
    pub async fn open(options: &Options) -> Result<Self, OpenError> {
        let (readers, master) = sqlite::open_for_reading(options).await?;
        Ok(Self::new(readers, master, options.deadlines.clone(), None))
    }
}

/// Writes a consistent copy of the ledger to `target`, beside a running server or without one. The master key is not in it.
///
/// # Errors
/// If `target` exists or the copy cannot be written.
pub async fn backup(reader: &LedgerReader, target: &Path) -> Result<(), StoreError> {
    sqlite::upkeep::backup(reader, target).await
}

/// Checks the database and the ledger's own invariants.
///
/// # Errors
/// If the check itself could not be made.
pub async fn verify(reader: &LedgerReader) -> Result<Vec<Finding>, StoreError> {
    sqlite::upkeep::verify(reader).await
}

/// Derives every operation and call again from the append-only tables and puts right what differs.
///
/// # Errors
/// [`OpenError`] if the ledger cannot be opened, or the database fails on the way.
pub async fn rebuild(options: &Options) -> Result<Vec<Difference>, OpenError> {
    sqlite::upkeep::rebuild(options).await
}

/// Puts a new master key in force for a ledger that nobody serves: `given`, as text, where the key comes from the environment or from a
/// command, else one that is made and takes the key file's place. Returns how many data keys it seals now, and where the key file from
/// before is: the copies that were made until now open with it.
///
/// # Errors
/// [`OpenError`]; then the old key is still in force.
pub async fn rekey(options: &Options, given: Option<&Secret>) -> Result<(u64, Option<PathBuf>), OpenError> {
    sqlite::rekey::rekey(options, given).await
}

/// Where the master key of a ledger lies.
#[must_use]
pub fn key_path(ledger: &Path) -> PathBuf {
    let mut name = ledger.as_os_str().to_owned();
    name.push(".key");
    PathBuf::from(name)
}

/// Is told what each commit changed.
#[derive(Clone, Debug)]
struct Changes {
    /// The operations.
    operations: broadcast::Sender<Arc<Vec<ChangedOperation>>>,
    /// That the change log has grown.
    log: watch::Sender<()>,
}

/// Removes the bodies and personal facts of deliveries received before `before`, in steps that a server beside us does not
/// feel, and says how many; with `dry_run` it only counts them. What happened stays known, but is no longer followed: the change log
/// loses its lines before then.
///
/// # Errors
/// [`OpenError`] if the ledger cannot be opened, or the database fails on the way.
pub async fn prune(options: &Options, before: jiff::Timestamp, dry_run: bool) -> Result<u64, OpenError> {
    sqlite::prune::prune(options, before, dry_run).await
}
