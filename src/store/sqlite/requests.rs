//! Requests and their answers on their way into the ledger: each is one transaction.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::{
    batch::{Batched, Change, Changed, Whose, json, save_changed},
    call_key_place, facts,
    positions::Positions,
    projection::{self, SavedCall},
    read::read_lapse,
    strays::{Stray, after_one_less, forget, leave_leads, settle},
};
use crate::{
    domain::{
        call::CallStory,
        ids::{OperationId, PlatformId, RequestId, Seq},
        operation::{CallFacts, Lapse, State},
        people::Person,
        request::{AnswerFacts, HeldRequest, RequestFacts, Via},
    },
    store::{MasterKey, NewRequest, Requested, StoreError, seal::Seal},
};

/// The call that a request without one has, until its answer names one.
pub(super) const PLACE: &str = "request/";

/// Records a request, or finds the one that it repeats.
pub(super) async fn record_request(
    connection: &mut SqliteConnection,
    master: &MasterKey,
    positions: &mut Positions,
    new: &NewRequest,
) -> Result<(Batched, Requested), StoreError> {
    if let Some(key) = &new.idempotency
        && let Some(known) = known(connection, key, new).await?
    {
        return Ok((Batched::default(), known));
    }
    let id = RequestId(positions.next());
    let mut asked = new.facts.clone();
    let stray = if new.call.is_some() { Stray::No } else { Stray::Homeless };
    let call_id = new.call.clone().or_else(|| PlatformId::parse(&format!("{PLACE}{id}")));
    let call_id = call_id.ok_or(StoreError::Inconsistent { table: "request", column: "call_id", id: id.0.0 })?;
    let call = call(connection, master, positions, new.source, &call_id, new.requested_at).await?;
    if let Some(shows) = &new.shows
        && let Some(seal) = seal_of(connection, master, call).await?
    {
        asked.shows = Some(Person { token: seal.token(&shows.raw_id), condition: shows.condition });
    }
    sqlx::query(
        "INSERT INTO request (id, call_id, requested_at, idempotency, open, stray, facts) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )
    .bind(id.0.0)
    .bind(call)
    .bind(new.requested_at.as_millisecond())
    .bind(new.idempotency.map(|key| key.to_vec()))
    .bind(new.facts.via == Via::Gateway)
    .bind(stray.as_i64())
    .bind(json(&asked)?)
    .execute(&mut *connection)
    .await?;
    sqlx::query("UPDATE call SET requested = 1 WHERE id = ?1 AND requested = 0").bind(call).execute(&mut *connection).await?;
    let after = of_call(connection, call).await?;
    let mut before = after.clone();
    before.requests.retain(|request| request.id != id);
    let changes = vec![Change::request(id.0.0, call)];
    let mut batched = save(connection, positions, call, &before, &after, changes).await?;
    let (mut call, mut after) = (call, after);
    if let Some(held) = after.requests.iter().find(|held| held.id == id).cloned().filter(|_| stray != Stray::No) {
        // word of what it names may have come before it
        leave_leads(connection, positions, new.source, &held).await?;
        batched.add(settle(connection, positions, call, &held).await?);
        call = sqlx::query_scalar("SELECT call_id FROM request WHERE id = ?1").bind(id.0.0).fetch_one(&mut *connection).await?;
        after = of_call(connection, call).await?;
    }
    let operation = operation_of(connection, call, &after, id).await?;
    Ok((batched, Requested { request: id, operation, is_new: true, is_same: true }))
}

/// Records what came back for a request; the first answer counts.
pub(super) async fn record_answer(
    connection: &mut SqliteConnection,
    master: &MasterKey,
    positions: &mut Positions,
    request: RequestId,
    at: Timestamp,
    facts: &AnswerFacts,
    named: Option<&PlatformId>,
) -> Result<Batched, StoreError> {
    let row: Option<(i64, String, i64)> =
        sqlx::query_as("SELECT call.id, source, stray FROM request JOIN call ON call.id = request.call_id WHERE request.id = ?1")
            .bind(request.0.0)
            .fetch_optional(&mut *connection)
            .await?;
    // its call may have been erased meanwhile
    let Some((call, source, stray)) = row else { return Ok(Batched::default()) };
    let inserted = sqlx::query(
        "INSERT INTO answer (request_id, answered_at, facts) VALUES (?1, ?2, ?3) ON CONFLICT (request_id) DO NOTHING",
    )
    .bind(request.0.0)
    .bind(at.as_millisecond())
    .bind(json(facts)?)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    if inserted == 0 {
        return Ok(Batched::default());
    }
    sqlx::query("UPDATE request SET open = 0 WHERE id = ?1").bind(request.0.0).execute(&mut *connection).await?;
    let after = of_call(connection, call).await?;
    let mut before = after.clone();
    before.requests.iter_mut().filter(|held| held.id == request).for_each(|held| held.answer = None);
    let mut batched = save(connection, positions, call, &before, &after, Vec::new()).await?;
    let Some(held) = after.requests.into_iter().find(|held| held.id == request).filter(|_| stray > 0) else { return Ok(batched) };
    if let Some(named) = named {
        // the answer says which call the request has begun: there it belongs
        let home = self::call(connection, master, positions, &source, named, at).await?;
        forget(connection, request).await?;
        batched.add(move_to(connection, positions, request, call, (home, Stray::No)).await?);
        batched.add(after_one_less(connection, positions, &source, &held).await?);
    } else if stray == Stray::Homeless.as_i64() && !has_begun_nothing(facts) {
        // word of what the answer names may have come before it
        leave_leads(connection, positions, &source, &held).await?;
        batched.add(settle(connection, positions, call, &held).await?);
    } else {
        // nothing will come that says more
        forget(connection, request).await?;
        sqlx::query("UPDATE request SET stray = 0 WHERE id = ?1").bind(request.0.0).execute(&mut *connection).await?;
        batched.add(after_one_less(connection, positions, &source, &held).await?);
    }
    Ok(batched)
}

/// Whether a request was turned down, and not by a failure of the platform's that leaves open what it has done.
fn has_begun_nothing(facts: &AnswerFacts) -> bool {
    facts.never_sent || (facts.state == Some(State::Refused) && facts.status.is_none_or(|status| status < 500))
}

/// Moves a request from the call that it has to the one where it belongs.
pub(super) async fn move_to(
    connection: &mut SqliteConnection,
    positions: &mut Positions,
    request: RequestId,
    from: i64,
    (home, stray): (i64, Stray),
) -> Result<Batched, StoreError> {
    let left = of_call(connection, from).await?;
    sqlx::query("UPDATE request SET call_id = ?1, stray = ?2 WHERE id = ?3")
        .bind(home)
        .bind(stray.as_i64())
        .bind(request.0.0)
        .execute(&mut *connection)
        .await?;
    if home == from {
        return Ok(Batched::default());
    }
    sqlx::query("UPDATE call SET requested = 1 WHERE id = ?1 AND requested = 0").bind(home).execute(&mut *connection).await?;
    let without = |facts: &CallFacts| {
        let mut facts = facts.clone();
        facts.requests.retain(|held| held.id != request);
        facts
    };
    // what it was where it has been goes first: it keeps its name
    let mut batched = save(connection, positions, from, &left, &without(&left), Vec::new()).await?;
    let after = of_call(connection, home).await?;
    batched.add(save(connection, positions, home, &without(&after), &after, Vec::new()).await?);
    Ok(batched)
}

/// The gateway's requests that nobody will bring an answer to any more: whoever waited for it is gone.
pub(super) async fn unanswered(connection: &mut SqliteConnection) -> Result<Vec<RequestId>, StoreError> {
    let ids: Vec<i64> = sqlx::query_scalar("SELECT id FROM request WHERE open ORDER BY id").fetch_all(connection).await?;
    Ok(ids.into_iter().map(|id| RequestId(Seq(id))).collect())
}

async fn known(connection: &mut SqliteConnection, key: &[u8; 16], new: &NewRequest) -> Result<Option<Requested>, StoreError> {
    let row: Option<(i64, i64, String, String, bool)> = sqlx::query_as(
        "SELECT request.id, call.id, call.call_id, source, stray > 0
         FROM request
         JOIN call ON call.id = request.call_id
         WHERE idempotency = ?1",
    )
    .bind(key.to_vec())
    .fetch_optional(&mut *connection)
    .await?;
    let Some((id, call, call_id, source, is_stray)) = row else { return Ok(None) };
    let id = RequestId(Seq(id));
    let facts = of_call(connection, call).await?;
    let operation = operation_of(connection, call, &facts, id).await?;
    let of_call = Some(call_id).filter(|_| !is_stray).as_deref().and_then(PlatformId::parse);
    let held = facts.requests.iter().find(|held| held.id == id);
    let is_same = source == new.source && of_call == new.call && held.is_some_and(|held| asks_the_same(held, new));
    Ok(Some(Requested { request: id, operation, is_new: false, is_same }))
}

/// Whether a request asks for what one that is held does, by whichever of its names, and allows as much time.
fn asks_the_same(held: &HeldRequest, new: &NewRequest) -> bool {
    let time = |facts: &RequestFacts, since: Timestamp| facts.deadline.map(|deadline| deadline.duration_since(since).as_secs());
    time(&held.facts, held.at) == time(&new.facts, new.requested_at)
        && (&held.facts.kind, &held.facts.context) == (&new.facts.kind, &new.facts.context)
}

/// The key that seals what belongs to a call; `None` if the call was erased.
async fn seal_of(connection: &mut SqliteConnection, master: &MasterKey, call: i64) -> Result<Option<Seal>, StoreError> {
    let wrapped: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT data_key FROM call WHERE id = ?1").bind(call).fetch_one(connection).await?;
    Ok(wrapped.map(|wrapped| master.data_key(&call_key_place(call), &wrapped)).transpose()?)
}

/// The position of a call; it begins with this request if nobody knows it.
async fn call(
    connection: &mut SqliteConnection,
    master: &MasterKey,
    positions: &mut Positions,
    source: &str,
    call_id: &PlatformId,
    at: Timestamp,
) -> Result<i64, StoreError> {
    let known: Option<i64> = sqlx::query_scalar("SELECT id FROM call WHERE call_id = ?1 AND source = ?2")
        .bind(call_id.as_str())
        .bind(source)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(known) = known {
        return Ok(known);
    }
    let id = positions.next().0;
    let (_seal, wrapped) = master.new_data_key(&call_key_place(id))?;
    let call = SavedCall {
        id,
        source: source.to_owned(),
        call_id: call_id.clone(),
        // of whom notifications for it are believed, the first of them says
        receiver: "".into(),
        audience: "".into(),
        tenant: None,
        first_seen_at: at.as_millisecond(),
        data_key: Some(wrapped),
        lapses_at: None,
        story: CallStory::default(),
    };
    projection::save_calls(connection, &[call]).await?;
    Ok(id)
}

async fn of_call(connection: &mut SqliteConnection, call: i64) -> Result<CallFacts, StoreError> {
    Ok(facts::of_calls(connection, &BTreeSet::from([call])).await?.remove(&call).unwrap_or_default())
}

async fn call_and_lapse(connection: &mut SqliteConnection, call: i64) -> Result<(String, PlatformId, Option<Lapse>), StoreError> {
    let (source, call_id, release, lapses_at, settled): (String, String, Option<String>, Option<i64>, bool) =
        sqlx::query_as("SELECT source, call_id, story -> '$.release', lapses_at, settled FROM call WHERE id = ?1")
            .bind(call)
            .fetch_one(connection)
            .await?;
    let call_id = PlatformId::parse(&call_id).ok_or(StoreError::Inconsistent { table: "call", column: "call_id", id: call })?;
    // as far as it has been written down: the rest is the reader's
    Ok((source, call_id, read_lapse(call, release.as_deref(), lapses_at, settled, Timestamp::MIN)?))
}

async fn save(
    connection: &mut SqliteConnection,
    positions: &mut Positions,
    call: i64,
    before: &CallFacts,
    after: &CallFacts,
    mut changes: Vec<Change>,
) -> Result<Batched, StoreError> {
    let (source, call_id, lapse) = call_and_lapse(connection, call).await?;
    let whose = Whose { call, source: &source, call_id: &call_id };
    let mut differing = Changed::default();
    differing.compare(positions, whose, before.told(lapse.as_ref()), after.told(lapse.as_ref()));
    changes.append(&mut differing.changes);
    save_changed(connection, positions, &differing.saved, &differing.gone, &changes).await?;
    Ok(Batched { changed: differing.told, finals: differing.finals, ..Batched::default() })
}

/// The operation that a request has begun, as things stand.
async fn operation_of(
    connection: &mut SqliteConnection,
    call: i64,
    facts: &CallFacts,
    request: RequestId,
) -> Result<OperationId, StoreError> {
    let (.., lapse) = call_and_lapse(connection, call).await?;
    let told = facts.told(lapse.as_ref());
    let found = told.iter().find(|(_, operation)| operation.request == Some(request)).map(|(_, operation)| operation.id);
    Ok(found.unwrap_or(OperationId(request.0)))
}
