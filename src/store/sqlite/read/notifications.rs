//! Notifications, timelines, and the deliveries that brought them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::{
    Lead, LedgerReader, among,
    class::{Asked, Table, Walk},
    is_full, newest_first,
    operations::tellers,
    paged, read_json, times,
};
use crate::{
    domain::{
        ids::{DeliveryId, NotificationId, OperationId, PlatformId, Seq},
        notification::{Disposition, Fact, Facts},
    },
    store::{
        StoreError,
        rows::{DeliveryRow, NotificationFilter, NotificationRow, Page, PageRequest, RequestRow, TimelineRow},
        sqlite::{
            batch::{QUARANTINE, instant, json, quarantine_subject},
            body_place, call_key_place, delivery_key_place, facts,
            lookup::push_brought_by,
            personal_place,
            projection::read_facts,
            requests::PLACE,
        },
    },
};

impl LedgerReader {
    /// Everything that was believed about a call and asked for in it, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn timeline(&self, call_id: &PlatformId, page: PageRequest) -> Result<Page<TimelineRow>, StoreError> {
        let mut sql = QueryBuilder::new(SELECT_NOTIFICATION);
        sql.push(" AND notification.id IN (WITH asked AS (SELECT id, source, story FROM call WHERE call_id = ")
            .push_bind(call_id.as_str())
            .push(") ")
            .push(ABOUT_ASKED)
            .push(")");
        if let Some(after) = page.after {
            sql.push(" AND +notification.id > ").push_bind(after.0);
        }
        sql.push(" ORDER BY notification.id LIMIT ").push_bind(i64::from(page.limit) + 1);
        // one more than a page may hold, for whether there is a next
        let more = PageRequest { limit: page.limit.saturating_add(1), ..page };
        let told = self.notification_page(sql, more).await?.rows;
        let asked = self.requests_of(call_id).await?;
        let asked = asked.into_iter().filter(|row| page.after.is_none_or(|after| row.id.0 > after));
        let told = told.into_iter().map(|row| TimelineRow::Notification(Box::new(row)));
        let mut rows: Vec<TimelineRow> = asked.map(|row| TimelineRow::Request(Box::new(row))).chain(told).collect();
        rows.sort_by_key(TimelineRow::seq);
        rows.truncate(usize::try_from(page.limit).unwrap_or(usize::MAX).saturating_add(1));
        Ok(paged(rows, page, TimelineRow::seq))
    }

    /// What was asked for in a call.
    async fn requests_of(&self, call_id: &PlatformId) -> Result<Vec<RequestRow>, StoreError> {
        let mut connection = self.connection().await?;
        let calls: Vec<i64> = sqlx::query_scalar("SELECT id FROM call WHERE call_id = ?1 AND requested = 1")
            .bind(call_id.as_str())
            .fetch_all(&mut *connection)
            .await?;
        drop(connection);
        Ok(self.requests_in(&calls.into_iter().collect()).await?.into_values().collect())
    }

    /// What was asked for in the calls at these positions, in the order in which it was written down.
    pub(super) async fn requests_in(&self, calls: &BTreeSet<i64>) -> Result<BTreeMap<i64, RequestRow>, StoreError> {
        let mut connection = self.connection().await?;
        let named: Vec<(i64, String, String)> =
            sqlx::query_as("SELECT id, source, call_id FROM call WHERE id IN (SELECT value FROM jsonb_each(?1))")
                .bind(json(calls)?)
                .fetch_all(&mut *connection)
                .await?;
        let mut held = facts::of_calls(&mut connection, calls).await?;
        let mut rows = BTreeMap::new();
        for (call, source, call_id) in named {
            let held = held.remove(&call).unwrap_or_default();
            let told = held.told(None);
            let of = |request| told.iter().find(|(_, operation)| operation.request == Some(request));
            let call_id = PlatformId::parse(&call_id).filter(|id| !id.as_str().starts_with(PLACE));
            rows.extend(held.requests.into_iter().map(|request| {
                let row = RequestRow {
                    operation: of(request.id).map_or(OperationId(request.id.0), |(_, operation)| operation.id),
                    id: request.id,
                    source: source.clone(),
                    call_id: call_id.clone(),
                    at: request.at,
                    facts: request.facts,
                    answer: request.answer.map(|answer| answer.facts),
                };
                (request.id.0.0, row)
            }));
        }
        Ok(rows)
    }

    /// A page of notifications, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn notifications(
        &self,
        filter: &NotificationFilter,
        page: PageRequest,
    ) -> Result<Page<NotificationRow>, StoreError> {
        // what was not simply applied is little, and by itself in an index
        let is_rare = filter.disposition.is_some_and(|disposition| disposition != Disposition::Applied);
        let asked = Asked {
            source: filter.source.as_deref(),
            kind: filter.kind.as_deref(),
            since: filter.since,
            until: filter.until,
            ..Asked::default()
        };
        let is_led = filter.call_id.is_some() || filter.token_hash.is_some();
        if is_led || is_rare || !asked.is_for_classes() {
            return self.notification_page(page_sql(filter, page, None), page).await;
        }
        let mut connection = self.connection().await?;
        let mut rows: Vec<NotificationSql> = Vec::new();
        let mut walk = Walk::begin(&mut connection, Table::Notification, &asked, page).await?;
        while !is_full(&rows, page)
            && let Some(ids) = walk.next(&mut connection).await?
        {
            let mut sql = page_sql(filter, page, Some(&ids));
            rows.extend(sql.build_query_as::<NotificationSql>().fetch_all(&mut *connection).await?);
        }
        told(&mut connection, rows, page).await
    }

    async fn notification_page(
        &self,
        mut sql: QueryBuilder<Sqlite>,
        page: PageRequest,
    ) -> Result<Page<NotificationRow>, StoreError> {
        let mut connection = self.connection().await?;
        let rows: Vec<NotificationSql> = sql.build_query_as().fetch_all(&mut *connection).await?;
        told(&mut connection, rows, page).await
    }

    /// One notification.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn notification(&self, id: NotificationId) -> Result<Option<NotificationRow>, StoreError> {
        let mut sql = QueryBuilder::new(SELECT_NOTIFICATION);
        sql.push(" AND notification.id = ").push_bind(id.0.0);
        let page = PageRequest { after: None, limit: 1 };
        Ok(self.notification_page(sql, page).await?.rows.pop())
    }

    /// The notifications of these ids.
    pub(super) async fn notifications_at(&self, ids: &BTreeSet<i64>) -> Result<BTreeMap<i64, NotificationRow>, StoreError> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut sql = QueryBuilder::new(SELECT_NOTIFICATION);
        sql.push(" AND notification.id IN (SELECT value FROM jsonb_each(").push_bind(json(ids)?).push("))");
        let page = PageRequest { after: None, limit: u32::MAX };
        let rows = self.notification_page(sql, page).await?.rows;
        Ok(rows.into_iter().map(|row| (row.id.0.0, row)).collect())
    }

    /// Whom a call is between, as the platform told when it came; `None` if it did not, or if that was erased.
    ///
    /// # Errors
    /// [`StoreError`], also if it does not open.
    pub async fn people_of(&self, call: Seq) -> Result<Option<Value>, StoreError> {
        let mut connection = self.connection().await?;
        let row: Option<(i64, Vec<u8>, Vec<u8>)> = sqlx::query_as(
            "SELECT notification.id, personal, data_key
             FROM notification
             JOIN call ON call.id = notification.call_id
             WHERE notification.call_id = ?1 AND subject = '' AND personal IS NOT NULL AND data_key IS NOT NULL
             ORDER BY notification.id
             LIMIT 1",
        )
        .bind(call.0)
        .fetch_optional(&mut *connection)
        .await?;
        let Some((id, personal, data_key)) = row else { return Ok(None) };
        let opened = self.master.data_key(&call_key_place(call.0), &data_key)?.open(&personal_place(id), &personal)?;
        let wrong = |_error| StoreError::Inconsistent { table: "notification", column: "personal", id };
        serde_json::from_slice(&opened).map(Some).map_err(wrong)
    }

    /// The delivery that brought a notification, as received; `None` if there is no such notification.
    ///
    /// # Errors
    /// [`StoreError`], also if the body does not open.
    pub async fn delivery_of(&self, id: NotificationId) -> Result<Option<DeliveryRow>, StoreError> {
        let mut connection = self.connection().await?;
        let row: Option<SealedSql> = sqlx::query_as(
            "SELECT delivery.id, delivery.source, sealed_for, coalesce(delivery.data_key, call.data_key) AS data_key, body
             FROM notification
             JOIN delivery ON delivery.id = delivery_id
             LEFT JOIN call ON call.id = sealed_for
             WHERE notification.id = ?1",
        )
        .bind(id.0.0)
        .fetch_optional(&mut *connection)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let body = self.opened(&row, &body_place(row.id), row.body.as_deref())?;
        Ok(Some(DeliveryRow { source: row.source, body }))
    }

    /// What is sealed with the key of a delivery; `None` if it or the key is gone.
    pub(super) fn opened(&self, row: &SealedSql, place: &str, sealed: Option<&[u8]>) -> Result<Option<Vec<u8>>, StoreError> {
        let (Some(data_key), Some(sealed)) = (&row.data_key, sealed) else { return Ok(None) };
        let key_place = row.sealed_for.map_or_else(|| delivery_key_place(row.id), call_key_place);
        Ok(Some(self.master.data_key(&key_place, data_key)?.open(place, sealed)?.to_vec()))
    }
}

