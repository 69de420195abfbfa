//! Erasing: a call, or every call in which somebody is.
//!
//! The keys go first, in one short transaction: from then on nothing that was sealed for those calls opens any more. The lines of the
//! change log and the rows follow in chunks, so that a service beside us goes on recording. The rows go last: by them it is found what is
//! still to go, and the erasure that follows one that was cut off takes that along.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::{
    batch::{json, quarantine_subject},
    body_place, call_key_place, delivery_key_place, open_for_reading, personal_place,
    remove::{AT_ONCE, Doomed, remove, too_many},
    writing,
};
use crate::{
    domain::{ids::PlatformId, people::spellings},
    store::{
        MasterKey, OpenError, Options, StoreError,
        removal::{Forgotten, Removed},
        seal::Seal,
    },
};

/// How long a transaction waits for a service that records all the time.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many lines of the change log are looked through at a time.
const LINES: i64 = 20_000;
/// How many calls are emptied between two looks at the end of the log.
const CALLS: usize = 100;

pub(in crate::store) async fn erase(options: &Options, whom: &Forgotten, dry_run: bool) -> Result<Removed, OpenError> {
    let (readers, master) = open_for_reading(options).await?;
    readers.close().await;
    let mut connection = writing(&options.path).busy_timeout(PATIENCE).connect().await.map_err(StoreError::from)?;
    let mut doomed = match whom {
        Forgotten::Call(call) => of_call(&mut connection, call).await?,
        Forgotten::Participant(name) => Search::new(&master, name).run(&mut connection).await?,
    };
    doomed.calls.append(&mut unfinished(&mut connection).await?);
    doomed.calls.sort_unstable();
    doomed.calls.dedup();
    let removed = match (doomed.is_empty(), dry_run) {
        (true, _) => Removed::default(),
        (false, true) => would_remove(&mut connection, &doomed).await?,
        (false, false) => carry_out(&mut connection, &doomed, options.clock.now()).await?,
    };
    connection.close().await.map_err(StoreError::from)?;
    Ok(removed)
}

async fn carry_out(connection: &mut SqliteConnection, doomed: &Doomed, now: Timestamp) -> Result<Removed, StoreError> {
    let (at, calls) = (now.as_millisecond(), json(&doomed.calls)?);
    sqlx::query("UPDATE call SET data_key = NULL, erased_at = ?2 WHERE id IN (SELECT value FROM json_each(?1))")
        .bind(&calls)
        .bind(at)
        .execute(&mut *connection)
        .await?;
    let (mut removed, mut looked_to) = (Removed::default(), 0);
    for (n, some) in doomed.calls.chunks(CALLS).enumerate() {
        // not of those that are empty: these may be spoken of again
        let left: Vec<&i64> = doomed.calls.iter().skip(n * CALLS).collect();
        looked_to = forget_lines(connection, &json(&left)?, looked_to).await?;
        for call in some {
            removed += empty(connection, *call, at, looked_to).await?;
        }
    }
    for notifications in doomed.notifications.chunks(usize::try_from(AT_ONCE).unwrap_or(usize::MAX)) {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let some = Doomed { calls: Vec::new(), notifications: notifications.to_vec() };
        removed += remove(&mut transaction, &some, Some(at)).await?;
        transaction.commit().await?;
    }
    // whatever of it is in the write-ahead log; a reader in its way will have gone by the next checkpoint
    let _emptied = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(connection).await;
    Ok(removed)
}

