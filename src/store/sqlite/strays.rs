//! Requests that name no call, and where they belong.
//!
//! A request that begins a call is told by the answer which; when that is lost, by the call that is connected under its tag. One about
//! a recording names a conversation, or the recording: the notifications of that recording say the call. Where two calls or two
//! requests could be meant, nothing is moved.
//!
//! Each such request leaves the hashes of what can lead it home. Whoever brings word of one of them finds it by an index, so a request
//! that nobody ever hears of costs the others nothing.

use std::collections::BTreeSet;

use sqlx::SqliteConnection;

use super::{
    batch::{Batched, json},
    facts,
    lookup::{self, found_sql},
    positions::Positions,
    requests::{PLACE, move_to},
};
use crate::{
    domain::{
        call::{CallFact, CallState},
        ids::{PlatformId, RequestId},
        notification::{Fact, Facts},
        operation::BEGINNINGS,
        request::{HeldRequest, Via},
    },
    store::StoreError,
};

/// How sure the ledger is of a request's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stray {
    /// It was named, or nothing more will be heard of it.
    No,
    /// It has none.
    Homeless,
    /// It was concluded: an answer may still name another.
    Concluded,
}

impl Stray {
    pub const fn as_i64(self) -> i64 {
        match self {
            Self::No => 0,
            Self::Homeless => 1,
            Self::Concluded => 2,
        }
    }
}

/// Among how many calls, and how many requests, of one tag it is looked for the only one that fits: a tag of more tells nothing.
const MANY: i64 = 100;

