//! How SQLite carries out the statements of a running service: none of them looks through a table that grows.

use std::collections::BTreeSet;

use reqwest::Client;
use serde_json::{Value, json};
use sqlx::Row;

use crate::support::{
    bot::{Bot, Says},
    child::{Served, issuer_key, run, token},
    ledger::{behind, execute, until},
};

/// The tables that grow, and what statements call them besides.
const GROWING: &[&str] = &[
    "about",
    "answer",
    "call",
    "change",
    "delivery",
    "delivery_head",
    "due",
    "forward",
    "held",
    "lookup",
    "notification",
    "operation",
    "request",
    "several",
    "stray",
];

/// Statements that may, and why.
const ALLOWED: &[(&str, &str)] = &[
    ("SELECT EXISTS (SELECT 1 FROM stray)", "ends with the first row"),
    ("SELECT data_version, EXISTS (SELECT 1 FROM stray)", "ends with the first row"),
    ("SELECT id FROM request WHERE open", "the partial index holds those that are open"),
    ("SELECT call.id, about.subject", "a row or two, out of a selection of its own"),
    ("UPDATE request SET stray = 1 WHERE call_id IN (SELECT id FROM call WHERE call_id LIKE", "a migration, once"),
    ("INSERT INTO lookup (segment, hash, operation) SELECT 1,", "a migration, once"),
    ("INSERT INTO lookup_segment (id, sorted_to, entries, oldest, newest) SELECT 1,", "a migration, once"),
];

/// Every list with each of its filters, every thing by itself.
fn questions(call: &str, operation: &str, notification: &str) -> Vec<String> {
    let since = "since=2020-01-01T00:00:00Z";
    let mut asked: Vec<String> = [
        "/v1/operations/wait?callId=none&timeout=0",
        "/v1/events?after=0",
        "/v1/forwards/targets",
        "/v1/rejections?reason=expired&receiver=/api/calls",
        "/healthz",
        "/readyz",
        "/metrics",
    ]
    .map(str::to_owned)
    .into();
    let lists = [
        (
            "operations",
            vec![
                format!("callId={call}"),
                "operationId=2".to_owned(),
                "context=c".to_owned(),
                "kind=recordOperation".to_owned(),
                "source=acs".to_owned(),
                "state=failed".to_owned(),
                "subcode=8508".to_owned(),
                "open=true".to_owned(),
                "overdue=true".to_owned(),
            ],
        ),
        ("calls", ["source=acs", "state=terminated"].map(str::to_owned).into()),
        (
            "notifications",
            vec![format!("callId={call}"), "kind=call".to_owned(), "source=acs".to_owned(), "disposition=late".to_owned()],
        ),
        ("rejections", Vec::new()),
        ("forwards", vec![format!("callId={call}"), "state=dead".to_owned(), "forward=bot".to_owned(), "kind=call".to_owned()]),
    ];
    for (list, filters) in lists {
        asked.push(format!("/v1/{list}"));
        asked.push(format!("/v1/{list}?{since}"));
        for filter in filters {
            asked.push(format!("/v1/{list}?{filter}"));
            asked.push(format!("/v1/{list}?{filter}&{since}"));
        }
    }
    asked.extend([
        format!("/v1/operations/{operation}"),
        format!("/v1/operations/{operation}/history"),
        format!("/v1/calls/{call}"),
        format!("/v1/calls/{call}/timeline"),
        format!("/v1/notifications/{notification}"),
        format!("/v1/notifications/{notification}/raw"),
    ]);
    asked
}

/// Asks for all of it, and for the second page of what has one.
async fn ask_everything(served: &Served) {
    let client = Client::builder().no_proxy().build().unwrap();
    let get = async |path: &str| {
        let answered = client.get(format!("{}{path}", served.private)).send().await.unwrap();
        assert!(answered.status() != 400 && answered.status() != 500, "{path}: {}", answered.text().await.unwrap());
        if path.starts_with("/v1/events") { Value::Null } else { answered.text().await.unwrap().parse().unwrap_or_default() }
    };
    let first = async |list: &str, member: &str| get(list).await["value"][0][member].as_str().unwrap().to_owned();
    let call = first("/v1/calls?source=graph", "callId").await;
    let operation = first("/v1/operations?source=graph", "id").await;
    let notification = first("/v1/notifications?source=graph", "id").await;
    for path in questions(&call, &operation, &notification) {
        let page = get(&path).await;
        if let Some(next) = page["nextLink"].as_str() {
            get(next).await;
        }
    }
    for (path, body) in [
        ("/v1/operations", json!({ "source": "graph", "callId": call, "kind": "record", "context": "c" })),
        ("/v1/operations", json!({ "source": "acs", "kind": "createCall", "context": "c" })),
        ("/gateway/graph/v1.0/communications/calls", json!({ "callbackUri": "https://x" })),
        ("/v1/forwards/retry", json!({ "state": "waiting" })),
        ("/v1/forwards/skip", json!({ "callId": call })),
    ] {
        let posted = client.post(format!("{}{path}", served.private)).header("content-type", "application/json");
        posted.body(body.to_string()).send().await.unwrap();
    }
}

