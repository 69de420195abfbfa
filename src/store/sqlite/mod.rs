//! The SQLite engine: one writer connection, a pool of read-only ones, WAL.
//!
//! - here: opening, and what every connection is told
//! - [`writer`], [`checkpoint`]: the queue and its group commits; the log that they are written to
//! - [`batch`]: one transaction, from deliveries to projections
//! - [`projection`]: how operations and calls are saved; [`lookup`], [`sorting`], [`merging`]: how operations are found, and when that is
//!   sorted; [`classes`]: what lists are asked for by
//! - [`requests`], [`strays`]: what bots ask for, and where that belongs which names no call
//! - [`forwards`]: what the bots have been told
//! - [`read`]: every query of the API
//! - [`tokens`]: who may use the private API
//! - [`upkeep`], [`rekey`]: verify, rebuild, backup; another master key
//! - [`retention`], [`prune`], [`erase`], [`remove`]: what goes, and when

mod batch;
mod checkpoint;
mod classes;
pub(super) mod erase;
mod facts;
mod forwards;
mod lookup;
mod merging;
mod positions;
mod projection;
pub(super) mod prune;
pub(super) mod read;
mod rejections;
pub(super) mod rekey;
mod remove;
mod requests;
pub(super) mod retention;
mod rows;
mod settle;
mod sorting;
mod strays;
pub(super) mod tokens;
pub(super) mod upkeep;
pub(super) mod work;
pub(super) mod writer;

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions, SqliteConnection, SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{MasterKey, OpenError, Options, StoreError, key_path, seal::TokenHasher};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// `PRAGMA application_id` of our files, as the first migration sets it.
const APPLICATION_ID: i64 = 1_128_418_375;
/// What `ledger.key_check` says once it is opened, and where it belongs.
const KEY_CHECK: &[u8] = b"callback-ledger";
const KEY_CHECK_PLACE: &str = "ledger/key_check";
/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Readers beside the writer.
const READERS: u32 = 4;

/// An open ledger: what the writer and the readers are made of.
pub(super) struct Opened {
    pub(super) writer: SqliteConnection,
    pub(super) connect: SqliteConnectOptions,
    pub(super) readers: SqlitePool,
    pub(super) master: Arc<MasterKey>,
    pub(super) hasher: TokenHasher,
    /// Held as long as the ledger is served.
    pub(super) lock: File,
}

/// Opens for writing; makes the file and its key if there are none.
pub(super) async fn open(options: &Options) -> Result<Opened, OpenError> {
    let path = &options.path;
    let lock = lock(path)?;
    let is_new = !path.try_exists().map_err(|source| file_error(path, source))? || is_empty(path)?;
    let master = master_key(options, is_new)?;
    if is_new {
        create_private(path)?;
    }
    let connect = writing(path);
    let mut writer = connect.connect().await.map_err(|error| not_ours(path, error))?;
    recognise(&mut writer, path).await?;
    MIGRATIONS.run(&mut writer).await.map_err(|error| migration_error(path, error))?;
    classes::fill(&mut writer).await?;
    let master = in_force(&mut writer, master, options, Repair::Yes).await?;
    check_key(&mut writer, &master, path).await?;
    let hasher = hash_key(&mut writer, &master).await?;
    forwards::know_targets(&mut writer, &options.forward_targets).await?;
    let readers = readers(path).await?;
    Ok(Opened { writer, connect, readers, master: Arc::new(master), hasher, lock })
}

/// Opens an existing, up-to-date ledger for reading.
pub(super) async fn open_for_reading(options: &Options) -> Result<(SqlitePool, Arc<MasterKey>), OpenError> {
    let path = &options.path;
    if !path.is_file() || is_empty(path)? {
        return Err(OpenError::Missing { path: path.display().to_string() });
    }
    let master = master_key(options, false)?;
    let readers = readers(path).await?;
    let mut connection = readers.acquire().await.map_err(|error| not_ours(path, error))?;
    recognise(&mut connection, path).await?;
    up_to_date(&mut connection, path).await?;
    let master = in_force(&mut connection, master, options, Repair::No).await?;
    check_key(&mut connection, &master, path).await?;
    drop(connection);
    Ok((readers, Arc::new(master)))
}

