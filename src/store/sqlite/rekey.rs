//! Another master key: every data key is sealed anew, in one transaction, and nothing else has to be touched.
//!
//! The key file and the database cannot change in one step, so the new key is there first, as `<ledger>.key.new`: who finds both after
//! a crash can tell by `ledger.key_check` which of them is in force, and puts it in its place.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::{
    KEY_CHECK, KEY_CHECK_PLACE, Repair, call_key_place, check_key, delivery_key_place, file_error, in_force, lock, master_key,
    recognise, sealed_hash_key, up_to_date, writing,
};
use crate::{
    net::Secret,
    store::{
        MasterKey, OpenError, Options, StoreError, key_path,
        seal::HASH_KEY_PLACE,
        sqlite::batch::{hex, json},
    },
};

/// How many keys are sealed anew with one statement.
const AT_ONCE: i64 = 1000;

/// Where a key lies that is not in force yet.
pub(super) fn new_key_path(ledger: &Path) -> PathBuf {
    with_suffix(&key_path(ledger), "new")
}

/// Where a key is put that was in force before: beside those before it, of which each opens copies of its own time.
fn old_key_path(ledger: &Path) -> PathBuf {
    let key = key_path(ledger);
    let numbered = (2..).map(|number: u32| with_suffix(&key, &format!("old-{number}")));
    std::iter::once(with_suffix(&key, "old")).chain(numbered).find(|path| !path.exists()).unwrap_or(key)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// Puts a new key in force: the one that is given, else one that is made and put in the key file's place. Says how many data keys it
/// seals, and where the key file from before is.
pub(in crate::store) async fn rekey(options: &Options, given: Option<&Secret>) -> Result<(u64, Option<PathBuf>), OpenError> {
    let path = &options.path;
    if !path.is_file() {
        return Err(OpenError::Missing { path: path.display().to_string() });
    }
    let _lock = lock(path)?;
    let mut connection = writing(path).connect().await.map_err(StoreError::from)?;
    recognise(&mut connection, path).await?;
    up_to_date(&mut connection, path).await?;
    let old = in_force(&mut connection, master_key(options, false)?, options, Repair::Yes).await?;
    check_key(&mut connection, &old, path).await?;
    let place = new_key_path(path);
    let new = if let Some(text) = given {
        MasterKey::from_text(text.expose())?
    } else {
        remove_left_over(&place)?;
        MasterKey::create(&place)?
    };
    let sealed = seal_anew(&mut connection, &old, &new).await?;
    let before = if given.is_none() { put_in_place(path)? } else { None };
    // the old key would still open what the log of the database holds
    let _emptied = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await;
    connection.close().await.map_err(StoreError::from)?;
    Ok((sealed, before))
}

/// Of a change of keys that did not come to its commit.
fn remove_left_over(place: &Path) -> Result<(), OpenError> {
    match fs::remove_file(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error(place, error)),
        _ => Ok(()),
    }
}

/// The new key becomes the key; the one before stays beside it, for copies that were made under it. Says where.
pub(super) fn put_in_place(ledger: &Path) -> Result<Option<PathBuf>, OpenError> {
    let (key, new, old) = (key_path(ledger), new_key_path(ledger), old_key_path(ledger));
    let there = key.is_file();
    if there {
        fs::rename(&key, &old).map_err(|source| file_error(&old, source))?;
    }
    fs::rename(&new, &key).map_err(|source| file_error(&key, source))?;
    let folder = key.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| file_error(folder, source))?;
    Ok(there.then_some(old))
}

async fn seal_anew(connection: &mut SqliteConnection, old: &MasterKey, new: &MasterKey) -> Result<u64, StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let calls = Keys {
        select: "SELECT id, data_key FROM call WHERE id > ?1 AND data_key IS NOT NULL ORDER BY id LIMIT ?2",
        update: "UPDATE call SET data_key = unhex(value ->> 1) FROM json_each(?1) WHERE call.id = value ->> 0",
        place: call_key_place,
    };
    let deliveries = Keys {
        select: "SELECT id, data_key FROM delivery WHERE id > ?1 AND data_key IS NOT NULL ORDER BY id LIMIT ?2",
        update: "UPDATE delivery SET data_key = unhex(value ->> 1) FROM json_each(?1) WHERE delivery.id = value ->> 0",
        place: delivery_key_place,
    };
    let sealed = calls.seal_anew(&mut transaction, old, new).await? + deliveries.seal_anew(&mut transaction, old, new).await?;
    let hash_key = match sealed_hash_key(&mut transaction).await? {
        Some(sealed) => Some(new.seal(HASH_KEY_PLACE, &old.open(HASH_KEY_PLACE, &sealed)?)?),
        None => None,
    };
    sqlx::query("UPDATE ledger SET key_check = ?1, hash_key = ?2")
        .bind(new.seal(KEY_CHECK_PLACE, KEY_CHECK)?)
        .bind(hash_key)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(sealed)
}

/// The data keys of a table.
struct Keys {
    select: &'static str,
    update: &'static str,
    place: fn(i64) -> String,
}

impl Keys {
    async fn seal_anew(&self, connection: &mut SqliteConnection, old: &MasterKey, new: &MasterKey) -> Result<u64, StoreError> {
        let (mut sealed, mut after) = (0, 0);
        loop {
            let rows: Vec<(i64, Vec<u8>)> =
                sqlx::query_as(self.select).bind(after).bind(AT_ONCE).fetch_all(&mut *connection).await?;
            let Some((last, _)) = rows.last() else { return Ok(sealed) };
            after = *last;
            let mut anew = Vec::with_capacity(rows.len());
            for (id, key) in rows {
                let place = (self.place)(id);
                anew.push((id, hex(&new.seal(&place, &old.open(&place, &key)?)?)));
            }
            sealed += sqlx::query(self.update).bind(json(&anew)?).execute(&mut *connection).await?.rows_affected();
        }
    }
}
