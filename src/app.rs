//! The composition root: the only file that constructs everything.
//!
//! [`App::build`] opens the ledger and binds both listeners; the caller then knows their addresses. [`App::run_until`]
//! serves until its shutdown comes: no new requests, open ones are answered, the ledger is closed, within 10 s.

mod credentials;
pub mod embedded;
pub mod platform;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    num::NonZeroU32,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use actix_web::{App as Actix, HttpServer, dev::Server, middleware::from_fn};
use tokio::{runtime::Handle, sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing_actix_web::TracingLogger;
use url::Url;

use crate::{
    auth::{Authenticator, DevIssuer, DevIssuerError, KeySetStatus, KeySettings, KeyStore, SetupError, self_test},
    config::{Config, KnownSource, ParticipantJoining, Receiver as ReceiverConfig, Scope, Token},
    domain::{
        clock::Clock,
        ids::PlatformId,
        operation::Deadlines,
        trust::{KeyOrigin, SharedSecret, TrustEntry, TrustPolicy},
    },
    feed::follow::Feed,
    gateway::{Gateway, InFlight},
    http::{
        api::{self, Api, Followers, Guard, PrivateToken, Service},
        metrics::Metrics,
        public,
        trace::RequestSpan,
    },
    net::{HttpClient, Secret},
    receive::{Greetings, Receiver, Redirect},
    source::{Answers, JoinAnswer, NotificationSource, SOURCES, source},
    store::{self, Ledger, OpenError},
};

/// How long open requests have to end, once a shutdown has begun (seconds).
const DRAIN_SECONDS: u64 = 7;
/// How long requests have to be answered that the gateway has passed on.
const FORWARDS_DRAIN: Duration = Duration::from_secs(8);
/// Threads of the private listener; the public one has one per core.
const PRIVATE_WORKERS: usize = 1;

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
    /// A receiver names a source that does not exist.
    #[error("there is no source named {0}")]
    NoSource(String),
}

/// A service, built and bound, not yet serving.
#[derive(Debug)]
pub struct App {
    public: TcpListener,
    private: TcpListener,
    guard: Guard,
    tokens: Arc<watch::Sender<Arc<Vec<PrivateToken>>>>,
    api: Api,
    service: Service,
    writer: JoinHandle<()>,
}

/// The tokens of a running service that are good.
#[derive(Clone, Debug)]
pub struct GoodTokens(Arc<watch::Sender<Arc<Vec<PrivateToken>>>>);

impl GoodTokens {
    /// From now on those of this configuration: a stream that another token had opened ends. `false`: nothing was changed, because
    /// a listener that asks for tokens does not stop asking.
    #[must_use]
    pub fn replace(&self, config: &Config) -> bool {
        let tokens = private_tokens(config);
        let closed = !tokens.is_empty() || self.0.borrow().is_empty();
        if closed {
            self.0.send_replace(tokens);
        }
        closed
    }
}

fn private_tokens(config: &Config) -> Arc<Vec<PrivateToken>> {
    let token = |token: &Token| PrivateToken {
        name: token.name.clone(),
        sha256: token.sha256.as_bytes().to_vec(),
        secrets: token.scopes.contains(&Scope::Secrets),
        write: token.scopes.contains(&Scope::Write),
    };
    Arc::new(config.private.tokens.iter().map(token).collect())
}

/// What verifies and remembers, whoever listens.
struct Parts {
    ledger: Ledger,
    writer: JoinHandle<()>,
    keys: KeyStore,
    receivers: Vec<Arc<Receiver>>,
    metrics: Metrics,
    client: HttpClient,
}

impl Parts {
    async fn build(config: &Config, surroundings: &Surroundings) -> Result<Self, BuildError> {
        self_test()?;
        let metrics = Metrics::new();
        let (ledger, writer) = Ledger::open(ledger_options(config, surroundings, &metrics)).await?;
        let client = HttpClient::new().map_err(BuildError::Client)?;
        let keys = KeyStore::new(client.clone(), surroundings.keys);
        let receivers = config
            .receivers
            .iter()
            .map(|receiver| build_receiver(config, receiver, &ledger, &keys, surroundings).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { ledger, writer, keys, receivers, metrics, client })
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
        observer: Arc::new(move |committed| metrics.committed(committed)),
    }
}

impl App {
    /// Opens the ledger, builds the receivers, binds the listeners.
    ///
    /// # Errors
    /// [`BuildError`].
    pub async fn build(config: &Config, surroundings: Surroundings) -> Result<Self, BuildError> {
        let Parts { ledger, writer, keys, receivers, metrics, client } = Parts::build(config, &surroundings).await?;
        let tokens = Arc::new(watch::Sender::new(private_tokens(config)));
        let guard = Guard { tokens: tokens.subscribe(), open_secrets: surroundings.dev_issuer.is_some() };
        let private_too = config.gateway.allow_private_upstreams || surroundings.dev_issuer.is_some();
        let outbound = if private_too { client } else { HttpClient::for_public_hosts().map_err(BuildError::Client)? };
        let in_flight = InFlight::on(Handle::current());
        let gateways = gateways(config, &outbound, (&ledger, &in_flight), &surroundings.clock)?;
        let service = Service { ledger: ledger.clone(), receivers, gateways, in_flight, keys, metrics };
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
        Ok(Self { public: bind(config.public.bind)?, private: bind(config.private.bind)?, guard, tokens, api, service, writer })
    }

    /// The tokens that are good, to be changed while the service runs.
    #[must_use]
    pub fn good_tokens(&self) -> GoodTokens {
        GoodTokens(Arc::clone(&self.tokens))
    }

