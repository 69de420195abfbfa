//! The requests that are on their way, which neither a bot that hangs up nor a listener that closes may cut short.

use std::time::Duration;

use tokio::{runtime::Handle, task::JoinHandle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long the last word on requests may take that are given up.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Runs what must go to its end. Cheap to clone; the clones run one lot.
#[derive(Clone, Debug)]
pub struct InFlight {
    tasks: TaskTracker,
    given_up: CancellationToken,
    runtime: Handle,
}

impl InFlight {
    /// Runs on this runtime, which outlives the listeners and their threads.
    #[must_use]
    pub fn on(runtime: Handle) -> Self {
        Self { tasks: TaskTracker::new(), given_up: CancellationToken::new(), runtime }
    }

    pub(super) fn run<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.tasks.spawn_on(task, &self.runtime)
    }

    /// Until what is still open is given up.
    pub(super) async fn given_up(&self) {
        self.given_up.cancelled().await;
    }

    /// Waits until all have ended; those that have not after this time are given up.
    pub async fn end(&self, patience: Duration) {
        self.tasks.close();
        if timeout(patience, self.tasks.wait()).await.is_err() {
            tracing::warn!(requests = self.tasks.len(), "requests are given up: what the platform answers to them is lost");
            self.given_up.cancel();
            let _over = timeout(LAST_WORD, self.tasks.wait()).await;
        }
    }
}
