//! How a call begins: created, answered, connected to; or not.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Acs, Call, Event, Job, Person, State,
    actions::{known_as, no_callback, not_found},
    callback_url, say, text,
};
use crate::simulator::{Ask, MANY, Reply};

impl Acs {
    pub(super) fn create(&mut self, ask: &Ask, now: Timestamp) -> Reply {
        let targets = ask.body.get("targets").and_then(Value::as_array);
        let people: Vec<Value> = targets.into_iter().flatten().map(known_as).filter(|person| !person.is_null()).collect();
        if people.is_empty() {
            return say::refuse(400, "BadRequest", "There are no targets.");
        }
        let (server, correlation) = (self.server_call_id(), self.ids.guid());
        self.begin(ask, (server, correlation), people, 201, now)
    }

    /// `:answer`, `:redirect`, `:reject` and `:connect`.
    pub(super) fn begin_otherwise(&mut self, action: &str, ask: &Ask, now: Timestamp) -> Reply {
        let caller = || text(&ask.body, "incomingCallContext").and_then(|context| self.callers.get(context)).cloned();
        let unknown = || say::refuse(400, "8523", "The incomingCallContext is not that of an open call.");
        match action {
            "answer" => {
                let Some(caller) = caller() else { return unknown() };
                let ids = (caller.server_call_id, caller.correlation_id);
                let reply = self.begin(ask, ids, vec![caller.from], 200, now);
                self.forget(&reply, ask);
                reply
            }
            "redirect" | "reject" => {
                if caller().is_none() {
                    return unknown();
                }
                let reply = Reply::empty(204);
                self.forget(&reply, ask);
                reply
            }
            "connect" => {
                let server = ask.body.pointer("/callLocator/serverCallId").and_then(Value::as_str).map(str::to_owned);
                let known = server.as_ref().and_then(|server| self.calls.values().find(|call| call.server_call_id == *server));
                let people =
                    known.into_iter().flat_map(|call| call.people.iter().map(|person| person.identifier.clone())).collect();
                let (server, correlation) = (server.unwrap_or_else(|| self.server_call_id()), self.ids.guid());
                self.begin(ask, (server, correlation), people, 200, now)
            }
            _ => not_found(),
        }
    }

    /// Who has been answered or sent away calls no more.
    fn forget(&mut self, reply: &Reply, ask: &Ask) {
        if reply.is_success()
            && let Some(context) = text(&ask.body, "incomingCallContext")
        {
            self.callers.remove(context);
        }
    }

    fn begin(
        &mut self,
        ask: &Ask,
        (server, correlation): (String, String),
        people: Vec<Value>,
        status: u16,
        now: Timestamp,
    ) -> Reply {
        let Some(callback) = text(&ask.body, "callbackUri").and_then(callback_url) else { return no_callback() };
        let version = ask.query.split('&').find_map(|pair| pair.strip_prefix("api-version=")).unwrap_or_default().to_owned();
        let id = self.ids.guid();
        let call = Call {
            callback,
            version,
            server_call_id: server,
            correlation_id: correlation,
            state: State::Connecting,
            people: people.into_iter().map(|identifier| Person { identifier, is_muted: false, is_on_hold: false }).collect(),
            rosters: 0,
            queue: VecDeque::new(),
            invitations: BTreeMap::new(),
            running: BTreeMap::new(),
            tones: 0,
        };
        if self.calls.len() >= MANY {
            let calls = &mut self.calls;
            calls.retain(|_, call| call.state != State::Disconnected);
            self.recordings.retain(|_, recording| calls.contains_key(&recording.call));
        }
        self.calls.insert(id.clone(), call);
        let job = Job { context: text(&ask.body, "operationContext").map(str::to_owned), to: None };
        self.happens_soon(&id, now, Event::Connected(job));
        Reply::json(status, self.properties(&id))
    }

    /// `CallConnectionProperties`.
    pub(super) fn properties(&self, call: &str) -> Value {
        let Some(known) = self.calls.get(call) else { return Value::Null };
        let state = match known.state {
            State::Connecting => "connecting",
            State::Connected => "connected",
            State::Disconnected => "disconnected",
        };
        json!({
            "callConnectionId": call,
            "serverCallId": known.server_call_id,
            "targets": known.people.iter().map(|person| person.identifier.clone()).collect::<Vec<_>>(),
            "callConnectionState": state,
            "callbackUri": known.callback,
            "correlationId": known.correlation_id,
        })
    }
}
