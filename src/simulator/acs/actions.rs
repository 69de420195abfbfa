//! What can be asked of a call and its recordings, and what is answered.

use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Acs, Event, Job, Media, Recording, State, callback_url, say, text};
use crate::simulator::{Ask, Reply, after};

/// How many requests are recognised when they come again.
const REMEMBERED: usize = 10_000;

fn hash(asked: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    asked.hash(&mut hasher);
    hasher.finish()
}

impl Acs {
    /// Does what is asked, once.
    pub(super) fn answer(&mut self, ask: &Ask, now: Timestamp) -> Reply {
        let schemes = ["bearer ", "hmac-sha256 "];
        let is_signed = |value: &String| schemes.iter().any(|scheme| value.to_ascii_lowercase().starts_with(scheme));
        if !ask.headers.get("authorization").is_some_and(is_signed) {
            return say::refuse(401, "Denied", "Denied by the resource provider.");
        }
        if !ask.query.split('&').filter_map(|pair| pair.strip_prefix("api-version=")).any(is_version) {
            return say::refuse(400, "BadRequest", "The api-version is missing, or is none.");
        }
        let Some(repeatable) = ask.headers.get("repeatability-request-id") else { return self.act(ask, now) };
        if !ask.headers.contains_key("repeatability-first-sent") {
            return say::refuse(400, "BadRequest", "Repeatability-First-Sent is missing.");
        }
        let asked = hash(&(&ask.method, &ask.path, &ask.query, ask.body.to_string()));
        if let Some((before, reply)) = self.repeatable.get(repeatable) {
            if *before != asked {
                return say::refuse(400, "BadRequest", "Another request has this Repeatability-Request-ID.");
            }
            return reply.clone().with("repeatability-result", "accepted".to_owned());
        }
        let reply = self.act(ask, now);
        if reply.is_success() {
            self.repeatable.insert(repeatable.clone(), (asked, reply.clone()));
            self.repeated.push_back(repeatable.clone());
            if self.repeated.len() > REMEMBERED
                && let Some(oldest) = self.repeated.pop_front()
            {
                self.repeatable.remove(&oldest);
            }
        }
        reply.with("repeatability-result", "accepted".to_owned())
    }

    fn act(&mut self, ask: &Ask, now: Timestamp) -> Reply {
        let parts: Vec<&str> = ask.path.split('/').filter(|part| !part.is_empty()).collect();
        match (ask.method.as_str(), parts.as_slice()) {
            ("POST", ["calling", "callConnections"]) => self.create(ask, now),
            ("POST", ["calling", service]) if service.starts_with("callConnections:") => {
                self.begin_otherwise(service.trim_start_matches("callConnections:"), ask, now)
            }
            ("GET", ["calling", "callConnections", call]) if self.calls.contains_key(*call) => {
                Reply::json(200, self.properties(call))
            }
            ("DELETE", ["calling", "callConnections", call]) if !call.contains(':') => self.end(call, now),
            ("POST", ["calling", "callConnections", named]) => match named.split_once(':') {
                Some((call, "terminate")) => self.end(call, now),
                Some((call, action)) => self.in_call(call, action, &ask.body, now),
                None => not_found(),
            },
            ("GET", ["calling", "callConnections", call, "participants"]) => self.roster(call),
            ("POST", ["calling", "callConnections", call, people]) if people.starts_with("participants:") => {
                self.with_people(call, people.trim_start_matches("participants:"), &ask.body, now)
            }
            ("POST", ["calling", "recordings"]) => self.record(&ask.body, now),
            ("DELETE", ["calling", "recordings", recording]) => self.turn_recording(recording, "stop", now),
            ("POST", ["calling", "recordings", named]) => match named.split_once(':') {
                Some((recording, action)) => self.turn_recording(recording, action, now),
                None => not_found(),
            },
            _ => not_found(),
        }
    }

    pub(super) fn connected(&self, call: &str) -> Result<(), Reply> {
        match self.calls.get(call).map(|known| known.state) {
            Some(State::Connected) => Ok(()),
            Some(State::Connecting) => {
                Err(say::refuse(400, "8501", "Action is invalid when the call is not in Established state."))
            }
            _ => Err(not_found()),
        }
    }

    fn end(&mut self, call: &str, now: Timestamp) -> Reply {
        if self.calls.get(call).is_none_or(|known| known.state == State::Disconnected) {
            return not_found();
        }
        self.happens_soon(call, now, Event::Over);
        Reply::empty(204)
    }

