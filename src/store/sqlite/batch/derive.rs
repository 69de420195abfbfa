//! 4. What the new facts change in operations and calls, and the change log.

use std::collections::{BTreeMap, HashMap};

use sqlx::SqliteConnection;

use super::{
    Batched, hex, json,
    load::{Call, Calls, Stories},
    plan::Planned,
};
use crate::{
    domain::{
        call::CallState,
        ids::PlatformId,
        notification::Fact,
        operation::{HeldFact, Operation, operations},
    },
    store::{
        StoreError,
        rows::ChangedOperation,
        sqlite::{
            projection::{self, SavedCall, SavedOperation},
            writer::Positions,
        },
    },
};

pub(super) async fn save_calls(
    connection: &mut SqliteConnection,
    positions: &mut Positions,
    calls: &Calls<'_>,
    changes: &mut Vec<Change>,
) -> Result<(), StoreError> {
    let mut saved = Vec::new();
    for ((source, call_id), call) in calls {
        // a call of which a batch brings nothing but a copy of another's event does not begin with it
        if !call.told || call.before.as_ref() == Some(&call.story) {
            continue;
        }
        if call.before.as_ref().is_none_or(|before| before.state() != call.story.state()) {
            changes.push(Change::call(positions, call));
        }
        saved.push(SavedCall {
            id: call.id,
            source: (*source).to_owned(),
            call_id: (*call_id).clone(),
            receiver: call.receiver.clone(),
            audience: call.audience.clone(),
            tenant: call.tenant.clone(),
            first_seen_at: call.first_seen_at.as_millisecond(),
            data_key: call.data_key.as_deref().map(hex),
            lapses_at: call.lapses_at,
            story: call.story.clone(),
        });
    }
    projection::save_calls(connection, &saved).await
}

pub(super) async fn save_operations(
    connection: &mut SqliteConnection,
    positions: &mut Positions,
    calls: &Calls<'_>,
    stories: Stories,
    batched: &mut Batched,
    changes: &mut Vec<Change>,
) -> Result<(), StoreError> {
    let by_id: HashMap<i64, (&PlatformId, &Call)> = calls.iter().map(|((_, id), call)| (call.id, (*id, call))).collect();
    let mut saved = Vec::new();
    let mut gone = Vec::new();
    for ((call, subject), mut story) in stories {
        if story.new.is_empty() {
            continue;
        }
        let lapse = by_id.get(&call).map_or(Ok(None), |(_, call)| call.lapse())?;
        let told = |facts: &[HeldFact]| operations(facts, lapse.as_ref());
        let before: BTreeMap<_, _> = told(&story.before).into_iter().map(|operation| (operation.id, operation)).collect();
        story.before.append(&mut story.new);
        let after = told(&story.before);
        gone.extend(before.keys().filter(|id| !after.iter().any(|operation| operation.id == **id)).map(|id| id.0.0));
        for operation in after {
            let was = before.get(&operation.id);
            if was == Some(&operation) {
                continue;
            }
            if operation.state.is_final() && !was.is_some_and(|was: &Operation| was.state.is_final()) {
                batched.finals.push(operation.state);
            }
            if let Some((call_id, _)) = by_id.get(&call) {
                batched.changed.push(ChangedOperation {
                    id: operation.id,
                    call_id: (*call_id).clone(),
                    context: operation.context.clone(),
                });
            }
            changes.push(Change::operation(positions, call, &operation));
            saved.push(SavedOperation { call, subject: subject.clone(), operation });
        }
    }
    projection::save_operations(connection, &saved, &gone).await
}

/// A row of the change log.
#[derive(Debug)]
pub(in crate::store::sqlite) struct Change {
    seq: i64,
    kind: &'static str,
    call: Option<i64>,
    notification: Option<i64>,
    operation: Option<i64>,
    state: Option<&'static str>,
}

impl Change {
    /// A notification's position is its place in the log.
    pub(super) fn notification(planned: &Planned<'_>) -> Self {
        let state = match &planned.facts.fact {
            Fact::Operation(fact) => Some(fact.state.as_str()),
            Fact::Call(fact) => fact.state.map(CallState::as_str),
            Fact::Participants(_) | Fact::Other => None,
        };
        let call = planned.call.map(|(call, _)| call);
        Self { seq: planned.id, kind: "notification", call, notification: Some(planned.id), operation: None, state }
    }

    pub(in crate::store::sqlite) fn operation(positions: &mut Positions, call: i64, operation: &Operation) -> Self {
        Self {
            seq: positions.next().0,
            kind: "operation",
            call: Some(call),
            notification: None,
            operation: Some(operation.id.0.0),
            state: Some(operation.state.as_str()),
        }
    }

    fn call(positions: &mut Positions, call: &Call) -> Self {
        let state = call.story.state().map(CallState::as_str);
        Self { seq: positions.next().0, kind: "call", call: Some(call.id), notification: None, operation: None, state }
    }
}

pub(in crate::store::sqlite) async fn insert_changes(
    connection: &mut SqliteConnection,
    positions: &mut Positions,
    changes: &[Change],
) -> Result<(), StoreError> {
    if changes.is_empty() {
        return Ok(());
    }
    let at = positions.next().0 / 1000;
    let rows: Vec<_> = changes
        .iter()
        .map(|change| (change.seq, change.kind, change.call, change.notification, change.operation, change.state))
        .collect();
    sqlx::query(
        "INSERT INTO change (seq, at, type, call_id, notification_id, operation_id, state)
         SELECT value ->> 0, ?2, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5
         FROM jsonb_each(?1)",
    )
    .bind(json(&rows)?)
    .bind(at)
    .execute(connection)
    .await?;
    Ok(())
}
