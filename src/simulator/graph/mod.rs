//! Graph cloud communications: the actions of `call`, and the notifications that follow them.
//!
//! Statuses and bodies are those of the API reference ("call: playPrompt" and its neighbours). A `cancelMediaProcessing` is answered
//! as v1.0 does it, with the operation that it cancels and a `Location` of its own; in the addresses of the beta of 2018
//! (`/beta/app/calls`, `/beta/applications/<id>/calls`), or with an `all` in its body, as that beta did: 202, and a bare `commsOperation`
//! when it is done.

mod actions;
mod say;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};
use url::Url;

use self::say::{Ending, Spelling};
use super::{Ask, Callback, Ids, MANY, Pace, Platform, Reply, after, agenda::Agenda, callback_url, error, text};

/// How long an incoming call rings before it is given up ("call: answer": a bot has 15 seconds).
const RINGS: Duration = Duration::from_secs(15);

/// The simulated platform.
#[derive(Debug)]
pub struct Graph {
    ids: Ids,
    pace: Pace,
    /// The bot's calling webhook, for calls that name none.
    webhook: Url,
    /// Whose people call.
    tenant: String,
    calls: BTreeMap<String, Call>,
    agenda: Agenda<(String, Event)>,
    told: Vec<Callback>,
}

#[derive(Debug)]
struct Call {
    callback: Url,
    chain: String,
    state: State,
    is_incoming: bool,
    source: Value,
    targets: Value,
    people: Vec<Person>,
    /// What plays and records: the first is under way, the others wait.
    queue: VecDeque<Media>,
    /// Every operation, and its status.
    operations: BTreeMap<String, (Operation, &'static str)>,
    hears_tones: bool,
    tones: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Incoming,
    Establishing,
    Established,
    Transferring,
    TransferAccepted,
    Terminating,
    Terminated,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Establishing => "establishing",
            Self::Established => "established",
            Self::Transferring => "transferring",
            Self::TransferAccepted => "transferAccepted",
            Self::Terminating => "terminating",
            Self::Terminated => "terminated",
        }
    }
}

#[derive(Clone, Debug)]
struct Person {
    id: String,
    identity: Value,
    is_muted: bool,
}

/// An operation, as far as it is repeated by what tells of it.
#[derive(Clone, Debug)]
struct Operation {
    id: String,
    kind: &'static str,
    context: Option<String>,
    spelling: Spelling,
    /// The members of its kind.
    more: Value,
}

#[derive(Clone, Debug)]
struct Media {
    operation: Operation,
    lasts: Duration,
    end: Ending,
}

/// What is going to happen in a call.
#[derive(Debug)]
enum Event {
    /// It takes the next step.
    Becomes(State),
    /// Nobody has answered it.
    GivenUp,
    /// What plays is over.
    MediaEnds(String),
    /// An operation has ended, and these people have come by it.
    Ends(Operation, Ending, Vec<Person>),
    /// Something about the people in it has changed.
    Roster,
    /// It is over: code, subcode and why.
    Over(i64, i64, &'static str),
}

impl Graph {
    /// A platform without calls.
    #[must_use]
    pub fn new(ids: Ids, pace: Pace, webhook: Url, tenant: String) -> Self {
        Self { ids, pace, webhook, tenant, calls: BTreeMap::new(), agenda: Agenda::default(), told: Vec::new() }
    }

    fn happens(&mut self, call: &str, at: Timestamp, event: Event) {
        self.agenda.at(at, (call.to_owned(), event));
    }

    /// What takes a moment.
    fn happens_soon(&mut self, call: &str, now: Timestamp, event: Event) {
        self.happens(call, after(now, self.pace.latency), event);
    }

    fn happen(&mut self, call: &str, at: Timestamp, event: Event) {
        match event {
            Event::Becomes(state) => self.become_(call, at, state),
            Event::GivenUp if self.state(call) == Some(State::Incoming) => {
                self.over(call, (408, 8587, "The incoming call was not answered in time."));
            }
            Event::GivenUp => {}
            Event::MediaEnds(operation) => {
                let Some(under_way) = self.calls.get_mut(call) else { return };
                if under_way.queue.front().is_some_and(|media| media.operation.id == operation)
                    && let Some(media) = under_way.queue.pop_front()
                {
                    self.tell_end(call, &media.operation, &media.end);
                    self.play_next(call, at);
                }
            }
            Event::Ends(operation, end, people) => {
                self.tell_end(call, &operation, &end);
                if let Some(joined) = self.calls.get_mut(call).filter(|_| !people.is_empty()) {
                    joined.people.extend(people);
                    self.tell_roster(call);
                }
            }
            Event::Roster => self.tell_roster(call),
            Event::Over(code, subcode, why) => self.over(call, (code, subcode, why)),
        }
    }

    fn state(&self, call: &str) -> Option<State> {
        self.calls.get(call).map(|call| call.state)
    }

    fn become_(&mut self, call: &str, at: Timestamp, state: State) {
        let Some(known) = self.calls.get_mut(call).filter(|known| known.state != State::Terminated) else { return };
        known.state = state;
        self.tell_call(call, "updated", &json!({ "state": state.as_str() }));
        match state {
            State::Establishing => self.happens_soon(call, at, Event::Becomes(State::Established)),
            State::Established => self.tell_roster(call),
            State::Transferring => self.happens_soon(call, at, Event::Becomes(State::TransferAccepted)),
            State::TransferAccepted => self.happens_soon(call, at, Event::Over(0, 7015, "GracefulTransferCompleted")),
            _ => {}
        }
    }