/// A delivery with what opens it.
#[derive(sqlx::FromRow)]
pub(super) struct SealedSql {
    pub(super) id: i64,
    source: String,
    sealed_for: Option<i64>,
    data_key: Option<Vec<u8>>,
    pub(super) body: Option<Vec<u8>>,
}

/// What is about the calls `asked`: what names them, and what another source tells of their conversation or of a recording of
/// theirs without naming a call. The latter tells no state, so that who knows no more than an id cannot put words into a story.
const ABOUT_ASKED: &str = "SELECT about.id
 FROM notification AS about
 WHERE about.call_id IN (SELECT id FROM asked)
 UNION
 SELECT about.id
 FROM asked
 CROSS JOIN operation ON operation.call_id = asked.id AND operation.operation_id IS NOT NULL
 CROSS JOIN notification AS about INDEXED BY notification_by_recording
     ON about.call_id = 0 AND about.facts ->> 'recording_id' IS NOT NULL
        AND about.facts ->> 'recording_id' = +operation.operation_id
 WHERE about.disposition = 'applied' AND about.facts ->> 'fact' = 'other' AND about.source <> asked.source
 UNION
 SELECT about.id
 FROM asked
 CROSS JOIN notification AS about INDEXED BY notification_by_server_call
     ON about.call_id = 0 AND about.facts ->> 'server_call_id' IS NOT NULL
        AND about.facts ->> 'server_call_id' = asked.story ->> '$.serverCallId'
 WHERE about.disposition = 'applied' AND about.facts ->> 'fact' = 'other' AND about.source <> asked.source";

