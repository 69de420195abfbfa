//! What the passing of time decides: operations that were still open when the grace period of their ended call was over.
//!
//! Readers conclude it by themselves as soon as it is so (`read/`); this writes it down, so that lists by state stay quick, the
//! change log tells of it, and those who wait are woken.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::{
    batch::{Batched, Changed, Whose, json, save_changed},
    facts,
    positions::Positions,
    projection,
};
use crate::{
    domain::{
        call::Release,
        ids::PlatformId,
        operation::{HeldFact, Lapse, operations},
    },
    store::StoreError,
};

/// How many calls are settled in one transaction: deliveries wait for it.
const CALLS_AT_ONCE: i64 = 100;

/// A call whose grace period is over.
#[derive(Debug)]
pub(super) struct DueCall {
    pub(super) id: i64,
    source: String,
    call_id: PlatformId,
    lapse: Lapse,
    /// Whether a request for it is known.
    requested: bool,
}

impl DueCall {
    fn whose(&self) -> Whose<'_> {
        Whose { call: self.id, source: &self.source, call_id: &self.call_id }
    }
}

/// The calls that are to be settled by now, those that have waited longest first.
pub(super) async fn due(connection: &mut SqliteConnection, now: Timestamp) -> Result<Vec<DueCall>, StoreError> {
    let rows: Vec<(i64, String, String, i64, Option<String>, bool)> = sqlx::query_as(
        "SELECT id, source, call_id, lapses_at, story -> '$.release', requested
         FROM call
         WHERE settled = 0 AND lapses_at <= ?1
         ORDER BY lapses_at
         LIMIT ?2",
    )
    .bind(now.as_millisecond())
    .bind(CALLS_AT_ONCE)
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|(id, source, call_id, lapses_at, release, requested)| {
            let wrong = || StoreError::Inconsistent { table: "call", column: "story", id };
            let release: Option<Release> = release.as_deref().and_then(|release| serde_json::from_str(release).ok());
            let lapse = projection::lapse(id, release.as_ref(), Some(lapses_at), true)?.ok_or_else(wrong)?;
            Ok(DueCall { id, source, call_id: PlatformId::parse(&call_id).ok_or_else(wrong)?, lapse, requested })
        })
        .collect()
}

/// Ends what is open in these calls, within the open transaction.
pub(super) async fn settle(
    connection: &mut SqliteConnection,
    positions: &mut Positions,
    due: &[DueCall],
) -> Result<Batched, StoreError> {
    let calls: BTreeMap<i64, &DueCall> = due.iter().map(|call| (call.id, call)).collect();
    let ids = json(&calls.keys().collect::<Vec<_>>())?;
    let mut changed = Changed::default();
    for ((call, subject), facts) in open_stories(connection, &ids).await? {
        let Some(due) = calls.get(&call) else { continue };
        let told = |over| {
            let told = operations(&facts, Some(&Lapse { over, ..due.lapse })).into_iter();
            told.map(|operation| (subject.clone(), operation)).collect()
        };
        changed.compare(positions, due.whose(), told(false), told(true));
    }
    let requested = due.iter().filter(|call| call.requested).map(|call| call.id).collect();
    for (call, facts) in facts::of_calls(connection, &requested).await? {
        let Some(due) = calls.get(&call) else { continue };
        let told = |over| facts.told(Some(&Lapse { over, ..due.lapse }));
        changed.compare(positions, due.whose(), told(false), told(true));
    }
    sqlx::query("UPDATE call SET settled = 1 WHERE id IN (SELECT value FROM jsonb_each(?1))")
        .bind(ids)
        .execute(&mut *connection)
        .await?;
    save_changed(connection, positions, &changed.saved, &changed.gone, &changed.changes).await?;
    Ok(Batched { changed: changed.told, finals: changed.finals, ..Batched::default() })
}

/// The facts of the subjects under which an operation is open, of those of these calls of which no request is known.
async fn open_stories(
    connection: &mut SqliteConnection,
    calls: &str,
) -> Result<BTreeMap<(i64, String), Vec<HeldFact>>, StoreError> {
    let subjects: Vec<(i64, String)> = sqlx::query_as(
        "SELECT DISTINCT call_id, subject
         FROM operation
         WHERE call_id IN (SELECT id FROM call AS due WHERE id IN (SELECT value FROM jsonb_each(?1)) AND requested = 0)
           AND +state IN ('requested', 'accepted', 'running')",
    )
    .bind(calls)
    .fetch_all(&mut *connection)
    .await?;
    let mut stories: BTreeMap<_, Vec<HeldFact>> = BTreeMap::new();
    for (call, subject, held) in projection::held_facts(connection, &json(&subjects)?).await? {
        stories.entry((call, subject)).or_default().push(held);
    }
    Ok(stories)
}