    /// The actions on a call.
    fn in_call(&mut self, call: &str, action: &str, body: &Value, now: Timestamp) -> Reply {
        if let Err(refused) = self.connected(call) {
            return refused;
        }
        let Some(job) = job(body) else { return no_callback() };
        match action {
            "play" => self.play(call, job, body, now),
            "recognize" => self.recognize(call, job, body, now),
            "cancelAllMediaOperations" => {
                self.cancel_media(call, now);
                Reply::empty(202)
            }
            "hold" | "unhold" => self.turn(call, body, now, |person| person.is_on_hold = action == "hold"),
            "sendDtmfTones" => {
                let reply = Reply::json(202, json!({ "operationContext": job.context }));
                self.happens_soon(call, now, Event::Told("SendDtmfTonesCompleted", job, Value::Null, say::owned(say::DONE)));
                reply
            }
            "startContinuousDtmfRecognition" => self.start(call, ("startContinuousDtmf", None), job, 200, now),
            "stopContinuousDtmfRecognition" => self.stop(call, "startContinuousDtmf", 200, now),
            "startTranscription" => {
                let members = json!({ "transcriptionUpdate": { "transcriptionStatus": "transcriptionStarted", "transcriptionStatusDetails": "subscriptionStarted" } });
                self.start(call, ("startTranscription", Some(("TranscriptionStarted", members))), job, 202, now)
            }
            "updateTranscription" => {
                let members = json!({ "transcriptionUpdate": { "transcriptionStatus": "transcriptionUpdated", "transcriptionStatusDetails": "transcriptionLocaleUpdated" } });
                let Some(running) = self.calls.get(call).and_then(|known| known.running.get("startTranscription").cloned())
                else {
                    return say::refuse(400, "8500", "No transcription is under way.");
                };
                self.happens_soon(call, now, Event::Told("TranscriptionUpdated", running, members, say::owned(say::DONE)));
                Reply::empty(202)
            }
            "stopTranscription" => self.stop(call, "startTranscription", 202, now),
            "startMediaStreaming" => {
                let members = json!({ "mediaStreamingUpdate": { "contentType": "Audio", "mediaStreamingStatus": "mediaStreamingStarted", "mediaStreamingStatusDetails": "subscriptionStarted" } });
                self.start(call, ("startMediaStreaming", Some(("MediaStreamingStarted", members))), job, 202, now)
            }
            "stopMediaStreaming" => self.stop(call, "startMediaStreaming", 202, now),
            "transferToParticipant" => {
                let reply = Reply::json(202, json!({ "operationContext": job.context }));
                let target = person_named(body, "targetParticipant");
                let done = say::owned((200, 7015, "The transfer operation completed successfully."));
                let members = json!({ "transferTarget": target, "transferee": self.first_person(call) });
                self.happens_soon(call, now, Event::Told("CallTransferAccepted", job, members, done));
                let over = after(now, self.pace.latency.saturating_mul(2));
                self.happens(call, over, Event::Over);
                reply
            }
            _ => not_found(),
        }
    }

    fn first_person(&self, call: &str) -> Value {
        self.calls.get(call).and_then(|known| known.people.first()).map(|person| person.identifier.clone()).unwrap_or_default()
    }

    fn play(&mut self, call: &str, job: Job, body: &Value, now: Timestamp) -> Reply {
        if body.get("interruptCallMediaOperation").and_then(Value::as_bool) == Some(true) {
            self.cancel_media(call, now);
        }
        let id = self.ids.guid();
        let end = (Value::Null, (200, 0, "Action completed successfully."));
        self.enqueue(call, now, Media { id, job, name: "Play", plays: true, end });
        Reply::empty(202)
    }

