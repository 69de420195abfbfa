//! Operations, and their histories.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::{Lead, LedgerReader, newest_first, paged, read_json, times};
use crate::{
    domain::{
        ids::{NotificationId, OperationId, PlatformId, Seq},
        operation::{Deadlines, Flag, Operation, State, Transition, operations},
        result::ResultInfo,
    },
    store::{
        StoreError,
        rows::{OperationFilter, OperationRow, Page, PageRequest},
        sqlite::{
            batch::{instant, json},
            lookup_hash,
            projection::held_facts,
        },
    },
};

impl LedgerReader {
    /// A page of operations as of `now`, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn operations(
        &self,
        filter: &OperationFilter,
        page: PageRequest,
        now: Timestamp,
    ) -> Result<Page<OperationRow>, StoreError> {
        let mut sql = QueryBuilder::new(SELECT_OPERATION);
        let mut lead = Lead::default();
        if let Some(call) = &filter.call_id {
            let of_calls = " AND {}operation.call_id IN (SELECT id FROM call AS asked WHERE asked.call_id = ";
            lead.push(&mut sql, of_calls).push_bind(call.as_str()).push(")");
        }
        if let Some(id) = &filter.operation_id {
            lead.push(&mut sql, " AND {}operation_hash = ").push_bind(lookup_hash(id.as_str()));
        }
        if let Some(context) = &filter.context {
            lead.push(&mut sql, " AND {}context_hash = ").push_bind(lookup_hash(context));
        }
        if let Some(overdue) = filter.overdue {
            if overdue {
                lead.push(&mut sql, " AND {}operation.state IN ('requested', 'accepted', 'running') AND (");
            } else {
                sql.push(" AND NOT (+operation.state IN ('requested', 'accepted', 'running') AND ");
            }
            self.push_deadline_passed(&mut sql, now)?;
            sql.push(")");
        }
        match filter.open {
            Some(true) => {
                lead.push(&mut sql, " AND {}operation.state IN ('requested', 'accepted', 'running')");
            }
            Some(false) => {
                sql.push(" AND +operation.state NOT IN ('requested', 'accepted', 'running')");
            }
            None => {}
        }
        if let Some(subcode) = filter.subcode {
            lead.push(&mut sql, " AND {}subcode = ").push_bind(subcode);
        }
        if let Some(state) = filter.state {
            lead.push(&mut sql, " AND {}operation.state = ").push_bind(state.as_str());
        }
        if let Some(kind) = &filter.kind {
            lead.push(&mut sql, " AND {}kind = ").push_bind(kind);
        }
        if let Some(source) = &filter.source {
            sql.push(" AND +source = ").push_bind(source);
        }
        times(&mut sql, "operation.id", "operation.first_seen_at", filter.since, filter.until);
        newest_first(&mut sql, "operation.id", page);

        let mut connection = self.connection().await?;
        let rows: Vec<OperationSql> = sql.build_query_as().fetch_all(&mut *connection).await?;
        let rows = rows.into_iter().map(|row| row.read(&self.deadlines, now)).collect::<Result<Vec<_>, _>>()?;
        Ok(paged(rows, page, |row| row.id.0))
    }

    /// One operation as of `now`, by its id or by the id of any fact that has become a part of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn operation(&self, id: OperationId, now: Timestamp) -> Result<Option<OperationRow>, StoreError> {
        let mut connection = self.connection().await?;
        if let Some(row) = self.operation_row(&mut connection, id, now).await? {
            return Ok(Some(row));
        }
        let fact = NotificationId(id.0);
        let Some(told) = told_by(&mut connection, fact).await? else { return Ok(None) };
        let Some(operation) = told.into_iter().find(|operation| operation.facts.contains(&fact)) else { return Ok(None) };
        self.operation_row(&mut connection, operation.id, now).await
    }

    async fn operation_row(
        &self,
        connection: &mut SqliteConnection,
        id: OperationId,
        now: Timestamp,
    ) -> Result<Option<OperationRow>, StoreError> {
        let mut sql = QueryBuilder::new(SELECT_OPERATION);
        sql.push(" AND operation.id = ").push_bind(id.0.0);
        let row: Option<OperationSql> = sql.build_query_as().fetch_optional(connection).await?;
        row.map(|row| row.read(&self.deadlines, now)).transpose()
    }

    /// The states that an operation went through, oldest first; `None` if there is no such operation.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn history(&self, id: OperationId) -> Result<Option<Vec<Transition>>, StoreError> {
        let mut connection = self.connection().await?;
        let fact = NotificationId(id.0);
        let told = told_by(&mut connection, fact).await?;
        let operation = told.and_then(|told| told.into_iter().find(|operation| operation.facts.contains(&fact)));
        Ok(operation.map(|operation| operation.history))
    }

    /// First seen longer ago than its kind may be open.
    fn push_deadline_passed(&self, sql: &mut QueryBuilder<Sqlite>, now: Timestamp) -> Result<(), StoreError> {
        let milliseconds = |allowed: &Duration| i64::try_from(allowed.as_millis()).unwrap_or(i64::MAX / 2);
        let by_kind: BTreeMap<&str, i64> =
            self.deadlines.by_kind.iter().map(|(kind, allowed)| (kind.as_str(), milliseconds(allowed))).collect();
        sql.push("+operation.first_seen_at + coalesce((SELECT allowed.value FROM json_each(")
            .push_bind(json(&by_kind)?)
            .push(") AS allowed WHERE allowed.key = operation.kind), ")
            .push_bind(milliseconds(&self.deadlines.default))
            .push(") <= ")
            .push_bind(now.as_millisecond());
        Ok(())
    }
}

