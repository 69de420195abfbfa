//! The key sets of a whole service: one per metadata URL, however many receivers believe it, so that the limits on
//! fetching hold for the publisher and not for each receiver.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{KeySetStatus, KeySettings, SetupError, key_source::KeySource};
use crate::net::{HttpClient, is_loopback};

/// The key sets of a service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KeyStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: HttpClient,
    settings: KeySettings,
    sources: Mutex<Vec<Arc<KeySource>>>,
}

impl KeyStore {
    /// An empty store; authenticators add what they believe. It fetches nothing yet: see [`Self::keep_fresh`].
    #[must_use]
    pub fn new(client: HttpClient, settings: KeySettings) -> Self {
        Self(Arc::new(Shared { client, settings, sources: Mutex::default() }))
    }

    /// Loads the keys and keeps them fresh, until the shutdown.
    pub async fn keep_fresh(self, shutdown: CancellationToken) {
        let all = join_all(self.sources().into_iter().map(KeySource::keep_fresh));
        shutdown.run_until_cancelled(all).await;
        shutdown.cancelled().await; // there may be no set to keep
    }

    /// How the key sets are doing; given keys are not among them.
    #[must_use]
    pub fn key_sets(&self) -> Vec<KeySetStatus> {
        self.sources().iter().map(|source| source.status()).collect()
    }

    pub(super) fn settings(&self) -> &KeySettings {
        &self.0.settings
    }

    /// The one source of this metadata, made at its first mention.
    pub(super) fn source(&self, url: &Url) -> Result<Arc<KeySource>, SetupError> {
        if url.scheme() != "https" && !is_loopback(url) {
            return Err(SetupError::MetadataAddress { url: url.clone() }); // rule 4: https, http for loopback only
        }
        let mut sources = self.0.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sources.iter().find(|source| source.metadata() == url) {
            return Ok(Arc::clone(known));
        }
        let source = Arc::new(KeySource::new(url.clone(), self.0.client.clone(), self.0.settings));
        sources.push(Arc::clone(&source));
        Ok(source)
    }

    fn sources(&self) -> Vec<Arc<KeySource>> {
        self.0.sources.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
