//! The whole way: a bot's request through the gateway to a platform, the platform's callbacks to the receiver, one story in the
//! ledger. The rows are those of the references: `cancelMediaProcessing` of v1.0 and of the beta of 2018, `cancelAddParticipant`.

mod mischief;

use callback_ledger::{
    app::platform::Played,
    simulator::{Chance, Mischief},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    app::send,
    world::{MEDIA, PACE, World},
};

fn ids(list: &[&Value]) -> Value {
    let mut ids: Vec<&str> = list.iter().map(|operation| operation["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    json!(ids)
}

fn sorted(list: &Value) -> Value {
    let mut ids: Vec<&str> = list.as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    ids.sort_unstable();
    json!(ids)
}

#[tokio::test]
async fn a_cancel_of_v1_takes_back_what_plays_and_what_waits_and_leaves_the_tones() {
    let world = World::graph().await;
    let call = world.graph_call().await;
    let calls = format!("graph/v1.0/communications/calls/{call}");
    world.ask(&format!("{calls}/recordResponse"), &json!({ "clientContext": "record" })).await;
    world.ask(&format!("{calls}/playPrompt"), &json!({ "clientContext": "prompt" })).await;
    world.ask(&format!("{calls}/subscribeToTone"), &json!({ "clientContext": "tones" })).await;
    let answered =
        world.ask(&format!("{calls}/microsoft.graph.cancelMediaProcessing"), &json!({ "clientContext": "cancel" })).await;
    assert_eq!(answered.status, StatusCode::OK);
    let location = answered.headers["location"].to_str().unwrap().to_owned();
    let shown = answered.json();
    assert_eq!((&shown["status"], &shown["clientContext"]), (&json!("completed"), &json!("record")), "as the reference shows it");
    assert!(!location.ends_with(shown["id"].as_str().unwrap()), "the body bears another id than the Location");
    world.moment().await;

    let [record, prompt, tones, cancel] =
        [world.tagged("record").await, world.tagged("prompt").await, world.tagged("tones").await, world.tagged("cancel").await];
    for canceled in [&record, &prompt] {
        assert_eq!((&canceled["state"], &canceled["canceledBy"]), (&json!("canceled"), &cancel["id"]), "{canceled:#}");
        assert_eq!((&canceled["result"]["subcode"], &canceled["flags"]), (&json!(8508), &json!([])));
    }
    assert_eq!((&cancel["state"], &cancel["kind"]), (&json!("completed"), &json!("cancelMediaProcessingOperation")));
    assert_eq!(
        (sorted(&cancel["cancels"]), &cancel["escaped"], &cancel["flags"]),
        (ids(&[&record, &prompt]), &Value::Null, &json!([]))
    );
    assert_eq!((&tones["state"], &tones["canceledBy"]), (&json!("completed"), &Value::Null));
    world.people("press", &json!({ "callId": call, "tone": "tone5" })).await;
    let heard = world.app.list(&format!("/v1/calls/{call}/timeline")).await;
    assert!(heard.iter().any(|entry| entry["type"] == "tone"), "tones are still heard: {heard:#?}");
}

#[tokio::test]
async fn what_was_asked_for_behind_a_cancel_is_none_of_its_doing() {
    let world = World::graph().await;
    let call = world.graph_call().await;
    let calls = format!("graph/v1.0/communications/calls/{call}");
    world.ask(&format!("{calls}/playPrompt"), &json!({ "clientContext": "first" })).await;
    world.ask(&format!("{calls}/cancelMediaProcessing"), &json!({ "clientContext": "cancel" })).await;
    world.moment().await;
    world.ask(&format!("{calls}/playPrompt"), &json!({ "clientContext": "goodbye" })).await;
    world.people("hang-up", &json!({ "callId": call })).await;
    let [first, cancel, goodbye] = [world.tagged("first").await, world.tagged("cancel").await, world.tagged("goodbye").await];
    assert_eq!((&first["canceledBy"], &cancel["cancels"]), (&cancel["id"], &ids(&[&first])));
    assert_eq!((&goodbye["state"], &goodbye["canceledBy"], &goodbye["flags"]), (&json!("canceled"), &Value::Null, &json!([])));
}

#[tokio::test]
async fn a_simulated_platform_is_for_this_machine_alone() {
    let world = World::acs().await;
    let ask = async |name: &str, value: &str| {
        let request = world.app.client.post(format!("{}/simulator/incoming-call", world.platform)).header(name, value);
        send(request).await.status
    };
    for (name, value) in [("host", "evil.example"), ("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")] {
        assert_eq!(ask(name, value).await, StatusCode::FORBIDDEN, "{name}");
    }
    assert_eq!(ask("origin", "http://localhost:3000").await, StatusCode::CREATED);
    world.idle().await;
    let elsewhere = json!({ "callbackUri": "https://bot.example/events" });
    world.people("incoming-call", &elsewhere).await;
    assert_eq!(world.simulator.sent().last().unwrap().status, None, "it is not posted to another machine");
}

#[tokio::test]
async fn a_cancel_of_the_beta_of_2018_calls_back_untyped_in_both_forms_of_its_address() {
    for (root, all) in
        [("app/calls", true), ("applications/app-id/calls", true), ("app/calls", false), ("applications/app-id/calls", false)]
    {
        let world = World::graph().await;
        let call = world.graph_call().await;
        let calls = format!("graph/beta/{root}/{call}");
        world.ask(&format!("{calls}/record"), &json!({ "clientContext": "first" })).await;
        world.ask(&format!("{calls}/record"), &json!({ "clientContext": "second" })).await;
        let answered =
            world.ask(&format!("{calls}/cancelMediaProcessing"), &json!({ "all": all, "clientContext": "cancel" })).await;
        assert_eq!((answered.status, answered.body.as_slice()), (StatusCode::ACCEPTED, &b""[..]));
        assert_eq!(world.tagged("cancel").await["state"], "accepted");
        world.moment().await;
        let [first, cancel] = [world.tagged("first").await, world.tagged("cancel").await];
        assert_eq!((&first["state"], &first["canceledBy"]), (&json!("canceled"), &cancel["id"]), "{root} {all}");
        assert_eq!((&cancel["state"], &cancel["notifications"], &cancel["flags"]), (&json!("completed"), &json!(1), &json!([])));
        let told = world
            .simulator
            .sent()
            .into_iter()
            .find(|sent| sent.body["value"][0]["resourceData"]["@odata.type"] == "#microsoft.graph.commsOperation");
        assert_eq!(told.unwrap().body["value"][0]["resourceUrl"], Value::Null, "in the spelling of 2018");
        world.pass(MEDIA).await;
        let second = world.tagged("second").await;
        assert_eq!(second["state"], if all { "canceled" } else { "completed" });
        assert_eq!(world.tagged("cancel").await["cancels"], if all { ids(&[&first, &second]) } else { ids(&[&first]) });
    }
}

#[tokio::test]
async fn an_invitation_is_taken_back_with_and_without_a_callback_of_its_own() {
    for to in [None, Some("/platform/override")] {
        let world = World::acs().await;
        let call = world.acs_call().await;
        let people = format!("acs/calling/callConnections/{call}/participants");
        let version = "api-version=2023-10-15";
        let somebody = json!({ "kind": "phoneNumber", "phoneNumber": { "value": "+14255550123" } });
        let added = world
            .ask(&format!("{people}:add?{version}"), &json!({ "participantToAdd": somebody, "operationContext": "add" }))
            .await;
        assert_eq!(added.status, StatusCode::ACCEPTED);
        let invitation = added.json()["invitationId"].as_str().unwrap().to_owned();
        let mut cancel = json!({ "invitationId": invitation, "operationContext": "take-back" });
        if let Some(path) = to {
            cancel["operationCallbackUri"] = format!("{}{path}", world.app.public).into();
        }
        let answered = world.ask(&format!("{people}:cancelAddParticipant?{version}"), &cancel).await;
        assert_eq!((answered.status, &answered.json()["invitationId"]), (StatusCode::ACCEPTED, &json!(invitation)));
        world.moment().await;

        let [added, canceled] = [world.tagged("add").await, world.tagged("take-back").await];
        assert_eq!(
            (&added["state"], &added["canceledBy"], &added["flags"]),
            (&json!("canceled"), &canceled["id"], &json!(["inferred"]))
        );
        assert_eq!((&canceled["state"], &canceled["cancels"]), (&json!("completed"), &ids(&[&added])));
        assert_eq!((&canceled["result"]["code"], &canceled["result"]["subcode"]), (&json!(487), &json!(5234)));
        let told = world.app.list("/v1/notifications?kind=cancelAddParticipant").await;
        assert_eq!(told.len(), 1);
        assert_eq!(told[0]["receiver"], to.unwrap_or("/platform/callbacks"));

        world.pass(MEDIA).await; // nobody joins any more
        assert_eq!(world.tagged("add").await["state"], "canceled");
        let late = world
            .ask(
                &format!("{people}:cancelAddParticipant?{version}"),
                &json!({ "invitationId": invitation, "operationContext": "again" }),
            )
            .await;
        assert_eq!(late.status, StatusCode::ACCEPTED);
        world.moment().await;
        assert_eq!(world.tagged("again").await["state"], "failed");
    }
}

/// The seed of a platform that does the first requests and answers some of them with failures.
const FAILING: u64 = 5;

#[tokio::test]
async fn what_is_sent_again_is_done_once() {
    let mischief = Mischief { fail_rate: "0.5".parse::<Chance>().unwrap(), seed: FAILING, ..Mischief::default() };
    let world = World::start(Played::Acs, PACE, mischief).await;
    let callback = format!("{}/platform/callbacks", world.app.public);
    let body = |context: String| json!({ "callbackUri": callback, "operationContext": context, "targets": [{ "communicationUser": { "id": "8:acs:x" } }] });
    let mut statuses = Vec::new();
    for at in 0..6 {
        let answered =
            world.send(Method::POST, "acs/calling/callConnections?api-version=2025-06-15", &body(format!("call-{at}"))).await;
        statuses.push(answered.status.as_u16());
    }
    world.moment().await;
    let connected: Vec<Value> = world.simulator.sent().into_iter().map(|sent| sent.body[0].clone()).collect();
    for at in 0..6 {
        let context = format!("call-{at}");
        let events = connected.iter().filter(|event| event["type"] == "Microsoft.Communication.CallConnected");
        let done = events.filter(|event| event["data"]["operationContext"] == context.as_str()).count();
        assert!(done <= 1, "{context} was done {done} times: {statuses:?}");
        if statuses[at] == 201 {
            assert_eq!(done, 1, "{context} was answered with yes");
            assert_eq!(world.tagged(&context).await["state"], "completed");
        }
    }
    let asked = world.simulator.asked().await;
    assert!(asked > 6, "some were sent again: {asked} requests");
    assert!(statuses.iter().filter(|status| **status == 201).count() >= 4, "{statuses:?}");
}

#[tokio::test]
async fn an_incoming_call_is_answered_or_given_up() {
    let world = World::graph().await;
    let call = world.people("incoming-call", &json!({})).await["callId"].as_str().unwrap().to_owned();
    assert_eq!(world.app.get(&format!("/v1/calls/{call}")).await.json()["state"], "incoming");
    let answer = json!({ "callbackUri": format!("{}/platform/calls", world.app.public), "mediaConfig": {}, "acceptedModalities": ["audio"] });
    world.ask(&format!("graph/v1.0/communications/calls/{call}/answer"), &answer).await;
    world.moment().await;
    world.moment().await;
    assert_eq!(world.app.get(&format!("/v1/calls/{call}")).await.json()["state"], "established");
    let answered = world.app.list("/v1/operations?kind=answer").await;
    assert_eq!((answered.len(), &answered[0]["state"]), (1, &json!("completed")));
    world.people("hang-up", &json!({ "callId": call })).await;
    assert_eq!(world.app.get(&format!("/v1/calls/{call}")).await.json()["state"], "terminated");
    let over = world.send(Method::POST, &format!("graph/v1.0/communications/calls/{call}/playPrompt"), &json!({})).await;
    assert_eq!((over.status, &over.json()["error"]["code"]), (StatusCode::NOT_FOUND, &json!("8522")));

    let missed = world.people("incoming-call", &json!({})).await["callId"].as_str().unwrap().to_owned();
    world.pass(std::time::Duration::from_secs(15)).await;
    let missed = world.app.get(&format!("/v1/calls/{missed}")).await.json();
    assert_eq!((&missed["state"], &missed["result"]["subcode"]), (&json!("terminated"), &json!(8587)));

    let world = World::acs().await;
    let rings = world.people("incoming-call", &json!({})).await;
    let answer = json!({ "incomingCallContext": rings["incomingCallContext"], "callbackUri": format!("{}/platform/callbacks", world.app.public) });
    let answered = world.ask("acs/calling/callConnections:answer?api-version=2025-06-15", &answer).await.json();
    world.moment().await;
    let leg = world.app.get(&format!("/v1/calls/{}", answered["callConnectionId"].as_str().unwrap())).await.json();
    assert_eq!((&leg["state"], &leg["relatedCalls"]), (&json!("established"), &json!([rings["correlationId"]])));
}