    /// What plays ends with its call; then the call itself is told.
    fn over(&mut self, call: &str, (code, subcode, why): (i64, i64, &'static str)) {
        let Some(known) = self.calls.get_mut(call).filter(|known| known.state != State::Terminated) else { return };
        known.state = State::Terminated;
        for media in std::mem::take(&mut known.queue) {
            self.tell_end(call, &media.operation, &Ending::canceled(media.operation.kind));
        }
        let result = say::result((code, subcode, why));
        self.tell_call(call, "deleted", &json!({ "state": State::Terminated.as_str(), "resultInfo": result }));
    }

    /// Puts something in the line of what plays and records.
    fn enqueue(&mut self, call: &str, now: Timestamp, media: Media) {
        let Some(known) = self.calls.get_mut(call) else { return };
        known.queue.push_back(media);
        if known.queue.len() == 1 {
            self.play_next(call, now);
        }
    }

    fn play_next(&mut self, call: &str, now: Timestamp) {
        let Some(media) = self.calls.get(call).and_then(|known| known.queue.front()) else { return };
        let (ends, operation) = (after(now, media.lasts), media.operation.id.clone());
        self.happens(call, ends, Event::MediaEnds(operation));
    }

    /// Takes back what plays: all of it, or the one under way.
    fn cancel(&mut self, call: &str, now: Timestamp, all: bool) -> Vec<Operation> {
        let Some(known) = self.calls.get_mut(call) else { return Vec::new() };
        let count = if all { known.queue.len() } else { known.queue.len().min(1) };
        let canceled: Vec<Operation> = known.queue.drain(..count).map(|media| media.operation).collect();
        for operation in &canceled {
            let end = Ending::canceled(operation.kind);
            self.happens_soon(call, now, Event::Ends(operation.clone(), end, Vec::new()));
        }
        self.play_next(call, now);
        canceled
    }

    /// Somebody calls the bot.
    fn incoming_call(&mut self, body: &Value, now: Timestamp) -> Reply {
        let webhook = text(body, "callbackUri").map_or_else(|| Some(self.webhook.clone()), callback_url);
        let Some(callback) = webhook else {
            return self.refuse(400, "BadRequest", "The callbackUri is not an https address.", now);
        };
        let (id, chain) = (self.ids.guid(), self.ids.guid());
        let caller = json!({
            "@odata.type": "#microsoft.graph.participantInfo",
            "identity": { "@odata.type": "#microsoft.graph.identitySet", "user": {
                "@odata.type": "#microsoft.graph.identity", "displayName": "A Caller", "id": self.ids.guid(), "tenantId": self.tenant,
            } },
        });
        let call = Call {
            callback,
            chain,
            state: State::Incoming,
            is_incoming: true,
            people: vec![self.person(caller.get("identity").cloned().unwrap_or_default())],
            source: caller,
            targets: json!([]),
            queue: VecDeque::new(),
            operations: BTreeMap::new(),
            hears_tones: false,
            tones: 0,
        };
        self.enter(&id, call);
        let data = self.describe(&id);
        self.tell_call(&id, "created", &data);
        self.happens(&id, after(now, RINGS), Event::GivenUp);
        Reply::json(201, json!({ "callId": id }))
    }

    /// Adds a call; where there are many, those that have ended make room.
    fn enter(&mut self, id: &str, call: Call) {
        if self.calls.len() >= MANY {
            self.calls.retain(|_, call| call.state != State::Terminated);
        }
        self.calls.insert(id.to_owned(), call);
    }

    fn person(&mut self, identity: Value) -> Person {
        Person { id: self.ids.guid(), identity, is_muted: false }
    }

    fn press(&mut self, call: &str, tone: &str) -> Option<Reply> {
        let known = self.calls.get_mut(call).filter(|known| known.hears_tones && known.state == State::Established)?;
        known.tones += 1;
        let tone = json!({ "@odata.type": "#microsoft.graph.toneInfo", "sequenceId": known.tones, "tone": tone });
        self.tell_call(call, "updated", &json!({ "state": "established", "toneInfo": tone }));
        Some(Reply::empty(204))
    }
}

impl Platform for Graph {
    fn ask(&mut self, ask: &Ask, now: Timestamp) -> Reply {
        self.answer(ask, now)
    }

    fn people(&mut self, what: &str, body: &Value, now: Timestamp) -> Option<Reply> {
        let call = text(body, "callId").unwrap_or_default();
        match what {
            "incoming-call" => Some(self.incoming_call(body, now)),
            "hang-up" => {
                self.state(call).filter(|state| *state != State::Terminated)?;
                self.over(call, (200, 5003, "The conversation has ended."));
                Some(Reply::empty(204))
            }
            "press" => self.press(call, text(body, "tone").unwrap_or("tone1")),
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

    fn failure(&mut self, status: u16, now: Timestamp) -> Reply {
        let refused = match status {
            429 => self.refuse(status, "TooManyRequests", "Too many requests.", now),
            503 => self.refuse(status, "ServiceUnavailable", "The service is unavailable.", now),
            _ => self.refuse(status, "UnknownError", "", now),
        };
        if status == 500 { refused } else { refused.with("retry-after", "1".to_owned()) }
    }
}

impl Graph {
    /// An error as Graph writes it.
    fn refuse(&mut self, status: u16, code: &str, message: &str, now: Timestamp) -> Reply {
        let date = now.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        error(status, code, message, json!({ "date": date, "request-id": self.ids.guid(), "client-request-id": self.ids.guid() }))
    }
}