/// The notifications that match, of those at these positions (a JSON array).
fn page_sql(filter: &NotificationFilter, page: PageRequest, ids: Option<&str>) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new(SELECT_NOTIFICATION);
    let mut lead = Lead::default();
    if let Some(ids) = ids {
        among(&mut sql, &mut lead, " AND {}notification.id IN ", ids);
    }
    if let Some(call) = &filter.call_id {
        let calls = " AND (notification.call_id IN (SELECT id FROM call AS asked WHERE asked.call_id = ";
        sql.push(calls).push_bind(call.as_str().to_owned());
        sql.push(") OR (notification.call_id = 0 AND notification.subject = ").push_bind(quarantine_subject(call)).push("))");
        lead.taken = true;
    }
    if let Some(hash) = filter.token_hash {
        sql.push(if lead.taken { " AND +notification.id IN (" } else { " AND notification.id IN (" });
        push_brought_by(&mut sql, hash).push(") AND delivery.token_hash = ").push_bind(hash);
        lead.taken = true;
    }
    if let Some(disposition) = filter.disposition {
        let lead_or_not = if disposition == Disposition::Applied { " AND +disposition = " } else { " AND {}disposition = " };
        lead.push(&mut sql, lead_or_not).push_bind(disposition.as_str());
        if disposition != Disposition::Applied {
            // Lets SQLite see that the partial index holds them all.
            sql.push(" AND disposition <> 'applied'");
        }
    }
    if let Some(kind) = &filter.kind {
        sql.push(" AND +kind = ").push_bind(kind.clone());
    }
    if let Some(source) = &filter.source {
        sql.push(" AND +notification.source = ").push_bind(source.clone());
    }
    times(&mut sql, "notification.id", "notification.received_at", filter.since, filter.until);
    newest_first(&mut sql, "notification.id", page);
    sql
}

