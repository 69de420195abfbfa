//! The two listeners: how many they serve, how long they wait.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    num::NonZeroU32,
    time::Duration,
};

use actix_web::{App as Actix, HttpServer, dev::Server, middleware::from_fn};
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
        trace::RequestSpan,
    },
    store::arrive_together,
};

/// How long open requests have to end, once a shutdown has begun (seconds).
const DRAIN_SECONDS: u64 = 7;
/// How long a connection may pause behind an answer, or less if a head has less.
const PAUSE: Duration = Duration::from_secs(5);
/// How many connections may wait to be accepted. Beyond them the system drops what comes, and who calls tries again a second later.
const WAITING: i32 = 1024;
/// Threads of the private listener; the public one has one per core.
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
    let server = HttpServer::new(move || {
        // called by each of the threads that serve
        arrive_together();
        Actix::new()
            .wrap(TracingLogger::<RequestSpan>::new())
            .wrap(from_fn(attend))
            .configure(|app| public::configure(app, &receivers, &entrance))
    });
    let (workers, patience) = (public_workers(), door.patience());
    let server = server
        .workers(workers)
        .max_connections((door.max_connections / workers).max(1)) // of each of them
        .client_request_timeout(door.head_time)
        .keep_alive(door.pause())
        .on_connect(move |connection, data| {
            crowd.meet(connection, data);
            patience.meet(connection, data);
        })
        .disable_signals()
        .shutdown_timeout(DRAIN_SECONDS);
    let server = match certificate {
        Some(certificate) => server.listen_rustls_0_23(door.listener, certificate.server_config()?)?,
        None => server.listen(door.listener)?,
    };
    Ok(server.run())
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