const SELECT_OPERATION: &str = "SELECT operation.id, call.source, call.receiver, call.tenant_id, call.call_id,
        operation_id, kind, context, operation.state, result, accepted_at, started_at, finished_at,
        operation.first_seen_at, updated_at, flags, notifications,
        (SELECT coalesce(sum(duplicates), 0)
         FROM notification
         WHERE notification.call_id = operation.call_id AND notification.subject = operation.subject) AS duplicates
 FROM operation
 JOIN call ON call.id = operation.call_id
 WHERE true";

#[derive(sqlx::FromRow)]
struct OperationSql {
    id: i64,
    source: String,
    receiver: String,
    tenant_id: Option<String>,
    call_id: String,
    operation_id: Option<String>,
    kind: String,
    context: Option<String>,
    state: String,
    result: Option<String>,
    accepted_at: Option<i64>,
    started_at: Option<i64>,
    finished_at: Option<i64>,
    first_seen_at: i64,
    updated_at: i64,
    flags: String,
    notifications: i64,
    duplicates: i64,
}

impl OperationSql {
    fn read(self, deadlines: &Deadlines, now: Timestamp) -> Result<OperationRow, StoreError> {
        let id = self.id;
        let wrong = |column| StoreError::Inconsistent { table: "operation", column, id };
        let time = |at: Option<i64>| at.map(|at| instant("operation", id, at)).transpose();
        let state = State::parse(&self.state).ok_or_else(|| wrong("state"))?;
        let first_seen_at = instant("operation", id, self.first_seen_at)?;
        let deadline = (!state.is_final()).then(|| deadlines.deadline(&self.kind, first_seen_at));
        Ok(OperationRow {
            id: OperationId(Seq(id)),
            source: self.source,
            receiver: self.receiver,
            tenant_id: self.tenant_id,
            call_id: PlatformId::parse(&self.call_id).ok_or_else(|| wrong("call_id"))?,
            operation_id: self.operation_id.as_deref().and_then(PlatformId::parse),
            kind: self.kind,
            context: self.context,
            state,
            result: read_json::<Option<ResultInfo>>("operation", "result", id, self.result.as_deref())?,
            accepted_at: time(self.accepted_at)?,
            started_at: time(self.started_at)?,
            finished_at: time(self.finished_at)?,
            first_seen_at,
            updated_at: instant("operation", id, self.updated_at)?,
            flags: read_json::<Vec<Flag>>("operation", "flags", id, Some(&self.flags))?,
            notifications: self.notifications,
            duplicates: self.duplicates,
            deadline,
            overdue: deadline.is_some_and(|deadline| deadline <= now),
        })
    }
}

/// The operations that the facts around one notification tell; `None` if it tells none.
async fn told_by(connection: &mut SqliteConnection, fact: NotificationId) -> Result<Option<Vec<Operation>>, StoreError> {
    let subject: Option<(i64, String)> =
        sqlx::query_as("SELECT call_id, subject FROM notification WHERE id = ?1 AND call_id <> 0")
            .bind(fact.0.0)
            .fetch_optional(&mut *connection)
            .await?;
    let Some(subject) = subject else { return Ok(None) };
    let held: Vec<_> = held_facts(connection, &json(&[subject])?).await?.into_iter().map(|(_, _, held)| held).collect();
    Ok(Some(operations(&held)))
}

/// Which operation each notification tells, among those of these subjects (`(call, subject)`).
pub(super) async fn tellers(
    connection: &mut SqliteConnection,
    subjects: &BTreeSet<(i64, &str)>,
) -> Result<BTreeMap<NotificationId, OperationId>, StoreError> {
    let mut stories: BTreeMap<(i64, String), Vec<_>> = BTreeMap::new();
    for (call, subject, held) in held_facts(connection, &json(subjects)?).await? {
        stories.entry((call, subject)).or_default().push(held);
    }
    Ok(stories
        .values()
        .flat_map(|held| operations(held))
        .flat_map(|operation| operation.facts.into_iter().map(move |fact| (fact, operation.id)))
        .collect())
}