    /// Where the public listener listens.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn public_address(&self) -> io::Result<SocketAddr> {
        self.public.local_addr()
    }

    /// Where the private listener listens.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn private_address(&self) -> io::Result<SocketAddr> {
        self.private.local_addr()
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
        let Self { public, private, guard, tokens: _tokens, api, service, writer } = self;
        let stopping = api.shutdown.clone();
        let keeper = tokio::spawn(service.keys.clone().keep_fresh(stopping.clone()));
        let public = serve_public(public, &service)?;
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
        futures_util::future::join_all(handles.iter().map(|handle| handle.stop(true))).await;
        let outcome = match outcome {
            Some(ended) => ended,
            None => serving.await,
        };
        // It ends with `stopping`; if it panicked, it has said so.
        let _ended = keeper.await;
        service.in_flight.end(give_up - Instant::now()).await;
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

fn build_receiver(
    config: &Config,
    receiver: &ReceiverConfig,
    ledger: &Ledger,
    keys: &KeyStore,
    surroundings: &Surroundings,
) -> Result<Receiver, BuildError> {
    let source = source(&receiver.source).ok_or_else(|| BuildError::NoSource(receiver.source.clone()))?;
    let mut policy = trust_policy(receiver, source);
    if let Some(issuer) = &surroundings.dev_issuer {
        policy.entries = vec![issuer.trust_entry()];
        policy.publishers.clone_from(&receiver.publishers);
    }
    let clock = surroundings.clock.clone();
    let authenticator = Authenticator::new(&receiver.path, &policy, keys, clock.clone())?;
    Ok(Receiver {
        path: receiver.path.clone(),
        source,
        authenticator,
        greetings: Greetings {
            allowed_origins: receiver.allowed_origins.clone(),
            allowed_rate: receiver.allowed_rate.map(NonZeroU32::get),
        },
        redirects: receiver
            .redirects
            .iter()
            .map(|rule| Redirect {
                to: rule.to.clone(),
                tenants: rule.tenants.iter().filter_map(|tenant| PlatformId::parse(tenant)).collect(),
                regions: rule.regions.clone(),
                percent: rule.percent,
            })
            .collect(),
        answers: Answers {
            participant_joining: match receiver.participant_joining {
                ParticipantJoining::Accept => JoinAnswer::Accept,
                ParticipantJoining::Reject(reason) => JoinAnswer::Reject(reason.as_str().to_owned()),
            },
        },
        max_body_bytes: receiver.max_body_bytes.or(source.max_body_bytes()).unwrap_or(config.public.max_body_bytes),
        ledger: ledger.clone(),
        clock,
    })
}

/// Whom a receiver believes: what is configured, else what its source's senders use.
fn trust_policy(receiver: &ReceiverConfig, source: &dyn NotificationSource) -> TrustPolicy {
    let defaults = source.trust_defaults();
    let entries = if receiver.trust.is_empty() {
        // issuers that depend on no tenant are the same for any
        let tenants = if defaults.are_by_tenant() { receiver.tenants.clone() } else { vec![String::new()] };
        let entry = |tenant: &String| {
            let tenant = PlatformId::parse(tenant).map(|id| id.to_string()).unwrap_or_default(); // as issuers spell it
            let (issuers, metadata) = defaults.of_tenant(&tenant);
            let metadata = metadata.iter().filter_map(|url| url.parse().ok()).collect();
            TrustEntry {
                issuers: if receiver.issuers.is_empty() { issuers } else { receiver.issuers.clone() },
                keys: KeyOrigin::Metadata(if receiver.metadata.is_empty() { metadata } else { receiver.metadata.clone() }),
            }
        };
        if receiver.issuers.is_empty() || receiver.metadata.is_empty() {
            tenants.iter().map(entry).collect()
        } else {
            vec![entry(&String::new())]
        }
    } else {
        let entry = |trust: &crate::config::Trust| TrustEntry {
            issuers: trust.issuers.clone(),
            keys: KeyOrigin::Metadata(trust.metadata.clone()),
        };
        receiver.trust.iter().map(entry).collect()
    };
    TrustPolicy {
        audiences: receiver.audience.clone(),
        tenant_required: defaults.tenant_required,
        tenants: receiver.tenants.clone(),
        publishers: if receiver.publishers.is_empty() {
            defaults.publishers.iter().map(|publisher| (*publisher).to_owned()).collect()
        } else {
            receiver.publishers.clone()
        },
        secret: receiver.secret.as_ref().map(|secret| SharedSecret::new(secret.expose())),
        entries,
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, BuildError> {
    let bound = TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    bound.map_err(|source| BuildError::Bind { address, source })
}

fn serve_public(listener: TcpListener, service: &Service) -> io::Result<Server> {
    let Service { receivers, metrics, .. } = service.clone();
    let server = HttpServer::new(move || {
        Actix::new().wrap(TracingLogger::<RequestSpan>::new()).configure(|app| public::configure(app, &receivers, &metrics))
    });
    Ok(server.disable_signals().shutdown_timeout(DRAIN_SECONDS).listen(listener)?.run())
}

fn serve_private(listener: TcpListener, guard: Guard, api: Api) -> io::Result<Server> {
    let server = HttpServer::new(move || {
        let guard = guard.clone();
        Actix::new()
            .wrap(from_fn(move |request, next| guard.clone().check(request, next)))
            .wrap(TracingLogger::<RequestSpan>::new())
            .configure(|app| api::configure(app, &api))
    });
    let server = server.workers(PRIVATE_WORKERS).disable_signals().shutdown_timeout(DRAIN_SECONDS);
    Ok(server.listen(listener)?.run())
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
