//! What the bot of the demo does, and what came of it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use url::Url;

use super::Platform;
use crate::{
    cli::{ask::Asked, failure::Failure, operations::HISTORY_COLUMNS, output},
    net::{HttpClient, Method, Request},
};

/// The bot, and where it finds everything.
#[derive(Debug)]
pub(super) struct Bot {
    pub client: HttpClient,
    pub public: Url,
    pub private: Url,
    pub ledger: Asked,
    pub graph: Platform,
    pub acs: Platform,
}

/// How long anything may take before the demo has failed.
const PATIENCE: Duration = Duration::from_secs(30);
const ACS_VERSION: &str = "api-version=2025-06-15";

impl Bot {
    pub async fn play_all(&self) -> Result<(), Failure> {
        self.recording_and_prompt_canceled().await?;
        self.canceled_in_2018().await?;
        self.prompt_completed().await?;
        self.incoming_call_answered().await?;
        self.invitation_taken_back().await
    }

    async fn recording_and_prompt_canceled(&self) -> Result<(), Failure> {
        let scene = Scene::begin("Graph: a recording and the prompt behind it are canceled, tones are still heard", &self.graph)?;
        let call = self.graph_call().await?;
        let calls = format!("graph/v1.0/communications/calls/{call}");
        self.ask(&format!("{calls}/recordResponse"), json!({ "clientContext": "voice-mail", "prompts": [] })).await?;
        self.ask(&format!("{calls}/playPrompt"), json!({ "clientContext": "thank-you", "prompts": [] })).await?;
        self.ask(&format!("{calls}/subscribeToTone"), json!({ "clientContext": "tones" })).await?;
        self.ask(&format!("{calls}/cancelMediaProcessing"), json!({ "clientContext": "cancel" })).await?;
        self.until_ended(&call, &["voice-mail", "thank-you", "tones", "cancel"]).await?;
        self.hang_up(&self.graph, &call).await?;
        self.tell(scene, &call).await
    }

    async fn canceled_in_2018(&self) -> Result<(), Failure> {
        let scene = Scene::begin("Graph, beta of 2018: the cancel calls back for itself, untyped", &self.graph)?;
        let call = self.graph_call().await?;
        let calls = format!("graph/beta/app/calls/{call}");
        self.ask(&format!("{calls}/record"), json!({ "clientContext": "voice-mail" })).await?;
        self.ask(&format!("{calls}/cancelMediaProcessing"), json!({ "all": true, "clientContext": "cancel" })).await?;
        self.until_ended(&call, &["voice-mail", "cancel"]).await?;
        self.hang_up(&self.graph, &call).await?;
        self.tell(scene, &call).await
    }

    async fn prompt_completed(&self) -> Result<(), Failure> {
        let scene = Scene::begin("Graph: a prompt plays to its end", &self.graph)?;
        let call = self.graph_call().await?;
        let prompt = json!({ "clientContext": "greeting", "prompts": [] });
        self.ask(&format!("graph/v1.0/communications/calls/{call}/playPrompt"), prompt).await?;
        self.until_ended(&call, &["greeting"]).await?;
        self.hang_up(&self.graph, &call).await?;
        self.tell(scene, &call).await
    }

    async fn incoming_call_answered(&self) -> Result<(), Failure> {
        let scene = Scene::begin("Communication Services: an incoming call is answered, its prompt canceled", &self.acs)?;
        let told = self.somebody(&self.acs, "incoming-call", json!({})).await?;
        let answer = json!({
            "incomingCallContext": told.get("incomingCallContext"),
            "callbackUri": self.public.join("/api/callbacks")?,
            "operationContext": "answer",
        });
        let answered = self.ask(&format!("acs/calling/callConnections:answer?{ACS_VERSION}"), answer).await?;
        let call = text(&answered, "callConnectionId").unwrap_or_default().to_owned();
        self.until_call(&call, "established").await?;
        let play = json!({ "playSources": [{ "kind": "text", "text": { "text": "Hello." } }], "operationContext": "greeting" });
        self.ask(&format!("acs/calling/callConnections/{call}:play?{ACS_VERSION}"), play).await?;
        self.ask(&format!("acs/calling/callConnections/{call}:cancelAllMediaOperations?{ACS_VERSION}"), json!({})).await?;
        self.until_ended(&call, &["greeting"]).await?;
        self.hang_up(&self.acs, &call).await?;
        self.tell(scene, &call).await
    }

