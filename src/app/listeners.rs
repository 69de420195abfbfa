//! The two listeners: how many they serve, how long they wait.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    num::NonZeroU32,
    time::Duration,
};

use actix_http::{HttpServiceBuilder, Request, Response, TlsAcceptorConfig};
use actix_service::map_config;
use actix_tls::accept::max_concurrent_tls_connect;
use actix_web::{
    App as Actix, HttpServer,
    body::BoxBody,
    dev::{AppConfig, Server, ServiceFactory},
    middleware::from_fn,
};
use socket2::{Domain, Socket, Type};
use tracing_actix_web::TracingLogger;

use super::{BuildError, tls::Certificate};
use crate::{
    config::{Config, Network},
    http::{
        api::{self, Api, Guard, Service},
        crowd::Crowd,
        metrics::Metrics,
        patience::{Patience, attend},
        public::{self, Entrance},
        threshold::Threshold,
        trace::RequestSpan,
    },
    store::arrive_together,
};

/// How long open requests have to end, once a shutdown has begun (seconds).
const DRAIN_SECONDS: u64 = 7;
/// How long a connection may pause behind an answer, or less if a head has less.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a TLS handshake may take, or less if a head has less.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// How long a peer has to close a connection that we have closed.
const PARTING: Duration = Duration::from_secs(1);
/// How many connections may wait to be accepted. Beyond them the system drops what comes, and who calls tries again a second later.
const WAITING: i32 = 1024;
/// Threads of the private listener.
const PRIVATE_WORKERS: usize = 1;
/// Files that each connection is: the server's own, and ours to end it.
const FILES_EACH: usize = 2;
/// Files that are open besides connections: the ledger's, outbound requests, our own.
const OTHER_FILES: usize = 512;

/// A bound listener, and how patient it is.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) listener: TcpListener,
    /// How long the head of a request may take.
    head_time: Duration,
    pub(super) max_connections: usize,
}

pub(super) fn bind(address: SocketAddr) -> Result<TcpListener, BuildError> {
    listen(address).map_err(|source| BuildError::Bind { address, source })
}

/// As the standard library does it, with a longer queue.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(cfg!(unix))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(WAITING)?;
    Ok(socket.into())
}

pub(super) fn serve_public(
    door: Door,
    service: &Service,
    entrance: &Entrance,
    certificate: Option<&Certificate>,
) -> io::Result<Server> {
    let (receivers, entrance, crowd) = (service.receivers.clone(), entrance.clone(), entrance.crowd.clone());
    let app = move || {
        // called by each of the threads that serve
        arrive_together();
        let (receivers, entrance) = (receivers.clone(), entrance.clone());
        let app = Actix::new()
            .wrap(TracingLogger::<RequestSpan>::new())
            .wrap(from_fn(attend))
            .configure(|app| public::configure(app, &receivers, &entrance));
        map_config(app, |()| AppConfig::default())
    };
    let workers = public_workers();
    // beyond this nobody is served while handshakes are awaited, of whomsoever: places are what bounds them
    max_concurrent_tls_connect(door.max_connections);
    let server = Server::build()
        .workers(workers)
        .max_concurrent_connections((door.max_connections / workers).max(1)) // of each of them
        .disable_signals()
        .shutdown_timeout(DRAIN_SECONDS);
    let ending = server.graceful_shutdown_signal();
    let ending = move || {
        let ending = ending.clone();
        async move { ending.notified().await }
    };
    let http = Http { head_time: door.head_time, pause: door.pause(), patience: door.patience(), ending };
    let server = match certificate.map(Certificate::server_config).transpose()? {
        Some(tls) => server.listen("public", door.listener, move || {
            let handshake = TlsAcceptorConfig::default().handshake_timeout(http.head_time.min(HANDSHAKE));
            let behind = http.service().finish(app()).rustls_0_23_with_config(tls.clone(), handshake);
            Threshold { crowd: crowd.clone(), behind }
        })?,
        None => server.listen("public", door.listener, move || {
            let behind = http.service().finish(app()).tcp();
            Threshold { crowd: crowd.clone(), behind }
        })?,
    };
    Ok(server.run())
}

