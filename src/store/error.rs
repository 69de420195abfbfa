//! What can go wrong, and whose fault that is.

use std::io;

use super::{
    seal::{MasterKeyError, SealError},
    sqlite,
};

/// A delivery was not recorded. Nothing of it was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The queue had no room for 2 s.
    #[error("the ledger is busy")]
    Busy,
    /// The database cannot be written now: locked, full, read-only, broken.
    #[error("the ledger cannot be written")]
    Unavailable,
    /// The database refused this very delivery.
    #[error("the ledger refused the delivery")]
    Refused,
    /// The ledger is closing.
    #[error("the ledger is closing")]
    Closed,
}

/// A ledger could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such file.
    #[error("there is no ledger at {path}")]
    Missing {
        /// Where it should be.
        path: String,
    },
    /// A file, but not of ours.
    #[error("{path} is not a ledger")]
    NotALedger {
        /// Which file.
        path: String,
    },
    /// Made by a later version.
    #[error("{path} was written by a newer version of callback-ledger (migration {version}); install that version")]
    Newer {
        /// Which file.
        path: String,
        /// The migration that we do not know.
        version: i64,
    },
    /// Needs migrations that only a server applies.
    #[error("{path} was written by an older version of callback-ledger; start the server once to bring it up to date")]
    Older {
        /// Which file.
        path: String,
    },
    /// Somebody else writes it.
    #[error("another process serves {path}")]
    InUse {
        /// Which file.
        path: String,
    },
    /// Its key is not there.
    #[error("the master key of {path} is missing: put it back at {key}, or set CALLBACK_LEDGER_MASTER_KEY")]
    KeyMissing {
        /// Which ledger.
        path: String,
        /// Where its key should be.
        key: String,
    },
    /// The key is another ledger's.
    #[error("the master key is not that of {path}")]
    KeyWrong {
        /// Which ledger.
        path: String,
    },
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] MasterKeyError),
    /// A file beside the ledger cannot be used.
    #[error("{path} cannot be opened")]
    File {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A migration failed; nothing of it was kept.
    #[error("{path} could not be brought up to date")]
    Migration {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The database itself failed.
    #[error(transparent)]
    Database(#[from] StoreError),
}

/// A read or an upkeep task failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The query took longer than a query may.
    #[error("the query took too long")]
    TooLong,
    /// The database failed. The driver's message names its cause, so there is no further source to walk to.
    #[error("the database failed: {0}")]
    Database(sqlx::Error),
    /// A row holds what we never write.
    #[error("{table} {id} holds an unreadable {column}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row.
        id: i64,
    },
    /// A sealed value does not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A file could not be written.
    #[error("{path} cannot be written")]
    File {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if sqlite::is_interrupt(&error) { Self::TooLong } else { Self::Database(error) }
    }
}
