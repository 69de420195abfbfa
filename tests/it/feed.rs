//! The feed: whoever follows hears everything once and in order, however late, slow or often interrupted.

mod clients;
mod kills;
mod tail;

use std::{collections::BTreeSet, time::Duration};

use callback_ledger::{
    client::{Client, ClientError, Event, Follow, Following, Heard, What},
    store::prune,
};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{
    app::{Settings, TestApp, graph},
    child::{Served, configuration_with, hangup, hash_of, run},
    ledger::options,
};

const PATIENCE: Duration = Duration::from_mins(1);

/// An operation of this call that ends, as Graph tells it.
fn ended(call: &str, operation: &str, subcode: i64) -> Value {
    let data = json!({
        "@odata.type": "#microsoft.graph.recordOperation", "id": operation, "status": "failed", "clientContext": format!("tag-{operation}"),
        "resultInfo": { "code": 400, "subcode": subcode },
    });
    graph("deleted", &format!("calls/{call}/operations/{operation}"), &data)
}

fn call(id: &str, state: &str) -> Value {
    graph("updated", &format!("calls/{id}"), &json!({ "@odata.type": "#microsoft.graph.call", "id": id, "state": state }))
}

async fn accepted(app: &TestApp, body: &Value) {
    assert_eq!(app.post(body.to_string()).await.status, StatusCode::ACCEPTED);
}

/// The next event of a follower that is not interrupted.
async fn next(following: &mut Following) -> Event {
    loop {
        match timeout(PATIENCE, following.next()).await.expect("no event in time").unwrap() {
            Heard::Event(event) => return event,
            Heard::Connected => {}
            Heard::Interrupted(why) => panic!("interrupted: {why}"),
        }
    }
}

async fn take(following: &mut Following, number: usize) -> Vec<Event> {
    let mut events = Vec::new();
    for _ in 0..number {
        events.push(next(following).await);
    }
    events
}

fn follow(private: &str, what: Follow) -> Following {
    Client::new(private.parse().unwrap()).unwrap().follow(what)
}

fn from(after: i64) -> Follow {
    Follow { after: Some(after), ..Follow::default() }
}

fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

#[tokio::test]
async fn what_a_notification_changes_comes_in_the_shapes_of_the_api() {
    let app = TestApp::start().await;
    accepted(&app, &call("c1", "established")).await;
    accepted(&app, &ended("c1", "o1", 8508)).await;
    let request = json!({ "source": "graph", "callId": "c1", "kind": "playPrompt", "context": "prompt" });
    let registered = app.client.post(format!("{}/v1/operations", app.private)).body(request.to_string());
    assert!(registered.header("content-type", "application/json").send().await.unwrap().status().is_success());
    app.callback().body("x").send().await.unwrap(); // nobody's

    let mut following = follow(&app.private, from(0));
    let events = take(&mut following, 7).await;
    let seqs: Vec<i64> = events.iter().map(|event| event.seq).collect();
    assert!(seqs.is_sorted() && seqs.iter().collect::<BTreeSet<_>>().len() == 7, "{seqs:?}");
    let expected = ["notification", "call", "notification", "operation", "request", "operation", "rejection"];
    assert_eq!(kinds(&events), expected);

    for event in &events {
        let change = event.change().unwrap();
        assert_eq!((change.seq, change.kind.as_ref()), (event.seq, event.kind.as_str()));
        let path = match event.what().unwrap() {
            What::Notification(row) => format!("/v1/notifications/{}", row.id),
            What::Operation(row) => format!("/v1/operations/{}", row.id),
            What::Call(row) => format!("/v1/calls/{}", row.call_id),
            What::Rejection(row) => {
                assert_eq!((row.reason.as_ref(), row.status), ("missing_token", 401));
                continue;
            }
            What::Request(row) => {
                assert_eq!(
                    (row.name.as_str(), row.context.as_deref(), row.via.as_ref()),
                    ("playPrompt", Some("prompt"), "registered")
                );
                assert_eq!((row.call_id.as_deref(), row.answer.is_none()), (Some("c1"), true));
                continue;
            }
            other => panic!("{other:?}"),
        };
        let mut data = event.data.clone();
        data.as_object_mut().unwrap().remove("change");
        assert_eq!(data, app.get(&path).await.json(), "{path}");
    }
    assert_eq!(events[1].change().unwrap().state.as_deref(), Some("established"));
    assert_eq!(events[3].change().unwrap().state.as_deref(), Some("canceled"));
}

#[tokio::test]
async fn a_follower_without_a_position_hears_what_happens_from_then_on() {
    let app = TestApp::start().await;
    accepted(&app, &ended("c1", "before", 8508)).await;
    let mut following = follow(&app.private, Follow::default());
    assert!(matches!(following.next().await.unwrap(), Heard::Connected));
    accepted(&app, &ended("c1", "after", 8508)).await;
    let events = take(&mut following, 2).await;
    assert_eq!(kinds(&events), ["notification", "operation"]);
    assert_eq!(events[1].data["operationId"], "after");
}