/// Takes what there is of a call, and the lines about it from behind this one: it may be spoken of while it goes.
async fn empty(connection: &mut SqliteConnection, call: i64, at: i64, looked_to: i64) -> Result<Removed, StoreError> {
    let mut removed = Removed::default();
    loop {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let notifications = too_many(&mut transaction, call).await?;
        let is_last = notifications.is_empty();
        let calls = if is_last { vec![call] } else { Vec::new() };
        removed += remove(&mut transaction, &Doomed { calls, notifications }, Some(at)).await?;
        if is_last {
            let sql = "DELETE FROM change WHERE seq > ?1 AND call_id = ?2";
            sqlx::query(sql).bind(looked_to).bind(call).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        if is_last {
            return Ok(removed);
        }
    }
}

/// Lines of the change log about these calls, from behind this one, are of no use any more, and the hash of a tag can be guessed. There
/// is no index of them for who asks so seldom. Returns up to where it has looked for them.
async fn forget_lines(connection: &mut SqliteConnection, calls: &str, mut after: i64) -> Result<i64, StoreError> {
    loop {
        let last: Option<i64> =
            sqlx::query_scalar("SELECT max(seq) FROM (SELECT seq FROM change WHERE seq > ?1 ORDER BY seq LIMIT ?2)")
                .bind(after)
                .bind(LINES)
                .fetch_one(&mut *connection)
                .await?;
        let Some(last) = last else { return Ok(after) };
        sqlx::query("DELETE FROM change WHERE seq > ?2 AND seq <= ?3 AND call_id IN (SELECT value FROM json_each(?1))")
            .bind(calls)
            .bind(after)
            .bind(last)
            .execute(&mut *connection)
            .await?;
        after = last;
    }
}

/// What would go, counted.
async fn would_remove(connection: &mut SqliteConnection, doomed: &Doomed) -> Result<Removed, StoreError> {
    let row: (i64, i64, i64, i64, i64) = sqlx::query_as(
        "WITH gone AS (
             SELECT id, delivery_id FROM notification WHERE call_id IN (SELECT value FROM json_each(?1)) AND call_id <> 0
             UNION
             SELECT id, delivery_id FROM notification WHERE id IN (SELECT value FROM json_each(?2))
         )
         SELECT (SELECT count(*) FROM call WHERE id IN (SELECT value FROM json_each(?1))),
                (SELECT count(*) FROM operation WHERE call_id IN (SELECT value FROM json_each(?1))),
                (SELECT count(*) FROM gone),
                (SELECT count(*) FROM request WHERE call_id IN (SELECT value FROM json_each(?1))),
                (SELECT count(*) FROM delivery WHERE id IN (SELECT delivery_id FROM gone) AND body IS NOT NULL)",
    )
    .bind(json(&doomed.calls)?)
    .bind(json(&doomed.notifications)?)
    .fetch_one(connection)
    .await?;
    let [calls, operations, notifications, requests, bodies] =
        [row.0, row.1, row.2, row.3, row.4].map(|number| u64::try_from(number).unwrap_or(0));
    Ok(Removed { calls, operations, notifications, requests, bodies, personal: 0 })
}

/// Calls of which there is anything: also of one that was erased before, what came behind that.
macro_rules! left_sql {
    () => {
        "(erased_at IS NULL
          OR EXISTS (SELECT 1 FROM notification WHERE notification.call_id = call.id)
          OR EXISTS (SELECT 1 FROM request WHERE request.call_id = call.id))"
    };
}

/// A call, from whichever sources, and what claimed to be about it.
async fn of_call(connection: &mut SqliteConnection, call: &PlatformId) -> Result<Doomed, StoreError> {
    let calls = sqlx::query_scalar(concat!("SELECT id FROM call WHERE call_id = ?1 AND ", left_sql!()))
        .bind(call.as_str())
        .fetch_all(&mut *connection)
        .await?;
    let notifications = sqlx::query_scalar("SELECT id FROM notification WHERE call_id = 0 AND subject = ?1")
        .bind(quarantine_subject(call))
        .fetch_all(connection)
        .await?;
    Ok(Doomed { calls, notifications })
}

/// Calls of which an erasure has left something because it was cut off. What has been told since was not asked to be forgotten: a call of
/// which there is such is left to who names it.
async fn unfinished(connection: &mut SqliteConnection) -> Result<Vec<i64>, StoreError> {
    let sql = "SELECT id FROM call
               WHERE erased_at IS NOT NULL
                 AND erased_at > (SELECT max(at)
                                  FROM (SELECT max(received_at) AS at FROM notification WHERE notification.call_id = call.id
                                        UNION ALL
                                        SELECT max(requested_at) FROM request WHERE request.call_id = call.id))";
    Ok(sqlx::query_scalar(sql).fetch_all(connection).await?)
}

/// Looks for somebody wherever people are: by the keyed hashes that each call has for them, and in what is sealed.
struct Search<'a> {
    master: &'a MasterKey,
    /// In lower case.
    name: String,
}

/// A notification and its delivery, with what is sealed of them.
type Sealed = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>);

impl<'a> Search<'a> {
    fn new(master: &'a MasterKey, name: &str) -> Self {
        Self { master, name: name.trim().to_lowercase() }
    }

