//! One target's task: reads the log, sends, and writes down how it went.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Command, Condition, Mode, Status, Target, Went, Works,
    circuit::Failure,
    post::{Outcome, Postman, before},
    queue::Queue,
};
use crate::{
    domain::{delivery::BotAnswer, ids::Seq},
    store::{
        RecordError,
        forwards::{ForwardRow, ForwardState, Progress, Standing, TargetRow, Unit},
    },
};

/// How often what was done is written down.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long a ledger that could not be read is left alone.
pub(super) const READ_AGAIN: Duration = Duration::from_millis(500);
/// How long a busy ledger is waited for.
const TELL_PATIENCE: Duration = Duration::from_secs(3);
/// How long what is on its way has to arrive, once the service ends, and the ledger to hear of it.
const LAST_TRIES: Duration = Duration::from_secs(2);
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a target is told to do.
pub(super) enum Order {
    /// Write down how things stand.
    Tell { reply: oneshot::Sender<()> },
    /// Begin again, if it was disabled, and at once, if it was thought unreachable.
    Resume { reply: oneshot::Sender<()> },
    /// Do this with these.
    Do { command: Command, rows: Vec<ForwardRow>, reply: oneshot::Sender<()> },
}

/// The task of one target.
pub(super) struct Task {
    postman: Arc<Postman>,
    works: Works,
    queue: Queue,
    orders: mpsc::Receiver<Order>,
    status: watch::Sender<Status>,
    stop: CancellationToken,
    tries: JoinSet<(Arc<Unit>, Outcome)>,
    /// Up to where the log has been read, and whether there may be more.
    read_to: Seq,
    more: bool,
    read_again: Instant,
    /// What lies behind that and is not to be read again: it has a row.
    known: BTreeSet<i64>,
    /// As the ledger knows it.
    told: TargetRow,
    disabled_at: Option<Timestamp>,
    delivered_at: Option<Timestamp>,
}

impl Task {
    pub(super) fn new(
        target: Target,
        works: Works,
        orders: mpsc::Receiver<Order>,
        status: watch::Sender<Status>,
        stop: CancellationToken,
    ) -> Self {
        let told = TargetRow { name: target.name.clone(), settled_to: Seq(0), disabled_at: None };
        let queue = Queue::new(target.concurrency);
        let reader = works.ledger.reader().clone();
        let postman = Arc::new(Postman { target, reader, clock: works.clock.clone(), told: works.told });
        Self {
            postman,
            works,
            queue,
            orders,
            status,
            stop,
            tries: JoinSet::new(),
            read_to: Seq(0),
            more: true,
            read_again: Instant::now(),
            known: BTreeSet::new(),
            told,
            disabled_at: None,
            delivered_at: None,
        }
    }

