//! What can be asked of Graph, and what it answers.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Call, Event, Graph, Media, Operation, Person, State, callback_url, text};
use crate::simulator::{
    Ask, Reply, after,
    graph::say::{Ending, Spelling, merged, written},
};

/// The longest tag ("commsOperation": a maximum of 256 characters).
const LONGEST_CONTEXT: usize = 256;

impl Graph {
    /// Does what is asked, as far as it is allowed and makes sense.
    pub(super) fn answer(&mut self, ask: &Ask, now: Timestamp) -> Reply {
        let is_bearer = |value: &String| value.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer "));
        if !ask.headers.get("authorization").is_some_and(is_bearer) {
            return self.refuse(401, "InvalidAuthenticationToken", "Access token is empty.", now);
        }
        let parts: Vec<&str> = ask.path.split('/').filter(|part| !part.is_empty()).collect();
        let (spelling, rest) = match parts.as_slice() {
            ["v1.0", "communications" | "app", "calls", rest @ ..] => (Spelling::Today("v1.0"), rest),
            ["beta", "communications", "calls", rest @ ..] => (Spelling::Today("beta"), rest),
            ["beta", "app", "calls", rest @ ..] | ["beta", "applications", _, "calls", rest @ ..] => (Spelling::Of2018, rest),
            _ => return self.refuse(400, "BadRequest", "Resource not found for the segment.", now),
        };
        let context = text(&ask.body, "clientContext");
        if context.is_some_and(|context| context.chars().count() > LONGEST_CONTEXT) {
            return self.refuse(400, "BadRequest", "The clientContext has more than 256 characters.", now);
        }
        let bare = |action: &str| action.strip_prefix("microsoft.graph.").unwrap_or(action).to_owned();
        match (ask.method.as_str(), rest) {
            ("POST", []) => self.create(&ask.body, now),
            (method, [call, rest @ ..]) => {
                let id = canonical(call);
                match self.state(&id) {
                    None | Some(State::Terminated) => self.refuse(404, "8522", "Call not found.", now),
                    Some(state) => match (method, rest) {
                        ("GET", []) => Reply::json(200, self.describe(&id)),
                        ("GET", ["operations", operation]) => self.look_up(&id, &canonical(operation), now),
                        ("DELETE", []) => self.delete(&id, now),
                        ("POST", [action]) => self.act(&id, state, spelling, &bare(action), &ask.body, now),
                        ("POST", ["participants", action]) => self.invite(&id, spelling, &bare(action), &ask.body, now),
                        ("POST", ["participants", person, action]) => {
                            self.act_on(&id, (person, &bare(action)), spelling, &ask.body, now)
                        }
                        _ => self.refuse(405, "Request_BadRequest", "The method is not allowed here.", now),
                    },
                }
            }
            _ => self.refuse(405, "Request_BadRequest", "The method is not allowed here.", now),
        }
    }

    fn create(&mut self, body: &Value, now: Timestamp) -> Reply {
        let callback = text(body, "callbackUri").map_or_else(|| Some(self.webhook.clone()), callback_url);
        let Some(callback) = callback else {
            return self.refuse(400, "BadRequest", "The callbackUri is not an https address.", now);
        };
        let (id, chain) = (self.ids.guid(), self.ids.guid());
        let targets = body.get("targets").cloned().unwrap_or_else(|| json!([]));
        let people = self.people_named(&targets);
        let call = Call {
            callback,
            chain,
            state: State::Establishing,
            is_incoming: false,
            source: body.get("source").cloned().unwrap_or_default(),
            targets,
            people,
            queue: VecDeque::new(),
            operations: BTreeMap::new(),
            hears_tones: false,
            tones: 0,
        };
        self.enter(&id, call);
        self.happens_soon(&id, now, Event::Becomes(State::Establishing));
        let location = format!("https://graph.microsoft.com/v1.0/communications/calls/{id}");
        Reply::json(201, self.describe(&id)).with("location", location)
    }

    fn people_named(&mut self, infos: &Value) -> Vec<Person> {
        let identities: Vec<Value> =
            infos.as_array().into_iter().flatten().filter_map(|info| info.get("identity").cloned()).collect();
        identities.into_iter().map(|identity| self.person(identity)).collect()
    }

    fn delete(&mut self, call: &str, now: Timestamp) -> Reply {
        self.happens_soon(call, now, Event::Becomes(State::Terminating));
        self.happens_soon(call, now, Event::Over(200, 0, "The call has been ended."));
        Reply::empty(204)
    }