    async fn run(&self, connection: &mut SqliteConnection) -> Result<Doomed, StoreError> {
        let mut doomed = Doomed::default();
        let mut after = 0;
        loop {
            let calls: Vec<(i64, Option<Vec<u8>>)> =
                sqlx::query_as(concat!("SELECT id, data_key FROM call WHERE id > ?1 AND ", left_sql!(), " ORDER BY id LIMIT ?2"))
                    .bind(after)
                    .bind(AT_ONCE)
                    .fetch_all(&mut *connection)
                    .await?;
            let Some((last, _)) = calls.last() else { break };
            after = *last;
            for (call, data_key) in calls {
                let seal = data_key.map(|key| self.master.data_key(&call_key_place(call), &key)).transpose()?;
                let is_known = match &seal {
                    Some(seal) => self.is_hashed_in(connection, call, seal).await?,
                    None => false,
                };
                if is_known || self.is_sealed_in(connection, call, seal.as_ref()).await? {
                    doomed.calls.push(call);
                }
            }
        }
        doomed.notifications = self.strays(connection).await?;
        Ok(doomed)
    }

    /// By keyed hashes, which are there as long as the call is.
    async fn is_hashed_in(&self, connection: &mut SqliteConnection, call: i64, seal: &Seal) -> Result<bool, StoreError> {
        let tokens: Vec<String> = spellings(&self.name).iter().map(|name| seal.token(name)).collect();
        Ok(sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM person WHERE call_id = ?1 AND token IN (SELECT unhex(value) FROM json_each(?2)))
                 OR EXISTS (SELECT 1 FROM notification, json_each(?2) AS token
                            WHERE call_id = ?1 AND instr(facts, token.value) > 0)
                 OR EXISTS (SELECT 1 FROM request, json_each(?2) AS token WHERE call_id = ?1 AND instr(facts, token.value) > 0)",
        )
        .bind(call)
        .bind(json(&tokens)?)
        .fetch_one(connection)
        .await?)
    }

    /// In what is sealed for it, as long as that is kept.
    async fn is_sealed_in(&self, connection: &mut SqliteConnection, call: i64, seal: Option<&Seal>) -> Result<bool, StoreError> {
        let mut after = 0;
        loop {
            let told: Vec<Sealed> = sqlx::query_as(
                "SELECT notification.id, delivery.id, personal, delivery.data_key, body
                 FROM notification
                 JOIN delivery ON delivery.id = delivery_id
                 WHERE notification.call_id = ?1 AND notification.id > ?2
                 ORDER BY notification.id
                 LIMIT ?3",
            )
            .bind(call)
            .bind(after)
            .bind(AT_ONCE)
            .fetch_all(&mut *connection)
            .await?;
            let Some((last, ..)) = told.last() else { return Ok(false) };
            after = *last;
            for (notification, delivery, personal, own_key, body) in told {
                if let (Some(personal), Some(seal)) = (personal, seal)
                    && self.is_named_in(&seal.open(&personal_place(notification), &personal)?)
                {
                    return Ok(true);
                }
                let own = own_key.map(|key| self.master.data_key(&delivery_key_place(delivery), &key)).transpose()?;
                if let (Some(body), Some(seal)) = (body, own.as_ref().or(seal))
                    && self.is_named_in(&seal.open(&body_place(delivery), &body)?)
                {
                    return Ok(true);
                }
            }
        }
    }

    /// What belongs to no call and names them: quarantine, what could not be read.
    async fn strays(&self, connection: &mut SqliteConnection) -> Result<Vec<i64>, StoreError> {
        let (mut found, mut after) = (Vec::new(), 0);
        loop {
            let rows: Vec<(i64, i64, Vec<u8>, Vec<u8>)> = sqlx::query_as(
                "SELECT notification.id, delivery.id, delivery.data_key, body
                 FROM notification
                 JOIN delivery ON delivery.id = delivery_id
                 WHERE notification.call_id = 0 AND notification.id > ?1 AND body IS NOT NULL AND delivery.data_key IS NOT NULL
                 ORDER BY notification.id
                 LIMIT ?2",
            )
            .bind(after)
            .bind(AT_ONCE)
            .fetch_all(&mut *connection)
            .await?;
            let Some((last, ..)) = rows.last() else { return Ok(found) };
            after = *last;
            for (notification, delivery, own, body) in rows {
                let seal = self.master.data_key(&delivery_key_place(delivery), &own)?;
                if self.is_named_in(&seal.open(&body_place(delivery), &body)?) {
                    found.push(notification);
                }
            }
        }
    }

    /// Whether the name stands in a text by itself, in any case: not as a part of a longer one.
    fn is_named_in(&self, text: &[u8]) -> bool {
        let text = String::from_utf8_lossy(text).to_lowercase();
        let is_part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        text.match_indices(&self.name).any(|(at, found)| {
            let (before, behind) = (text.get(..at), text.get(at + found.len()..));
            !is_part(before.and_then(|text| text.chars().next_back())) && !is_part(behind.and_then(|text| text.chars().next()))
        })
    }
}
