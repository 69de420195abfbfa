//! The only writer: takes what waits in the queue, commits it as one group, and then answers each caller.
//!
//! A commit costs one sync of the disk however much is in it, so the busier the queue, the cheaper a delivery. What comes while one is
//! on its way is planned beside it, so that the next can follow at once.
//!
//! When the database refuses data, the group is rolled back and its deliveries are committed one by one, so that the bad one fails
//! alone; on I/O errors, a full disk or a lock all are refused, and the connection is made anew until a probe succeeds.

mod alone;
mod between;

use std::{
    fs::File,
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    Opened,
    batch::{self, Batched, Group, Terms},
    checkpoint::{self, Checkpointer},
    is_refusal,
    merging::Merging,
    positions::Positions,
    requests,
    retention::Rounds,
    sorting::Sorting,
    work::{Job, Work, at_hand},
};
use crate::{
    domain::{clock::Clock, request::AnswerFacts},
    store::{Changes, Committed, Observer, Options, RecordError, StoreError, courier, rejections::RejectionRing},
};

/// For how long deliveries go before everything else, while more of them come.
const STRETCH: Duration = Duration::from_millis(100);
/// How often rejections are flushed, and an unwritable ledger is probed.
const TICK: Duration = Duration::from_secs(1);

/// The writer's task.
pub(in crate::store) struct Writer {
    connection: Option<SqliteConnection>,
    connect: SqliteConnectOptions,
    terms: Terms,
    clock: Clock,
    positions: Option<Positions>,
    observer: Observer,
    jobs: mpsc::Receiver<Work>,
    rejections: Arc<RejectionRing>,
    writable: watch::Sender<bool>,
    changes: Changes,
    closing: CancellationToken,
    checkpointer: Checkpointer,
    retention: Rounds,
    merging: Merging,
    /// One server per ledger.
    _lock: File,
}

impl Writer {
    pub(in crate::store) fn new(
        opened: Opened,
        options: &Options,
        jobs: mpsc::Receiver<Work>,
        rejections: Arc<RejectionRing>,
        writable: watch::Sender<bool>,
        changes: Changes,
        closing: CancellationToken,
    ) -> Self {
        Self {
            connection: Some(opened.writer),
            connect: opened.connect.clone(),
            terms: Terms { master: opened.master, grace: options.disconnect_grace },
            clock: options.clock.clone(),
            positions: None,
            observer: Arc::clone(&options.observer),
            jobs,
            rejections,
            writable,
            changes,
            closing,
            checkpointer: Checkpointer::start(opened.connect.clone()),
            retention: Rounds::new(options.retention.clone()),
            merging: Merging::default(),
            _lock: opened.lock,
        }
    }

    /// Runs until the ledger is closed, or every sender is gone, and the queue is empty.
    ///
    /// Says when it has `started`: when what the last process left open has been marked.
    pub(in crate::store) async fn run(mut self, started: oneshot::Sender<()>) {
        self.give_up_answers().await;
        let _opened = started.send(());
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let rejections = Arc::clone(&self.rejections);
        loop {
            tokio::select! {
                biased;
                () = self.closing.cancelled(), if !self.jobs.is_closed() => self.jobs.close(),
                () = rejections.wanted() => self.flush_rejections().await,
                _ = tick.tick() => {
                    self.probe().await;
                    self.notice_others().await;
                    self.flush_rejections().await;
                    self.settle().await;
                    self.forget_tokens().await;
                    while self.sorting().is_some_and(Sorting::is_welcome) && self.jobs.is_empty() && *self.writable.borrow() {
                        self.sort_lookups(true).await;
                    }
                    self.merging.tick();
                    while self.merging.is_due() && self.jobs.is_empty() && *self.writable.borrow() {
                        self.merge_lookups().await;
                    }
                    self.retention.tick();
                    while self.retention.is_due() && self.jobs.is_empty() && *self.writable.borrow() {
                        self.retain().await;
                    }
                }
                work = self.jobs.recv() => match work {
                    Some(work) => self.take(work).await,
                    None => break,
                },
            }
        }
        self.flush_rejections().await;
        self.checkpointer.end().await;
        if let Some(mut connection) = self.connection.take() {
            // Nothing is lost if this fails: the WAL is read at the next start. But who finds one after a clean stop, because a reader
            // was the last to close, may take it for a left-over.
            let _emptied = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await;
            let _closed = connection.close().await;
        }
    }

