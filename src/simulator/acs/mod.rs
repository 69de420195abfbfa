//! Azure Communication Services Call Automation: its REST operations, and the events that follow them.
//!
//! Statuses and bodies are those of the REST reference and of the SDKs' operations (`azure-communication-callautomation`); events look
//! as they were seen in recordings of the api-version of 2025. A request with a `Repeatability-Request-ID` that was seen before is
//! answered as it was, and done once.

mod actions;
mod calls;
mod people;
mod say;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};
use url::Url;

use super::{Ask, Callback, Ids, MANY, Pace, Platform, Reply, after, agenda::Agenda, callback_url, text};

/// The simulated platform.
#[derive(Debug)]
pub struct Acs {
    ids: Ids,
    pace: Pace,
    /// Where Event Grid delivers incoming calls.
    events: Url,
    calls: BTreeMap<String, Call>,
    recordings: BTreeMap<String, Recording>,
    /// Those who call and are not answered yet, by their `incomingCallContext`.
    callers: BTreeMap<String, Caller>,
    /// Requests by their `Repeatability-Request-ID`, and what was answered.
    repeatable: BTreeMap<String, (u64, Reply)>,
    /// The ids of these, the oldest first.
    repeated: VecDeque<String>,
    agenda: Agenda<(String, Event)>,
    told: Vec<Callback>,
    /// The time of the last event: no two are of one time.
    last: Timestamp,
}

#[derive(Debug)]
struct Call {
    callback: Url,
    version: String,
    server_call_id: String,
    correlation_id: String,
    state: State,
    people: Vec<Person>,
    /// The last roster's number.
    rosters: u32,
    /// What plays and listens: the first is under way, the others wait.
    queue: VecDeque<Media>,
    invitations: BTreeMap<String, Invitation>,
    /// What runs until it is stopped, by its name.
    running: BTreeMap<&'static str, Job>,
    tones: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Connected,
    Disconnected,
}

#[derive(Clone, Debug)]
struct Person {
    identifier: Value,
    is_muted: bool,
    is_on_hold: bool,
}

/// What events of an operation repeat of its request.
#[derive(Clone, Debug)]
struct Job {
    context: Option<String>,
    /// `operationCallbackUri`.
    to: Option<Url>,
}