    fn recognize(&mut self, call: &str, job: Job, body: &Value, now: Timestamp) -> Reply {
        if body.get("interruptCallMediaOperation").and_then(Value::as_bool) == Some(true) {
            self.cancel_media(call, now);
        }
        let choice = body.pointer("/recognizeOptions/choices/0/label").cloned().unwrap_or_else(|| "yes".into());
        let end = match text(body, "recognizeInputType") {
            Some("choices") => {
                let result = json!({ "label": choice, "recognizedPhrase": choice, "confidence": 0.9 });
                (
                    json!({ "recognitionType": "choices", "choiceResult": result }),
                    (200, 8545, "Action completed, speech option matched."),
                )
            }
            Some("speech" | "speechOrDtmf") => {
                let result = json!({ "speech": "Yes, please.", "confidence": 0.9 });
                (
                    json!({ "recognitionType": "speech", "speechResult": result }),
                    (200, 8569, "Action completed, speech was recognized."),
                )
            }
            _ => {
                let result = json!({ "tones": ["one"] });
                (
                    json!({ "recognitionType": "dtmf", "dtmfResult": result }),
                    (200, 8533, "Action completed, DTMF option matched."),
                )
            }
        };
        let (id, plays) = (self.ids.guid(), body.get("playPrompt").is_some_and(|prompt| !prompt.is_null()));
        self.enqueue(call, now, Media { id, job, name: "Recognize", plays, end });
        Reply::empty(202)
    }

    /// Something that runs until it is stopped; some of it is told to have started.
    fn start(
        &mut self,
        call: &str,
        (name, told): (&'static str, Option<(&'static str, Value)>),
        job: Job,
        status: u16,
        now: Timestamp,
    ) -> Reply {
        if let Some(known) = self.calls.get_mut(call) {
            known.running.insert(name, job.clone());
        }
        if let Some((event, members)) = told {
            self.happens_soon(call, now, Event::Told(event, job, members, say::owned(say::DONE)));
        }
        Reply::empty(status)
    }

    fn stop(&mut self, call: &str, name: &'static str, status: u16, now: Timestamp) -> Reply {
        let Some(job) = self.calls.get_mut(call).and_then(|known| known.running.remove(name)) else {
            return say::refuse(400, "8500", "There is nothing to stop.");
        };
        let (event, members) = say::stopped(name);
        self.happens_soon(call, now, Event::Told(event, job, members, say::owned(say::DONE)));
        Reply::empty(status)
    }

    fn record(&mut self, body: &Value, now: Timestamp) -> Reply {
        let server = body.pointer("/callLocator/serverCallId").and_then(Value::as_str);
        let named = text(body, "callConnectionId");
        let is_it =
            |(id, call): &(&String, &super::Call)| named == Some(id.as_str()) || server == Some(call.server_call_id.as_str());
        let found = self.calls.iter().filter(|(_, call)| call.state == State::Connected).find(is_it);
        let Some(call) = found.map(|(id, _)| id.clone()) else { return say::refuse(404, "8522", "The call is not found.") };
        let to = text(body, "recordingStateCallbackUri").and_then(callback_url);
        let id = self.ids.guid();
        self.recordings.insert(id.clone(), Recording { call: call.clone(), to, is_active: false });
        self.happens_soon(&call, now, Event::Recording(id.clone(), true));
        Reply::json(200, json!({ "recordingId": id, "recordingState": "active", "recordingKind": "AzureCommunicationServices" }))
    }

    fn turn_recording(&mut self, recording: &str, action: &str, now: Timestamp) -> Reply {
        let Some(call) = self.recordings.get(recording).map(|of| of.call.clone()) else {
            return say::refuse(404, "8522", "The recording is not found.");
        };
        let (status, is_active) = match action {
            "stop" => (204, false),
            "pause" => (202, false),
            "resume" => (202, true),
            _ => return not_found(),
        };
        self.happens_soon(&call, now, Event::Recording(recording.to_owned(), is_active));
        Reply::empty(status)
    }
}

/// `2025-06-15`, `2024-09-01-preview`.
fn is_version(text: &str) -> bool {
    text.strip_suffix("-preview").unwrap_or(text).parse::<jiff::civil::Date>().is_ok()
}

/// What its events repeat of a request; `None` if they cannot be posted to where it says.
pub(super) fn job(body: &Value) -> Option<Job> {
    let to = match text(body, "operationCallbackUri") {
        Some(told) => Some(callback_url(told)?),
        None => None,
    };
    Some(Job { context: text(body, "operationContext").map(str::to_owned), to })
}

pub(super) fn person_named(body: &Value, name: &str) -> Value {
    body.get(name).map(known_as).unwrap_or_default()
}

/// Somebody as events name them.
pub(super) fn known_as(identifier: &Value) -> Value {
    say::raw_id(identifier).map_or(Value::Null, |raw| say::identifier(&raw))
}

pub(super) fn not_found() -> Reply {
    say::refuse(404, "8522", "The resource is not found.")
}

pub(super) fn no_callback() -> Reply {
    say::refuse(400, "BadRequest", "The field CallbackUri is invalid.")
}
