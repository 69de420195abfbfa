//! Verify, rebuild, backup.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    path::Path,
};

use sqlx::{Connection, SqliteConnection};

use super::{
    batch::{instant, json},
    body_place, call_key_place, classes, delivery_key_place, facts, lookup, open_beside,
    projection::{self, Gone, SavedCall, SavedOperation, held_fact, read_facts},
    read::LedgerReader,
};
use crate::{
    domain::{
        call::CallStory,
        delivery::Correlation,
        ids::{NotificationId, PlatformId, Seq},
        operation::{HeldFact, Lapse, operations},
    },
    store::{
        OpenError, Options, StoreError,
        rows::{Difference, Finding},
    },
};

/// How many calls are derived again in one transaction: a server beside us waits for less than its patience.
const CALLS_AT_ONCE: i64 = 200;

// ---- backup

pub(in crate::store) async fn backup(reader: &LedgerReader, target: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::File { path: target.display().to_string(), source };
    if target.try_exists().map_err(failed)? {
        return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, "it exists already")));
    }
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    // Mode 0600, in the same folder, so that the finished copy appears under its name in one step.
    let copy = tempfile::Builder::new().prefix(".callback-ledger-backup").tempfile_in(folder).map_err(failed)?;
    let mut connection = reader.patient_connection().await?;
    // Writes into an empty file as into none. Not synced by SQLite.
    sqlx::query("VACUUM INTO ?1").bind(copy.path().display().to_string()).execute(&mut *connection).await?;
    copy.as_file().sync_all().map_err(failed)?;
    copy.persist_noclobber(target).map_err(|error| failed(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

// ---- verify

pub(in crate::store) async fn verify(reader: &LedgerReader) -> Result<Vec<Finding>, StoreError> {
    let mut connection = reader.patient_connection().await?;
    let mut findings: Vec<Finding> = sqlx::query_scalar::<_, String>("PRAGMA integrity_check(20)")
        .fetch_all(&mut *connection)
        .await?
        .into_iter()
        .filter(|line| line != "ok")
        .map(|line| Finding(format!("database: {line}")))
        .collect();
    for (what, sql) in INVARIANTS {
        let broken: Vec<i64> = sqlx::query_scalar(*sql).fetch_all(&mut *connection).await?;
        findings.extend(broken.into_iter().map(|id| Finding(format!("{what}: {id:x}"))));
    }
    findings.extend(classes::wrong(&mut connection).await?);
    findings.extend(unsealable(reader, &mut connection).await?);
    drop(connection);
    Ok(findings)
}

/// What must hold in every ledger; each query names the rows for which it does not (20 at the most).
const INVARIANTS: &[(&str, &str)] = &[
    ("a reference to a row that is not there, from", "SELECT coalesce(rowid, 0) FROM pragma_foreign_key_check LIMIT 20"),
    (
        "a notification without its delivery",
        "SELECT id FROM notification WHERE delivery_id NOT IN (SELECT id FROM delivery) LIMIT 20",
    ),
    (
        "a notification without its call",
        "SELECT id FROM notification WHERE call_id <> 0 AND call_id NOT IN (SELECT id FROM call) LIMIT 20",
    ),
    (
        "a delivery sealed for a call that is not there",
        "SELECT id FROM delivery WHERE sealed_for IS NOT NULL AND sealed_for NOT IN (SELECT id FROM call) LIMIT 20",
    ),
    (
        "a notification that the change log does not hold",
        "SELECT id
         FROM notification
         WHERE id > (SELECT log_begins_after FROM ledger) AND id NOT IN (SELECT seq FROM change WHERE type = 'notification')
           AND NOT EXISTS (SELECT 1 FROM call WHERE call.id = notification.call_id AND erased_at > notification.received_at)
         LIMIT 20",
    ),
    (
        "a notification or a request that is being, or was to be, erased with its call (erase it again)",
        "SELECT notification.id
         FROM notification
         JOIN call ON call.id = notification.call_id
         WHERE erased_at > notification.received_at
         UNION ALL
         SELECT request.id
         FROM request
         JOIN call ON call.id = request.call_id
         WHERE erased_at > requested_at
         LIMIT 20",
    ),
    (
        "an operation that no notification and no request tells",
        "SELECT id
         FROM operation
         WHERE id NOT IN (SELECT id FROM notification) AND id NOT IN (SELECT id FROM request)
         LIMIT 20",
    ),
    (
        "a quarantined notification that counts for a call",
        "SELECT id FROM notification WHERE disposition = 'quarantined' AND call_id <> 0 LIMIT 20",
    ),
    ("an operation that its id or its context does not find", lookup::LOST),
    (
        "a body without a key",
        "SELECT delivery.id
         FROM delivery
         LEFT JOIN call ON call.id = sealed_for
         WHERE body IS NOT NULL AND sealed_for IS NULL AND delivery.data_key IS NULL
         LIMIT 20",
    ),
];

/// Opens every body: authenticated encryption tells whether one was changed.
async fn unsealable(reader: &LedgerReader, connection: &mut SqliteConnection) -> Result<Vec<Finding>, StoreError> {
    type Row = (i64, Option<i64>, Option<Vec<u8>>, Vec<u8>);
    let mut findings = Vec::new();
    let mut after = 0;
    loop {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT delivery.id, sealed_for, coalesce(delivery.data_key, call.data_key), body
             FROM delivery
             LEFT JOIN call ON call.id = sealed_for
             WHERE delivery.id > ?1 AND body IS NOT NULL
             ORDER BY delivery.id
             LIMIT 16",
        )
        .bind(after)
        .fetch_all(&mut *connection)
        .await?;
        let Some((last, ..)) = rows.last() else { return Ok(findings) };
        after = *last;
        for (id, sealed_for, data_key, body) in rows {
            let Some(data_key) = data_key else { continue };
            let place = sealed_for.map_or_else(|| delivery_key_place(id), call_key_place);
            let opened = reader.master().data_key(&place, &data_key).and_then(|seal| seal.open(&body_place(id), &body));
            if opened.is_err() {
                findings.push(Finding(format!("a body that does not open with its key, of delivery: {id:x}")));
            }
        }
    }
}

// ---- rebuild

pub(in crate::store) async fn rebuild(options: &Options) -> Result<Vec<Difference>, OpenError> {
    let mut connection = open_beside(options).await?;
    let mut differences = Vec::new();
    let mut after = 0;
    loop {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(StoreError::from)?;
        let last = rebuild_some(&mut transaction, after, &mut differences).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        match last {
            Some(last) => after = last,
            None => break,
        }
    }
    differences.extend(classes::mend(&mut connection).await?);
    Ok(differences)
}

/// Derives the next calls again; returns the last of them, `None` behind the last.
async fn rebuild_some(
    connection: &mut SqliteConnection,
    after: i64,
    differences: &mut Vec<Difference>,
) -> Result<Option<i64>, StoreError> {
    let calls: Vec<i64> = sqlx::query_scalar("SELECT id FROM call WHERE id > ?1 ORDER BY id LIMIT ?2")
        .bind(after)
        .bind(CALLS_AT_ONCE)
        .fetch_all(&mut *connection)
        .await?;
    let Some(last) = calls.last().copied() else { return Ok(None) };
    let asked = json(&calls)?;
    let derived = derive(connection, &asked).await?;
    rebuild_operations(connection, &asked, &derived, differences).await?;
    rebuild_calls(connection, &asked, derived, differences).await?;
    Ok(Some(last))
}

/// What the facts of some calls add up to.
#[derive(Default)]
struct Derived {
    stories: BTreeMap<i64, CallStory>,
    facts: BTreeMap<(i64, String), Vec<HeldFact>>,
}

async fn derive(connection: &mut SqliteConnection, calls: &str) -> Result<Derived, StoreError> {
    type Row = (i64, i64, String, Vec<u8>, i64, String, String, Option<String>);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT notification.id, notification.call_id, subject, identity, notification.received_at, disposition, facts, correlation
         FROM notification
         JOIN delivery ON delivery.id = delivery_id
         WHERE notification.call_id IN (SELECT value FROM json_each(?1))
         ORDER BY notification.id",
    )
    .bind(calls)
    .fetch_all(connection)
    .await?;
    let mut derived = Derived::default();
    for (id, call, subject, identity, received_at, disposition, facts, correlation) in rows {
        let at = instant("notification", id, received_at)?;
        let correlation: Correlation = match correlation.as_deref().map(serde_json::from_str) {
            None => Correlation::default(),
            Some(Ok(correlation)) => correlation,
            Some(Err(_)) => return Err(StoreError::Inconsistent { table: "delivery", column: "correlation", id }),
        };
        let told = read_facts(id, &facts)?;
        derived.stories.entry(call).or_default().absorb(NotificationId(Seq(id)), &told, &correlation, at);
        if let Some(held) = held_fact(id, &identity, received_at, disposition == "late", &facts)? {
            derived.facts.entry((call, subject)).or_default().push(held);
        }
    }
    Ok(derived)
}

