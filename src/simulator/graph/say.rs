//! How Graph writes: notifications, calls and operations, in today's spelling and in that of 2018.

use serde_json::{Map, Value, json};

use super::{Graph, Operation};
use crate::simulator::Callback;

/// In which words a request was asked, and is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// `v1.0`, and `beta` since 2019.
    Today(&'static str),
    /// The beta of 2018: `/app/calls`, GUIDs in capitals without dashes, and no types around the data.
    Of2018,
}

impl Spelling {
    fn id(self, id: &str) -> String {
        match self {
            Self::Today(_) => id.to_owned(),
            Self::Of2018 => id.replace('-', "").to_uppercase(),
        }
    }

    /// Where an operation is found.
    pub fn location(self, call: &str, operation: &str) -> String {
        match self {
            Self::Today(version) => {
                format!("https://graph.microsoft.com/{version}/communications/calls/{call}/operations/{operation}")
            }
            Self::Of2018 => format!("https://graph.microsoft.com/beta/app/calls/{call}/operations/{operation}"),
        }
    }
}

/// How an operation has ended.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    pub status: &'static str,
    pub result: Option<(i64, i64, &'static str)>,
    pub reason: Option<&'static str>,
}

impl Ending {
    /// Well, with this reason.
    pub const fn well(reason: Option<&'static str>) -> Self {
        Self { status: "completed", result: Some((200, 0, "Action completed successfully.")), reason }
    }

    /// Canceled, as each kind writes it: recordings fail; of prompts and tones the reason tells ("recordOperation",
    /// "sendDtmfTonesOperation").
    pub fn canceled(kind: &str) -> Self {
        let result = Some((400, 8508, "Action failed, the operation was cancelled."));
        match kind {
            "recordOperation" => Self { status: "failed", result, reason: Some("operationCanceled") },
            "playPromptOperation" => Self { status: "failed", result, reason: Some("mediaOperationCanceled") },
            _ => Self { status: "completed", result: None, reason: Some("mediaOperationCanceled") },
        }
    }
}

/// A `resultInfo`.
pub(super) fn result((code, subcode, message): (i64, i64, &str)) -> Value {
    json!({ "@odata.type": "#microsoft.graph.resultInfo", "code": code, "subcode": subcode, "message": message })
}

/// One object of several; the last of a name counts.
pub(super) fn merged(parts: [&Value; 2]) -> Value {
    let members = parts.into_iter().filter_map(Value::as_object).flatten();
    Value::Object(members.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>())
}

/// An operation as it stands.
pub(super) fn written(call: &str, operation: &Operation, status: &str) -> Value {
    let base = match operation.spelling {
        Spelling::Today(_) => json!({ "id": operation.id }),
        Spelling::Of2018 => {
            let place =
                |spelling: Spelling| format!("/app/calls/{}/operations/{}", spelling.id(call), spelling.id(&operation.id));
            json!({ "@odata.id": place(Spelling::Of2018), "@odata.etag": "W/\"54451\"" })
        }
    };
    let common = json!({
        "@odata.type": format!("#microsoft.graph.{}", operation.kind),
        "clientContext": operation.context,
        "status": status,
        "resultInfo": null,
    });
    merged([&merged([&common, &base]), &operation.more])
}

impl Graph {
    fn tell(&mut self, call: &str, spelling: Spelling, change: &str, part: &str, data: &Value) {
        let Some(known) = self.calls.get(call) else { return };
        let place = format!("calls/{}{part}", spelling.id(call));
        let body = match spelling {
            Spelling::Today(_) => json!({
                "@odata.type": "#microsoft.graph.commsNotifications",
                "value": [{
                    "@odata.type": "#microsoft.graph.commsNotification",
                    "changeType": change,
                    "resource": format!("/app/{place}"),
                    "resourceUrl": format!("/communications/{place}"),
                    "resourceData": data,
                }],
            }),
            Spelling::Of2018 => {
                json!({ "value": [{ "changeType": change, "resource": format!("/app/{place}"), "resourceData": data }] })
            }
        };
        let (to, chain) = (known.callback.clone(), known.chain.clone());
        let id = self.ids.guid();
        let headers = vec![
            ("x-microsoft-skype-chain-id", chain.clone()),
            ("x-microsoft-skype-message-id", id.clone()),
            ("scenario-id", chain),
        ];
        self.told.push(Callback { id, to, lane: call.to_owned(), headers, claims: Vec::new(), body });
    }

    /// Word of the call itself, which says of it no more than this.
    pub(super) fn tell_call(&mut self, call: &str, change: &str, data: &Value) {
        let data = merged([&json!({ "@odata.type": "#microsoft.graph.call" }), data]);
        self.tell(call, Spelling::Today("v1.0"), change, "", &data);
    }

    /// Who is in the call: all of them, each time.
    pub(super) fn tell_roster(&mut self, call: &str) {
        let Some(known) = self.calls.get(call) else { return };
        let people: Vec<Value> = known
            .people
            .iter()
            .map(|person| {
                json!({
                    "@odata.type": "#microsoft.graph.participant",
                    "id": person.id,
                    "info": { "@odata.type": "#microsoft.graph.participantInfo", "identity": person.identity },
                    "mediaStreams": [{ "mediaType": "audio", "label": "main-audio", "sourceId": "1", "direction": "sendReceive" }],
                    "isMuted": person.is_muted,
                    "isInLobby": false,
                })
            })
            .collect();
        self.tell(call, Spelling::Today("v1.0"), "updated", "/participants", &people.into());
    }

    /// Word that an operation has ended.
    pub(super) fn tell_end(&mut self, call: &str, operation: &Operation, end: &Ending) {
        let part = format!("/operations/{}", operation.spelling.id(&operation.id));
        if let Some(known) = self.calls.get_mut(call) {
            known.operations.insert(operation.id.clone(), (operation.clone(), end.status));
        }
        let mut data = written(call, operation, end.status);
        if let Some(members) = data.as_object_mut() {
            members.remove("resultInfo");
            members.extend(end.result.map(|told| ("resultInfo".to_owned(), result(told))));
            members.extend(end.reason.map(|reason| ("completionReason".to_owned(), reason.into())));
        }
        self.tell(call, operation.spelling, "deleted", &part, &data);
    }

    /// The call, as an answer or its first notification shows it.
    pub(super) fn describe(&self, call: &str) -> Value {
        let Some(known) = self.calls.get(call) else { return Value::Null };
        json!({
            "@odata.type": "#microsoft.graph.call",
            "id": call,
            "state": known.state.as_str(),
            "direction": if known.is_incoming { "incoming" } else { "outgoing" },
            "callbackUri": known.callback,
            "callChainId": known.chain,
            "source": known.source,
            "targets": known.targets,
            "tenantId": self.tenant,
            "requestedModalities": ["audio"],
        })
    }
}