    async fn invitation_taken_back(&self) -> Result<(), Failure> {
        let scene = Scene::begin("Communication Services: an invitation is taken back", &self.acs)?;
        let user = |id: &str| json!({ "kind": "communicationUser", "communicationUser": { "id": format!("8:acs:{id}") } });
        let create = json!({ "targets": [user("caller")], "callbackUri": self.public.join("/api/callbacks")? });
        let created = self.ask(&format!("acs/calling/callConnections?{ACS_VERSION}"), create).await?;
        let call = text(&created, "callConnectionId").unwrap_or_default().to_owned();
        self.until_call(&call, "established").await?;
        let people = format!("acs/calling/callConnections/{call}/participants");
        let add = json!({ "participantToAdd": user("colleague"), "operationContext": "invite" });
        let added = self.ask(&format!("{people}:add?{ACS_VERSION}"), add).await?;
        let cancel = json!({ "invitationId": added.get("invitationId"), "operationContext": "take-back" });
        self.ask(&format!("{people}:cancelAddParticipant?{ACS_VERSION}"), cancel).await?;
        self.until_ended(&call, &["invite", "take-back"]).await?;
        self.hang_up(&self.acs, &call).await?;
        self.tell(scene, &call).await
    }

    async fn graph_call(&self) -> Result<String, Failure> {
        let body = json!({ "callbackUri": self.public.join("/api/calls")?, "clientContext": "call" });
        let created = self.ask("graph/v1.0/communications/calls", body).await?;
        let call = text(&created, "id").unwrap_or_default().to_owned();
        self.until_call(&call, "established").await?;
        Ok(call)
    }

    async fn hang_up(&self, platform: &Platform, call: &str) -> Result<(), Failure> {
        self.somebody(platform, "hang-up", json!({ "callId": call })).await?;
        self.until_call(call, "terminated").await
    }

    /// A request of the bot's, through the gateway.
    async fn ask(&self, path: &str, body: Value) -> Result<Value, Failure> {
        let answer = self.post(&self.private.join(&format!("/gateway/{path}"))?, &body).await?;
        let shown = path.split('?').next().unwrap_or(path);
        output::line(&format!("   bot      POST /gateway/{shown}  → {}", answer.0))?;
        if (200..300).contains(&answer.0) {
            Ok(answer.1)
        } else {
            Err(anyhow::anyhow!("{shown} was refused: {}", answer.1).into())
        }
    }

    /// What somebody outside does.
    async fn somebody(&self, platform: &Platform, what: &str, body: Value) -> Result<Value, Failure> {
        let answer = self.post(&platform.base.join(&format!("/simulator/{what}"))?, &body).await?;
        output::line(&format!("   caller   {what}"))?;
        if (200..300).contains(&answer.0) {
            Ok(answer.1)
        } else {
            Err(anyhow::anyhow!("{what} was refused: {}", answer.1).into())
        }
    }

    async fn post(&self, url: &Url, body: &Value) -> Result<(u16, Value), Failure> {
        let headers = [("content-type", "application/json"), ("authorization", "Bearer simulated")];
        let body = body.to_string().into_bytes();
        let request = Request { method: Method::Post, url, headers: &headers, body, timeout: PATIENCE, max_bytes: 1024 * 1024 };
        let answer = self.client.request(request).await?;
        Ok((answer.status, serde_json::from_slice(&answer.body).unwrap_or_default()))
    }

