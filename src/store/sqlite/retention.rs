//! Retention: what time takes, in steps so small that nobody who waits for the writer feels them.
//!
//! Bodies and personal facts go first, everything else of a call much later, all at once: what the ledger says of an operation is a
//! function of its facts, so they stay together as long as they stay. Until then a second copy of any of them is recognised as one.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use sqlx::{Connection, SqliteConnection};

use super::{
    lookup, open_beside,
    remove::{AT_ONCE, Doomed, remove, remove_loose, too_many},
};
use crate::store::{
    OpenError, Options, StoreError,
    removal::{Keep, Removed, Retention},
};

/// How many deliveries lose their bodies in a step, and how many are looked at.
const BODIES: i64 = 100;
/// How many calls, or notifications without one, are looked at in a step; of what goes then, [`AT_ONCE`] notifications at the most.
const LOOKED_AT: i64 = 500;
/// How many lines of the change log.
const LINES: i64 = 500;
/// The most steps that are taken in a second, whether deliveries come or not.
const STEPS_A_SECOND: u32 = 20;
/// How long there is peace once nothing was left to do.
const PEACE: Duration = Duration::from_mins(1);

/// Where retention is in its round.
#[derive(Debug)]
pub(super) struct Rounds {
    sources: Vec<(String, Keep)>,
    /// What it does now, for which of the sources.
    task: Task,
    at: usize,
    /// Calls up to here were looked at in this round: some have to stay because something newer is about them.
    after: i64,
    /// Steps that may be taken in this second.
    allowance: u32,
    /// Until when nothing is done.
    peace: Option<Instant>,
}

/// What retention takes, in this order, each of all sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Bodies,
    Calls,
    Loose,
    Log,
}

/// What a step did.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) removed: Removed,
    /// Lines were sorted because they were to go.
    pub(super) has_sorted: bool,
    /// The round is over.
    pub(super) is_last: bool,
}

impl Rounds {
    pub(super) fn new(retention: Retention) -> Self {
        let sources = retention.into_iter().collect();
        Self { sources, at: 0, task: Task::Bodies, after: 0, allowance: 0, peace: None }
    }

    /// A second has passed.
    pub(super) const fn tick(&mut self) {
        self.allowance = STEPS_A_SECOND;
    }

    /// Whether a step may be taken now.
    pub(super) fn is_due(&self) -> bool {
        self.allowance > 0 && self.peace.is_none_or(|end| Instant::now() >= end)
    }

    /// Goes on where it is, when there has been peace.
    pub(super) fn rest(&mut self) {
        self.peace = Some(Instant::now() + PEACE);
    }

    /// Nothing that was heard of since this position is removed now; `None`: nothing at all.
    pub(super) fn latest(&self, now: Timestamp) -> Option<i64> {
        self.sources.iter().filter_map(|(_, keep)| cutoff(keep.everything, now)).max()
    }

    /// Takes a step.
    pub(super) async fn step(&mut self, connection: &mut SqliteConnection, now: Timestamp) -> Result<Step, StoreError> {
        self.allowance = self.allowance.saturating_sub(1);
        if self.task == Task::Log {
            let Pruned { lines, has_sorted } = self.prune_log(connection, now).await?;
            if lines == 0 {
                (self.task, self.at) = (Task::Bodies, 0);
                self.rest();
            }
            return Ok(Step { has_sorted, is_last: lines == 0, ..Step::default() });
        }
        let Some((source, keep)) = self.sources.get(self.at) else {
            (self.task, self.at) = match self.task {
                Task::Bodies => (Task::Calls, 0),
                Task::Calls => (Task::Loose, 0),
                Task::Loose | Task::Log => (Task::Log, 0), // the log is of no source
            };
            return Ok(Step::default());
        };
        let (removed, more) = match (self.task, cutoff(keep.bodies, now), cutoff(keep.everything, now)) {
            (Task::Bodies, Some(before), _) => bodies(connection, source, before).await?,
            (Task::Calls, _, Some(before)) => calls(connection, source, before, &mut self.after).await?,
            (Task::Loose, _, Some(before)) => loose(connection, source, before).await?,
            _ => (Removed::default(), false),
        };
        if !more {
            (self.after, self.at) = (0, self.at + 1);
        }
        Ok(Step { removed, ..Step::default() })
    }

    /// Lines go when everything before them may: the log is one for all sources.
    async fn prune_log(&self, connection: &mut SqliteConnection, now: Timestamp) -> Result<Pruned, StoreError> {
        let cutoffs = self.sources.iter().map(|(_, keep)| cutoff(keep.everything, now));
        match cutoffs.collect::<Option<Vec<_>>>().and_then(|cutoffs| cutoffs.into_iter().min()) {
            Some(before) => prune_log(connection, before, LINES).await,
            None => Ok(Pruned::default()),
        }
    }
}