    fn name(&self) -> &str {
        &self.postman.target.name
    }

    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            standing = self.standing() => self.begin(standing),
            () = stop.cancelled() => return,
        }
        let mut growth = self.works.ledger.reader().growth();
        let mut tick = interval(TELL_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.read() => {}
                () = stop.cancelled() => break,
            }
            while let Some(unit) = self.queue.next(Instant::now()) {
                let postman = Arc::clone(&self.postman);
                self.tries.spawn(async move {
                    let outcome = postman.deliver(&unit).await;
                    (unit, outcome)
                });
            }
            let now = Instant::now();
            let reads = self.may_read().then(|| self.read_again.max(now));
            let wakes = self.queue.wakes().into_iter().chain(reads).min();
            let asleep = async {
                match wakes {
                    Some(wakes) => sleep_until(wakes).await,
                    None => std::future::pending().await,
                }
            };
            let grown = async {
                match &mut growth {
                    Some(growth) => drop(growth.changed().await),
                    None => sleep(READ_AGAIN).await,
                }
            };
            tokio::select! {
                Some(landed) = self.tries.join_next(), if !self.tries.is_empty() => self.landed(landed),
                () = grown, if !self.more => self.more = true,
                () = asleep => {}
                _ = tick.tick() => self.tick().await,
                Some(order) = self.orders.recv() => self.obey(order).await,
                () = stop.cancelled() => break,
            }
        }
        self.end().await;
    }

    /// How it stood when it stopped.
    async fn standing(&self) -> Standing {
        loop {
            match self.postman.reader.standing(self.name()).await {
                Ok(standing) => return standing,
                Err(error) => {
                    tracing::warn!(forward.name = self.name(), %error, "it is not known where forwarding stopped");
                    sleep(READ_AGAIN).await;
                }
            }
        }
    }

    fn begin(&mut self, standing: Standing) {
        let Standing { target, waiting, known } = standing;
        let (now, at) = (Instant::now(), self.works.clock.now());
        for ForwardRow { unit, tries, .. } in waiting {
            let pause = tries.next_at.map(|next| next.duration_since(at)).and_then(|pause| Duration::try_from(pause).ok());
            self.queue.admit(unit, Some(tries), now + pause.unwrap_or_default());
        }
        self.known = known.into_iter().map(|unit| unit.0.0).collect();
        self.read_to = target.settled_to;
        self.disabled_at = target.disabled_at;
        if self.disabled_at.is_some() {
            self.queue.circuit_mut().disable();
        }
        self.told = target;
    }

    /// Whether the log is to be read: there is room, and somebody to send it to, or something new is needed to find out whether there
    /// is, or it is so old that it is given up.
    fn may_read(&self) -> bool {
        let circuit = self.queue.circuit();
        let is_wanted = circuit.is_closed() || (!circuit.is_disabled() && !self.queue.has_fresh());
        let is_old = || self.read_to < before(self.works.clock.now(), self.postman.target.give_up_after);
        self.more && self.queue.has_room() && (is_wanted || is_old())
    }

    async fn read(&mut self) {
        if !self.may_read() || self.read_again > Instant::now() {
            return;
        }
        match self.postman.reader.candidates(self.read_to).await {
            Ok((candidates, read_to, more)) => {
                let now = Instant::now();
                for unit in self.postman.target.units(candidates) {
                    if !self.known.remove(&unit.id.0.0) && !self.queue.contains(unit.id.0) {
                        self.queue.admit(unit, None, now);
                    }
                }
                (self.read_to, self.more) = (read_to, more);
            }
            Err(error) => {
                tracing::warn!(forward.name = self.name(), %error, "what is to be forwarded could not be read");
                self.read_again = Instant::now() + READ_AGAIN;
            }
        }
    }

    fn landed(&mut self, landed: Result<(Arc<Unit>, Outcome), JoinError>) {
        let (unit, outcome) = match landed {
            Ok(landed) => landed,
            // a try never panics; if one did, its unit stays where it is until the next start
            Err(error) => return tracing::error!(forward.name = self.name(), %error, "a try broke off"),
        };
        let (now, at) = (Instant::now(), self.works.clock.now());
        let id = unit.id.0;
        let limit = before(at, self.postman.target.give_up_after);
        let too_old = self.queue.is_older(id, limit);
        match outcome {
            Outcome::Delivered(answer) => {
                self.delivered_at = Some(at);
                self.queue.delivered(id);
                self.observe(&unit, Went::Delivered, at);
                if self.postman.target.decides {
                    let (target, delivery) = (self.name().to_owned(), unit.delivery);
                    // nobody waiting is no error
                    let _waiting = self.works.answers.send(BotAnswer { target, delivery, body: answer.unwrap_or_default() });
                }
            }
            Outcome::Failed(failure) => {
                self.queue.failed(id, &failure, (now, at), too_old);
                self.warn(&unit, &failure, if too_old { Went::Dead } else { Went::Failed }, at);
            }
            Outcome::Gone => {
                tracing::warn!(
                    forward.name = self.name(),
                    "the endpoint wants no more (410): nothing is forwarded to it any more"
                );
                let failure = Failure { status: Some(410), why: "it wants no more".to_owned(), ..Failure::default() };
                self.queue.failed(id, &failure, (now, at), too_old);
                self.queue.circuit_mut().disable();
                self.disabled_at = Some(at);
                self.observe(&unit, Went::Failed, at);
            }
            Outcome::Unsendable(why) => {
                let failure = Failure { why, ..Failure::default() };
                self.warn(&unit, &failure, Went::Dead, at);
                self.queue.refuse(id, failure.why, (now, at));
            }
            Outcome::NotRead if too_old => {
                let failure = Failure { why: "it could not be read".to_owned(), ..Failure::default() };
                self.warn(&unit, &failure, Went::Dead, at);
                self.queue.refuse(id, failure.why, (now, at));
            }
            Outcome::NotRead => self.queue.put_back(id, now),
        }
        self.show();
    }

    fn warn(&self, unit: &Unit, failure: &Failure, went: Went, at: Timestamp) {
        self.observe(unit, went, at);
        tracing::warn!(
            forward.name = self.name(),
            notification.id = %unit.id,
            status = failure.status,
            error = failure.why,
            outcome = went.as_str(),
            "a notification was not forwarded"
        );
    }

    fn observe(&self, unit: &Unit, went: Went, at: Timestamp) {
        // positions are microseconds
        let recorded = Timestamp::from_microsecond(unit.id.0.0).unwrap_or(at);
        let took = Duration::try_from(at.duration_since(recorded)).unwrap_or_default();
        (self.works.observer)(self.name(), went, took);
    }

    async fn tick(&mut self) {
        let limit = before(self.works.clock.now(), self.postman.target.give_up_after);
        for unit in self.queue.give_up_older(limit) {
            self.observe(&unit, Went::Dead, self.works.clock.now());
        }
        self.tell(TELL_PATIENCE).await;
        self.show();
    }

    /// Writes down how things stand, if anything has changed.
    async fn tell(&mut self, patience: Duration) {
        let news = self.queue.news();
        let settled_to = self.queue.settled_to(self.read_to).max(self.told.settled_to);
        let target = TargetRow { name: self.name().to_owned(), settled_to, disabled_at: self.disabled_at };
        if news.is_empty() && target == self.told {
            return;
        }
        let came = self.postman.target.mode == Mode::Original;
        let progress = Progress {
            name: target.name.clone(),
            target: Some(target.clone()),
            rows: news.rows.clone(),
            settled: news.settled.iter().map(|unit| unit.id).collect(),
            heads: news.done.iter().filter(|_| came).map(|unit| unit.delivery).collect(),
        };
        // what is written after all is the same when it is told again
        let kept = timeout(patience, self.works.ledger.forwarded(progress)).await.unwrap_or(Err(RecordError::Busy));
        match kept {
            Ok(()) => self.told = target,
            Err(error) => {
                tracing::warn!(forward.name = self.name(), %error, "what was forwarded could not be written down yet");
                self.queue.untold(news);
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        let (now, at) = (Instant::now(), self.works.clock.now());
        let reply = match order {
            Order::Tell { reply } => reply,
            Order::Resume { reply } => {
                self.disabled_at = None;
                self.queue.circuit_mut().close();
                reply
            }
            Order::Do { command: Command::Skip, rows, reply } => {
                for row in rows {
                    self.queue.skip(row.unit);
                }
                reply
            }
            Order::Do { command: Command::Retry, rows, reply } => {
                if !self.queue.circuit().is_disabled() {
                    self.queue.circuit_mut().close();
                }
                for ForwardRow { unit, state, tries, .. } in rows {
                    match state {
                        ForwardState::Waiting => self.queue.hasten(unit.id.0, (now, at)),
                        ForwardState::Dead => self.queue.revive(unit, tries, (now, at)),
                    }
                }
                reply
            }
        };
        self.tell(TELL_PATIENCE).await;
        self.show();
        // who ordered may have gone
        let _gone = reply.send(());
    }

    fn show(&self) {
        let circuit = self.queue.circuit();
        let condition = if circuit.is_disabled() {
            Condition::Disabled
        } else if circuit.is_closed() {
            Condition::Running
        } else {
            Condition::Unreachable
        };
        let behind = self.more.then_some(self.read_to);
        let oldest = self.queue.oldest().into_iter().chain(behind).min();
        let oldest = oldest.and_then(|oldest| Timestamp::from_microsecond(oldest.0).ok());
        self.status.send_replace(Status { condition, oldest, delivered_at: self.delivered_at });
    }

    /// Lets what is on its way arrive, and writes down how things stand.
    async fn end(&mut self) {
        let all = async {
            while let Some(landed) = self.tries.join_next().await {
                self.landed(landed);
            }
        };
        // what does not arrive in time is sent again at the next start
        let _elapsed = timeout(LAST_TRIES, all).await;
        self.tell(LAST_WORDS).await;
    }
}
