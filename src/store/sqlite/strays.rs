//! Requests that name no call, and where they belong.
//!
//! A request that begins a call is told by the answer which; when that is lost, by the call that is connected under its tag. One about
//! a recording names a conversation, or the recording: the notifications of that recording say the call. Where two calls or two
//! requests could be meant, nothing is moved.

use std::collections::BTreeSet;

use sqlx::SqliteConnection;

use super::{
    batch::{Batched, json},
    facts, lookup_hash, projection,
    requests::{PLACE, move_to},
    writer::Positions,
};
use crate::{
    domain::{
        call::{CallFact, CallState},
        ids::PlatformId,
        notification::{Fact, Facts},
        operation::BEGINNINGS,
        request::HeldRequest,
    },
    store::StoreError,
};

/// How sure the ledger is of a request's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stray {
    /// It was named.
    No,
    /// It has none.
    Homeless,
    /// It was concluded.
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

/// For how long word of a stray request is waited for, in microseconds: a day.
const WAITED_FOR: i64 = 24 * 60 * 60 * 1_000_000;
/// Of how many calls at the most it is looked whether one was begun by a request: behind more, it is not told any more.
const NEAR: i64 = 1000;

/// Whether word of this can say where a stray request belongs.
pub(super) fn can_lead_home(facts: &Facts) -> bool {
    match &facts.fact {
        Fact::Call(CallFact { state: Some(CallState::Established), context, .. }) => context.is_some(),
        Fact::Operation(fact) => {
            fact.operation_id.is_some() || fact.kind.as_deref().is_some_and(|kind| BEGINNINGS.contains(&kind))
        }
        _ => false,
    }
}

/// Moves what can be told now to where it belongs. `source` is that of the word that came.
pub(super) async fn lead_home(
    connection: &mut SqliteConnection,
    positions: &mut Positions,
    source: &str,
) -> Result<Batched, StoreError> {
    let mut batched = Batched::default();
    if positions.no_strays {
        return Ok(batched);
    }
    let strays: Vec<(i64, i64, bool, bool)> = sqlx::query_as(
        "SELECT request.id, request.call_id, stray = 1, call.source = ?1
         FROM request INDEXED BY request_stray
         JOIN call ON call.id = request.call_id
         WHERE stray > 0 AND request.id > ?2
         ORDER BY request.id",
    )
    .bind(source)
    .bind(positions.next().0 - WAITED_FOR)
    .fetch_all(&mut *connection)
    .await?;
    positions.no_strays = strays.is_empty();
    let strays: Vec<(i64, i64, bool)> =
        strays.into_iter().filter(|(.., same_source)| *same_source).map(|(id, call, homeless, _)| (id, call, homeless)).collect();
    if strays.is_empty() {
        return Ok(batched);
    }
    let calls: BTreeSet<i64> = strays.iter().map(|(_, call, _)| *call).collect();
    let held = facts::requests(connection, &json(&calls)?).await?;
    let is_stray = |request: &HeldRequest, homeless: bool| {
        strays.iter().any(|(id, _, is_homeless)| *id == request.id.0.0 && (*is_homeless || !homeless))
    };
    let homeless: Vec<&HeldRequest> = held.iter().map(|(_, request)| request).filter(|request| is_stray(request, true)).collect();
    for (at, request) in held.iter().filter(|(_, request)| is_stray(request, false)) {
        let by_id = by_operation(connection, source, request).await?;
        let home = match by_id {
            None if is_stray(request, true) => by_connection(connection, source, request, &homeless).await?,
            found => found,
        };
        if let Some(home) = home {
            // what an id says is sure; a tag may be that of another call, until the answer names one
            let sure = if by_id.is_some() || request.answer.is_some() { Stray::No } else { Stray::Concluded };
            batched.add(move_to(connection, positions, request.id, *at, (home, sure)).await?);
        }
    }
    Ok(batched)
}

/// The call of a new request that names none: that of the recording that it acts on, else the only one of its conversation.
pub(super) async fn home_of_new(
    connection: &mut SqliteConnection,
    source: &str,
    (acts_on, conversation): (Option<&PlatformId>, Option<&PlatformId>),
) -> Result<Option<(i64, Stray)>, StoreError> {
    if let Some(recording) = acts_on
        && let Some(call) = of_operations(connection, source, &[recording], false).await?
    {
        return Ok(Some((call, Stray::No)));
    }
    let Some(conversation) = conversation else { return Ok(None) };
    let calls: Vec<i64> = sqlx::query_scalar(
        "SELECT id FROM call
         WHERE server_call_hash = ?1 AND source = ?2 AND story ->> '$.serverCallId' = ?3
         LIMIT 2",
    )
    .bind(lookup_hash(conversation.as_str()))
    .bind(source)
    .bind(conversation.as_str())
    .fetch_all(connection)
    .await?;
    Ok(only(&calls).map(|call| (call, Stray::Concluded)))
}