#[tokio::test]
async fn a_follower_that_comes_back_goes_on_where_it_was() {
    let mut app = TestApp::start().await;
    for n in 0..5 {
        accepted(&app, &ended("c1", &format!("o{n}"), 8508)).await;
    }
    let whole: Vec<i64> = take(&mut follow(&app.private, from(0)), 11).await.iter().map(|event| event.seq).collect();
    for seen in 0..whole.len() {
        let last = if seen == 0 { 0 } else { whole[seen - 1] };
        // whatever the query said when it first connected
        let request = app.client.get(format!("{}/v1/events?after=0", app.private)).header("Last-Event-ID", last);
        let rest = ids(request.send().await.unwrap(), whole.len() - seen).await;
        assert_eq!(rest, whole[seen..], "behind {seen}");
    }
    app.restart().await;
    let again: Vec<i64> = take(&mut follow(&app.private, from(0)), 11).await.iter().map(|event| event.seq).collect();
    assert_eq!(again, whole);
}

/// The ids of so many events with data, out of the text itself.
async fn ids(mut response: Response, number: usize) -> Vec<i64> {
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    loop {
        let events = text.split("\n\n").filter(|event| event.contains("\ndata: "));
        let ids: Vec<i64> =
            events.map(|event| event.strip_prefix("id: ").unwrap().split('\n').next().unwrap().parse().unwrap()).collect();
        if ids.len() >= number {
            return ids;
        }
        let more = timeout(PATIENCE, response.chunk()).await.expect("no event in time").unwrap().unwrap();
        text.push_str(std::str::from_utf8(&more).unwrap());
    }
}

#[tokio::test]
async fn filters_let_through_what_was_asked_for_and_nothing_else() {
    let app = TestApp::start().await;
    for id in ["c1", "c2"] {
        accepted(&app, &call(id, "established")).await;
        accepted(&app, &ended(id, &format!("o-{id}"), 8508)).await;
    }
    app.callback().body("x").send().await.unwrap();
    // the last event of all, so that whoever has it has heard the others
    take(&mut follow(&app.private, from(0)), 9).await;
    accepted(&app, &call("c2", "terminated")).await;

    let filters = [
        (
            Follow { call_id: Some("c2".to_owned()), ..from(0) },
            vec!["notification", "call", "notification", "operation", "notification", "call"],
        ),
        (
            Follow { kind: Some("recordOperation".to_owned()), ..from(0) },
            vec!["notification", "operation", "notification", "operation"],
        ),
        (
            Follow { types: vec!["operation".to_owned(), "rejection".to_owned()], ..from(0) },
            vec!["operation", "operation", "rejection"],
        ),
        (Follow { source: Some("graph".to_owned()), types: vec!["call".to_owned()], ..from(0) }, vec!["call", "call", "call"]),
    ];
    for (what, expected) in filters {
        let mut following = follow(&app.private, what.clone());
        let events = take(&mut following, expected.len()).await;
        assert_eq!(kinds(&events), expected, "{what:?}");
        // nothing else follows
        assert!(timeout(Duration::from_millis(100), next(&mut following)).await.is_err(), "{what:?}");
    }
    for (query, why) in [
        ("after=-1", "after"),
        ("after=x", "after"),
        ("source=teams", "source"),
        ("type=everything", "type"),
        ("typ=call", "typ"),
    ] {
        let answered = app.get(&format!("/v1/events?{query}")).await;
        assert_eq!(answered.status, StatusCode::BAD_REQUEST, "{query}");
        assert!(answered.json()["detail"].as_str().unwrap().contains(why), "{query}: {}", answered.json());
    }
}

#[tokio::test]
async fn an_operation_that_became_one_with_another_is_still_told_of() {
    let app = TestApp::of("acs").await;
    let mut following = follow(&app.private, Follow { types: vec!["operation".to_owned()], ..from(0) });
    let told = |kind: &str, id: &str, time: &str| {
        json!([{ "id": id, "source": "calling/callConnections/c1", "type": format!("Microsoft.Communication.{kind}"),
            "time": time, "specversion": "1.0", "data": { "callConnectionId": "c1", "operationContext": "tag" } }])
    };
    let post = async |body: &Value| assert_eq!(app.post(body.to_string()).await.status, StatusCode::OK);
    post(&told("PlayCompleted", "e2", "2026-01-01T00:00:02Z")).await;
    post(&told("PlayStarted", "e1", "2026-01-01T00:00:01Z")).await;
    let events = take(&mut following, 2).await;
    assert_eq!(events[0].data["id"], events[1].data["id"]);
    assert_eq!(events[1].data["state"], "completed");
}