    async fn until_call(&self, call: &str, state: &str) -> Result<(), Failure> {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            // not found until the first word of it has come
            if let Ok(told) = self.ledger.json(&format!("/v1/calls/{call}"), Duration::ZERO).await
                && text(&told, "state") == Some(state)
            {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(anyhow::anyhow!("the call {call} did not become {state}").into())
    }

    async fn until_ended(&self, call: &str, contexts: &[&str]) -> Result<(), Failure> {
        for context in contexts {
            let seconds = PATIENCE.as_secs();
            self.ledger.json(&format!("/v1/operations/wait?callId={call}&context={context}&timeout={seconds}"), PATIENCE).await?;
        }
        Ok(())
    }

    /// What the platform posted, and the story that the ledger tells.
    async fn tell(&self, scene: Scene<'_>, call: &str) -> Result<(), Failure> {
        for sent in scene.platform.simulator.sent().iter().skip(scene.posted) {
            let status = sent.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
            output::line(&format!("   platform POST {}  {}  → {status}", sent.to.path(), headline(&sent.body)))?;
        }
        let about = self.ledger.json(&format!("/v1/calls/{call}"), Duration::ZERO).await?;
        output::line(&format!("\n   call {call}: {}{}", text(&about, "state").unwrap_or("state not told"), meaning(&about)))?;
        let operations = self.ledger.json(&format!("/v1/operations?callId={call}"), Duration::ZERO).await?;
        let mut operations = operations.get("value").and_then(Value::as_array).cloned().unwrap_or_default();
        operations.reverse(); // the eldest first, as they were asked for
        for operation in operations {
            self.tell_operation(&operation).await?;
        }
        output::line("")
    }

    async fn tell_operation(&self, operation: &Value) -> Result<(), Failure> {
        let [id, kind, state] = ["id", "kind", "state"].map(|name| text(operation, name).unwrap_or_default());
        let tag = text(operation, "context").map(|context| format!(" “{context}”")).unwrap_or_default();
        output::line(&format!("\n   {id} {kind}{tag}: {state}{}", meaning(operation)))?;
        for (link, words) in [("canceledBy", "canceled by"), ("cancels", "canceled"), ("escaped", "came too late for")] {
            let named: Vec<&str> = match operation.get(link) {
                Some(Value::String(id)) => vec![id],
                Some(Value::Array(ids)) => ids.iter().filter_map(Value::as_str).collect(),
                _ => Vec::new(),
            };
            if !named.is_empty() {
                output::line(&format!("     {words} {}", named.join(", ")))?;
            }
        }
        let history = self.ledger.json(&format!("/v1/operations/{id}/history"), Duration::ZERO).await?;
        let rows = history.get("value").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for line in output::table(rows, HISTORY_COLUMNS).lines() {
            output::line(&format!("     {line}"))?;
        }
        Ok(())
    }
}

/// A scene that has begun.
struct Scene<'p> {
    platform: &'p Platform,
    /// How many callbacks had been posted before.
    posted: usize,
}

impl<'p> Scene<'p> {
    fn begin(title: &str, platform: &'p Platform) -> Result<Self, Failure> {
        output::line(&format!("── {title}"))?;
        Ok(Self { platform, posted: platform.simulator.sent().len() })
    }
}

/// What a callback is about, in a few words.
fn headline(body: &Value) -> String {
    let told = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    let bare = |name: &str| name.rsplit(['.', '#']).next().unwrap_or(name).to_owned();
    if let Some(event) = told("/0/type") {
        return bare(event);
    }
    let kind = told("/value/0/resourceData/@odata.type").or_else(|| told("/value/0/resourceData/0/@odata.type")).map(bare);
    let state = told("/value/0/resourceData/status").or_else(|| told("/value/0/resourceData/state"));
    let change = told("/value/0/changeType").unwrap_or_default();
    let place = || told("/value/0/resource").and_then(|place| place.rsplit('/').next()).unwrap_or_default().to_owned();
    [change, &kind.unwrap_or_else(place), state.unwrap_or_default()].join(" ").trim().to_owned()
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name).and_then(Value::as_str)
}

fn meaning(about: &Value) -> String {
    let result = about.get("result");
    let meaning = result.and_then(|result| text(result, "meaning").or_else(|| text(result, "reason")));
    meaning.map(|meaning| format!(" — {meaning}")).unwrap_or_default()
}
