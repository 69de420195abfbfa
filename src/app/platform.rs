//! The simulated platforms, put together: a listener, the platform behind it, and the postman who brings its callbacks.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use actix_web::{
    App as Actix, HttpResponse, HttpServer,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    middleware::{Next, from_fn},
};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{BuildError, bind};
use crate::{
    auth::DevIssuer,
    config::DEV_AUDIENCE,
    domain::clock::Clock,
    http::platform::{self, SimulatedPlatform},
    net::HttpClient,
    simulator::{Ids, Mischief, Pace, Platform, Postman, Simulator, acs::Acs, graph::Graph},
};

/// Which platform is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Played {
    /// Graph cloud communications.
    Graph,
    /// Call Automation, and Event Grid for its incoming calls.
    Acs,
}

/// How a platform is to be played.
#[derive(Debug)]
pub struct Simulation {
    /// Which.
    pub played: Played,
    /// Where it listens: on this machine.
    pub listener: Listener,
    /// Who signs its callbacks.
    pub issuer: Arc<DevIssuer>,
    /// For whom its callbacks are.
    pub audience: String,
    /// Whose tenant its people are of.
    pub tenant: String,
    /// Where callbacks go for which no request says it: Graph's calling webhook, Event Grid's subscription.
    pub webhook: Url,
    /// How quickly things happen.
    pub pace: Pace,
    /// Whether callbacks may leave this machine.
    pub remote_callbacks: bool,
    /// What goes wrong.
    pub mischief: Mischief,
    /// Where "now" comes from.
    pub clock: Clock,
}

/// A bound listener, whose address can be told before there is a platform behind it.
#[derive(Debug)]
pub struct Listener {
    bound: TcpListener,
    base: String,
}

impl Listener {
    /// Binds an address of this machine; port 0 finds a free one.
    ///
    /// # Errors
    /// [`BuildError::Bind`].
    pub fn bind(address: SocketAddr) -> Result<Self, BuildError> {
        let bound = bind(address)?;
        let base = bound.local_addr().map_err(|source| BuildError::Bind { address, source })?;
        Ok(Self { bound, base: format!("http://{base}") })
    }

    /// Its address, without a path.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }
}

/// A simulated platform, built, not yet serving.
#[derive(Debug)]
pub struct SimulatorApp {
    listener: TcpListener,
    platform: SimulatedPlatform,
}

/// One thread is enough for a platform that has one bot.
const WORKERS: usize = 1;

impl Simulation {
    /// A platform that behaves, at its usual pace, whose tokens development mode believes; the calls of people outside are told to
    /// `webhook`.
    #[must_use]
    pub fn new(played: Played, listener: Listener, issuer: Arc<DevIssuer>, webhook: Url) -> Self {
        Self {
            played,
            listener,
            issuer,
            audience: DEV_AUDIENCE.to_owned(),
            tenant: "11111111-1111-1111-1111-111111111111".to_owned(),
            webhook,
            pace: Pace::default(),
            remote_callbacks: false,
            mischief: Mischief::default(),
            clock: Clock::system(),
        }
    }
}

impl SimulatorApp {
    /// Builds the platform.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(simulation: Simulation) -> Result<Self, BuildError> {
        let Simulation { played, listener, issuer, audience, tenant, webhook, pace, remote_callbacks, mischief, clock } =
            simulation;
        let ids = Ids::new(mischief.seed);
        let platform: Box<dyn Platform> = match played {
            Played::Graph => Box::new(Graph::new(ids, pace, webhook, tenant.clone())),
            Played::Acs => Box::new(Acs::new(ids, pace, webhook)),
        };
        let mut claims: Map<String, Value> = Map::new();
        claims.insert("aud".to_owned(), audience.into());
        claims.insert("tid".to_owned(), tenant.into());
        let client = HttpClient::new().map_err(BuildError::Client)?;
        let jwks = issuer.jwks();
        let postman = Postman::new(client, issuer, claims, remote_callbacks);
        let simulator = Simulator::new(platform, postman, mischief, clock);
        let platform = SimulatedPlatform { simulator, issuer: DevIssuer::ISSUER.to_owned(), jwks, base: listener.base };
        Ok(Self { listener: listener.bound, platform })
    }

    /// Its address, without a path.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.platform.base
    }

    /// The platform, to look into from beside it.
    #[must_use]
    pub fn simulator(&self) -> &Simulator {
        &self.platform.simulator
    }

    /// Plays until `stop` is cancelled.
    ///
    /// # Errors
    /// If the listener cannot be served.
    pub async fn run_until(self, stop: CancellationToken) -> io::Result<()> {
        let Self { listener, platform } = self;
        let simulator = platform.simulator.clone();
        let server = HttpServer::new(move || {
            Actix::new().wrap(from_fn(for_this_machine)).configure(|app| platform::configure(app, &platform))
        });
        let server = server.workers(WORKERS).disable_signals().shutdown_timeout(1).listen(listener)?.run();
        let handle = server.handle();
        let serving = tokio::spawn(server);
        simulator.run_until(stop).await;
        handle.stop(true).await;
        serving.await.map_err(io::Error::other)?
    }
}

/// Turns away what a web page sends behind its reader's back.
async fn for_this_machine(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    if platform::is_from_here(request.headers()) {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    Ok(request.into_response(HttpResponse::Forbidden().body("this platform is for this machine alone")))
}