    /// Deliveries in groups, in between whatever else came.
    async fn take(&mut self, work: Work) {
        let mut next = Some(work);
        while let Some(work) = next.take() {
            match work {
                Work::Delivery(job) => next = self.commit_groups(job).await,
                Work::Progress { progress, reply } => {
                    let kept = self.commit_progress(&progress).await;
                    let _gone = reply.send(kept);
                }
                Work::Request { request, reply } => {
                    let requested = self.commit_request(&request).await;
                    let _gone = reply.send(requested);
                }
                Work::Answer { request, at, facts, call, reply } => {
                    let answered = self.commit_answer(request, at, &facts, call.as_ref()).await;
                    let _gone = reply.send(answered);
                }
            }
            if self.sorting().is_some_and(Sorting::is_due) {
                self.sort_lookups(false).await;
            }
            if self.merging.is_due() && *self.writable.borrow() {
                self.merge_lookups().await;
            }
            if self.retention.is_due() && *self.writable.borrow() {
                self.retain().await;
            }
        }
    }

    /// Commits this delivery, those that wait behind it, and for a while those that come meanwhile; returns what else it met.
    async fn commit_groups(&mut self, first: Job) -> Option<Work> {
        let until = Instant::now() + STRETCH;
        let mut waiting = Waiting::default();
        waiting.meet(Work::Delivery(first), &self.terms, self.positions.as_mut());
        loop {
            let Self { terms, positions, jobs, .. } = self;
            waiting.fill(terms, positions.as_mut(), jobs);
            let Waiting { group, met } = waiting;
            let count = group.jobs.len();
            // what is planned has its positions, so it goes before anything else; others want their turn
            let may_plan = met.is_none() && Instant::now() < until;
            let next = self.commit(group, may_plan).await;
            self.copy_log_back(checkpoint::pages(count)).await;
            if next.group.jobs.is_empty() {
                return met.or(next.met);
            }
            waiting = next;
        }
    }

    /// Commits a group and answers its callers; returns those who came meanwhile, if they may be planned.
    async fn commit(&mut self, mut group: Group, may_plan: bool) -> Waiting {
        let started = Instant::now();
        let mut next = Waiting::default();
        match self.try_commit(&mut group, may_plan.then_some(&mut next)).await {
            Ok(mut batched) => {
                if batched.was_asked {
                    next.group.ask();
                }
                self.set_writable(true);
                let recorded = std::mem::take(&mut batched.recorded);
                self.tell(started.elapsed(), group.jobs.len(), batched);
                courier::send(group.jobs.into_iter().zip(recorded.into_iter().map(Ok)));
            }
            Err(error) => {
                next.group.ask();
                match self.failed(&error) {
                    RecordError::Refused if group.jobs.len() > 1 => self.commit_one_by_one(group.jobs).await,
                    error => courier::send(group.jobs.into_iter().map(|job| (job, Err(error)))),
                }
            }
        }
        next
    }

    async fn commit_one_by_one(&mut self, jobs: Vec<Job>) {
        let mut unavailable = None;
        for job in jobs {
            if let Some(error) = unavailable {
                job.answer(Err(error));
                continue;
            }
            let started = Instant::now();
            let mut group = Group::asking(vec![job]);
            let recorded = match self.try_commit(&mut group, None).await {
                Ok(mut batched) => {
                    self.set_writable(true);
                    let recorded = batched.recorded.pop().ok_or(RecordError::Refused);
                    self.tell(started.elapsed(), 1, batched);
                    recorded
                }
                Err(error) => Err(self.failed(&error)),
            };
            // What ails the database ails it for the rest as well; each would wait for it in turn.
            unavailable = recorded.as_ref().err().copied().filter(|error| *error != RecordError::Refused);
            courier::send(group.jobs.into_iter().zip([recorded]));
        }
    }

    /// Commits a group. Fills the next one beside it, if there is one given.
    async fn try_commit(&mut self, group: &mut Group, mut next: Option<&mut Waiting>) -> Result<Batched, StoreError> {
        let Self { connection, positions, connect, clock, terms, jobs, .. } = self;
        let (opened, positions) = open(connection, positions, connect, clock).await?;
        let fill = |positions: &mut Positions| {
            if let Some(next) = next.as_deref_mut() {
                next.fill(terms, Some(positions), jobs);
            }
        };
        let recorded = batch::record(opened, terms, positions, group, fill).await;
        // where nothing is open that is no success either
        if recorded.is_err() && sqlx::query("ROLLBACK").execute(opened).await.is_err() {
            self.disconnect();
        }
        recorded
    }

    /// Makes the connection anew if the last failure took it, and learns where the positions stand.
    async fn connect(&mut self) -> Result<(&mut SqliteConnection, &mut Positions), StoreError> {
        open(&mut self.connection, &mut self.positions, &self.connect, &self.clock).await
    }