#[derive(Clone, Debug)]
struct Media {
    id: String,
    job: Job,
    /// `Play` or `Recognize`, as its events are called.
    name: &'static str,
    plays: bool,
    /// The members of the event that ends it, and its result.
    end: (Value, (i64, i64, &'static str)),
}

#[derive(Clone, Debug)]
struct Invitation {
    job: Job,
    participant: Value,
    /// Whether it is answered before it is given up.
    joins: bool,
}

#[derive(Clone, Debug)]
struct Recording {
    call: String,
    to: Option<Url>,
    is_active: bool,
}

#[derive(Clone, Debug)]
struct Caller {
    from: Value,
    server_call_id: String,
    correlation_id: String,
}

/// What is going to happen in a call.
#[derive(Debug)]
enum Event {
    Connected(Job),
    MediaEnds(String),
    InvitationEnds(String),
    /// An event of this type: its members, its result.
    Told(&'static str, Job, Value, (i64, i64, String)),
    Roster,
    /// A recording is active, or is not.
    Recording(String, bool),
    Over,
}

impl Acs {
    /// A platform without calls.
    #[must_use]
    pub fn new(ids: Ids, pace: Pace, events: Url) -> Self {
        Self {
            ids,
            pace,
            events,
            calls: BTreeMap::new(),
            recordings: BTreeMap::new(),
            callers: BTreeMap::new(),
            repeatable: BTreeMap::new(),
            repeated: VecDeque::new(),
            agenda: Agenda::default(),
            told: Vec::new(),
            last: Timestamp::MIN,
        }
    }

    fn happens(&mut self, call: &str, at: Timestamp, event: Event) {
        self.agenda.at(at, (call.to_owned(), event));
    }

    /// What takes a moment.
    fn happens_soon(&mut self, call: &str, now: Timestamp, event: Event) {
        self.happens(call, after(now, self.pace.latency), event);
    }

    fn happen(&mut self, call: &str, at: Timestamp, event: Event) {
        let Some(known) = self.calls.get_mut(call).filter(|known| known.state != State::Disconnected) else { return };
        match event {
            Event::Connected(job) => {
                known.state = State::Connected;
                self.tell(call, "CallConnected", &job, &Value::Null, say::DONE, at);
                self.tell_roster(call, at);
            }
            Event::MediaEnds(id) => {
                if known.queue.front().is_some_and(|media| media.id == id)
                    && let Some(media) = known.queue.pop_front()
                {
                    let (members, (code, subcode, message)) = media.end;
                    let ended = format!("{}Completed", media.name);
                    self.tell(call, &ended, &media.job, &members, (code, subcode, message), at);
                    self.play_next(call, at);
                }
            }
            Event::InvitationEnds(id) => {
                let Some(invitation) = known.invitations.remove(&id) else { return };
                let members = json!({ "participant": invitation.participant });
                if !invitation.joins {
                    let unanswered = (408, 10002, "The invitation was not answered in time.");
                    return self.tell(call, "AddParticipantFailed", &invitation.job, &members, unanswered, at);
                }
                known.people.push(Person { identifier: invitation.participant, is_muted: false, is_on_hold: false });
                self.tell(call, "AddParticipantSucceeded", &invitation.job, &members, say::DONE, at);
                self.tell_roster(call, at);
            }
            Event::Told(name, job, members, (code, subcode, message)) => {
                self.tell(call, name, &job, &members, (code, subcode, &message), at);
            }
            Event::Roster => self.tell_roster(call, at),
            Event::Recording(recording, is_active) => self.tell_recording(call, &recording, is_active, at),
            Event::Over => self.over(call, at, BY_THE_BOT),
        }
    }

    /// What goes on ends with its call; then the call itself is told.
    fn over(&mut self, call: &str, at: Timestamp, why: (i64, i64, &str)) {
        let Some(known) = self.calls.get_mut(call) else { return };
        let (queue, running) = (std::mem::take(&mut known.queue), std::mem::take(&mut known.running));
        for media in queue {
            self.tell(call, &format!("{}Canceled", media.name), &media.job, &Value::Null, say::CANCELED, at);
        }
        for (name, job) in running {
            let (event, members) = say::stopped(name);
            self.tell(call, event, &job, &members, why, at);
        }
        let active: Vec<String> =
            self.recordings.iter().filter(|(_, of)| of.call == call && of.is_active).map(|(id, _)| id.clone()).collect();
        for recording in active {
            self.tell_recording(call, &recording, false, at);
        }
        let nobody = Job { context: None, to: None };
        self.tell(call, "CallDisconnected", &nobody, &Value::Null, why, at);
        if let Some(known) = self.calls.get_mut(call) {
            known.state = State::Disconnected;
        }
    }

    /// Puts something in the line of what plays and listens.
    fn enqueue(&mut self, call: &str, now: Timestamp, media: Media) {
        let Some(known) = self.calls.get_mut(call) else { return };
        known.queue.push_back(media);
        if known.queue.len() == 1 {
            self.play_next(call, now);
        }
    }

    fn play_next(&mut self, call: &str, now: Timestamp) {
        let Some(media) = self.calls.get(call).and_then(|known| known.queue.front()).cloned() else { return };
        if media.plays {
            let started = say::owned((200, 0, "Action completed successfully."));
            self.happens_soon(call, now, Event::Told("PlayStarted", media.job, Value::Null, started));
        }
        let lasts = self.pace.latency.saturating_add(self.pace.media);
        self.happens(call, after(now, lasts), Event::MediaEnds(media.id));
    }

    /// Takes back all that plays and listens.
    fn cancel_media(&mut self, call: &str, now: Timestamp) {
        let Some(known) = self.calls.get_mut(call) else { return };
        for media in std::mem::take(&mut known.queue) {
            let event = if media.name == "Play" { "PlayCanceled" } else { "RecognizeCanceled" };
            self.happens_soon(call, now, Event::Told(event, media.job, Value::Null, say::owned(say::CANCELED)));
        }
    }

    /// Somebody calls: Event Grid brings the word.
    fn incoming_call(&mut self, body: &Value, now: Timestamp) -> Reply {
        let events = text(body, "callbackUri").map_or_else(|| Some(self.events.clone()), callback_url);
        let Some(to) = events else { return say::refuse(400, "BadRequest", "The callbackUri is not an https address.") };
        let (context, server_call_id, correlation_id) = (self.ids.guid(), self.server_call_id(), self.ids.guid());
        let from = say::identifier(&format!("8:acs:{}", self.ids.guid()));
        let caller = Caller { from, server_call_id, correlation_id };
        self.tell_incoming(to, &context, &caller, now);
        let told = json!({ "incomingCallContext": context, "serverCallId": caller.server_call_id, "correlationId": caller.correlation_id });
        if self.callers.len() >= MANY {
            self.callers.pop_first(); // whoever it is has rung for long
        }
        self.callers.insert(context, caller);
        Reply::json(201, told)
    }

    /// The conversation, as the server knows it: an address in base64.
    fn server_call_id(&mut self) -> String {
        use base64::{Engine, engine::general_purpose::STANDARD};
        STANDARD.encode(format!("https://conv.example/conv/{}?i=1", self.ids.guid()))
    }

    fn press(&mut self, call: &str, tone: &str, now: Timestamp) -> Option<Reply> {
        let known = self.calls.get_mut(call).filter(|known| known.state == State::Connected)?;
        let job = known.running.get("startContinuousDtmf").cloned()?;
        known.tones += 1;
        let members = json!({ "sequenceId": known.tones, "tone": tone });
        let heard = (200, 0, "DTMF tone received successfully.");
        self.tell(call, "ContinuousDtmfRecognitionToneReceived", &job, &members, heard, now);
        Some(Reply::empty(204))
    }
}

impl Platform for Acs {
    fn ask(&mut self, ask: &Ask, now: Timestamp) -> Reply {
        self.answer(ask, now)
    }

    fn people(&mut self, what: &str, body: &Value, now: Timestamp) -> Option<Reply> {
        let call = text(body, "callId").unwrap_or_default();
        match what {
            "incoming-call" => Some(self.incoming_call(body, now)),
            "hang-up" => {
                self.calls.get(call).filter(|known| known.state != State::Disconnected)?;
                self.over(call, now, BY_PEOPLE);
                Some(Reply::empty(204))
            }
            "press" => self.press(call, text(body, "tone").unwrap_or("one"), now),
            _ => None,
        }
    }

    fn due(&mut self, now: Timestamp) -> Vec<Callback> {
        while let Some((at, (call, event))) = self.agenda.pop(now) {
            self.happen(&call, at, event);
        }
        std::mem::take(&mut self.told)
    }

    fn next(&self) -> Option<Timestamp> {
        if self.told.is_empty() { self.agenda.next() } else { Some(Timestamp::MIN) }
    }

    fn failure(&mut self, status: u16, _now: Timestamp) -> Reply {
        let refused = match status {
            429 => say::refuse(status, "TooManyRequests", "Too many requests."),
            503 => say::refuse(status, "ServiceUnavailable", "The service is unavailable."),
            _ => say::refuse(status, "InternalServerError", "An error has occurred."),
        };
        if status == 500 { refused } else { refused.with("retry-after", "1".to_owned()) }
    }
}

/// How a call ends that the bot has ended, and one that people have left.
const BY_THE_BOT: (i64, i64, &str) = (200, 7000, "The conversation has ended. DiagCode: 0#7000.@");
const BY_PEOPLE: (i64, i64, &str) = (200, 5001, "This conversation has ended. DiagCode: 0#5001.@");
/// How long an invitation waits at the most ("Add Participant": `invitationTimeoutInSeconds`, up to 180).
const LONGEST_INVITATION: Duration = Duration::from_mins(3);