/// Opens a second connection for writing, beside a server or without one.
pub(super) async fn open_beside(options: &Options) -> Result<SqliteConnection, OpenError> {
    let (readers, _master) = open_for_reading(options).await?;
    readers.close().await;
    writing(&options.path).connect().await.map_err(|error| not_ours(&options.path, error))
}

fn options(path: &Path) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .pragma("trusted_schema", "OFF")
        .pragma("temp_store", "MEMORY");
    // statements without their values, for who asks for `sqlx::query=trace`; slow ones are no news of their own
    match "trace".parse() {
        Ok(trace) => options.log_statements(trace).log_slow_statements(trace, Duration::MAX),
        Err(_unknown) => options.disable_statement_logging(),
    }
}

/// The writer: durable at every commit (`synchronous=FULL` syncs the WAL), with a WAL of about 128 MiB ([`checkpoint`]) and at the most
/// twice that, so that pages that many commits touch are copied back once.
fn writing(path: &Path) -> SqliteConnectOptions {
    options(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", "64000")
        .pragma("journal_size_limit", "134217728")
        .pragma("cache_size", "-8192")
        // keys of calls that are erased must not stay in what the file no longer uses
        .pragma("secure_delete", "ON")
}

async fn readers(path: &Path) -> Result<SqlitePool, OpenError> {
    SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(Duration::from_secs(5))
        .connect_with(options(path).read_only(true).pragma("cache_size", "-4096"))
        .await
        .map_err(|error| not_ours(path, error))
}

/// One server per ledger: positions are given out in memory.
fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let failed = |source| file_error(&name, source);
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&name).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.display().to_string() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn is_empty(path: &Path) -> Result<bool, OpenError> {
    std::fs::metadata(path).map(|data| data.len() == 0).map_err(|source| file_error(path, source))
}

fn create_private(path: &Path) -> Result<(), OpenError> {
    let created = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    created.map(drop).map_err(|source| file_error(path, source))
}

fn file_error(path: &Path, source: std::io::Error) -> OpenError {
    OpenError::File { path: path.display().to_string(), source }
}

/// The key from the environment, else from its file; for a new ledger it is made.
fn master_key(options: &Options, is_new: bool) -> Result<MasterKey, OpenError> {
    if let Some(text) = &options.master_key {
        return Ok(MasterKey::from_text(text.expose())?);
    }
    let key = key_path(&options.path);
    match MasterKey::load(&key)? {
        Some(master) => Ok(master),
        None if is_new => Ok(MasterKey::create(&key)?),
        // a change of keys may have ended between its two renames
        None => MasterKey::load(&rekey::new_key_path(&options.path))?
            .ok_or_else(|| OpenError::KeyMissing { path: options.path.display().to_string(), key: key.display().to_string() }),
    }
}

/// A file with tables that are not ours is left alone.
async fn recognise(connection: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let (application, tables): (i64, i64) =
        sqlx::query_as("SELECT (SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_schema)")
            .fetch_one(connection)
            .await
            .map_err(|error| not_ours(path, error))?;
    if tables > 0 && application != APPLICATION_ID {
        return Err(OpenError::NotALedger { path: path.display().to_string() });
    }
    Ok(())
}

async fn up_to_date(connection: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let applied: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
        .fetch_one(&mut *connection)
        .await
        .map_err(|error| not_ours(path, error))?;
    let known = MIGRATIONS.iter().map(|migration| migration.version).max();
    let path = path.display().to_string();
    match applied {
        Some(version) if Some(version) > known => Err(OpenError::Newer { path, version }),
        applied if applied < known => Err(OpenError::Older { path }),
        // what brings it up to date was cut off
        _ if classes::are_missing(connection).await.map_err(StoreError::from)? => Err(OpenError::Older { path }),
        _ => Ok(()),
    }
}

/// Whether a change of keys that was cut off is brought to its end: only by who holds the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repair {
    Yes,
    No,
}