/// By the ids that its answer names, or that it acts on.
async fn by_operation(connection: &mut SqliteConnection, source: &str, request: &HeldRequest) -> Result<Option<i64>, StoreError> {
    let answered: Vec<&PlatformId> = request.answer.iter().flat_map(|answer| &answer.facts.operation_ids).collect();
    if !answered.is_empty()
        && let Some(call) = of_operations(connection, source, &answered, true).await?
    {
        return Ok(Some(call));
    }
    match &request.facts.acts_on {
        Some(recording) => of_operations(connection, source, &[recording], false).await,
        None => Ok(None),
    }
}

/// The only call in which there are operations with these ids; on demand such that notifications have told of.
async fn of_operations(
    connection: &mut SqliteConnection,
    source: &str,
    ids: &[&PlatformId],
    told: bool,
) -> Result<Option<i64>, StoreError> {
    let mut calls = BTreeSet::new();
    for id in ids {
        let found: Vec<i64> = sqlx::query_scalar(
            "SELECT DISTINCT operation.call_id
             FROM operation
             JOIN call ON call.id = operation.call_id
             WHERE operation_hash = ?1 AND operation_id = ?2 AND operation.source = ?3
               AND (notifications > 0 OR NOT ?4) AND substr(call.call_id, 1, length(?5)) <> ?5",
        )
        .bind(lookup_hash(id.as_str()))
        .bind(id.as_str())
        .bind(source)
        .bind(told)
        .bind(PLACE)
        .fetch_all(&mut *connection)
        .await?;
        calls.extend(found);
    }
    Ok(only(&calls.into_iter().collect::<Vec<_>>()))
}

/// By the word that a call is connected, or has failed to be, under its tag.
async fn by_connection(
    connection: &mut SqliteConnection,
    source: &str,
    request: &HeldRequest,
    homeless: &[&HeldRequest],
) -> Result<Option<i64>, StoreError> {
    let tag = |request: &HeldRequest| request.facts.context.as_deref().and_then(PlatformId::parse);
    let begins = |request: &HeldRequest| BEGINNINGS.contains(&request.facts.kind.as_str()) && request.may_have_begun(true);
    let Some(context) = tag(request).filter(|_| begins(request)) else { return Ok(None) };
    if homeless.iter().filter(|other| begins(other) && tag(other).as_ref() == Some(&context)).count() != 1 {
        return Ok(None);
    }
    let near: Vec<i64> = sqlx::query_scalar("SELECT id FROM call WHERE id > ?1 AND source = ?2 ORDER BY id LIMIT ?3")
        .bind(request.id.0.0)
        .bind(source)
        .bind(NEAR)
        .fetch_all(&mut *connection)
        .await?;
    if i64::try_from(near.len()).is_ok_and(|count| count == NEAR) {
        return Ok(None);
    }
    let near = json(&near)?;
    let rows: Vec<(i64, i64, String)> = sqlx::query_as(
        "SELECT id, call_id, facts
         FROM notification
         WHERE call_id IN (SELECT value FROM jsonb_each(?1)) AND +kind IN ('call', 'createCall', 'answerCall', 'connect')
           AND +disposition <> 'quarantined'",
    )
    .bind(&near)
    .fetch_all(&mut *connection)
    .await?;
    let mut calls = BTreeSet::new();
    for (id, call, text) in rows {
        let told = match projection::read_facts(id, &text)?.fact {
            Fact::Call(CallFact { state: Some(CallState::Established), context, .. }) => context,
            Fact::Operation(fact) => fact.context,
            _ => None,
        };
        if told.as_deref().and_then(PlatformId::parse).as_ref() == Some(&context) {
            calls.insert(call);
        }
    }
    for (call, other) in facts::requests(connection, &near).await? {
        if other.id != request.id && begins(&other) {
            calls.remove(&call);
        }
    }
    Ok(only(&calls.into_iter().collect::<Vec<_>>()))
}

fn only(calls: &[i64]) -> Option<i64> {
    if let [only] = calls { Some(*only) } else { None }
}
