//! The question for a page of operations, as SQL.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use sqlx::{QueryBuilder, Sqlite};

use super::{Lead, among, class::Asked, newest_first, times};
use crate::{
    domain::operation::{Deadlines, SILENT, State},
    store::{
        StoreError,
        rows::{OperationFilter, PageRequest},
        sqlite::{
            batch::json,
            lookup::{self, Part},
        },
    },
};

pub(super) const SELECT_OPERATION: &str = "SELECT operation.id, call.source, call.receiver, call.tenant_id, call.call_id,
        operation_id, kind, context, operation.state, result, accepted_at, started_at, finished_at,
        operation.first_seen_at, updated_at, flags, notifications, operation.call_id AS call, subject,
        lapses_at, settled, CASE WHEN lapses_at IS NOT NULL THEN story -> '$.release' END AS release,
        requested_at, deadline AS own_deadline, links, call.requested
 FROM operation
 JOIN call ON call.id = operation.call_id
 WHERE true";

/// Which of the operations that match.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which<'a> {
    /// As they are written.
    Written,
    /// As they are written, of those that a part of the lookups speaks of.
    In(&'a Part),
    /// As they are written, of those at these positions (a JSON array).
    Among(&'a str),
    /// Of whatever state they are written: that have ended with their calls by now, without that having been written down. Few, unless
    /// nobody has served the ledger since.
    Lapsed,
}

/// The states in which an operation is open.
pub(super) const OPEN: &[&str] = &["requested", "accepted", "running"];
/// Conditions that [`Which::Among`] begins with.
const AMONG: &str = " AND {}operation.id IN ";

/// What of the filter the classes of operations answer: [`Which::Among`].
pub(super) fn asked(filter: &OperationFilter) -> Asked<'_> {
    if filter.call_id.is_some() {
        return Asked::default();
    }
    let is_open = filter.open == Some(true) || filter.overdue == Some(true);
    let states = match filter.state {
        Some(state) => Some(vec![state.as_str()]),
        None if is_open => Some(OPEN.to_vec()),
        None => None,
    };
    Asked {
        source: filter.source.as_deref(),
        kind: filter.kind.as_deref(),
        states,
        subcode: filter.subcode,
        since: filter.since,
        until: filter.until,
    }
}

/// Whether operations are best found by their ids or contexts: by [`Which::In`].
pub(super) const fn is_looked_up(filter: &OperationFilter) -> bool {
    filter.call_id.is_none() && (filter.operation_id.is_some() || filter.context.is_some())
}

pub(super) fn page_sql(
    deadlines: &Deadlines,
    filter: &OperationFilter,
    page: PageRequest,
    now: Timestamp,
    which: Which<'_>,
) -> Result<QueryBuilder<Sqlite>, StoreError> {
    let mut sql = QueryBuilder::new(SELECT_OPERATION);
    let mut lead = Lead::default();
    match which {
        Which::Lapsed => push_have_lapsed(&mut sql, &mut lead, filter, now)?,
        Which::Among(ids) => among(&mut sql, &mut lead, AMONG, ids),
        Which::Written | Which::In(_) => {}
    }
    if let Some(call) = &filter.call_id {
        let of_calls = " AND {}operation.call_id IN (SELECT id FROM call AS asked WHERE asked.call_id = ";
        lead.push(&mut sql, of_calls).push_bind(call.as_str()).push(")");
    }
    if let Some(id) = &filter.operation_id {
        let hash = lookup::hash_of(id);
        push_found(&mut sql, &mut lead, which, "operation_hash", hash)?;
        sql.push(" AND +operation_hash = ").push_bind(hash);
    }
    if let Some(context) = &filter.context {
        let hash = lookup::hash(context);
        push_found(&mut sql, &mut lead, which, "context_hash", hash)?;
        sql.push(" AND +context_hash = ").push_bind(hash);
    }
    if let Some(overdue) = filter.overdue {
        if overdue {
            lead.push(&mut sql, " AND {}operation.state IN ('requested', 'accepted', 'running') AND NOT ");
            push_lapsed(&mut sql, now).push(" AND (");
        } else {
            sql.push(" AND NOT (+operation.state IN ('requested', 'accepted', 'running') AND NOT ");
            push_lapsed(&mut sql, now).push(" AND ");
        }
        push_deadline_passed(&mut sql, deadlines, now)?;
        sql.push(")");
    }
    match filter.open {
        Some(true) => {
            lead.push(&mut sql, " AND {}operation.state IN ('requested', 'accepted', 'running') AND NOT ");
            push_lapsed(&mut sql, now);
        }
        Some(false) => {
            sql.push(" AND (+operation.state NOT IN ('requested', 'accepted', 'running') OR ");
            push_lapsed(&mut sql, now).push(")");
        }
        None => {}
    }
    if let Some(subcode) = filter.subcode {
        lead.push(&mut sql, " AND {}subcode = ").push_bind(subcode);
    }
    match filter.state {
        Some(state) if !matches!(which, Which::Lapsed) => {
            lead.push(&mut sql, " AND {}operation.state = ").push_bind(state.as_str());
            if !state.is_final() {
                sql.push(" AND NOT ");
                push_lapsed(&mut sql, now);
            }
        }
        _ => {}
    }
    if let Some(kind) = &filter.kind {
        lead.push(&mut sql, " AND {}kind = ").push_bind(kind);
    }
    if let Some(source) = &filter.source {
        lead.push(&mut sql, " AND {}operation.source = ").push_bind(source);
    }
    times(&mut sql, "operation.id", "operation.first_seen_at", filter.since, filter.until);
    newest_first(&mut sql, "operation.id", page);
    Ok(sql)
}

