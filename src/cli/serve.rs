//! `serve`.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    configuration::{Source, surroundings},
    failure::Failure,
    output, token,
};
use crate::{
    app::{App, GoodTokens, known_sources},
    auth::DevIssuer,
    telemetry,
};

/// `serve`
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Development mode: an issuer of our own is believed instead of the platform, on loopback only.
    #[arg(long)]
    dev: bool,
    /// Keep the development issuer's private key (PEM) in this file; `dev.issuer_key` unless told.
    #[arg(long, value_name = "FILE", requires = "dev")]
    issuer_key: Option<PathBuf>,
}

impl Serve {
    pub(super) async fn run(self, source: &Source) -> Result<(), Failure> {
        let config = source.load()?;
        let sources = known_sources();
        let mut surroundings = surroundings(&config)?;
        let config = if self.dev {
            let issuer = match token::issuer(self.issuer_key, &config)? {
                Some(issuer) => issuer,
                None => DevIssuer::create()?,
            };
            surroundings.dev_issuer = Some(Arc::new(issuer));
            config.for_development(&sources).map_err(Failure::usage)?
        } else {
            config.for_service(&sources).map_err(Failure::usage)?
        };
        telemetry::init(&config.log)?;
        if self.dev {
            tracing::warn!("DEVELOPMENT MODE: tokens of the development issuer are believed, and no others");
        }
        let app = App::build(&config, surroundings).await?;
        let asked_to_end = asked_to_end()?;
        let reloading = tokio::spawn(reload_tokens(source.clone(), app.good_tokens(), signal(SignalKind::hangup())?));
        output::line(&listening(&app)?)?;
        let served = app.run_until(asked_to_end).await;
        reloading.abort();
        Ok(served?)
    }
}

/// At each SIGHUP: the tokens of the private listener as they are configured by then. All else takes a new start.
async fn reload_tokens(source: Source, tokens: GoodTokens, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        match source.load() {
            Ok(config) if tokens.replace(&config.private) => tracing::info!("the tokens of the private listener were read again"),
            Ok(_) => {
                tracing::error!("without tokens the private listener is open: that takes a new start; they stay as they are");
            }
            Err(failure) => tracing::error!(error = %failure, "the configuration cannot be used: the tokens stay as they are"),
        }
    }
}

/// Resolves at the first SIGTERM or SIGINT from now on.
pub(super) fn asked_to_end() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// The first line of stdout: where both listeners are.
fn listening(app: &App) -> io::Result<String> {
    let url = |scheme: &str, address: SocketAddr| format!("{scheme}://{address}");
    let public = url(if app.is_https() { "https" } else { "http" }, app.public_address()?);
    let private = url("http", app.private_address()?);
    Ok(serde_json::json!({ "public": public, "private": private }).to_string())
}