/// What lies before this position has been kept for long enough; `None`: nothing has.
fn cutoff(kept: Option<Duration>, now: Timestamp) -> Option<i64> {
    // positions are microseconds
    kept.and_then(|kept| now.checked_sub(kept).ok()).map(Timestamp::as_microsecond)
}

/// Takes bodies and personal facts, from where the last step ended.
async fn bodies(connection: &mut SqliteConnection, source: &str, before: i64) -> Result<(Removed, bool), StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let looked_at: Vec<(i64, bool)> = sqlx::query_as(
        "SELECT id, source = ?1 AND (body IS NOT NULL OR data_key IS NOT NULL)
         FROM delivery
         WHERE id > coalesce((SELECT done_to FROM retention WHERE source = ?1 AND what = 'bodies'), 0) AND id < ?2
         ORDER BY id
         LIMIT ?3",
    )
    .bind(source)
    .bind(before)
    .bind(BODIES)
    .fetch_all(&mut *transaction)
    .await?;
    let (Some((first, _)), Some((last, _))) = (looked_at.first(), looked_at.last()) else {
        return Ok((Removed::default(), false));
    };
    let mut removed = Removed::default();
    if looked_at.iter().any(|(_, is_ours)| *is_ours) {
        // a delivery's notifications have the ids right behind its own
        removed.personal = sqlx::query(
            "UPDATE notification SET personal = NULL
             WHERE id > ?1 AND id < coalesce((SELECT min(id) FROM delivery WHERE id > ?2), 9223372036854775807)
               AND +source = ?3 AND personal IS NOT NULL",
        )
        .bind(first)
        .bind(last)
        .bind(source)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        removed.bodies =
            sqlx::query("UPDATE delivery SET body = NULL, data_key = NULL WHERE id BETWEEN ?1 AND ?2 AND source = ?3")
                .bind(first)
                .bind(last)
                .bind(source)
                .execute(&mut *transaction)
                .await?
                .rows_affected();
    }
    done_to(&mut transaction, source, "bodies", *last).await?;
    transaction.commit().await?;
    Ok((removed, true))
}

/// Remembers how far a task has come.
async fn done_to(connection: &mut SqliteConnection, source: &str, what: &str, position: i64) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO retention (source, what, done_to) VALUES (?1, ?2, ?3)
         ON CONFLICT (source, what) DO UPDATE SET done_to = excluded.done_to",
    )
    .bind(source)
    .bind(what)
    .bind(position)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes calls of which nothing newer is known.
async fn calls(
    connection: &mut SqliteConnection,
    source: &str,
    before: i64,
    after: &mut i64,
) -> Result<(Removed, bool), StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let looked_at: Vec<(i64, bool)> = sqlx::query_as(
        "SELECT id, source = ?1
                AND NOT EXISTS (SELECT 1 FROM notification WHERE call_id = call.id AND notification.id >= ?2)
                AND NOT EXISTS (SELECT 1 FROM request WHERE call_id = call.id AND request.id >= ?2)
         FROM call
         WHERE id > ?3 AND id < ?2
         ORDER BY id
         LIMIT ?4",
    )
    .bind(source)
    .bind(before)
    .bind(*after)
    .bind(LOOKED_AT)
    .fetch_all(&mut *transaction)
    .await?;
    if looked_at.is_empty() {
        return Ok((Removed::default(), false));
    }
    let (mut doomed, mut room) = (Doomed::default(), AT_ONCE);
    for (call, goes) in looked_at {
        if goes {
            doomed.notifications = too_many(&mut transaction, call).await?;
            if !doomed.notifications.is_empty() {
                break; // some of this one, and the rest of it next time
            }
            let sql = "SELECT count(*) FROM notification WHERE call_id = ?1";
            room -= 1 + sqlx::query_scalar::<_, i64>(sql).bind(call).fetch_one(&mut *transaction).await?;
            doomed.calls.push(call);
        }
        *after = call;
        if room <= 0 {
            break;
        }
    }
    let removed = remove(&mut transaction, &doomed, None).await?;
    transaction.commit().await?;
    Ok((removed, true))
}