fn push_found(
    sql: &mut QueryBuilder<Sqlite>,
    lead: &mut Lead,
    which: Which<'_>,
    column: &'static str,
    hash: Option<i64>,
) -> Result<(), StoreError> {
    if let Which::In(part) = which
        && !lead.taken
    {
        lead.push(sql, " AND {}operation.id IN (");
        part.push(sql, column, hash)?.push(")");
    }
    Ok(())
}

fn push_have_lapsed(
    sql: &mut QueryBuilder<Sqlite>,
    lead: &mut Lead,
    filter: &OperationFilter,
    now: Timestamp,
) -> Result<(), StoreError> {
    lead.push(sql, " AND {}operation.call_id IN (SELECT id FROM call AS due WHERE settled = 0 AND lapses_at <= ");
    sql.push_bind(now.as_millisecond()).push(") AND +operation.state IN ('requested', 'accepted', 'running')");
    // as `State::lapsed` says
    let is_done = filter.state == Some(State::Completed);
    sql.push(if is_done { " AND " } else { " AND NOT " });
    sql.push("(+operation.state IN ('requested', 'accepted') AND +kind IN (SELECT value FROM json_each(");
    sql.push_bind(json(SILENT)?).push(")))");
    Ok(())
}

/// How many are overdue, counted up to a limit, so that a scrape of the metrics costs little whatever has been left open.
pub(super) fn overdue_sql(
    deadlines: &Deadlines,
    classes: &[i64],
    now: Timestamp,
    limit: i64,
) -> Result<QueryBuilder<Sqlite>, StoreError> {
    let mut sql = QueryBuilder::new(
        "SELECT count(*) FROM (
             SELECT 1 FROM operation
             JOIN call ON call.id = operation.call_id
             WHERE operation.class_hash IN (SELECT value FROM json_each(",
    );
    sql.push_bind(json(classes)?).push(")) AND NOT ");
    push_lapsed(&mut sql, now).push(" AND (");
    push_deadline_passed(&mut sql, deadlines, now)?;
    sql.push(") LIMIT ").push_bind(limit).push(")");
    Ok(sql)
}

/// The grace period of its call is over, and nobody has written down yet what that means for it.
fn push_lapsed(sql: &mut QueryBuilder<Sqlite>, now: Timestamp) -> &mut QueryBuilder<Sqlite> {
    sql.push("(call.settled = 0 AND call.lapses_at IS NOT NULL AND call.lapses_at <= ").push_bind(now.as_millisecond()).push(")")
}

/// First seen longer ago than its kind may be open.
fn push_deadline_passed(sql: &mut QueryBuilder<Sqlite>, deadlines: &Deadlines, now: Timestamp) -> Result<(), StoreError> {
    let milliseconds = |allowed: &Duration| i64::try_from(allowed.as_millis()).unwrap_or(i64::MAX / 2);
    let by_kind: BTreeMap<&str, i64> =
        deadlines.by_kind.iter().map(|(kind, allowed)| (kind.as_str(), milliseconds(allowed))).collect();
    sql.push("coalesce(+operation.deadline, coalesce(+operation.requested_at, +operation.first_seen_at) + coalesce((SELECT allowed.value FROM json_each(")
        .push_bind(json(&by_kind)?)
        .push(") AS allowed WHERE allowed.key = operation.kind), ")
        .push_bind(milliseconds(&deadlines.default))
        .push(")) <= ")
        .push_bind(now.as_millisecond());
    Ok(())
}
