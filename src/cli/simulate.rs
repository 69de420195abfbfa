//! `simulate`: a platform on this machine, for a bot to call.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    configuration::Source,
    failure::Failure,
    output,
    serve::asked_to_end,
    token::{self, DEV_TENANT},
};
use crate::{
    app::platform::{Listener, Played, Simulation, SimulatorApp},
    auth::DevIssuer,
    domain::clock::Clock,
    simulator::{Chance, Mischief, Pace},
    source::source,
    telemetry,
};

/// `simulate`
#[derive(Debug, Subcommand)]
pub(super) enum Simulate {
    /// Graph cloud communications.
    Graph(Behaviour),
    /// Call Automation of Azure Communication Services, with Event Grid for incoming calls.
    Acs(Behaviour),
}

/// How the platform behaves.
#[derive(Debug, Args)]
pub(super) struct Behaviour {
    /// Where it listens, on this machine; port 0 finds a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS", value_parser = loopback)]
    bind: SocketAddr,
    /// The key that signs callbacks (PEM), made if there is none; `dev.issuer_key` unless told, else one that is gone with it.
    #[arg(long, value_name = "FILE")]
    issuer_key: Option<PathBuf>,
    /// The audience of its tokens; the first receiver's unless told.
    #[arg(long)]
    audience: Option<String>,
    /// Whose tenant its people are of.
    #[arg(long, default_value = DEV_TENANT)]
    tenant: String,
    /// Where callbacks go that no request says it for; the usual receiver on this machine unless told.
    #[arg(long, value_name = "URL")]
    callback_uri: Option<Url>,
    /// Post callbacks to other machines, too (https); they bear tokens that whoever trusts this issuer believes.
    #[arg(long)]
    remote_callbacks: bool,
    /// How long prompts play, people speak and telephones ring (milliseconds).
    #[arg(long, default_value_t = 2000, value_name = "MS")]
    media: u64,
    /// How long everything else takes (milliseconds).
    #[arg(long, default_value_t = 50, value_name = "MS")]
    latency: u64,
    /// Hold each callback back for up to so long (milliseconds).
    #[arg(long, default_value_t = 0, value_name = "MS")]
    delay: u64,
    /// How likely (0 to 1) a callback leaves its place in the line.
    #[arg(long, default_value = "0", value_name = "CHANCE")]
    reorder: Chance,
    /// How likely (0 to 1) a callback comes a second time.
    #[arg(long, default_value = "0", value_name = "CHANCE")]
    duplicate: Chance,
    /// How likely (0 to 1) a callback never comes.
    #[arg(long, default_value = "0", value_name = "CHANCE")]
    drop: Chance,
    /// How likely (0 to 1) a request fails: unheard (429, 503), or done but answered with a 500, or with nothing.
    #[arg(long, default_value = "0", value_name = "CHANCE")]
    fail_rate: Chance,
    /// Post what has happened by then before a request is answered, as can be seen in the wild; takes the latency away.
    #[arg(long)]
    callback_before_response: bool,
    /// The number that all ids and accidents follow from; a random one unless told.
    #[arg(long)]
    seed: Option<u64>,
}

impl Simulate {
    pub(super) async fn run(self, source: &Source) -> Result<(), Failure> {
        let config = source.load()?;
        telemetry::init(&config.log)?;
        let (played, name, behaviour) = match self {
            Self::Graph(behaviour) => (Played::Graph, "graph", behaviour),
            Self::Acs(behaviour) => (Played::Acs, "acs", behaviour),
        };
        // one that every reader of JSON can hold
        let seed = behaviour.seed.unwrap_or_else(|| fastrand::u64(..1 << 53));
        let issuer = match token::issuer(behaviour.issuer_key.clone(), &config)? {
            Some(issuer) => issuer,
            None => DevIssuer::create()?,
        };
        let path = source_of_callbacks(played).map_or("/", |source| source.usual_path());
        let usual = Url::parse(&format!("http://127.0.0.1:{}{path}", config.public.bind.port())).map_err(Failure::usage)?;
        let audience = behaviour.audience.clone().unwrap_or_else(|| token::audience(&config, None));
        let app = SimulatorApp::build(Simulation {
            played,
            listener: Listener::bind(behaviour.bind)?,
            issuer: Arc::new(issuer),
            audience: audience.clone(),
            tenant: behaviour.tenant.clone(),
            webhook: behaviour.callback_uri.clone().unwrap_or(usual),
            pace: behaviour.pace(),
            remote_callbacks: behaviour.remote_callbacks,
            mischief: behaviour.mischief(seed),
            clock: Clock::system(),
        })?;
        let stop = CancellationToken::new();
        let asked_to_end = asked_to_end()?;
        let base = app.base();
        let told = json!({
            "platform": name,
            "url": base,
            "metadata": format!("{base}/.well-known/openid-configuration"),
            "issuer": DevIssuer::ISSUER,
            "audience": audience,
            "seed": seed,
        });
        output::line(&told.to_string())?;
        let ending = stop.clone();
        let waiting = tokio::spawn(async move {
            asked_to_end.await;
            ending.cancel();
        });
        let served = app.run_until(stop).await;
        waiting.abort();
        Ok(served?)
    }
}

impl Behaviour {
    fn pace(&self) -> Pace {
        let latency = if self.callback_before_response { 0 } else { self.latency };
        Pace { latency: Duration::from_millis(latency), media: Duration::from_millis(self.media) }
    }

    fn mischief(&self, seed: u64) -> Mischief {
        Mischief {
            delay: Duration::from_millis(self.delay),
            reorder: self.reorder,
            duplicate: self.duplicate,
            drop: self.drop,
            callback_before_response: self.callback_before_response,
            fail_rate: self.fail_rate,
            seed,
        }
    }
}

/// Who receives what no request names a callback for.
fn source_of_callbacks(played: Played) -> Option<&'static dyn crate::source::NotificationSource> {
    source(match played {
        Played::Graph => "graph",
        Played::Acs => "event-grid",
    })
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|error: std::net::AddrParseError| error.to_string())?;
    if address.ip().is_loopback() { Ok(address) } else { Err("a simulated platform listens on this machine alone".to_owned()) }
}
