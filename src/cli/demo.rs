//! `demo`: the whole main job on one machine, without a network or an account.
//!
//! A service in development mode on free ports, a ledger in a temporary folder, and both platforms simulated beside it. A bot makes
//! its requests through the gateway, the platforms call back with signed tokens, and each operation's story is read from the private
//! API.

mod scenes;

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::Path,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

use self::scenes::Bot;
use super::{ask::Asked, configuration::Source, failure::Failure, output, serve::asked_to_end, token::DEV_TENANT};
use crate::{
    app::{
        App, Surroundings, known_sources,
        platform::{Listener, Played, Simulation, SimulatorApp},
    },
    auth::DevIssuer,
    config::{Config, DEV_AUDIENCE},
    domain::clock::Clock,
    net::HttpClient,
    simulator::{Mischief, Pace, Simulator},
    source::source,
    telemetry,
};

/// A free port of this machine.
const ANY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
/// What the platforms' ids follow from, the same ones in every demo.
const SEED: u64 = 2;

/// `demo`
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Exit after the last scene.
    #[arg(long)]
    once: bool,
}

impl Demo {
    pub(super) async fn run(self, _source: &Source) -> Result<(), Failure> {
        let folder = tempfile::Builder::new().prefix("callback-ledger-demo").tempdir()?;
        let key = folder.path().join("dev-issuer.pem");
        let issuer = Arc::new(DevIssuer::load_or_create(&key)?);
        let (graph, acs) = (Listener::bind(ANY)?, Listener::bind(ANY)?);
        let mut config = configuration(folder.path(), [graph.base(), acs.base()])?;
        "warn".clone_into(&mut config.log.filter);
        telemetry::init(&config.log)?;
        let surroundings = Surroundings { dev_issuer: Some(Arc::clone(&issuer)), ..Surroundings::default() };
        let app = App::build(&config, surroundings).await?;
        let (public, private) = (app.public_address()?, app.private_address()?);
        let (graph, acs) = (platform(Played::Graph, graph, &issuer, public)?, platform(Played::Acs, acs, &issuer, public)?);
        let bot = Bot {
            client: HttpClient::new()?,
            public: base(public)?,
            private: base(private)?,
            ledger: Asked::Service { client: HttpClient::new()?, base: base(private)?, token: None },
            graph: Platform { simulator: graph.simulator().clone(), base: Url::parse(graph.base())? },
            acs: Platform { simulator: acs.simulator().clone(), base: Url::parse(acs.base())? },
        };
        let stop = CancellationToken::new();
        let platforms = TaskTracker::new();
        let next = next_steps(public, private, &key, [graph.base(), acs.base()]);
        for platform in [graph, acs] {
            platforms.spawn(platform.run_until(stop.clone()));
        }
        platforms.close();
        let serving = tokio::spawn(app.run_until(stop.clone().cancelled_owned()));

        let asked_to_end = asked_to_end()?;
        let told = bot.play_all().await;
        if told.is_ok() && !self.once {
            output::text(&next)?;
            asked_to_end.await;
        }
        stop.cancel();
        serving.await??;
        platforms.wait().await;
        told
    }
}

/// A simulated platform of the demo.
#[derive(Debug)]
struct Platform {
    simulator: Simulator,
    base: Url,
}

fn base(address: SocketAddr) -> Result<Url, Failure> {
    Ok(Url::parse(&format!("http://{address}"))?)
}

fn platform(played: Played, listener: Listener, issuer: &Arc<DevIssuer>, public: SocketAddr) -> Result<SimulatorApp, Failure> {
    let receiver = source(if played == Played::Graph { "graph" } else { "event-grid" }).map_or("/", |source| source.usual_path());
    let simulation = Simulation {
        played,
        listener,
        issuer: Arc::clone(issuer),
        audience: DEV_AUDIENCE.to_owned(),
        tenant: DEV_TENANT.to_owned(),
        webhook: base(public)?.join(receiver)?,
        pace: Pace { latency: Duration::from_millis(20), ..Pace::default() },
        remote_callbacks: false,
        mischief: Mischief { seed: SEED, ..Mischief::default() },
        clock: Clock::system(),
    };
    Ok(SimulatorApp::build(simulation)?)
}

/// The defaults, with a ledger of its own and ways to the platforms.
fn configuration(folder: &Path, [graph, acs]: [&str; 2]) -> Result<Config, Failure> {
    let ledger = folder.join("demo.db");
    let set = |key: &str, value: String| (format!("CALLBACK_LEDGER__{key}"), value);
    let env = [
        set("PUBLIC__BIND", ANY.to_string()),
        set("PRIVATE__BIND", ANY.to_string()),
        set("LEDGER__URL", format!("sqlite://{}", ledger.display())),
        set("GATEWAY__GRAPH", graph.to_owned()),
        set("GATEWAY__ACS", acs.to_owned()),
    ];
    let config = Config::load(None, env).map_err(Failure::usage)?;
    config.for_development(&known_sources()).map_err(Failure::usage)
}

fn next_steps(public: SocketAddr, private: SocketAddr, key: &Path, [graph, acs]: [&str; 2]) -> String {
    let key = key.display();
    format!(
        "All of it stays up; Ctrl-C ends it and removes the ledger. In another terminal, try:

  callback-ledger operations list --url http://{private}
  callback-ledger calls list --url http://{private}

  # somebody calls the bot, at Graph and at Communication Services
  curl -X POST {graph}/simulator/incoming-call
  curl -X POST {acs}/simulator/incoming-call

  # be the bot: its requests go through the gateway, its callbacks come to {public}
  curl -i http://{private}/gateway/graph/v1.0/communications/calls -H 'Authorization: Bearer simulated' \\
       -H 'Content-Type: application/json' -d '{{\"callbackUri\":\"http://{public}/api/calls\"}}'
  callback-ledger cancel graph --call CALL --platform-token simulated --url http://{private}

  # be the platform yourself: mint a token and post a body
  TOKEN=$(callback-ledger token --issuer-key {key})
  curl -i http://{public}/api/calls -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \\
       -d '{{\"value\":[{{\"changeType\":\"deleted\",\"resourceUrl\":\"/communications/calls/1/operations/2\",\"resourceData\":\
{{\"@odata.type\":\"#microsoft.graph.playPromptOperation\",\"status\":\"completed\"}}}}]}}'

  # who was not let in, and why
  curl -i -X POST http://{public}/api/calls
  callback-ledger rejections list --url http://{private}
"
    )
}