async fn rebuild_operations(
    connection: &mut SqliteConnection,
    calls: &str,
    derived: &Derived,
    differences: &mut Vec<Difference>,
) -> Result<(), StoreError> {
    let held = operation_rows(connection, calls).await?;
    let lapses = lapses(connection, calls, derived).await?;
    let sources: Vec<(i64, String, bool)> =
        sqlx::query_as("SELECT id, source, requested FROM call WHERE id IN (SELECT value FROM json_each(?1))")
            .bind(calls)
            .fetch_all(&mut *connection)
            .await?;
    let requested = sources.iter().filter(|(.., requested)| *requested).map(|(id, ..)| *id).collect();
    let requested = facts::of_calls(connection, &requested).await?;
    let sources: BTreeMap<i64, String> = sources.into_iter().map(|(id, source, _)| (id, source)).collect();
    let of = |call: &i64| (*call, sources.get(call).map_or("", String::as_str));
    let saved: Vec<SavedOperation> = derived
        .facts
        .iter()
        .filter(|((call, _), _)| !requested.contains_key(call))
        .flat_map(|((call, subject), facts)| {
            let told = operations(facts, lapses.get(call)).into_iter();
            told.map(|operation| SavedOperation::new(of(call), subject.clone(), operation))
        })
        .chain(requested.iter().flat_map(|(call, facts)| {
            let told = facts.told(lapses.get(call)).into_iter();
            told.map(|(subject, operation)| SavedOperation::new(of(call), subject, operation))
        }))
        .collect();
    let told: BTreeSet<i64> = saved.iter().map(|saved| saved.operation.id.0.0).collect();
    let operations: Vec<i64> = held.keys().filter(|id| !told.contains(id)).copied().collect();
    let lookups = lookup::of_operations(connection, &operations).await?;
    projection::save_operations(connection, &saved, &Gone { operations, lookups }).await?;
    let now = operation_rows(connection, calls).await?;
    differences.extend(differing("operation op_", &held, &now));
    let lost = lookup::mend(connection, calls).await?;
    differences.extend(lost.into_iter().filter(|id| held.get(id) == now.get(id)).map(|id| Difference {
        what: format!("lookup of op_{id:x}"),
        held: "nothing".to_owned(),
        derived: "its id or its context".to_owned(),
    }));
    Ok(())
}

