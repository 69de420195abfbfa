//! Copies the write-ahead log back into the database, beside the writer.
//!
//! `SQLite` does that within the commit that makes the log long enough: tens of milliseconds for which everybody waits. Here a second
//! connection copies what there is while the writer goes on, and the writer then only copies what has come meanwhile, so that its next
//! commit begins the log anew. Should neither come to it, the writer's own connection still does it by itself, later
//! (`wal_autocheckpoint`).

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// How long the log may become, about, in pages (128 MiB); and how many pages a commit writes whatever is in it, and for each delivery:
/// measured, at one delivery a commit and at 32.
const PAGES: usize = 32_000;
const PAGES_A_COMMIT: usize = 10;
const PAGES_A_DELIVERY: usize = 2;

/// About how many pages a commit of so many deliveries writes.
pub(super) const fn pages(deliveries: usize) -> usize {
    PAGES_A_COMMIT + PAGES_A_DELIVERY * deliveries
}

/// Who copies.
pub(super) struct Checkpointer {
    wanted: Arc<Notify>,
    copied: Arc<AtomicBool>,
    /// Written since it was last wanted.
    pages: usize,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Checkpointer {
    pub(super) fn start(connect: SqliteConnectOptions) -> Self {
        let (wanted, copied, stop) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)), CancellationToken::new());
        let task = tokio::spawn(copy(connect, Arc::clone(&wanted), Arc::clone(&copied), stop.clone()));
        Self { wanted, copied, pages: 0, stop, task }
    }

    /// About so many pages were written. Whether the writer is to copy what is left now.
    pub(super) fn wrote(&mut self, pages: usize) -> bool {
        self.pages += pages;
        if self.pages >= PAGES {
            self.pages = 0;
            self.wanted.notify_one();
        }
        self.copied.swap(false, Ordering::Relaxed)
    }

    /// Closes its connection.
    pub(super) async fn end(self) {
        self.stop.cancel();
        let _ended = self.task.await;
    }
}

async fn copy(connect: SqliteConnectOptions, wanted: Arc<Notify>, copied: Arc<AtomicBool>, stop: CancellationToken) {
    let mut connection = None;
    loop {
        tokio::select! {
            () = wanted.notified() => {}
            () = stop.cancelled() => break,
        }
        match try_copy(&connect, &mut connection).await {
            Ok(()) => copied.store(true, Ordering::Relaxed),
            Err(error) => {
                // nothing depends on it: the writer does it by itself
                tracing::debug!(%error, "the write-ahead log could not be copied back");
                connection = None;
            }
        }
    }
    if let Some(connection) = connection {
        let _closed = connection.close().await;
    }
}

async fn try_copy(connect: &SqliteConnectOptions, connection: &mut Option<SqliteConnection>) -> Result<(), sqlx::Error> {
    let connection = match connection {
        Some(connection) => connection,
        none => none.insert(connect.connect().await?),
    };
    // what came during the first time is little enough the second time that the writer is left with hardly anything
    now(connection).await?;
    now(connection).await
}

/// Copies what nobody needs in the log any more, and waits for nobody.
pub(super) async fn now(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(connection).await.map(drop)
}