/// The statements in a log, each once.
fn statements(log: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let whole = line["db.statement"].as_str().filter(|text| !text.trim().is_empty());
        let Some(text) = whole.or_else(|| line["summary"].as_str()) else { continue };
        let parts = text.split(';').map(str::trim);
        let asks = |part: &&str| ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"].iter().any(|word| part.starts_with(word));
        found.extend(parts.filter(asks).map(str::to_owned));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_looks_through_a_table_that_grows() {
    let folder = tempfile::tempdir().unwrap();
    let (log, key) = (folder.path().join("log"), issuer_key(folder.path()).display().to_string());
    token(folder.path()); // makes the issuer
    let bot = Bot::start(|it| if it.body.len() % 2 == 0 { Says::Status(500, String::new()) } else { Says::ok() }).await;
    let secret = super::forward::SECRET;
    let sections = format!(
        "[log]\nfilter = \"sqlx::query=trace\"\nformat = \"json\"\n[gateway]\ngraph = \"http://127.0.0.1:9\"\n\
         [[forward]]\nname = \"bot\"\nurl = \"{}\"\nsecrets = [\"{secret}\"]\n\
         [[forward]]\nname = \"original\"\nurl = \"{}\"\nmode = \"original\"\n",
        bot.url(),
        bot.url()
    );
    let served = Served::start_logging(folder.path(), &sections, &log);
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    for (source, path) in [("graph", "/api/calls"), ("acs", "/api/callbacks"), ("event-grid", "/api/events")] {
        let to = format!("{}{path}", served.public);
        let bodies = format!("{fixtures}/{source}");
        for _copy in 0..2 {
            // what cannot be read is refused, and that is said
            run(folder.path(), &["replay", &bodies, "--to", &to, "--sign", &key]);
        }
    }
    // as if two segments were full: they are merged at the next tick
    let path = folder.path().join("test.db");
    execute(&path, "UPDATE lookup_segment SET entries = 262144").await;
    execute(&path, "INSERT INTO lookup_segment SELECT id + 1, sorted_to, entries, oldest, newest FROM lookup_segment").await;
    execute(&path, "INSERT INTO lookup_segment SELECT id + 1, sorted_to, 0, NULL, NULL FROM lookup_segment WHERE id = 2").await;
    ask_everything(&served).await;
    until(&path, "SELECT count(*) FROM lookup_segment", 2).await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await; // forwards are written down, calls are settled
    let (code, _) = tokio::task::spawn_blocking(|| served.sigterm()).await.unwrap();
    assert_eq!(code, Some(0));

    let statements = statements(&std::fs::read_to_string(&log).unwrap());
    assert!(statements.len() > 60, "only {} statements were logged", statements.len());
    assert!(statements.iter().any(|statement| statement.starts_with("DELETE FROM lookup WHERE segment")), "nothing was merged");
    let mut connection = behind(&path).await;
    let mut wrong = Vec::new();
    for statement in &statements {
        let in_a_line = statement.split_whitespace().collect::<Vec<_>>().join(" ");
        if ALLOWED.iter().any(|(begin, _why)| in_a_line.starts_with(begin)) {
            continue;
        }
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        let plan = sqlx::query(explain).fetch_all(&mut connection).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        for step in plan.iter().map(|row| row.get::<String, _>("detail")) {
            let scanned = step.strip_prefix("SCAN ").and_then(|rest| rest.split(' ').next());
            // the newest or the next so many, by the order in which they lie
            let bounded = statement.contains("LIMIT") && !step.contains("COVERING");
            if scanned.is_some_and(|table| GROWING.contains(&table)) && !bounded {
                wrong.push(format!("{step}\n    {in_a_line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
