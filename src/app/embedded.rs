//! The receivers in somebody's own actix-web application: verified, recorded, and told as a stream.

use std::sync::Arc;

use actix_web::web::ServiceConfig;
use futures_util::{Stream, TryStreamExt, stream};
use tokio::{sync::Mutex, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{BuildError, Parts, Surroundings, entrance};
use crate::{
    config::Config,
    domain::ids::Seq,
    feed::follow::{Feed, Followed, Follower},
    http::public::{self, Entrance},
    receive,
    store::{
        Ledger, LedgerReader, StoreError,
        log::{ChangeFilter, ChangeKind, ChangeRow, Changed},
        rows::NotificationRow,
    },
};

/// The configured receivers with their ledger, without listeners of their own. Cheap to clone.
///
/// Of the configuration it reads `ledger`, `receiver`, `lifecycle`, `retention` and those of `public` that are about bodies and
/// proxies; there is no private API. Nothing is answered with 2xx before it is on the disk, as in the service: it is the same code.
///
/// Connections are the application's own, and so is their number: `max_connections_per_address` holds only for requests that come
/// through one of the `trusted_proxies`, where it is they that are counted.
///
/// ```no_run
/// use actix_web::{App, HttpServer};
/// use callback_ledger::{Receiver, app::{Surroundings, known_sources}, config::Config};
/// use futures_util::{StreamExt, pin_mut};
///
/// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::load(Some("callback-ledger.toml".as_ref()), [])?.for_service(&known_sources())?;
/// let receiver = Receiver::open(&config, Surroundings::default()).await?;
/// let mounted = receiver.clone();
/// let server = HttpServer::new(move || App::new().configure(|app| mounted.configure(app))).bind("127.0.0.1:8080")?.run();
/// let serving = tokio::spawn(server);
///
/// let notifications = receiver.notifications(None).await?;
/// pin_mut!(notifications);
/// while let Some(notification) = notifications.next().await {
///     println!("{:?}", notification?.facts);
/// }
/// serving.await??;
/// receiver.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Receiver {
    receivers: Vec<Arc<receive::Receiver>>,
    ledger: Ledger,
    entrance: Entrance,
    feed: Feed,
    stop: CancellationToken,
    /// The writer of the ledger and the keeper of the keys; taken by whoever closes first.
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Receiver {
    /// Opens the ledger and begins to fetch the issuers' keys; until they are there, callers are answered 503. Takes a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`BuildError`].
    pub async fn open(config: &Config, surroundings: Surroundings) -> Result<Self, BuildError> {
        // who hears of notifications here is the application
        let mut config = config.clone();
        config.forwards.clear();
        let Parts { ledger, writer, keys, receivers, metrics, .. } = Parts::build(&config, &surroundings).await?;
        let entrance = entrance(&config, &metrics);
        let stop = CancellationToken::new();
        let keeper = tokio::spawn(keys.keep_fresh(stop.clone()));
        let feed = Feed::new(ledger.reader().clone(), surroundings.clock);
        Ok(Self { receivers, ledger, entrance, feed, stop, tasks: Arc::new(Mutex::new(vec![keeper, writer])) })
    }

    /// Adds one resource for each receiver, at its path; everything else stays the application's own.
    pub fn configure(&self, app: &mut ServiceConfig) {
        public::mount(app, &self.receivers, &self.entrance);
    }

    /// Whether callers can be believed at every receiver, and what they say can be written down.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ledger.is_writable() && self.receivers.iter().all(|receiver| receiver.authenticator.is_ready())
    }

    /// What the ledger knows.
    #[must_use]
    pub fn reader(&self) -> &LedgerReader {
        self.ledger.reader()
    }

    /// What changes behind `after`, else from now on, in the order of `seq`: each once, and all of it. Where retention has removed
    /// what was asked for, it goes on behind that. Ends when this is closed.
    ///
    /// # Errors
    /// [`StoreError`], here if the ledger cannot be read, in the stream if it no longer can.
    pub async fn changes(
        &self,
        filter: ChangeFilter,
        after: Option<Seq>,
    ) -> Result<impl Stream<Item = Result<ChangeRow, StoreError>> + use<>, StoreError> {
        let follower = self.feed.follow(filter, after).await?;
        Ok(stream::try_unfold((follower, self.stop.clone()), next_page).try_flatten())
    }

    /// The notifications alone, as they are recorded.
    ///
    /// # Errors
    /// Those of [`Self::changes`].
    pub async fn notifications(
        &self,
        after: Option<Seq>,
    ) -> Result<impl Stream<Item = Result<NotificationRow, StoreError>> + use<>, StoreError> {
        let filter = ChangeFilter { about: vec![ChangeKind::Notification], ..ChangeFilter::default() };
        Ok(self.changes(filter, after).await?.try_filter_map(async |row| match row.what {
            Changed::Notification(row) => Ok(Some(*row)),
            _ => Ok(None),
        }))
    }

    /// Takes nothing more, ends the streams, and closes the ledger once all that was taken is on the disk. Stop the server first.
    pub async fn close(&self) {
        self.stop.cancel();
        self.ledger.close().await;
        for task in self.tasks.lock().await.drain(..) {
            if task.await.is_err() {
                tracing::error!("a task of the receivers did not end in good order");
            }
        }
    }
}

type Page = stream::Iter<std::iter::Map<std::vec::IntoIter<ChangeRow>, fn(ChangeRow) -> Result<ChangeRow, StoreError>>>;
type Place = (Follower, CancellationToken);

/// The next lines that a follower gets; `None` once it is told to stop.
async fn next_page((mut reader, stop): Place) -> Result<Option<(Page, Place)>, StoreError> {
    loop {
        let followed = tokio::select! {
            followed = reader.next() => followed?,
            () = stop.cancelled() => return Ok(None),
        };
        match followed {
            Followed::Changes(rows) => {
                let told: fn(ChangeRow) -> Result<ChangeRow, StoreError> = Ok;
                return Ok(Some((stream::iter(rows.into_iter().map(told)), (reader, stop))));
            }
            Followed::Gap { after, resumes_after } => {
                tracing::warn!(%after, %resumes_after, "a follower asked for changes that are no longer kept");
            }
        }
    }
}
