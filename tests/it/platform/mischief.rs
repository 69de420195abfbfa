//! A platform that is late, repeats itself, and speaks out of turn, leaves the ledger that a well-behaved one would have left. What it
//! does not say the ledger does not know: then it says what follows from what was said.
//!
//! Each round prints its seed. `CALLBACK_LEDGER_SEED` tells one round again, `CALLBACK_LEDGER_WORLDS=100` tells so many.

use std::time::Duration;

use callback_ledger::{
    app::platform::Played,
    simulator::{Chance, Mischief, Pace},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    ledger::options,
    world::{LATENCY, MEDIA, World},
};

/// What a bot does next.
enum Step {
    /// A request: its path behind the call, or behind all calls (`//…`), and its body.
    Ask(Method, &'static str, Value),
    /// The platform's time passes.
    Pass(Duration),
    /// All that is on its way has come.
    Rest,
}

fn post(path: &'static str, body: Value) -> Step {
    Step::Ask(Method::POST, path, body)
}

fn graph_life() -> Vec<Step> {
    vec![
        post("/recordResponse", json!({ "clientContext": "r1" })),
        post("/playPrompt", json!({ "clientContext": "p1" })),
        post("/subscribeToTone", json!({ "clientContext": "t1" })),
        Step::Pass(MEDIA),
        Step::Rest, // what has ended before a cancel is known to have ended before it
        post("/record", json!({ "clientContext": "r2", "maxRecordDurationInSeconds": 1 })),
        post("/cancelMediaProcessing", json!({ "clientContext": "c1" })),
        post("/mute", json!({ "clientContext": "m1" })),
        post(
            "/participants/invite",
            json!({ "clientContext": "i1", "participants": [{ "identity": { "user": { "id": "u" } } }] }),
        ),
        Step::Pass(MEDIA),
        post("/record", json!({ "clientContext": "r3", "maxRecordDurationInSeconds": 1 })),
        post("/sendDtmfTones", json!({ "clientContext": "s1", "tones": ["tone1"] })),
        Step::Pass(MEDIA),
        Step::Ask(Method::DELETE, "", json!({})),
        Step::Pass(LATENCY),
        Step::Rest,
    ]
}

fn acs_life() -> Vec<Step> {
    let user = |id: &str| json!({ "communicationUser": { "id": format!("8:acs:{id}") } });
    vec![
        post(":play", json!({ "operationContext": "p1" })),
        post(":play", json!({ "operationContext": "p2" })),
        Step::Pass(MEDIA),
        Step::Rest,
        post(":cancelAllMediaOperations", json!({})),
        post("/participants:add", json!({ "operationContext": "a1", "participantToAdd": user("one") })),
        post(
            "/participants:add",
            json!({ "operationContext": "a2", "participantToAdd": user("two"), "invitationTimeoutInSeconds": 1 }),
        ),
        post("/participants:add", json!({ "operationContext": "a3", "participantToAdd": user("three") })),
        post("/participants:cancelAddParticipant", json!({ "operationContext": "x3", "invitationId": "last" })),
        post("//recordings", json!({ "callLocator": { "kind": "serverCallLocator", "serverCallId": "this" } })),
        Step::Pass(MEDIA),
        post(":recognize", json!({ "operationContext": "g1", "recognizeInputType": "dtmf" })),
        Step::Pass(MEDIA),
        post(":sendDtmfTones", json!({ "operationContext": "s1", "tones": ["one"] })),
        post(":startContinuousDtmfRecognition", json!({ "operationContext": "d1" })),
        post(":stopContinuousDtmfRecognition", json!({ "operationContext": "d2" })),
        post(":play", json!({ "operationContext": "p3" })),
        Step::Ask(Method::DELETE, "", json!({})),
        Step::Pass(LATENCY),
        Step::Rest,
    ]
}

/// Lives a life, and returns what the ledger then says, ids and times and marks aside.
async fn lived(played: Played, mischief: &Mischief) -> Vec<String> {
    let latency = if mischief.callback_before_response { Duration::ZERO } else { LATENCY };
    lived_at(played, Pace { latency, media: MEDIA }, mischief).await
}

async fn lived_at(played: Played, pace: Pace, mischief: &Mischief) -> Vec<String> {
    let world = World::start(played, pace, mischief.clone()).await;
    let (create, base, query, receiver) = match played {
        Played::Graph => ("graph/v1.0/communications/calls", "graph/v1.0/communications/calls", "", "/platform/calls"),
        Played::Acs => {
            ("acs/calling/callConnections", "acs/calling/callConnections", "?api-version=2025-06-15", "/platform/callbacks")
        }
    };
    let body = json!({ "callbackUri": format!("{}{receiver}", world.app.public), "operationContext": "call",
                       "targets": [{ "communicationUser": { "id": "8:acs:caller" }, "identity": { "user": { "id": "u0" } } }] });
    let (call, conversation) = created(&world, &format!("{create}{query}"), &body).await;
    world.pass(LATENCY).await;
    world.pass(LATENCY).await;
    let (mut invitation, mut answers) = (Value::Null, Vec::new());
    for step in if played == Played::Graph { graph_life() } else { acs_life() } {
        match step {
            Step::Ask(method, path, mut body) => {
                if body["invitationId"] == "last" {
                    body["invitationId"] = invitation.clone();
                }
                if body["callLocator"].is_object() {
                    body["callLocator"]["serverCallId"] = conversation.clone();
                }
                let path = match path.strip_prefix("//") {
                    Some(path) => format!("acs/calling/{path}{query}"),
                    None => format!("{base}/{call}{path}{query}"),
                };
                let answered = world.send(method, &path, &body).await;
                answers.push(answered.status.as_u16());
                let told: Value = serde_json::from_slice(&answered.body).unwrap_or_default();
                if told["invitationId"].is_string() {
                    invitation = told["invitationId"].clone();
                }
                world.caught_up().await;
            }
            Step::Pass(time) => world.pass_without_rest(time).await,
            Step::Rest => world.idle().await,
        }
    }
    let mut said = said(&world).await;
    said.push(format!("answers {answers:?} to {} requests", world.simulator.asked().await));
    agrees_with_what_was_delivered(world).await;
    said
}

/// Some platforms have to be asked more than once.
async fn created(world: &World, path: &str, body: &Value) -> (String, Value) {
    for _ in 0..30 {
        let answered = world.send(Method::POST, path, body).await;
        world.caught_up().await;
        if answered.status.is_success() {
            let told = answered.json();
            let call = told["id"].as_str().or(told["callConnectionId"].as_str()).unwrap().to_owned();
            return (call, told["serverCallId"].clone());
        }
    }
    panic!("no call could be made");
}

async fn said(world: &World) -> Vec<String> {
    let mut operations = world.app.list("/v1/operations?limit=250").await;
    let known: Vec<(Value, String)> =
        operations.iter().map(|told| (told["id"].clone(), format!("{} {}", told["kind"], told["context"]))).collect();
    let named = |id: &Value| known.iter().find(|(told, _)| told == id).map(|(_, name)| name.clone());
    let mut said = Vec::new();
    for told in &mut operations {
        let history = world.app.list(&format!("/v1/operations/{}/history", told["id"].as_str().unwrap())).await;
        let steps: Vec<String> = history.iter().map(|step| step["to"].as_str().unwrap().to_owned()).collect();
        let links = |name: &str| {
            let mut links: Vec<_> = told[name].as_array().into_iter().flatten().filter_map(named).collect();
            links.sort();
            links
        };
        let flags =
            told["flags"].as_array().unwrap().iter().filter(|flag| !["late", "corrected"].contains(&flag.as_str().unwrap()));
        let flags: Vec<&Value> = flags.collect();
        let what =
            ["callId", "operationId", "kind", "context", "state", "result", "notifications"].map(|name| told[name].to_string());
        said.push(format!(
            "{what:?} {flags:?} {steps:?} {:?} {:?} {:?} {:?}",
            named(&told["canceledBy"]),
            links("cancels"),
            links("escaped"),
            links("candidates")
        ));
    }
    for call in world.app.list("/v1/calls?limit=250").await {
        let what = ["callId", "state", "direction", "result", "operations", "notifications"].map(|name| call[name].to_string());
        said.push(format!("call {what:?}"));
    }
    said.sort();
    said
}

/// Nothing that was answered with yes is missing, nothing else is there, and all that is said follows from it.
async fn agrees_with_what_was_delivered(mut world: World) {
    let delivered: std::collections::BTreeSet<String> = world
        .simulator
        .sent()
        .into_iter()
        .filter(|sent| sent.status.is_some_and(|status| status < 300))
        .map(|sent| sent.id)
        .collect();
    let held = world.app.list("/v1/notifications?limit=250").await.len();
    assert_eq!(held, delivered.len(), "every callback that was acknowledged is held once");
    world.app.stop().await;
    let options = options(world.app.ledger());
    assert_eq!(callback_ledger::store::rebuild(&options).await.unwrap(), [], "the projections are what their facts say");
}

fn rounds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("CALLBACK_LEDGER_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("CALLBACK_LEDGER_WORLDS").unwrap_or(3)).map(|_| fastrand::u64(..)).collect(),
    }
}