    /// An action on a call.
    fn act(&mut self, call: &str, state: State, spelling: Spelling, action: &str, body: &Value, now: Timestamp) -> Reply {
        let needed = match action {
            "answer" | "reject" | "redirect" => State::Incoming,
            "keepAlive" => state,
            _ => State::Established,
        };
        if state != needed {
            return self.refuse(400, "8501", "Action not supported in this state of the call.", now);
        }
        match action {
            "answer" => self.take(call, body, now),
            "reject" => self.let_go(call, now, (200, 0, "The call was rejected.")),
            "redirect" => self.let_go(call, now, (200, 0, "The call was redirected.")),
            "transfer" => {
                self.happens_soon(call, now, Event::Becomes(State::Transferring));
                Reply::empty(202)
            }
            "keepAlive" => Reply::empty(200),
            "changeScreenSharingRole" => {
                self.happens_soon(call, now, Event::Roster);
                Reply::empty(202)
            }
            "playPrompt" | "record" | "recordResponse" | "sendDtmfTones" => self.play(call, spelling, action, body, now),
            "cancelMediaProcessing" => self.cancel_media(call, spelling, body, now),
            "subscribeToTone" => {
                if let Some(known) = self.calls.get_mut(call) {
                    known.hears_tones = true;
                }
                self.done(call, spelling, "subscribeToToneOperation", body)
            }
            "mute" | "unmute" => {
                let kind = if action == "mute" { "muteParticipantOperation" } else { "unmuteParticipantOperation" };
                self.happens_soon(call, now, Event::Roster);
                self.done(call, spelling, kind, body)
            }
            "updateRecordingStatus" => self.done(call, spelling, "updateRecordingStatusOperation", body),
            "addLargeGalleryView" => {
                let operation = self.operation(spelling, "addLargeGalleryViewOperation", body, Value::Null);
                self.begin(call, operation, (202, "running"), Vec::new(), now)
            }
            _ => self.refuse(400, "BadRequest", "Resource not found for the segment.", now),
        }
    }

    fn take(&mut self, call: &str, body: &Value, now: Timestamp) -> Reply {
        let named = text(body, "callbackUri");
        if named.is_some_and(|named| callback_url(named).is_none()) {
            return self.refuse(400, "BadRequest", "The callbackUri is not an https address.", now);
        }
        if let Some(known) = self.calls.get_mut(call) {
            known.callback = named.and_then(callback_url).unwrap_or_else(|| known.callback.clone());
            known.state = State::Establishing;
        }
        self.happens_soon(call, now, Event::Becomes(State::Establishing));
        Reply::empty(202)
    }

