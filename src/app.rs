//! The composition root: the only file that constructs everything.
//!
//! [`App::build`] opens the ledger and binds both listeners; the caller then knows their addresses. [`App::run_until`]
//! serves until its shutdown comes: no new requests, open ones are answered, the ledger is closed, within 10 s.

mod credentials;
pub mod embedded;
mod forwards;
mod listeners;
pub mod platform;
mod receivers;
mod tls;
mod tokens;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::{join, join_all};
use tokio::{runtime::Handle, sync::broadcast, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use url::Url;

pub use self::tokens::{GoodTokens, new_token};
use self::{
    listeners::{Door, bind, entrance, raise_limit_of_files, seconds, serve_private, serve_public},
    receivers::build_receiver,
    tls::Certificate,
};
use crate::{
    auth::{DevIssuer, DevIssuerError, KeySetStatus, KeySettings, KeyStore, SetupError, self_test},
    config::{Config, KnownSource},
    domain::{clock::Clock, delivery::BotAnswer, operation::Deadlines},
    feed::{
        follow::Feed,
        forward::{BadSecret, Forwarder, Target, Works},
    },
    gateway::{Gateway, InFlight},
    http::{
        api::{Api, Followers, Guard, Service},
        metrics::Metrics,
        public::Entrance,
    },
    net::{HttpClient, Secret},
    receive::Receiver,
    source::{NotificationSource, SOURCES, source},
    store::{self, Ledger, OpenError, StoreError, removal::Keep},
};

/// How long requests have to be answered that the gateway has passed on.
const FORWARDS_DRAIN: Duration = Duration::from_secs(8);
/// How many decisions of bots may wait to be heard.
const DECISIONS: usize = 256;

/// What is not in the configuration file: choices of the command line and of tests.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The master key as text, if the environment brings it.
    pub master_key: Option<Secret>,
    /// Where "now" comes from.
    pub clock: Clock,
    /// How keys are fetched.
    pub keys: KeySettings,
    /// The issuer that development mode believes instead of the configured ones.
    pub dev_issuer: Option<Arc<DevIssuer>>,
}

