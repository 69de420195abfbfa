//! The receivers inside a web application of one's own, and a bot that lives a call at a simulated platform: `cargo run --example embedded`
#![expect(clippy::print_stdout, clippy::indexing_slicing, reason = "an example prints, and may panic")]

use actix_web::{App, HttpServer, web};
use callback_ledger::app::platform::{Listener, Played, Simulation, SimulatorApp};
use callback_ledger::app::{Surroundings, known_sources};
use callback_ledger::store::log::{ChangeFilter, Changed};
use callback_ledger::{Receiver, auth::DevIssuer, config::Config, domain::call::CallState};
use futures_util::{StreamExt, pin_mut};
use serde_json::{Value, json};
use std::{error::Error, sync::Arc};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let ledger = ("CALLBACK_LEDGER__LEDGER__URL".to_owned(), format!("sqlite://{}/calls.db", folder.path().display()));
    let config = Config::load(None, [ledger])?.for_development(&known_sources())?;
    let issuer = Arc::new(DevIssuer::create()?);
    let receiver = Receiver::open(&config, Surroundings { dev_issuer: Some(issuer.clone()), ..Surroundings::default() }).await?;

    let mounted = receiver.clone();
    let app = move || App::new().configure(|app| mounted.configure(app)).route("/", web::get().to(async || "a bot lives here"));
    let server = HttpServer::new(app).workers(1).bind("127.0.0.1:0")?;
    let callback = format!("http://{}/api/calls", server.addrs()[0]);
    tokio::spawn(server.run());

    let listener = Listener::bind("127.0.0.1:0".parse()?)?;
    let calls = format!("{}/v1.0/communications/calls", listener.base());
    let simulation = Simulation::new(Played::Graph, listener, issuer, callback.parse()?);
    tokio::spawn(SimulatorApp::build(simulation)?.run_until(CancellationToken::new()));

    let changes = receiver.changes(ChangeFilter::default(), None).await?;
    pin_mut!(changes);
    let ask = async |path: String, body: Value| {
        let request = reqwest::Client::new().post(format!("{calls}{path}")).bearer_auth("any");
        request.header("content-type", "application/json").body(body.to_string()).send().await
    };
    ask(String::new(), json!({ "callbackUri": callback })).await?;
    while let Some(change) = changes.next().await {
        match change?.what {
            Changed::Call(call) if call.story.state() == Some(CallState::Established) => {
                let prompts = json!([{ "mediaInfo": { "uri": "https://bot.example/hello.wav" } }]);
                ask(format!("/{}/playPrompt", call.call_id), json!({ "clientContext": "hello", "prompts": prompts })).await?;
                ask(format!("/{}/cancelMediaProcessing", call.call_id), json!({ "clientContext": "enough" })).await?;
            }
            Changed::Notification(told) => println!("told: {} {}", told.facts.kind, told.facts.change),
            Changed::Operation(operation) => {
                println!("{} {:?} is {}", operation.kind, operation.context, operation.state.as_str());
                if operation.context.as_deref() == Some("hello") && operation.state.is_final() {
                    break;
                }
            }
            _ => {}
        }
    }
    receiver.close().await;
    Ok(())
}