    fn let_go(&mut self, call: &str, now: Timestamp, (code, subcode, why): (i64, i64, &'static str)) -> Reply {
        self.happens_soon(call, now, Event::Over(code, subcode, why));
        Reply::empty(202)
    }

    /// What takes its place in the line of what plays and records. With `bargeInAllowed` it takes that of all others.
    fn play(&mut self, call: &str, spelling: Spelling, action: &str, body: &Value, now: Timestamp) -> Reply {
        let seconds = |name: &str| body.get(name).and_then(Value::as_u64).map(Duration::from_secs);
        let (kind, lasts, end, more) = match action {
            "playPrompt" => {
                let more = json!({ "prompts": body.get("prompts").cloned().unwrap_or_default() });
                ("playPromptOperation", self.pace.media, Ending::well(Some("completedSuccessfully")), more)
            }
            "sendDtmfTones" => {
                let end = Ending { result: None, ..Ending::well(Some("completedSuccessfully")) };
                ("sendDtmfTonesOperation", self.pace.latency, end, Value::Null)
            }
            _ => {
                let longest = seconds("maxRecordDurationInSeconds").unwrap_or(Duration::from_mins(2));
                let (result, reason) = if longest <= self.pace.media {
                    ((200, 8515, "Action completed, max record duration reached."), "maxRecordDurationReached")
                } else {
                    ((200, 8509, "Action completed, max silence timeout reached."), "maxSilenceTimeout")
                };
                let end = Ending { status: "completed", result: Some(result), reason: Some(reason) };
                ("recordOperation", longest.min(self.pace.media), end, Value::Null)
            }
        };
        if body.get("bargeInAllowed").and_then(Value::as_bool) == Some(true) {
            self.cancel(call, now, true);
        }
        let mut operation = self.operation(spelling, kind, body, more);
        let reply = self.shown(call, &operation, (200, "running"));
        if kind == "recordOperation" {
            let file = format!("https://file.location/{}", operation.id);
            operation.more = json!({ "recordingLocation": file, "recordingAccessToken": self.ids.guid() });
        }
        self.enqueue(call, now, Media { operation, lasts, end });
        reply
    }

    fn cancel_media(&mut self, call: &str, spelling: Spelling, body: &Value, now: Timestamp) -> Reply {
        let all = body.get("all").and_then(Value::as_bool);
        let canceled = self.cancel(call, now, all.unwrap_or(true));
        let spelling = if all.is_some() && spelling == Spelling::Today("beta") { Spelling::Of2018 } else { spelling };
        if spelling == Spelling::Of2018 {
            let operation = self.operation(spelling, "commsOperation", body, Value::Null);
            let location = spelling.location(call, &operation.id);
            let end = Ending { status: "completed", result: None, reason: None };
            self.happens_soon(call, now, Event::Ends(operation, end, Vec::new()));
            return Reply::empty(202).with("location", location);
        }
        let own = self.operation(spelling, "cancelMediaProcessingOperation", body, Value::Null);
        let location = spelling.location(call, &own.id);
        // the reference's example bears the id and the tag of the recording that it cancels, and a Location of neither
        let shown = canceled.first().map_or_else(
            || own.clone(),
            |first| Operation { id: first.id.clone(), context: first.context.clone(), more: Value::Null, ..own.clone() },
        );
        Reply::json(200, written(call, &shown, "completed")).with("location", location)
    }

    /// The actions on who is in the call.
    fn act_on(&mut self, call: &str, (person, action): (&str, &str), spelling: Spelling, body: &Value, now: Timestamp) -> Reply {
        let found = self.calls.get_mut(call).and_then(|known| known.people.iter_mut().find(|known| known.id == person));
        let Some(found) = found else { return self.refuse(404, "8522", "Participant not found.", now) };
        match action {
            "mute" => {
                found.is_muted = true;
                self.happens_soon(call, now, Event::Roster);
                self.done(call, spelling, "muteParticipantOperation", body)
            }
            "startHoldMusic" => {
                let operation = self.operation(spelling, "startHoldMusicOperation", body, Value::Null);
                self.begin(call, operation, (202, "running"), Vec::new(), now)
            }
            "stopHoldMusic" => {
                let operation = self.operation(spelling, "stopHoldMusicOperation", body, Value::Null);
                self.begin(call, operation, (202, "running"), Vec::new(), now)
            }
            _ => self.refuse(400, "BadRequest", "Resource not found for the segment.", now),
        }
    }

    fn invite(&mut self, call: &str, spelling: Spelling, action: &str, body: &Value, now: Timestamp) -> Reply {
        if action != "invite" {
            return self.refuse(400, "BadRequest", "Resource not found for the segment.", now);
        }
        let asked = body.get("participants").cloned().unwrap_or_else(|| json!([]));
        let people = self.people_named(&asked);
        let operation = self.operation(spelling, "inviteParticipantsOperation", body, json!({ "participants": asked }));
        self.begin(call, operation, (200, "running"), people, now)
    }

    fn operation(&mut self, spelling: Spelling, kind: &'static str, body: &Value, more: Value) -> Operation {
        Operation { id: self.ids.guid(), kind, context: text(body, "clientContext").map(str::to_owned), spelling, more }
    }

    /// An operation that has begun, and ends well by itself.
    fn begin(
        &mut self,
        call: &str,
        operation: Operation,
        as_: (u16, &'static str),
        people: Vec<Person>,
        now: Timestamp,
    ) -> Reply {
        let reply = self.shown(call, &operation, as_);
        let rings = if people.is_empty() { self.pace.latency } else { self.pace.media };
        self.happens(call, after(now, rings), Event::Ends(operation, Ending::well(None), people));
        reply
    }

    /// An operation that is done by the time of its answer.
    fn done(&mut self, call: &str, spelling: Spelling, kind: &'static str, body: &Value) -> Reply {
        let operation = self.operation(spelling, kind, body, Value::Null);
        self.shown(call, &operation, (200, "completed"))
    }

    /// "Get commsOperation".
    fn look_up(&mut self, call: &str, operation: &str, now: Timestamp) -> Reply {
        match self.calls.get(call).and_then(|known| known.operations.get(operation)) {
            Some((operation, status)) => Reply::json(200, written(call, operation, status)),
            None => self.refuse(404, "8522", "Operation not found.", now),
        }
    }

    fn shown(&mut self, call: &str, operation: &Operation, (status, state): (u16, &'static str)) -> Reply {
        if let Some(known) = self.calls.get_mut(call) {
            known.operations.insert(operation.id.clone(), (operation.clone(), state));
        }
        let shown = merged([&written(call, operation, state), &json!({ "id": operation.id })]);
        Reply::json(status, shown).with("location", operation.spelling.location(call, &operation.id))
    }
}

/// A GUID in the spelling that the platform's own ids have.
fn canonical(id: &str) -> String {
    let digits: String = id.chars().filter(|c| *c != '-').collect::<String>().to_lowercase();
    uuid::Uuid::try_parse(&digits).map_or(digits, |guid| guid.to_string())
}
