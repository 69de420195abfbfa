//! What is to be forwarded, and how that stands.

use jiff::Timestamp;
use sqlx::QueryBuilder;

use super::{Lead, LedgerReader, newest_first, notifications::SealedSql, paged};
use crate::{
    domain::ids::{DeliveryId, ForwardId, NotificationId, PlatformId, Seq},
    store::{
        StoreError,
        forwards::{
            AsItCame, Candidate, ForwardCount, ForwardFilter, ForwardRow, ForwardState, Standing, TargetRow, Tries, Unit,
        },
        rows::{NotificationRow, Page, PageRequest},
        sqlite::{
            batch::{instant, json},
            body_place, head_place,
        },
    },
};

/// How many notifications are looked at in one step.
const LOOKED_AT: i64 = 256;
/// How many waiting forwards are read at once as a service begins.
const STANDING: u32 = 5000;

impl LedgerReader {
    /// Everything behind `after` that a target might want, oldest first, a delivery never cut in two; up to where that is; and
    /// whether there may be more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn candidates(&self, after: Seq) -> Result<(Vec<Candidate>, Seq, bool), StoreError> {
        let mut rows = self.candidate_rows(after.0).await?;
        let mut more = i64::try_from(rows.len()).is_ok_and(|count| count == LOOKED_AT);
        while more {
            let Some((id, delivery)) = rows.last().map(|row| (row.id, row.delivery_id)) else { break };
            let next = self.candidate_rows(id).await?;
            let looked_at = next.len();
            let before = rows.len();
            rows.extend(next.into_iter().take_while(|row| row.delivery_id == delivery));
            if rows.len() - before < looked_at {
                break; // the delivery ends here, and something is behind it
            }
            more = i64::try_from(looked_at).is_ok_and(|count| count == LOOKED_AT);
        }
        let read_to = rows.last().map_or(after, |row| Seq(row.id));
        let candidate = |row: CandidateSql| Candidate {
            id: NotificationId(Seq(row.id)),
            delivery: DeliveryId(Seq(row.delivery_id)),
            call: Some(row.call_id).filter(|call| *call != 0).map(Seq),
            receiver: row.receiver,
            source: row.source,
            kind: row.kind,
        };
        Ok((rows.into_iter().filter(|row| !row.stays).map(candidate).collect(), read_to, more))
    }

    async fn candidate_rows(&self, after: i64) -> Result<Vec<CandidateSql>, StoreError> {
        let mut connection = self.connection().await?;
        Ok(sqlx::query_as(
            "SELECT notification.id, delivery_id, call_id, delivery.receiver, notification.source, kind,
                    disposition = 'quarantined' OR facts ->> 'redirected_to' IS NOT NULL AS stays
             FROM notification
             JOIN delivery ON delivery.id = delivery_id
             WHERE notification.id > ?1
             ORDER BY notification.id
             LIMIT ?2",
        )
        .bind(after)
        .bind(LOOKED_AT)
        .fetch_all(&mut *connection)
        .await?)
    }

    /// What a delivery brought from this notification on, each with its place in the body.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn brought_by(
        &self,
        delivery: DeliveryId,
        from: NotificationId,
    ) -> Result<Vec<(NotificationRow, usize)>, StoreError> {
        let mut connection = self.connection().await?;
        // A delivery's notifications have the ids right behind its own.
        let places: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT id, item
             FROM notification
             WHERE id >= ?1 AND id < coalesce((SELECT min(id) FROM delivery WHERE id > ?2), 9223372036854775807)
               AND +delivery_id = ?2 AND +disposition <> 'quarantined'
             ORDER BY id",
        )
        .bind(from.0.0)
        .bind(delivery.0.0)
        .fetch_all(&mut *connection)
        .await?;
        drop(connection);
        let mut rows = self.notifications_at(&places.iter().map(|(id, _)| *id).collect()).await?;
        let place = |(id, item): (i64, i64)| Some((rows.remove(&id)?, usize::try_from(item).unwrap_or(usize::MAX)));
        Ok(places.into_iter().filter_map(place).collect())
    }

    /// A delivery as it is to be forwarded to a target.
    ///
    /// # Errors
    /// [`StoreError`], also if something of it does not open.
    pub async fn as_it_came(&self, delivery: DeliveryId, target: &str, now: Timestamp) -> Result<AsItCame, StoreError> {
        let mut connection = self.connection().await?;
        let row: Option<SealedSql> = sqlx::query_as(
            "SELECT delivery.id, delivery.source, sealed_for, coalesce(delivery.data_key, call.data_key) AS data_key, body
             FROM delivery
             LEFT JOIN call ON call.id = sealed_for
             WHERE delivery.id = ?1",
        )
        .bind(delivery.0.0)
        .fetch_optional(&mut *connection)
        .await?;
        let Some(row) = row else { return Ok(AsItCame { headers: None, body: None }) };
        let head: Option<Vec<u8>> = sqlx::query_scalar(
            "SELECT head FROM delivery_head
                 WHERE delivery_id = ?1 AND expires_at > ?3 AND EXISTS (SELECT 1 FROM json_each(targets) WHERE value = ?2)",
        )
        .bind(delivery.0.0)
        .bind(target)
        .bind(now.as_millisecond())
        .fetch_optional(&mut *connection)
        .await?;
        drop(connection);
        let head = self.opened(&row, &head_place(row.id), head.as_deref())?;
        Ok(AsItCame { headers: head, body: self.opened(&row, &body_place(row.id), row.body.as_deref())? })
    }

    /// How a target stands as its forwarder begins.
    ///
    /// # Errors
    /// [`StoreError`], also if it is not known.
    pub async fn standing(&self, target: &str) -> Result<Standing, StoreError> {
        let known = self.targets().await?.into_iter().find(|row| row.name == target);
        let target = known.ok_or_else(|| StoreError::Database(sqlx::Error::RowNotFound))?;
        let filter =
            ForwardFilter { target: Some(target.name.clone()), state: Some(ForwardState::Waiting), ..ForwardFilter::default() };
        let (mut waiting, mut after) = (Vec::new(), None);
        loop {
            let page = self.forwards(&filter, PageRequest { after, limit: STANDING }).await?;
            waiting.extend(page.rows);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let mut connection = self.connection().await?;
        let known: Vec<i64> = sqlx::query_scalar("SELECT unit FROM forward WHERE target = ?1 AND unit > ?2")
            .bind(&target.name)
            .bind(target.settled_to.0)
            .fetch_all(&mut *connection)
            .await?;
        Ok(Standing { target, waiting, known: known.into_iter().map(|unit| NotificationId(Seq(unit))).collect() })
    }

    /// Every target that was ever known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn targets(&self) -> Result<Vec<TargetRow>, StoreError> {
        let mut connection = self.connection().await?;
        let rows: Vec<(String, i64, Option<i64>)> =
            sqlx::query_as("SELECT name, settled_to, disabled_at FROM forward_target ORDER BY name")
                .fetch_all(&mut *connection)
                .await?;
        let target = |(name, settled_to, disabled_at): (String, i64, Option<i64>)| {
            let disabled_at = disabled_at.map(|at| instant("forward_target", settled_to, at)).transpose()?;
            Ok(TargetRow { name, settled_to: Seq(settled_to), disabled_at })
        };
        rows.into_iter().map(target).collect()
    }

    /// How many forwards have a row, by target.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forward_counts(&self) -> Result<Vec<ForwardCount>, StoreError> {
        let mut connection = self.connection().await?;
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(
            "SELECT target, sum(state = 'waiting'), sum(state = 'dead')
             FROM forward INDEXED BY forward_by_state
             WHERE state IN ('waiting', 'dead')
             GROUP BY target",
        )
        .fetch_all(&mut *connection)
        .await?;
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        Ok(rows
            .into_iter()
            .map(|(target, waiting, dead)| ForwardCount { target, waiting: count(waiting), dead: count(dead) })
            .collect())
    }

    /// A page of forwards, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forwards(&self, filter: &ForwardFilter, page: PageRequest) -> Result<Page<ForwardRow>, StoreError> {
        let mut sql = QueryBuilder::new(SELECT_FORWARD);
        let mut lead = Lead::default();
        if let Some(id) = filter.id {
            lead.push(&mut sql, " AND {}forward.id = ").push_bind(id.0.0);
        }
        if let Some(call) = &filter.call_id {
            let mut connection = self.connection().await?;
            let calls: Vec<i64> = sqlx::query_scalar("SELECT id FROM call WHERE call_id = ?1")
                .bind(call.as_str())
                .fetch_all(&mut *connection)
                .await?;
            let calls = json(&calls)?;
            sql.push(" AND forward.id IN (SELECT id FROM forward WHERE call_id IN (SELECT value FROM json_each(")
                .push_bind(calls.clone())
                .push(")) UNION SELECT several.id FROM forward AS several, json_each(several.other_calls) AS other")
                .push(" WHERE several.other_calls IS NOT NULL AND other.value IN (SELECT value FROM json_each(")
                .push_bind(calls)
                .push(")))");
            lead.taken = true;
        }
        if let Some(state) = filter.state {
            lead.push(&mut sql, " AND {}forward.state = ").push_bind(state.as_str());
        }
        if let Some(target) = &filter.target {
            sql.push(" AND +forward.target = ").push_bind(target);
        }
        if let Some(kind) = &filter.kind {
            sql.push(" AND +forward.kind = ").push_bind(kind);
        }
        // units are positions: microseconds
        if let Some(since) = filter.since {
            sql.push(" AND +unit >= ").push_bind(since.as_microsecond());
        }
        if let Some(until) = filter.until {
            sql.push(" AND +unit < ").push_bind(until.as_microsecond());
        }
        newest_first(&mut sql, "forward.id", page);
        let mut connection = self.connection().await?;
        let rows: Vec<ForwardSql> = sql.build_query_as().fetch_all(&mut *connection).await?;
        let rows = rows.into_iter().map(ForwardSql::read).collect::<Result<Vec<_>, _>>()?;
        Ok(paged(rows, page, |row| row.id.0))
    }
}

