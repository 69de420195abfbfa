//! How Call Automation writes: events, errors and people.

use jiff::{Timestamp, Unit};
use serde_json::{Value, json};
use url::Url;

use super::{Acs, Caller, Job, Person};
use crate::simulator::{Callback, Reply, error};

/// The application as which Event Grid asks for its tokens.
const EVENT_GRID: &str = "4962773b-9cdb-44cf-a8bf-237846a00ab7";

/// A result: code, subcode, message.
pub(super) type Told<'a> = (i64, i64, &'a str);

/// It went well.
pub(super) const DONE: Told<'static> = (200, 0, "");
/// It was taken back.
pub(super) const CANCELED: Told<'static> = (400, 8508, "Action failed, the operation was cancelled.");

pub(super) fn owned((code, subcode, message): Told<'_>) -> (i64, i64, String) {
    (code, subcode, message.to_owned())
}

/// An error as the service writes it.
pub(super) fn refuse(status: u16, code: &str, message: &str) -> Reply {
    error(status, code, message, Value::Null)
}

/// Somebody, as events name them: with the `rawId` that requests may leave out.
pub(super) fn identifier(raw: &str) -> Value {
    match raw.strip_prefix("4:") {
        Some(number) => json!({ "rawId": raw, "kind": "phoneNumber", "phoneNumber": { "value": number } }),
        None => json!({ "rawId": raw, "kind": "communicationUser", "communicationUser": { "id": raw } }),
    }
}

/// The `rawId` of somebody whom a request names in whichever way.
pub(super) fn raw_id(identifier: &Value) -> Option<String> {
    let at = |pointer: &str| identifier.pointer(pointer).and_then(Value::as_str);
    let number = at("/phoneNumber/value").map(|number| format!("4:{number}"));
    let user = at("/communicationUser/id").map(str::to_owned);
    let teams = at("/microsoftTeamsUser/userId").map(|user| format!("8:orgid:{user}"));
    at("/rawId").filter(|raw| !raw.is_empty()).map(str::to_owned).or(number).or(user).or(teams)
}

/// Somebody as a roster shows them.
pub(super) fn person(person: &Person) -> Value {
    json!({ "identifier": person.identifier, "isMuted": person.is_muted, "isOnHold": person.is_on_hold })
}

/// The event by which something that runs is told to have stopped, and its members.
pub(super) fn stopped(request: &str) -> (&'static str, Value) {
    match request {
        "startTranscription" => (
            "TranscriptionStopped",
            json!({ "transcriptionUpdate": { "transcriptionStatus": "transcriptionStopped", "transcriptionStatusDetails": "subscriptionStopped" } }),
        ),
        "startMediaStreaming" => (
            "MediaStreamingStopped",
            json!({ "mediaStreamingUpdate": { "contentType": "Audio", "mediaStreamingStatus": "mediaStreamingStopped", "mediaStreamingStatusDetails": "subscriptionStopped" } }),
        ),
        _ => ("ContinuousDtmfRecognitionStopped", Value::Null),
    }
}

impl Acs {
    /// Enters an event of the call, to be posted to where its operation wants it.
    pub(super) fn tell(&mut self, call: &str, name: &str, job: &Job, members: &Value, told: Told<'_>, at: Timestamp) {
        let Some(known) = self.calls.get(call) else { return };
        let to = job.to.clone().unwrap_or_else(|| known.callback.clone());
        let mut data = self.data(call, name, told);
        if let Some(object) = data.as_object_mut() {
            object.extend(job.context.iter().map(|context| ("operationContext".to_owned(), context.as_str().into())));
            object.extend(members.as_object().cloned().unwrap_or_default());
        }
        self.post(to, call, &format!("calling/callConnections/{call}"), name, &data, at);
    }