fn chance(random: &mut fastrand::Rng, most: f64) -> Chance {
    (random.f64() * most).to_string().parse().unwrap()
}

fn differences(ours: &[String], theirs: &[String]) -> Vec<String> {
    let only = |some: &[String], others: &[String], sign: &str| -> Vec<String> {
        some.iter().filter(|line| !others.contains(line)).map(|line| format!("{sign} {line}")).collect()
    };
    [only(ours, theirs, "+"), only(theirs, ours, "-")].concat()
}

const NONE: Vec<String> = Vec::new();

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_repeated_and_untimely_callbacks_leave_the_same_ledger() {
    for seed in rounds() {
        let mut random = fastrand::Rng::with_seed(seed);
        for played in [Played::Graph, Played::Acs] {
            let mischief = Mischief {
                delay: Duration::from_millis(random.u64(0..120)),
                reorder: chance(&mut random, 1.0),
                duplicate: chance(&mut random, 0.6),
                callback_before_response: random.bool(),
                seed,
                ..Mischief::default()
            };
            eprintln!("CALLBACK_LEDGER_SEED={seed}: {played:?} {mischief:?}");
            let well_behaved = Mischief { callback_before_response: false, seed, ..Mischief::default() };
            let latency = if mischief.callback_before_response { Duration::ZERO } else { LATENCY };
            let reference = lived_at(played, Pace { latency, media: MEDIA }, &well_behaved).await;
            assert!(reference.len() > 8, "{reference:#?}");
            assert_eq!(differences(&lived(played, &mischief).await, &reference), NONE, "seed {seed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_never_said_or_refused_leaves_what_follows_from_the_rest() {
    for seed in rounds() {
        let mut random = fastrand::Rng::with_seed(!seed);
        for played in [Played::Graph, Played::Acs] {
            let in_order =
                Mischief { drop: chance(&mut random, 0.5), fail_rate: chance(&mut random, 0.3), seed, ..Mischief::default() };
            let mischief = Mischief {
                delay: Duration::from_millis(random.u64(0..120)),
                reorder: chance(&mut random, 1.0),
                duplicate: chance(&mut random, 0.6),
                ..in_order.clone()
            };
            eprintln!("CALLBACK_LEDGER_SEED={seed}: {played:?} {mischief:?}");
            let reference = lived(played, &in_order).await;
            assert_eq!(differences(&lived(played, &mischief).await, &reference), NONE, "seed {seed}");
        }
    }
}