const SELECT_FORWARD: &str = "SELECT forward.id, target, unit, delivery_id, whole, forward.source, kind, forward.call_id AS call,
        other_calls, call.call_id, forward.state, attempts, attempted_at, since, next_at, status, error
 FROM forward
 LEFT JOIN call ON call.id = forward.call_id
 WHERE forward.state <> 'settled'";

#[derive(sqlx::FromRow)]
struct CandidateSql {
    id: i64,
    delivery_id: i64,
    call_id: i64,
    receiver: String,
    source: String,
    kind: String,
    /// It is for nobody here.
    stays: bool,
}

#[derive(sqlx::FromRow)]
struct ForwardSql {
    id: i64,
    target: String,
    unit: i64,
    delivery_id: i64,
    whole: bool,
    source: String,
    kind: String,
    call: Option<i64>,
    other_calls: Option<String>,
    call_id: Option<String>,
    state: String,
    attempts: u32,
    attempted_at: Option<i64>,
    since: Option<i64>,
    next_at: Option<i64>,
    status: Option<u16>,
    error: Option<String>,
}

impl ForwardSql {
    fn read(self) -> Result<ForwardRow, StoreError> {
        let wrong = |column| StoreError::Inconsistent { table: "forward", column, id: self.id };
        let others: Vec<i64> = match &self.other_calls {
            Some(calls) => serde_json::from_str(calls).map_err(|_error| wrong("other_calls"))?,
            None => Vec::new(),
        };
        let at = |time: Option<i64>| time.map(|at| instant("forward", self.id, at)).transpose();
        Ok(ForwardRow {
            id: ForwardId(Seq(self.id)),
            state: ForwardState::parse(&self.state).ok_or_else(|| wrong("state"))?,
            tries: Tries {
                attempts: self.attempts,
                attempted_at: at(self.attempted_at)?,
                since: at(self.since)?,
                next_at: at(self.next_at)?,
                status: self.status,
                error: self.error,
            },
            target: self.target,
            unit: Unit {
                id: NotificationId(Seq(self.unit)),
                delivery: DeliveryId(Seq(self.delivery_id)),
                whole: self.whole,
                calls: self.call.into_iter().chain(others).map(Seq).collect(),
                source: self.source,
                kind: self.kind,
            },
            call_id: self.call_id.as_deref().and_then(PlatformId::parse),
        })
    }
}