/// Takes what belongs to no call: notifications, and deliveries that brought none.
async fn loose(connection: &mut SqliteConnection, source: &str, before: i64) -> Result<(Removed, bool), StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let looked_at: Vec<(i64, bool)> = sqlx::query_as(
        "SELECT id, source = ?1 AND NOT EXISTS (
                    SELECT 1 FROM notification
                    WHERE notification.id > delivery.id
                      AND notification.id < coalesce((SELECT min(next.id) FROM delivery AS next WHERE next.id > delivery.id),
                                                     9223372036854775807)
                      AND notification.call_id <> 0)
         FROM delivery
         WHERE id > coalesce((SELECT done_to FROM retention WHERE source = ?1 AND what = 'loose'), 0) AND id < ?2
         ORDER BY id
         LIMIT ?3",
    )
    .bind(source)
    .bind(before)
    .bind(LOOKED_AT)
    .fetch_all(&mut *transaction)
    .await?;
    let Some((last, _)) = looked_at.last() else { return Ok((Removed::default(), false)) };
    done_to(&mut transaction, source, "loose", *last).await?;
    let deliveries: Vec<i64> = looked_at.iter().filter(|(_, goes)| *goes).map(|(id, _)| *id).collect();
    let removed = remove_loose(&mut transaction, &deliveries).await?;
    transaction.commit().await?;
    Ok((removed, true))
}

/// What went from the change log.
#[derive(Debug, Default)]
pub(super) struct Pruned {
    pub(super) lines: u64,
    /// Some had not been sorted yet, and were before they went.
    pub(super) has_sorted: bool,
}

/// Removes the oldest lines of the change log, and writes down up to where: whoever asks for them is told that they are gone.
pub(super) async fn prune_log(connection: &mut SqliteConnection, before: i64, at_once: i64) -> Result<Pruned, StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let last: Option<i64> =
        sqlx::query_scalar("SELECT max(seq) FROM (SELECT seq FROM change WHERE seq < ?1 ORDER BY seq LIMIT ?2)")
            .bind(before)
            .bind(at_once)
            .fetch_one(&mut *transaction)
            .await?;
    let Some(last) = last else { return Ok(Pruned::default()) };
    let has_sorted = lookup::sort_until(&mut transaction, last).await?;
    let lines = sqlx::query("DELETE FROM change WHERE seq <= ?1").bind(last).execute(&mut *transaction).await?.rows_affected();
    sqlx::query("UPDATE ledger SET log_begins_after = max(log_begins_after, ?1)").bind(last).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(Pruned { lines, has_sorted })
}

/// A whole round at once, beside a running service or without one.
pub(in crate::store) async fn retain(options: &Options, now: Timestamp, dry_run: bool) -> Result<Removed, OpenError> {
    let mut connection = open_beside(options).await?;
    if dry_run {
        return Ok(would_go(&mut connection, &options.retention, now).await?);
    }
    let mut rounds = Rounds::new(options.retention.clone());
    let mut removed = Removed::default();
    loop {
        let step = rounds.step(&mut connection, now).await?;
        removed += step.removed;
        if step.is_last {
            return Ok(removed);
        }
    }
}

/// Something about the calls that go: of a source (`?1`), and with no word from behind a position (`?2`).
macro_rules! goes_sql {
    ($about:literal) => {
        concat!(
            "WITH gone AS (
                 SELECT id FROM call
                 WHERE source = ?1 AND id < ?2
                   AND NOT EXISTS (SELECT 1 FROM notification WHERE call_id = call.id AND notification.id >= ?2)
                   AND NOT EXISTS (SELECT 1 FROM request WHERE call_id = call.id AND request.id >= ?2))
             ",
            $about
        )
    };
}

/// What a round would take.
async fn would_go(connection: &mut SqliteConnection, retention: &Retention, now: Timestamp) -> Result<Removed, StoreError> {
    let mut sum = Removed::default();
    for (source, keep) in retention {
        let [bodies, everything] = [keep.bodies, keep.everything].map(|kept| cutoff(kept, now).unwrap_or(i64::MIN));
        for (sql, before, count) in [
            ("SELECT count(*) FROM delivery WHERE source = ?1 AND id < ?2 AND body IS NOT NULL", bodies, &mut sum.bodies),
            (
                "SELECT count(*) FROM notification WHERE +source = ?1 AND id < ?2 AND personal IS NOT NULL",
                bodies,
                &mut sum.personal,
            ),
            (goes_sql!("SELECT count(*) FROM gone"), everything, &mut sum.calls),
            (goes_sql!("SELECT count(*) FROM operation WHERE call_id IN gone"), everything, &mut sum.operations),
            (goes_sql!("SELECT count(*) FROM request WHERE call_id IN gone"), everything, &mut sum.requests),
            (
                goes_sql!(
                    "SELECT count(*) FROM notification
                     WHERE call_id IN gone OR (call_id = 0 AND +source = ?1 AND id < ?2)"
                ),
                everything,
                &mut sum.notifications,
            ),
        ] {
            let number: i64 = sqlx::query_scalar(sql).bind(source).bind(before).fetch_one(&mut *connection).await?;
            *count += u64::try_from(number).unwrap_or(0);
        }
    }
    Ok(sum)
}
