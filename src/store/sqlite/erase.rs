//! Erasing: a call, or every call in which somebody is.

use jiff::Timestamp;
use sqlx::{Connection, SqliteConnection};

use super::{
    batch::quarantine_subject,
    body_place, call_key_place, delivery_key_place, open_for_reading, personal_place,
    remove::{Doomed, remove},
    writing,
};
use crate::{
    domain::ids::PlatformId,
    store::{
        MasterKey, OpenError, Options, StoreError,
        removal::{Forgotten, Removed},
        seal::Seal,
    },
};

/// How many calls, or notifications without one, are looked through at a time.
const AT_ONCE: i64 = 500;

pub(in crate::store) async fn erase(
    options: &Options,
    whom: &Forgotten,
    now: Timestamp,
    dry_run: bool,
) -> Result<Removed, OpenError> {
    let (readers, master) = open_for_reading(options).await?;
    readers.close().await;
    // what is deleted is overwritten
    let connect = writing(&options.path).pragma("secure_delete", "ON");
    let mut connection = sqlx::ConnectOptions::connect(&connect).await.map_err(StoreError::from)?;
    let doomed = match whom {
        Forgotten::Call(call) => of_call(&mut connection, call).await?,
        Forgotten::Participant(name) => Search::new(&master, name).run(&mut connection).await?,
    };
    let removed = carry_out(&mut connection, &doomed, now, dry_run).await?;
    if !dry_run && !doomed.is_empty() {
        // whatever of it is in the write-ahead log; a reader in its way will have gone by the next checkpoint
        let _emptied = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await;
    }
    connection.close().await.map_err(StoreError::from)?;
    Ok(removed)
}

async fn carry_out(
    connection: &mut SqliteConnection,
    doomed: &Doomed,
    now: Timestamp,
    dry_run: bool,
) -> Result<Removed, StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let removed = remove(&mut transaction, doomed, Some(now.as_millisecond())).await?;
    if dry_run {
        transaction.rollback().await?;
    } else {
        transaction.commit().await?;
    }
    Ok(removed)
}

/// A call, from whichever sources, and what claimed to be about it.
async fn of_call(connection: &mut SqliteConnection, call: &PlatformId) -> Result<Doomed, StoreError> {
    let calls = sqlx::query_scalar("SELECT id FROM call WHERE call_id = ?1 AND erased_at IS NULL")
        .bind(call.as_str())
        .fetch_all(&mut *connection)
        .await?;
    let loose = sqlx::query_scalar("SELECT id FROM notification WHERE call_id = 0 AND subject = ?1")
        .bind(quarantine_subject(call))
        .fetch_all(connection)
        .await?;
    Ok(Doomed { calls, loose })
}

/// Looks for somebody wherever people are: by the keyed hash that each call has for them, and in what is sealed.
struct Search<'a> {
    master: &'a MasterKey,
    name: String,
}

type Sealed = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>);

impl<'a> Search<'a> {
    fn new(master: &'a MasterKey, name: &str) -> Self {
        Self { master, name: name.trim().to_lowercase() }
    }

    async fn run(&self, connection: &mut SqliteConnection) -> Result<Doomed, StoreError> {
        let mut doomed = Doomed::default();
        let mut after = 0;
        loop {
            let calls: Vec<(i64, Vec<u8>)> =
                sqlx::query_as("SELECT id, data_key FROM call WHERE id > ?1 AND data_key IS NOT NULL ORDER BY id LIMIT ?2")
                    .bind(after)
                    .bind(AT_ONCE)
                    .fetch_all(&mut *connection)
                    .await?;
            let Some((last, _)) = calls.last() else { break };
            after = *last;
            for (call, data_key) in calls {
                let seal = self.master.data_key(&call_key_place(call), &data_key)?;
                if self.is_in(connection, call, &seal).await? {
                    doomed.calls.push(call);
                }
            }
        }
        doomed.loose = self.loose(connection).await?;
        Ok(doomed)
    }

    async fn is_in(&self, connection: &mut SqliteConnection, call: i64, seal: &Seal) -> Result<bool, StoreError> {
        let token = seal.token(&self.name);
        let named: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM notification WHERE call_id = ?1 AND instr(facts, ?2) > 0)
                 OR EXISTS (SELECT 1 FROM request WHERE call_id = ?1 AND instr(facts, ?2) > 0)",
        )
        .bind(call)
        .bind(token)
        .fetch_one(&mut *connection)
        .await?;
        if named {
            return Ok(true);
        }
        let told: Vec<Sealed> = sqlx::query_as(
            "SELECT notification.id, delivery.id, personal, delivery.data_key, body
             FROM notification
             JOIN delivery ON delivery.id = delivery_id
             WHERE notification.call_id = ?1",
        )
        .bind(call)
        .fetch_all(connection)
        .await?;
        for (notification, delivery, personal, own_key, body) in told {
            if let Some(personal) = personal
                && self.is_named_in(&seal.open(&personal_place(notification), &personal)?)
            {
                return Ok(true);
            }
            let Some(body) = body else { continue };
            let body = match own_key {
                Some(own) => self.master.data_key(&delivery_key_place(delivery), &own)?.open(&body_place(delivery), &body)?,
                None => seal.open(&body_place(delivery), &body)?,
            };
            if self.is_named_in(&body) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What belongs to no call and names them: strays, quarantine, what could not be read.
    async fn loose(&self, connection: &mut SqliteConnection) -> Result<Vec<i64>, StoreError> {
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