/// How some calls ended, if that ends what is open in them: over as far as it has been written down, so that the mere passing of
/// time is no difference.
async fn lapses(connection: &mut SqliteConnection, calls: &str, derived: &Derived) -> Result<BTreeMap<i64, Lapse>, StoreError> {
    let rows: Vec<(i64, i64, bool)> = sqlx::query_as(
        "SELECT id, lapses_at, settled FROM call WHERE id IN (SELECT value FROM json_each(?1)) AND lapses_at IS NOT NULL",
    )
    .bind(calls)
    .fetch_all(connection)
    .await?;
    let mut lapses = BTreeMap::new();
    for (id, lapses_at, settled) in rows {
        let release = derived.stories.get(&id).and_then(|story| story.release.as_ref());
        if let Some(lapse) = projection::lapse(id, release, Some(lapses_at), settled)? {
            lapses.insert(id, lapse);
        }
    }
    Ok(lapses)
}

async fn rebuild_calls(
    connection: &mut SqliteConnection,
    calls: &str,
    mut derived: Derived,
    differences: &mut Vec<Difference>,
) -> Result<(), StoreError> {
    type Row = (i64, String, String, String, String, Option<String>, i64);
    let held = call_rows(connection, calls).await?;
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, source, call_id, receiver, audience, tenant_id, first_seen_at
         FROM call
         WHERE id IN (SELECT value FROM json_each(?1))",
    )
    .bind(calls)
    .fetch_all(&mut *connection)
    .await?;
    let mut saved = Vec::with_capacity(rows.len());
    for (id, source, call_id, receiver, audience, tenant, first_seen_at) in rows {
        let call_id = PlatformId::parse(&call_id).ok_or(StoreError::Inconsistent { table: "call", column: "call_id", id })?;
        let story = derived.stories.remove(&id).unwrap_or_default();
        saved.push(SavedCall {
            id,
            source,
            call_id,
            receiver: receiver.into(),
            audience: audience.into(),
            tenant: tenant.map(Into::into),
            first_seen_at,
            data_key: None,
            lapses_at: None,
            story,
        });
    }
    projection::save_calls(connection, &saved).await?;
    let now = call_rows(connection, calls).await?;
    differences.extend(differing("call ", &held, &now));
    Ok(())
}

/// The derived columns of some calls' operations, as one text each.
async fn operation_rows(connection: &mut SqliteConnection, calls: &str) -> Result<BTreeMap<i64, String>, StoreError> {
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "SELECT id, json_array(call_id, subject, operation_id, operation_hash, kind, context, context_hash, state, result,
                               source, requested_at, deadline, links, subcode, accepted_at, started_at, finished_at, first_seen_at, updated_at, flags,
                               notifications, class_hash)
         FROM operation
         WHERE call_id IN (SELECT value FROM json_each(?1))",
    )
    .bind(calls)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}

/// The derived columns of some calls, as one text each.
async fn call_rows(connection: &mut SqliteConnection, calls: &str) -> Result<BTreeMap<i64, String>, StoreError> {
    let rows: Vec<(i64, String)> =
        sqlx::query_as("SELECT id, json_array(state, chain_id, correlation_hash, server_call_hash, connected_hash, story, class_hash) FROM call WHERE id IN (SELECT value FROM json_each(?1))")
            .bind(calls)
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().collect())
}

fn differing(what: &str, held: &BTreeMap<i64, String>, now: &BTreeMap<i64, String>) -> Vec<Difference> {
    let nothing = || "nothing".to_owned();
    let ids: BTreeSet<&i64> = held.keys().chain(now.keys()).collect();
    ids.into_iter()
        .filter(|id| held.get(id) != now.get(id))
        .map(|id| Difference {
            what: format!("{what}{id:x}"),
            held: held.get(id).cloned().unwrap_or_else(nothing),
            derived: now.get(id).cloned().unwrap_or_else(nothing),
        })
        .collect()
}