    /// Who is in the call: all of them, each time, with a number that grows.
    pub(super) fn tell_roster(&mut self, call: &str, at: Timestamp) {
        let Some(known) = self.calls.get_mut(call) else { return };
        known.rosters += 1;
        let people: Vec<Value> = known.people.iter().map(person).collect();
        let members = json!({ "participants": people, "sequenceNumber": known.rosters });
        self.tell(call, "ParticipantsUpdated", &Job { context: None, to: None }, &members, DONE, at);
    }

    pub(super) fn tell_recording(&mut self, call: &str, recording: &str, is_active: bool, at: Timestamp) {
        let (Some(known), Some(of)) = (self.calls.get(call), self.recordings.get_mut(recording)) else { return };
        of.is_active = is_active;
        let to = of.to.clone().unwrap_or_else(|| known.callback.clone());
        let source = format!("calling/recordings/{}/{recording}/RecordingStateChanged", known.server_call_id);
        let mut data = self.data(call, "RecordingStateChanged", DONE);
        if let Some(object) = data.as_object_mut() {
            object.insert("recordingId".to_owned(), recording.into());
            object.insert("state".to_owned(), if is_active { "active" } else { "inactive" }.into());
            object.insert("startDateTime".to_owned(), self.stamp(at).into());
            object.insert("recordingKind".to_owned(), "azureCommunicationServices".into());
        }
        self.post(to, call, &source, "RecordingStateChanged", &data, at);
    }

    pub(super) fn tell_incoming(&mut self, to: Url, context: &str, caller: &Caller, at: Timestamp) {
        let bot = identifier(&format!("8:acs:{}", self.ids.guid()));
        let from = raw_id(&caller.from).unwrap_or_default();
        let data = json!({
            "to": bot,
            "from": caller.from,
            "serverCallId": caller.server_call_id,
            "callerDisplayName": "A Caller",
            "customContext": { "sipHeaders": {}, "voipHeaders": {} },
            "incomingCallContext": context,
            "correlationId": caller.correlation_id,
        });
        let id = self.ids.guid();
        let body = json!([{
            "id": id,
            "source": "/subscriptions/simulated/resourceGroups/simulated/providers/Microsoft.Communication/CommunicationServices/simulated",
            "subject": format!("/caller/{from}/recipient/{}", raw_id(&bot).unwrap_or_default()),
            "type": "Microsoft.Communication.IncomingCall",
            "data": data,
            "time": self.stamp(at),
            "specversion": "1.0",
        }]);
        let claims = vec![("appid", EVENT_GRID.to_owned())];
        self.told.push(Callback { id, to, lane: caller.correlation_id.clone(), headers: Vec::new(), claims, body });
    }

    fn data(&self, call: &str, name: &str, (code, subcode, message): Told<'_>) -> Value {
        let Some(known) = self.calls.get(call) else { return Value::Null };
        json!({
            "version": known.version,
            "resultInformation": { "code": code, "subCode": subcode, "message": message },
            "callConnectionId": call,
            "serverCallId": known.server_call_id,
            "correlationId": known.correlation_id,
            "publicEventType": format!("Microsoft.Communication.{name}"),
        })
    }

    fn post(&mut self, to: Url, lane: &str, source: &str, name: &str, data: &Value, at: Timestamp) {
        let id = self.ids.guid();
        let body = json!([{
            "id": id,
            "source": source,
            "type": format!("Microsoft.Communication.{name}"),
            "data": data,
            "time": self.stamp(at),
            "specversion": "1.0",
            "datacontenttype": "application/json",
            "subject": source,
        }]);
        self.told.push(Callback { id, to, lane: lane.to_owned(), headers: Vec::new(), claims: Vec::new(), body });
    }

    /// A time as events bear it, in units of 100 ns, behind that of all events before.
    fn stamp(&mut self, at: Timestamp) -> String {
        let tick = jiff::SignedDuration::from_nanos(100);
        let at = at.round(Unit::Microsecond).unwrap_or(at);
        let behind = self.last.checked_add(tick).unwrap_or(at);
        self.last = at.max(behind);
        self.last.strftime("%Y-%m-%dT%H:%M:%S%.7f+00:00").to_string()
    }
}