/// The key that is in force: a change of keys may have ended between its commit and the change of the key file.
async fn in_force(
    connection: &mut SqliteConnection,
    master: MasterKey,
    options: &Options,
    repair: Repair,
) -> Result<MasterKey, OpenError> {
    let path = &options.path;
    let place = rekey::new_key_path(path);
    if options.master_key.is_some() || !place.is_file() {
        return Ok(master);
    }
    let master = match check_key(connection, &master, path).await {
        // the new key was not in force yet, or the one that was found was the new one
        Ok(()) if key_path(path).is_file() => return Ok(master),
        Err(OpenError::KeyWrong { .. }) => match MasterKey::load(&place)? {
            Some(new) if check_key(connection, &new, path).await.is_ok() => new,
            _ => return Ok(master),
        },
        Ok(()) => master,
        Err(error) => return Err(error),
    };
    if repair == Repair::Yes {
        rekey::put_in_place(path)?;
    }
    Ok(master)
}

/// Opens the known text, or, in a ledger that was just made, writes it.
async fn check_key(connection: &mut SqliteConnection, master: &MasterKey, path: &Path) -> Result<(), OpenError> {
    let check: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT key_check FROM ledger").fetch_optional(&mut *connection).await.map_err(StoreError::from)?;
    let Some(check) = check else {
        let check = master.seal(KEY_CHECK_PLACE, KEY_CHECK).map_err(StoreError::from)?;
        sqlx::query("INSERT INTO ledger (id, created_at, key_check) VALUES (1, unixepoch('subsec') * 1000, ?1)")
            .bind(check)
            .execute(connection)
            .await
            .map_err(StoreError::from)?;
        return Ok(());
    };
    match master.open(KEY_CHECK_PLACE, &check) {
        Ok(text) if text.as_slice() == KEY_CHECK => Ok(()),
        _ => Err(OpenError::KeyWrong { path: path.display().to_string() }),
    }
}

/// The key of the hashes; made, if there is none yet.
async fn hash_key(connection: &mut SqliteConnection, master: &MasterKey) -> Result<TokenHasher, StoreError> {
    if let Some(sealed) = sealed_hash_key(connection).await? {
        return Ok(TokenHasher::open(master, &sealed)?);
    }
    let (hasher, sealed) = TokenHasher::create(master)?;
    sqlx::query("UPDATE ledger SET hash_key = ?1").bind(sealed).execute(connection).await?;
    Ok(hasher)
}

async fn sealed_hash_key(connection: &mut SqliteConnection) -> Result<Option<Vec<u8>>, StoreError> {
    let sealed: Option<Option<Vec<u8>>> = sqlx::query_scalar("SELECT hash_key FROM ledger").fetch_optional(connection).await?;
    Ok(sealed.flatten())
}

fn migration_error(path: &Path, error: MigrateError) -> OpenError {
    let path = path.display().to_string();
    match error {
        MigrateError::VersionMissing(version) => OpenError::Newer { path, version },
        other => OpenError::Migration { path, source: Box::new(other) },
    }
}

/// `SQLITE_NOTADB`: a file, but not a database.
fn not_ours(path: &Path, error: sqlx::Error) -> OpenError {
    if primary_code(&error) == Some(26) {
        return OpenError::NotALedger { path: path.display().to_string() };
    }
    OpenError::Database(StoreError::from(error))
}

/// SQLite's primary result code (<https://sqlite.org/rescode.html>).
fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

/// Whether a statement was stopped because its time was over (`SQLITE_INTERRUPT`).
pub(super) fn is_interrupt(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(9)
}

/// Whether the database refused the data, rather than failed: then a smaller batch can still succeed.
/// `SQLITE_ERROR`, `TOOBIG`, `CONSTRAINT`, `MISMATCH`, `RANGE`.
fn is_refusal(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(1 | 18 | 19 | 20 | 25))
        || matches!(error, sqlx::Error::Encode(_) | sqlx::Error::RowNotFound)
}

/// The place that a call's wrapped data key is sealed for.
fn call_key_place(call: i64) -> String {
    format!("call/{call}/data_key")
}

/// The place that a delivery's own data key is sealed for.
fn delivery_key_place(delivery: i64) -> String {
    format!("delivery/{delivery}/data_key")
}

/// The place that a delivery's body is sealed for.
fn body_place(delivery: i64) -> String {
    format!("delivery/{delivery}/body")
}

/// The place that a delivery's headers are sealed for.
fn head_place(delivery: i64) -> String {
    format!("delivery/{delivery}/head")
}

/// The place that a notification's personal facts are sealed for.
fn personal_place(notification: i64) -> String {
    format!("notification/{notification}/personal")
}