/// A page of these, each with the operation that it tells.
async fn told(
    connection: &mut SqliteConnection,
    rows: Vec<NotificationSql>,
    page: PageRequest,
) -> Result<Page<NotificationRow>, StoreError> {
    let facts = rows.iter().map(|row| read_facts(row.id, &row.facts)).collect::<Result<Vec<_>, _>>()?;
    // Rosters and call facts can be many thousands, and tell no operation.
    let tells = |facts: &&Facts| matches!(facts.fact, Fact::Operation(_));
    let subjects = rows
        .iter()
        .zip(&facts)
        .filter(|(row, facts)| row.call != 0 && tells(facts))
        .map(|(row, _)| (row.call, row.subject.as_str()))
        .collect();
    let told = tellers(connection, &subjects).await?;
    let rows = rows.into_iter().zip(facts).map(|(row, facts)| row.read(facts, &told)).collect::<Result<Vec<_>, _>>()?;
    Ok(paged(rows, page, |row| row.id.0))
}

const SELECT_NOTIFICATION: &str = "SELECT notification.id, delivery_id, delivery.source, delivery.receiver,
        coalesce(delivery.tenant_id, call.tenant_id) AS tenant_id,
        delivery.token_hash, notification.received_at, notification.call_id AS call, call.call_id, subject, disposition, facts, duplicates,
        last_duplicate_at, correlation
 FROM notification
 JOIN delivery ON delivery.id = delivery_id
 LEFT JOIN call ON call.id = notification.call_id
 WHERE true";

#[derive(sqlx::FromRow)]
struct NotificationSql {
    id: i64,
    delivery_id: i64,
    source: String,
    receiver: String,
    tenant_id: Option<String>,
    token_hash: Option<i64>,
    received_at: i64,
    call: i64,
    call_id: Option<String>,
    subject: String,
    disposition: String,
    facts: String,
    duplicates: i64,
    last_duplicate_at: Option<i64>,
    correlation: Option<String>,
}

impl NotificationSql {
    fn read(self, facts: Facts, told: &BTreeMap<NotificationId, OperationId>) -> Result<NotificationRow, StoreError> {
        let id = NotificationId(Seq(self.id));
        let wrong = |column| StoreError::Inconsistent { table: "notification", column, id: self.id };
        let claimed = || self.subject.strip_prefix(QUARANTINE);
        Ok(NotificationRow {
            id,
            delivery: DeliveryId(Seq(self.delivery_id)),
            call_id: self.call_id.as_deref().or_else(claimed).and_then(PlatformId::parse),
            source: self.source,
            receiver: self.receiver,
            tenant_id: self.tenant_id,
            token_hash: self.token_hash,
            received_at: instant("notification", self.id, self.received_at)?,
            operation: told.get(&id).copied(),
            disposition: Disposition::parse(&self.disposition).ok_or_else(|| wrong("disposition"))?,
            facts,
            duplicates: self.duplicates,
            correlation: read_json("delivery", "correlation", self.delivery_id, self.correlation.as_deref())?,
            last_duplicate_at: self.last_duplicate_at.map(|at| instant("notification", self.id, at)).transpose()?,
        })
    }
}