/// What leads a request home.
#[derive(Clone, Copy, Debug)]
enum Lead<'a> {
    /// The tag under which its call is connected, or has failed to be.
    Tag(&'a PlatformId),
    /// An operation that it has begun, or acts on.
    Operation(&'a PlatformId),
    /// The conversation that it records.
    Conversation(&'a PlatformId),
}

impl Lead<'_> {
    fn hash(self, source: &str) -> Option<i64> {
        let (what, id) = match self {
            Self::Tag(id) => ("tag", id),
            Self::Operation(id) => ("operation", id),
            Self::Conversation(id) => ("conversation", id),
        };
        lookup::hash(&format!("{source} {what} {id}"))
    }
}

/// The leads that a notification follows.
pub(super) fn followed_by(source: &str, facts: &Facts) -> Vec<i64> {
    let tag = |context: &Option<String>| context.as_deref().and_then(PlatformId::parse);
    let leads = match &facts.fact {
        Fact::Call(CallFact { state: Some(CallState::Established), context, .. }) => {
            vec![tag(context).and_then(|tag| Lead::Tag(&tag).hash(source))]
        }
        Fact::Operation(fact) => {
            let begins = fact.kind.as_deref().is_some_and(|kind| BEGINNINGS.contains(&kind));
            let tag = tag(&fact.context).filter(|_| begins);
            let conversation = facts.server_call_id.as_ref().filter(|_| fact.operation_id.is_some());
            vec![
                tag.and_then(|tag| Lead::Tag(&tag).hash(source)),
                fact.operation_id.as_ref().and_then(|id| Lead::Operation(id).hash(source)),
                conversation.and_then(|id| Lead::Conversation(id).hash(source)),
            ]
        }
        _ => Vec::new(),
    };
    leads.into_iter().flatten().collect()
}

/// The tag under which a request begins a call, as long as it may have.
fn tag(request: &HeldRequest) -> Option<PlatformId> {
    let begins = BEGINNINGS.contains(&request.facts.kind.as_str()) && request.may_have_begun(true);
    request.facts.context.as_deref().and_then(PlatformId::parse).filter(|_| begins)
}

/// The operations whose notifications say the call of a request: those that its answer names, and the one that it acts on.
fn operations(request: &HeldRequest) -> impl Iterator<Item = &PlatformId> {
    request.answer.iter().flat_map(|answer| &answer.facts.operation_ids).chain(&request.facts.acts_on)
}

/// The conversation that a request records, as long as no answer has named the recording.
fn conversation(request: &HeldRequest) -> Option<&PlatformId> {
    let answered = request.answer.as_ref().is_some_and(|answer| answer.facts.status.is_some());
    request.facts.conversation.as_ref().filter(|_| !answered)
}

/// Writes down what can lead a request home, instead of what could before.
pub(super) async fn leave_leads(
    connection: &mut SqliteConnection,
    positions: &mut Positions,
    source: &str,
    request: &HeldRequest,
) -> Result<(), StoreError> {
    forget(connection, request.id).await?;
    let tag = tag(request);
    let leads = operations(request).map(Lead::Operation).chain(tag.iter().map(Lead::Tag));
    let leads = leads.chain(conversation(request).map(Lead::Conversation));
    let hashes: BTreeSet<i64> = leads.filter_map(|lead| lead.hash(source)).collect();
    positions.no_strays &= hashes.is_empty();
    sqlx::query("INSERT INTO stray (hash, request_id) SELECT value, ?2 FROM json_each(?1)")
        .bind(json(&hashes)?)
        .bind(request.id.0.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Nothing is waited for any more.
pub(super) async fn forget(connection: &mut SqliteConnection, request: RequestId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM stray WHERE request_id = ?1").bind(request.0.0).execute(connection).await?;
    Ok(())
}

/// Moves the requests for which word of these leads has come to where they belong, as far as that can be told.
pub(super) async fn lead_home(
    connection: &mut SqliteConnection,
    positions: &mut Positions,
    leads: &BTreeSet<i64>,
) -> Result<Batched, StoreError> {
    let mut batched = Batched::default();
    if positions.no_strays || leads.is_empty() {
        return Ok(batched);
    }
    let found: Vec<i64> = sqlx::query_scalar(
        "SELECT DISTINCT request.call_id
         FROM stray
         JOIN request ON request.id = request_id
         WHERE hash IN (SELECT value FROM json_each(?1))
         LIMIT ?2",
    )
    .bind(json(leads)?)
    .bind(MANY)
    .fetch_all(&mut *connection)
    .await?;
    if found.is_empty() {
        let any: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM stray)").fetch_one(&mut *connection).await?;
        positions.no_strays = !any;
        return Ok(batched);
    }
    for (place, request) in facts::requests(connection, &json(&found)?).await? {
        if is_waiting(connection, request.id).await? {
            batched.add(settle(connection, positions, place, &request).await?);
        }
    }
    Ok(batched)
}

async fn is_waiting(connection: &mut SqliteConnection, request: RequestId) -> Result<bool, StoreError> {
    let waiting = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM stray WHERE request_id = ?1)").bind(request.0.0);
    Ok(waiting.fetch_one(connection).await?)
}

/// Moves one request to where it belongs, if that can be told now.
pub(super) async fn settle(
    connection: &mut SqliteConnection,
    positions: &mut Positions,
    place: i64,
    request: &HeldRequest,
) -> Result<Batched, StoreError> {
    let source: String =
        sqlx::query_scalar("SELECT source FROM call WHERE id = ?1").bind(place).fetch_one(&mut *connection).await?;
    let by_id = by_operation(connection, &source, request).await?;
    let mut home = by_id;
    if home.is_none() {
        home = by_tag(connection, &source, request).await?;
    }
    if home.is_none() {
        home = by_conversation(connection, &source, request).await?;
    }
    let Some(home) = home else { return Ok(Batched::default()) };
    // what an id says is sure; a tag may be that of another call, until the answer names one
    let sure = if by_id.is_some() || request.answer.is_some() { Stray::No } else { Stray::Concluded };
    forget(connection, request.id).await?;
    let mut batched = move_to(connection, positions, request.id, place, (home, sure)).await?;
    batched.add(Box::pin(after_one_less(connection, positions, &source, request)).await?);
    Ok(batched)
}

/// A request that has found its call is in nobody's way any more: another of its tag may be the only one now.
pub(super) async fn after_one_less(
    connection: &mut SqliteConnection,
    positions: &mut Positions,
    source: &str,
    request: &HeldRequest,
) -> Result<Batched, StoreError> {
    let context = request.facts.context.as_deref().and_then(PlatformId::parse);
    let lead = context.and_then(|tag| Lead::Tag(&tag).hash(source));
    lead_home(connection, positions, &lead.into_iter().collect()).await
}

/// The only call in which notifications tell of the operations that the answer names, or in which the one is that it acts on.
async fn by_operation(connection: &mut SqliteConnection, source: &str, request: &HeldRequest) -> Result<Option<i64>, StoreError> {
    let mut calls = BTreeSet::new();
    for id in operations(request) {
        let acts_on_it = request.facts.acts_on.as_ref() == Some(id);
        let found: Vec<i64> = sqlx::query_scalar(concat!(
            "SELECT DISTINCT operation.call_id
             FROM operation
             JOIN call ON call.id = operation.call_id
             WHERE operation.id IN (",
            found_sql!("?1", "operation_hash"),
            ") AND operation_hash = ?1 AND operation_id = ?2 AND operation.source = ?3
               AND (notifications > 0 OR ?4) AND substr(call.call_id, 1, length(?5)) <> ?5
             LIMIT 2",
        ))
        .bind(lookup::hash_of(id))
        .bind(id.as_str())
        .bind(source)
        .bind(acts_on_it)
        .bind(PLACE)
        .fetch_all(&mut *connection)
        .await?;
        calls.extend(found);
    }
    Ok(only(&calls))
}

/// The only call that was connected, or has failed to be, under the tag of the only request that waits for that, and that no other
/// request has begun.
async fn by_tag(connection: &mut SqliteConnection, source: &str, request: &HeldRequest) -> Result<Option<i64>, StoreError> {
    let Some(tag) = tag(request) else { return Ok(None) };
    if waiting_for(connection, Lead::Tag(&tag).hash(source)).await? != 1 {
        return Ok(None);
    }
    // what was written down before it was sent cannot have begun what was there already
    let since = if request.facts.via == Via::Gateway { request.id.0.0 } else { 0 };
    let found: Vec<i64> = sqlx::query_scalar(concat!(
        "SELECT id FROM (
             SELECT id FROM call
             WHERE connected_hash = ?1 AND source = ?2 AND id > ?3 AND story ->> '$.connectedAs' = ?4
             UNION
             SELECT call_id FROM operation
             WHERE operation.id IN (",
        found_sql!("?1", "context_hash"),
        ") AND context_hash = ?1 AND operation.source = ?2 AND call_id > ?3 AND notifications > 0
               AND kind IN (SELECT value FROM json_each(?5))
         )
         LIMIT ?6",
    ))
    .bind(lookup::hash_of(&tag))
    .bind(source)
    .bind(since)
    .bind(tag.as_str())
    .bind(json(BEGINNINGS)?)
    .bind(MANY)
    .fetch_all(&mut *connection)
    .await?;
    if i64::try_from(found.len()).is_ok_and(|count| count == MANY) {
        return Ok(None);
    }
    let mut calls: BTreeSet<i64> = found.into_iter().collect();
    for (call, other) in facts::requests(connection, &json(&calls)?).await? {
        if other.id != request.id && BEGINNINGS.contains(&other.facts.kind.as_str()) && other.may_have_begun(true) {
            calls.remove(&call);
        }
    }
    Ok(only(&calls))
}

/// The only call of the conversation of which notifications tell such an operation that nobody has asked for.
async fn by_conversation(
    connection: &mut SqliteConnection,
    source: &str,
    request: &HeldRequest,
) -> Result<Option<i64>, StoreError> {
    let Some(conversation) = conversation(request) else { return Ok(None) };
    if waiting_for(connection, Lead::Conversation(conversation).hash(source)).await? != 1 {
        return Ok(None);
    }
    let since = if request.facts.via == Via::Gateway { request.id.0.0 } else { 0 };
    let calls: Vec<i64> = sqlx::query_scalar(
        "SELECT DISTINCT operation.call_id
         FROM call
         JOIN operation ON operation.call_id = call.id
         WHERE server_call_hash = ?1 AND call.source = ?2 AND story ->> '$.serverCallId' = ?3
           AND operation.kind = ?4 AND operation.id > ?5 AND notifications > 0 AND operation.requested_at IS NULL
         LIMIT 2",
    )
    .bind(lookup::hash_of(conversation))
    .bind(source)
    .bind(conversation.as_str())
    .bind(&request.facts.kind)
    .bind(since)
    .fetch_all(connection)
    .await?;
    Ok(only(&calls.into_iter().collect()))
}

/// How many requests wait for this.
async fn waiting_for(connection: &mut SqliteConnection, lead: Option<i64>) -> Result<i64, StoreError> {
    let count = sqlx::query_scalar("SELECT count(*) FROM (SELECT 1 FROM stray WHERE hash = ?1 LIMIT 2)").bind(lead);
    Ok(count.fetch_one(connection).await?)
}

fn only(calls: &BTreeSet<i64>) -> Option<i64> {
    let mut calls = calls.iter();
    calls.next().copied().filter(|_| calls.next().is_none())
}
