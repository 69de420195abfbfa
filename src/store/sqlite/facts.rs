//! All that is held about the operations of a call, where requests for it are known: then they are derived together, for one
//! notification can settle which request another belongs to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::{
    batch::{instant, json},
    projection::read_facts,
};
use crate::{
    domain::{
        call::{CallFact, CallState},
        ids::{NotificationId, RequestId, Seq},
        notification::{Fact, Facts, Identity},
        operation::{CallFacts, HeldFact, HeldRoster, OperationFact, State},
        request::{HeldAnswer, HeldRequest},
    },
    store::StoreError,
};

/// What is held about these calls.
pub(super) async fn of_calls(
    connection: &mut SqliteConnection,
    calls: &BTreeSet<i64>,
) -> Result<BTreeMap<i64, CallFacts>, StoreError> {
    type Row = (i64, String, i64, Vec<u8>, i64, bool, String);
    let mut all: BTreeMap<i64, CallFacts> = BTreeMap::new();
    if calls.is_empty() {
        return Ok(all);
    }
    let asked = json(calls)?;
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT call_id, subject, id, identity, received_at, disposition = 'late', facts
         FROM notification
         WHERE call_id IN (SELECT value FROM jsonb_each(?1)) AND +disposition <> 'quarantined'
         ORDER BY id",
    )
    .bind(&asked)
    .fetch_all(&mut *connection)
    .await?;
    for (call, subject, id, identity, received_at, late, facts) in rows {
        let wrong = || StoreError::Inconsistent { table: "notification", column: "identity", id };
        let identity = Identity(identity.try_into().map_err(|_length| wrong())?);
        let at = instant("notification", id, received_at)?;
        let (id, facts) = (NotificationId(Seq(id)), read_facts(id, &facts)?);
        let of_call: &mut CallFacts = all.entry(call).or_default();
        if let Some(held) = HeldFact::of(id, identity, at, late, &facts) {
            of_call.subjects.entry(subject).or_default().push(held);
        } else if let Some(held) = connected_fact(id, identity, at, late, &facts) {
            of_call.connected.push(held);
        } else if !facts.roster.is_empty() {
            let Facts { occurred_at, sequence, roster: people, .. } = facts;
            of_call.rosters.push(HeldRoster { id, received_at: at, occurred_at, sequence, people });
        }
    }
    for (call, request) in requests(connection, &asked).await? {
        all.entry(call).or_default().requests.push(request);
    }
    Ok(all)
}

/// A notification as the word that its call was connected; `None` if it says something else.
fn connected_fact(id: NotificationId, identity: Identity, received_at: Timestamp, late: bool, facts: &Facts) -> Option<HeldFact> {
    let Fact::Call(CallFact { state: Some(CallState::Established), context, result, .. }) = &facts.fact else { return None };
    let fact = Arc::new(OperationFact {
        operation_id: None,
        kind: None,
        context: context.clone(),
        state: State::Completed,
        inferred: false,
        recurs: false,
        tone: false,
        result: result.clone(),
    });
    Some(HeldFact { id, received_at, late, occurred_at: facts.occurred_at, event_id: None, identity, fact })
}

/// The requests of these calls (a JSON array), in the order in which they were written down.
pub(super) async fn requests(connection: &mut SqliteConnection, calls: &str) -> Result<Vec<(i64, HeldRequest)>, StoreError> {
    type Row = (i64, i64, i64, String, Option<i64>, Option<String>);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT request.call_id, request.id, requested_at, request.facts, answered_at, answer.facts
         FROM request
         LEFT JOIN answer ON answer.request_id = request.id
         WHERE request.call_id IN (SELECT value FROM jsonb_each(?1))
         ORDER BY request.id",
    )
    .bind(calls)
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|(call, id, requested_at, facts, answered_at, answer)| {
            let wrong = |table| StoreError::Inconsistent { table, column: "facts", id };
            let answer = match (answered_at, answer) {
                (Some(at), Some(facts)) => Some(HeldAnswer {
                    at: instant("answer", id, at)?,
                    facts: serde_json::from_str(&facts).map_err(|_error| wrong("answer"))?,
                }),
                _ => None,
            };
            let facts = serde_json::from_str(&facts).map_err(|_error| wrong("request"))?;
            Ok((call, HeldRequest { id: RequestId(Seq(id)), at: instant("request", id, requested_at)?, facts, answer }))
        })
        .collect()
}