#[tokio::test]
async fn what_retention_has_taken_is_told_as_a_gap() {
    let app = TestApp::start().await;
    accepted(&app, &ended("c1", "o1", 8508)).await;
    let first = take(&mut follow(&app.private, from(0)), 3).await;
    // connected, but not asked since
    let mut slow = follow(&app.private, from(first[1].seq));
    assert!(matches!(slow.next().await.unwrap(), Heard::Connected));
    assert_eq!(next(&mut slow).await.seq, first[2].seq);

    let cut = jiff::Timestamp::from_microsecond(first[2].seq + 1).unwrap();
    prune(&options(app.ledger()), cut, false).await.unwrap();
    accepted(&app, &ended("c1", "o2", 8508)).await;

    let events = take(&mut follow(&app.private, from(0)), 3).await;
    assert_eq!(kinds(&events), ["gap", "notification", "operation"]);
    let What::Gap(gap) = events[0].what().unwrap() else { panic!("{events:?}") };
    assert_eq!((gap.after, gap.resumes_after, events[0].seq), (0, first[2].seq, first[2].seq));
    // who had heard everything by then misses nothing
    assert_eq!(kinds(&take(&mut slow, 2).await), ["notification", "operation"]);
    let operations = app.list("/v1/operations").await;
    assert_eq!(operations.len(), 2, "what happened stays known");
}

#[tokio::test]
async fn as_many_follow_as_may() {
    let sections = "[feed]\nfollowers = 3\nfollowers_per_token = 2\n".to_owned();
    let app = TestApp::start_with(Settings { sections, ..Settings::default() }).await;
    let url = format!("{}/v1/events", app.private);
    let open = async || app.client.get(&url).send().await.unwrap();
    let (first, second) = (open().await, open().await);
    assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
    let third = open().await;
    assert_eq!(third.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(third.headers().contains_key("retry-after"));
    assert!(third.text().await.unwrap().contains("too_many_followers"));
    // a place is free as soon as one has gone
    drop(first);
    let again = async {
        while open().await.status() != StatusCode::OK {
            accepted(&app, &ended("c1", "o1", 8508)).await; // the service notices when it writes
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("the place was not given back");
}

#[tokio::test]
async fn streams_end_with_the_service() {
    let mut app = TestApp::start().await;
    let mut response = app.client.get(format!("{}/v1/events", app.private)).send().await.unwrap();
    assert!(response.chunk().await.unwrap().is_some());
    timeout(PATIENCE, app.stop()).await.expect("an open stream holds the service up");
    while response.chunk().await.unwrap().is_some() {}
}

#[tokio::test]
async fn a_stream_that_was_opened_without_a_token_ends_when_the_first_one_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    let mut following = Client::new(served.private.parse().unwrap()).unwrap().follow(Follow::default());
    assert!(matches!(following.next().await.unwrap(), Heard::Connected));
    let file = configuration_with(folder.path(), "");
    let made = run(folder.path(), &["tokens", "create", "first", "--config", file.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    let ended = async {
        loop {
            match following.next().await {
                Ok(Heard::Interrupted(_)) => {}
                Err(ClientError::Refused { status: 401, .. }) => return,
                other => panic!("{other:?}"),
            }
        }
    };
    timeout(PATIENCE, ended).await.expect("the stream goes on");
}

#[tokio::test]
async fn a_token_that_is_taken_back_ends_its_streams_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let token = |name: &str| format!("[[private.token]]\nname = \"{name}\"\nsha256 = \"{}\"\n", hash_of(name));
    let served = Served::start_with(folder.path(), &(token("one") + &token("two")));
    let client = Client::new(served.private.parse().unwrap()).unwrap();
    let connected = async |name: &str| {
        let mut following = client.clone().with_token(name).follow(Follow::default());
        assert!(matches!(following.next().await.unwrap(), Heard::Connected));
        following
    };
    let (mut one, mut two) = (connected("one").await, connected("two").await);
    configuration_with(folder.path(), &token("two"));
    hangup(&served);
    let ended = async {
        loop {
            match one.next().await {
                Ok(Heard::Interrupted(_)) => {}
                Err(ClientError::Refused { status: 401, .. }) => return,
                other => panic!("{other:?}"),
            }
        }
    };
    timeout(PATIENCE, ended).await.expect("the stream goes on");
    assert!(timeout(Duration::from_millis(200), two.next()).await.is_err(), "another token's stream has ended");

    // a listener that asks for tokens does not stop asking
    configuration_with(folder.path(), "");
    hangup(&served);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let nobody = client.follow(Follow::default()).next().await;
    assert!(matches!(nobody, Err(ClientError::Refused { status: 401, .. })), "{nobody:?}");
}
