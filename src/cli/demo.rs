//! `demo`: the whole main job on one machine, without a network or an account.
//!
//! A development receiver on free ports, a ledger in a temporary folder, bundled scenarios posted over real HTTP with signed
//! tokens; then each operation's history, read back through the private API.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use clap::Args;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    ask::Asked,
    configuration::Source,
    failure::Failure,
    operations::HISTORY_COLUMNS,
    output,
    replay::{Posted, Poster, dev_authorization, read},
    scenario::{Post, scenario},
    serve::asked_to_end,
};
use crate::{
    app::{App, Surroundings, known_sources},
    auth::DevIssuer,
    config::{Config, DEV_AUDIENCE},
    net::HttpClient,
    source::{NotificationSource, graph::Graph, source},
    telemetry,
};

/// The bundled scenarios.
const SCENARIOS: &[(&str, &str)] = &[
    ("recording-canceled", include_str!("demo/recording-canceled.json")),
    ("recording-canceled-beta", include_str!("demo/recording-canceled-beta.json")),
    ("prompt-completed", include_str!("demo/prompt-completed.json")),
    ("recording-stopped-by-tone", include_str!("demo/recording-stopped-by-tone.json")),
    ("incoming-call", include_str!("demo/incoming-call.json")),
    ("invitation-canceled", include_str!("demo/invitation-canceled.json")),
    ("play-canceled", include_str!("demo/play-canceled.json")),
];

/// `demo`
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Exit after the last scenario.
    #[arg(long)]
    once: bool,
}

impl Demo {
    pub(super) async fn run(self, _source: &Source) -> Result<(), Failure> {
        let folder = tempfile::Builder::new().prefix("callback-ledger-demo").tempdir()?;
        let key = folder.path().join("dev-issuer.pem");
        let issuer = Arc::new(DevIssuer::load_or_create(&key)?);
        let mut config = configuration(folder.path())?;
        "warn".clone_into(&mut config.log.filter);
        telemetry::init(&config.log)?;
        let surroundings = Surroundings { dev_issuer: Some(Arc::clone(&issuer)), ..Surroundings::default() };
        let app = App::build(&config, surroundings).await?;
        let (public, private) = (app.public_address()?, app.private_address()?);
        let stop = CancellationToken::new();
        let serving = tokio::spawn(app.run_until(stop.clone().cancelled_owned()));

        let asked_to_end = asked_to_end()?;
        let told = tell(&issuer, public, private).await;
        if told.is_ok() && !self.once {
            output::text(&next_steps(public, private, &key))?;
            asked_to_end.await;
        }
        stop.cancel();
        serving.await??;
        told
    }
}

/// The defaults, with free ports and a ledger of its own.
fn configuration(folder: &Path) -> Result<Config, Failure> {
    let ledger = folder.join("demo.db");
    let set = |key: &str, value: String| (format!("CALLBACK_LEDGER__{key}"), value);
    let env = [
        set("PUBLIC__BIND", "127.0.0.1:0".to_owned()),
        set("PRIVATE__BIND", "127.0.0.1:0".to_owned()),
        set("LEDGER__URL", format!("sqlite://{}", ledger.display())),
    ];
    let config = Config::load(None, env).map_err(Failure::usage)?;
    config.for_development(&known_sources()).map_err(Failure::usage)
}

/// Posts every scenario and prints what the ledger made of it.
async fn tell(issuer: &DevIssuer, public: SocketAddr, private: SocketAddr) -> Result<(), Failure> {
    let client = HttpClient::new()?;
    let authorization = dev_authorization(issuer, DEV_AUDIENCE)?;
    let ledger = Asked::Service { client: client.clone(), base: Url::parse(&format!("http://{private}"))?, token: None };
    for (name, text) in SCENARIOS {
        let (title, posts) = scenario(name, text)?;
        output::line(&format!("── {title}"))?;
        for post in &posts {
            let url = Url::parse(&format!("http://{public}{}", source_of(post).usual_path()))?;
            let poster = Poster { client: client.clone(), url, authorization: Some(authorization.clone()) };
            send(&poster, post).await?;
        }
        print_story(&ledger, &posts).await?;
    }
    Ok(())
}

async fn send(poster: &Poster, post: &Post) -> Result<(), Failure> {
    tokio::time::sleep(post.pause).await;
    match poster.post(post).await {
        Posted::Accepted { status, .. } => output::line(&format!("   POST {}  {}  → {status}", poster.url.path(), post.name)),
        Posted::Refused { status, detail } => Err(anyhow::anyhow!("{} was refused: {status} {detail}", post.name).into()),
        Posted::Failed { why } => Err(anyhow::anyhow!("{} could not be posted: {why}", post.name).into()),
    }
}

/// The calls and operations that these bodies are about.
async fn print_story(ledger: &Asked, posts: &[Post]) -> Result<(), Failure> {
    let mut calls: Vec<String> = posts.iter().flat_map(call_ids).collect();
    calls.sort();
    calls.dedup();
    for call in calls {
        let about = ledger.json(&format!("/v1/calls/{call}"), Duration::ZERO).await?;
        output::line(&format!("\n   call {call}: {}{}", text(&about, "state").unwrap_or("state not told"), meaning(&about)))?;
        let operations = ledger.json(&format!("/v1/operations?callId={call}"), Duration::ZERO).await?;
        for operation in operations.get("value").and_then(Value::as_array).into_iter().flatten() {
            print_operation(ledger, operation).await?;
        }
    }
    output::line("")
}

async fn print_operation(ledger: &Asked, operation: &Value) -> Result<(), Failure> {
    let [id, kind, state] = ["id", "kind", "state"].map(|name| text(operation, name).unwrap_or_default());
    output::line(&format!("\n   {id} {kind}: {state}{}", meaning(operation)))?;
    let history = ledger.json(&format!("/v1/operations/{id}/history"), Duration::ZERO).await?;
    let rows = history.get("value").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for line in output::table(rows, HISTORY_COLUMNS).lines() {
        output::line(&format!("     {line}"))?;
    }
    Ok(())
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name).and_then(Value::as_str)
}

fn meaning(about: &Value) -> String {
    let result = about.get("result");
    let meaning = result.and_then(|result| text(result, "meaning").or_else(|| text(result, "reason")));
    meaning.map(|meaning| format!(" — {meaning}")).unwrap_or_default()
}

fn source_of(post: &Post) -> &'static dyn NotificationSource {
    post.source.as_deref().and_then(source).unwrap_or(&Graph)
}

/// The calls that a body is about.
fn call_ids(post: &Post) -> Vec<String> {
    let items = read(post, source_of(post)).map(|reading| reading.notifications).unwrap_or_default();
    items.into_iter().filter_map(|item| item.call).map(|id| id.to_string()).collect()
}

fn next_steps(public: SocketAddr, private: SocketAddr, key: &Path) -> String {
    let key = key.display();
    format!(
        "The receiver stays up; Ctrl-C ends it and removes its ledger. In another terminal, try:

  curl http://{private}/v1/operations
  callback-ledger operations list --url http://{private}
  callback-ledger calls list --url http://{private}

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