/// A service could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The ledger could not be opened.
    #[error(transparent)]
    Ledger(#[from] OpenError),
    /// The ledger could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A listener could not be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A receiver's trust policy cannot be used.
    #[error(transparent)]
    Trust(#[from] SetupError),
    /// The cryptography does not work.
    #[error(transparent)]
    Cryptography(#[from] DevIssuerError),
    /// The outbound HTTP client could not be set up.
    #[error("the outbound HTTP client cannot be set up")]
    Client(#[source] crate::net::FetchError),
    /// A credential of the gateway cannot be used.
    #[error("the credential in {} cannot be used: {why}", file.display())]
    Credentials {
        /// Where it is.
        file: PathBuf,
        /// Why not.
        why: String,
    },
    /// A secret that signs what is forwarded cannot be used.
    #[error("what is forwarded to {name} cannot be signed: {why}")]
    Forward {
        /// To whom.
        name: String,
        /// Why not.
        why: BadSecret,
    },
    /// What is forwarded would lead into a private network, or nowhere.
    #[error("what is forwarded to {name} would not leave this network: `allow_private = true` if that is meant")]
    PrivateForward {
        /// To whom.
        name: String,
    },
    /// The certificate of the public listener cannot be used.
    #[error("the certificate in {} cannot be used: {why}", file.display())]
    Certificate {
        /// Where it, or its key, is.
        file: PathBuf,
        /// Why not.
        why: String,
    },
    /// A receiver names a source that does not exist.
    #[error("there is no source named {0}")]
    NoSource(String),
}

/// A service, built and bound, not yet serving.
#[derive(Debug)]
pub struct App {
    public: Door,
    private: Door,
    entrance: Entrance,
    certificate: Option<Certificate>,
    guard: Guard,
    tokens: GoodTokens,
    api: Api,
    service: Service,
    forwards: (Vec<Target>, Works),
    writer: JoinHandle<()>,
}

/// What verifies and remembers, whoever listens.
struct Parts {
    ledger: Ledger,
    writer: JoinHandle<()>,
    keys: KeyStore,
    receivers: Vec<Arc<Receiver>>,
    metrics: Metrics,
    client: HttpClient,
    /// What bots decide.
    answers: broadcast::Sender<BotAnswer>,
}

impl Parts {
    async fn build(config: &Config, surroundings: &Surroundings) -> Result<Self, BuildError> {
        self_test()?;
        let metrics = Metrics::new();
        let (ledger, writer) = Ledger::open(ledger_options(config, surroundings, &metrics)).await?;
        let client = HttpClient::new().map_err(BuildError::Client)?;
        let (remembered_tokens, max_waiting) = (config.public.remembered_tokens, config.public.max_waiting_for_keys);
        let settings = KeySettings { remembered_tokens, max_waiting, ..surroundings.keys };
        let keys = KeyStore::new(client.clone(), settings);
        let answers = broadcast::channel(DECISIONS).0;
        let receivers = config
            .receivers
            .iter()
            .map(|receiver| build_receiver(config, receiver, &ledger, &keys, &answers, surroundings).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { ledger, writer, keys, receivers, metrics, client, answers })
    }
}

/// How to open the ledger that the configuration names.
#[must_use]
pub fn ledger_options(config: &Config, surroundings: &Surroundings, metrics: &Metrics) -> store::Options {
    let metrics = metrics.clone();
    let deadlines = &config.lifecycle.deadline_seconds;
    store::Options {
        path: config.ledger.url.path().to_owned(),
        master_key: surroundings.master_key.clone(),
        clock: surroundings.clock.clone(),
        disconnect_grace: Duration::from_secs(u64::from(config.lifecycle.disconnect_grace_seconds.get())),
        deadlines: Deadlines { default: deadlines.default, by_kind: deadlines.by_kind.clone() },
        forward_targets: forwards::names(config),
        retention: SOURCES.iter().map(|source| (source.name().to_owned(), keep(config, source.name()))).collect(),
        observer: Arc::new(move |committed| metrics.committed(committed)),
    }
}

/// How long is kept what came from a source.
fn keep(config: &Config, source: &str) -> Keep {
    let (bodies, everything) = config.retention.of(source);
    Keep { bodies, everything }
}

impl App {
    /// Opens the ledger, builds the receivers, binds the listeners.
    ///
    /// # Errors
    /// [`BuildError`].
    pub async fn build(config: &Config, surroundings: Surroundings) -> Result<Self, BuildError> {
        let Parts { ledger, writer, keys, receivers, metrics, client, answers } = Parts::build(config, &surroundings).await?;
        let clock = surroundings.clock.clone();
        let tokens = GoodTokens::of(&config.private, ledger.reader(), clock.clone()).await?;
        let guard = Guard { tokens: tokens.subscribe(), open_secrets: surroundings.dev_issuer.is_some(), clock };
        let targets = forwards::targets(config, &client, &surroundings)?;
        let private_too = config.gateway.allow_private_upstreams || surroundings.dev_issuer.is_some();
        let outbound = if private_too { client } else { HttpClient::for_public_hosts().map_err(BuildError::Client)? };
        let in_flight = InFlight::on(Handle::current());
        let gateways = gateways(config, &outbound, (&ledger, &in_flight), &surroundings.clock)?;
        let observer = metrics.clone();
        let works = Works {
            ledger: ledger.clone(),
            clock: surroundings.clock.clone(),
            told: forwards::told,
            observer: Arc::new(move |name, went, took| observer.forward(name, went, took)),
            answers,
        };
        let forwarder = Forwarder::default();
        let entrance = entrance(config, &metrics);
        let body_time = seconds(config.private.body_timeout_seconds);
        let service = Service { ledger: ledger.clone(), receivers, gateways, in_flight, forwarder, keys, metrics, body_time };
        let [followers, per_token] = [config.feed.followers, config.feed.followers_per_token]
            .map(|number| usize::try_from(number.get()).unwrap_or(usize::MAX));
        let api = Api {
            reader: ledger.reader().clone(),
            service: Some(service.clone()),
            feed: Feed::new(ledger.reader().clone(), surroundings.clock.clone()),
            followers: Followers::new(followers, per_token),
            clock: surroundings.clock,
            shutdown: CancellationToken::new(),
        };
        let certificate = config.public.tls.as_ref().map(Certificate::load).transpose()?;
        let (public, private) = (&config.public, &config.private);
        let public = Door::open(public.bind, public.head_timeout_seconds, public.max_connections)?;
        let private = Door::open(private.bind, private.head_timeout_seconds, private.max_connections)?;
        raise_limit_of_files(public.max_connections + private.max_connections);
        Ok(Self { public, private, entrance, certificate, guard, tokens, api, service, forwards: (targets, works), writer })
    }

    /// The tokens that are good, to be changed while the service runs.
    #[must_use]
    pub fn good_tokens(&self) -> GoodTokens {
        self.tokens.clone()
    }

    /// Where the public listener listens.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn public_address(&self) -> io::Result<SocketAddr> {
        self.public.listener.local_addr()
    }

    /// Where the private listener listens.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn private_address(&self) -> io::Result<SocketAddr> {
        self.private.listener.local_addr()
    }

    /// Whether the public listener speaks TLS.
    #[must_use]
    pub const fn is_https(&self) -> bool {
        self.certificate.is_some()
    }

    /// Fetches the keys of every receiver without serving, and says how they stand once all are there or `patience` is over.
    pub async fn key_sets_within(self, patience: Duration) -> Vec<KeySetStatus> {
        let (stop, keys) = (CancellationToken::new(), self.service.keys);
        let keeper = tokio::spawn(keys.clone().keep_fresh(stop.clone()));
        let ready = async {
            while !keys.key_sets().iter().all(|set| set.loaded) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        // Elapsed: the status says what is missing.
        let _elapsed = tokio::time::timeout(patience, ready).await;
        stop.cancel();
        let _ended = keeper.await;
        keys.key_sets()
    }

    /// Serves until `shutdown` resolves, then ends in good order.
    ///
    /// # Errors
    /// If a listener cannot be served.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let Self { public, private, entrance, certificate, guard, tokens, mut api, mut service, .. } = self;
        let ((targets, works), writer) = (self.forwards, self.writer);
        let stopping = api.shutdown.clone();
        let keeper = tokio::spawn(service.keys.clone().keep_fresh(stopping.clone()));
        let keeping_up = tokio::spawn(tokens.keep_up(service.ledger.reader().clone(), stopping.clone()));
        let last = CancellationToken::new();
        let (forwarder, forwarding) = Forwarder::start(targets, &works, &last);
        service.forwarder = forwarder;
        api.service = Some(service.clone());
        let renewing = certificate.clone().map(|certificate| tokio::spawn(certificate.keep_fresh(stopping.clone())));
        let public = serve_public(public, &service, &entrance, certificate.as_ref())?;
        let private = serve_private(private, guard, api.clone())?;
        let handles = [public.handle(), private.handle()];
        let mut serving = tokio::spawn(async { tokio::try_join!(public, private).map(drop) });

        let outcome = tokio::select! {
            () = shutdown => None,
            ended = &mut serving => Some(ended),
        };
        tracing::info!("shutting down");
        let give_up = Instant::now() + FORWARDS_DRAIN;
        stopping.cancel();
        join_all(handles.iter().map(|handle| handle.stop(true))).await;
        let outcome = match outcome {
            Some(ended) => ended,
            None => serving.await,
        };
        // They end with `stopping`; if one panicked, it has said so.
        let _ended = (keeper.await, keeping_up.await);
        if let Some(renewing) = renewing {
            let _ended = renewing.await;
        }
        // a bot may have had to decide until now
        last.cancel();
        join(service.in_flight.end(give_up - Instant::now()), join_all(forwarding)).await;
        service.ledger.close().await;
        if writer.await.is_err() {
            tracing::error!("the ledger's writer did not end in good order");
        }
        outcome.map_err(io::Error::other)?
    }
}

/// The ways to the platforms that are configured.
fn gateways(
    config: &Config,
    client: &HttpClient,
    (ledger, in_flight): (&Ledger, &InFlight),
    clock: &Clock,
) -> Result<Vec<Gateway>, BuildError> {
    let signers = [("graph", credentials::for_graph(config, client)?), ("acs", credentials::for_acs(config, client)?)];
    let upstreams = [("graph", &config.gateway.graph), ("acs", &config.gateway.acs)];
    let gateway = |(name, upstream): (&str, &Option<Url>)| {
        Some(Gateway {
            source: source(name)?,
            upstream: upstream.clone()?,
            signer: signers.iter().find(|(of, _)| *of == name).and_then(|(_, signer)| signer.clone()),
            pass_unrecognised: config.gateway.pass_unrecognised,
            client: client.clone(),
            ledger: ledger.clone(),
            in_flight: in_flight.clone(),
            clock: clock.clone(),
        })
    };
    Ok(upstreams.into_iter().filter_map(gateway).collect())
}

/// The sources that a receiver can have, as the configuration needs to know them.
#[must_use]
pub fn known_sources() -> Vec<KnownSource> {
    let known = |source: &&dyn NotificationSource| {
        let defaults = source.trust_defaults();
        KnownSource {
            name: source.name(),
            usual_path: source.usual_path(),
            secret_suffices: defaults.secret_suffices,
            issuers_by_tenant: defaults.are_by_tenant(),
        }
    };
    SOURCES.iter().map(known).collect()
}