    /// Gives the connection up, and at once what is remembered: that is as of a count of others' writing that only this connection knows.
    fn disconnect(&mut self) {
        self.connection = None;
        self.positions.iter_mut().for_each(Positions::begin_anew);
    }

    /// What a failure means for the callers. Whatever is not the data's fault takes the connection with it.
    fn failed(&mut self, error: &StoreError) -> RecordError {
        self.positions.iter_mut().for_each(Positions::begin_anew);
        let refused = match error {
            StoreError::Database(error) => is_refusal(error),
            StoreError::Seal(_) | StoreError::Inconsistent { .. } => true,
            StoreError::TooLong | StoreError::File { .. } => false,
        };
        if refused {
            tracing::error!(error = %error, "the ledger refused a delivery");
            return RecordError::Refused;
        }
        if self.set_writable(false) {
            tracing::error!(error = %error, "the ledger cannot be written: deliveries are refused until it can");
        }
        self.disconnect();
        RecordError::Unavailable
    }

    /// While the ledger is unwritable: tries again whether it is. A waiting delivery is a probe of its own.
    async fn probe(&mut self) {
        if *self.writable.borrow() || !self.jobs.is_empty() {
            return;
        }
        match self.try_probe().await {
            Ok(()) => {
                self.set_writable(true);
            }
            Err(error) => {
                tracing::debug!(error = %error, "the ledger still cannot be written");
                self.disconnect();
            }
        }
    }

    async fn try_probe(&mut self) -> Result<(), StoreError> {
        let (connection, _positions) = self.connect().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        // Enough to need room on the disk, and nothing that anybody reads.
        sqlx::query("UPDATE ledger SET key_check = key_check").execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }

    /// At the start: whoever waited for the answer to a request is gone with the process that sent it.
    async fn give_up_answers(&mut self) {
        let lost = match self.connect().await {
            Ok((connection, _positions)) => requests::unanswered(connection).await,
            Err(error) => Err(error),
        };
        match lost {
            Ok(lost) => {
                for request in lost {
                    let at = self.clock.now();
                    // a failure has been told, and the next start tries again
                    let _told = self.commit_answer(request, at, &AnswerFacts::default(), None).await;
                }
            }
            Err(error) => {
                self.failed(&error);
            }
        }
    }

    /// Tells those who listen what was committed.
    fn tell(&mut self, took: Duration, deliveries: usize, batched: Batched) {
        (self.observer)(&Committed { deliveries, took, kinds: batched.kinds, finals: batched.finals });
        if !batched.changed.is_empty() {
            // Nobody listening is no error.
            let _receivers = self.changes.operations.send(Arc::new(batched.changed));
        }
        self.changes.log.send_replace(());
    }

    /// Whether this changed anything.
    fn set_writable(&mut self, now: bool) -> bool {
        let changed = self.writable.send_if_modified(|writable| std::mem::replace(writable, now) != now);
        if changed && now {
            tracing::info!("the ledger can be written again");
        }
        changed
    }
}

/// What waits for the writer.
#[derive(Default)]
struct Waiting {
    group: Group,
    /// What came behind the group and does not go with it.
    met: Option<Work>,
}

impl Waiting {
    /// Adds what is in the queue by now.
    fn fill(&mut self, terms: &Terms, mut positions: Option<&mut Positions>, jobs: &mut mpsc::Receiver<Work>) {
        while self.met.is_none()
            && let Some(work) = at_hand(jobs)
        {
            self.meet(work, terms, positions.as_deref_mut());
        }
    }

    /// Adds this to the group if it goes with it.
    fn meet(&mut self, work: Work, terms: &Terms, positions: Option<&mut Positions>) {
        self.met = match work {
            Work::Delivery(job) => self.group.add(job, terms, positions).map(Work::Delivery),
            other => Some(other),
        };
    }
}

/// The connection, anew if the last failure took it, and where the positions stand.
async fn open<'a>(
    connection: &'a mut Option<SqliteConnection>,
    positions: &'a mut Option<Positions>,
    connect: &SqliteConnectOptions,
    clock: &Clock,
) -> Result<(&'a mut SqliteConnection, &'a mut Positions), StoreError> {
    let connection = match connection {
        Some(connection) => connection,
        none => none.insert(connect.connect().await?),
    };
    let positions = match positions {
        Some(positions) => positions,
        none => none.insert(Positions::of(&mut *connection, clock.clone()).await?),
    };
    Ok((connection, positions))
}