/// What `HttpServer` makes of a connection. Its own hook is called behind the handshake: too late to count who never shakes hands.
#[derive(Clone)]
struct Http<E> {
    head_time: Duration,
    pause: Duration,
    patience: Patience,
    /// Resolves once a shutdown has begun.
    ending: E,
}

impl<E, F> Http<E>
where
    E: Fn() -> F + Clone + 'static,
    F: Future<Output = ()> + 'static,
{
    fn service<T, S>(&self) -> HttpServiceBuilder<T, S>
    where
        T: 'static,
        S: ServiceFactory<Request, Config = ()>,
        S::Error: Into<Response<BoxBody>> + 'static,
        S::InitError: fmt::Debug,
        <S::Service as actix_web::dev::Service<Request>>::Future: 'static,
    {
        let patience = self.patience.clone();
        HttpServiceBuilder::default()
            .graceful_shutdown_signal(self.ending.clone())
            .client_request_timeout(self.head_time)
            .client_disconnect_timeout(PARTING)
            .keep_alive(self.pause)
            .on_connect_ext(move |connection: &T, data| patience.meet(connection, data))
    }
}

/// One core less than there are: everybody waits for the writer, which needs one.
fn public_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() - 1).max(1))
}

pub(super) fn serve_private(door: Door, guard: Guard, api: Api) -> io::Result<Server> {
    let server = HttpServer::new(move || {
        let guard = guard.clone();
        Actix::new()
            .wrap(from_fn(move |request, next| guard.clone().check(request, next)))
            .wrap(TracingLogger::<RequestSpan>::new())
            .wrap(from_fn(attend))
            .configure(|app| api::configure(app, &api))
    });
    let patience = door.patience();
    let server = server
        .workers(PRIVATE_WORKERS)
        .max_connections((door.max_connections / PRIVATE_WORKERS).max(1))
        .client_request_timeout(door.head_time)
        .keep_alive(door.pause())
        .on_connect(move |connection, data| patience.meet(connection, data))
        .disable_signals()
        .shutdown_timeout(DRAIN_SECONDS);
    Ok(server.listen(door.listener)?.run())
}

impl Door {
    pub(super) fn open(address: SocketAddr, head_time: NonZeroU32, max_connections: usize) -> Result<Self, BuildError> {
        Ok(Self { listener: bind(address)?, head_time: seconds(head_time), max_connections })
    }

    fn pause(&self) -> Duration {
        self.head_time.min(PAUSE)
    }

    /// Behind an answer, a pause and a head.
    fn patience(&self) -> Patience {
        Patience::of(self.pause() + self.head_time)
    }
}

/// What all receivers have in common.
pub(super) fn entrance(config: &Config, metrics: &Metrics) -> Entrance {
    let proxies = config.public.trusted_proxies.iter().map(Network::net).collect();
    Entrance {
        crowd: Crowd::new(proxies, config.public.max_connections_per_address, metrics.clone()),
        body_time: seconds(config.public.body_timeout_seconds),
        metrics: metrics.clone(),
    }
}

pub(super) fn seconds(seconds: NonZeroU32) -> Duration {
    Duration::from_secs(u64::from(seconds.get()))
}

/// Connections are open files.
pub(super) fn raise_limit_of_files(connections: usize) {
    let wanted = u64::try_from(connections * FILES_EACH + OTHER_FILES).unwrap_or(u64::MAX);
    match rlimit::increase_nofile_limit(wanted) {
        Ok(limit) if limit >= wanted => {}
        Ok(limit) => {
            tracing::warn!(limit, wanted, "fewer files may be open than there may be connections: raise the limit (ulimit -n)");
        }
        Err(error) => tracing::warn!(%error, wanted, "the limit of open files cannot be raised"),
    }
}
