//! One transaction: deliveries in, projections out.
//!
//! 1. load the calls that are spoken of, and the facts of the operations that are
//! 2. plan the rows: believe or quarantine, late or not, seal
//! 3. insert; the unique constraint `notification_once` decides what is a duplicate
//! 4. derive what the new facts change, and save it with the change log
//!
//! Each statement takes the whole batch as one JSON parameter: a statement costs a thread hop, a row hardly anything.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use serde::Serialize;
use sqlx::SqliteConnection;

use super::{
    body_place, call_key_place, delivery_key_place, personal_place,
    projection::{self, SavedCall, SavedOperation},
    writer::{Job, Positions},
};
use crate::{
    domain::{
        call::{CallFact, CallStory},
        delivery::{Content, Correlation},
        ids::{NotificationId, PlatformId},
        notification::{Disposition, Fact, Facts, Notification},
        operation::{HeldFact, Operation, OperationFact, State, operations},
    },
    store::{
        MasterKey, Recorded, RecordedNotification, StoreError,
        rows::ChangedOperation,
        seal::{Seal, SealError},
    },
};

/// What a batch did.
#[derive(Debug, Default)]
pub(super) struct Batched {
    /// For each job, in order.
    pub(super) recorded: Vec<Recorded>,
    /// The operations that it added or changed.
    pub(super) changed: Vec<ChangedOperation>,
    /// The kinds of the new notifications; `None` if unrecognized.
    pub(super) kinds: Vec<Option<String>>,
    /// The final states that operations reached.
    pub(super) finals: Vec<State>,
}

/// Records `jobs` within the open transaction.
pub(super) async fn record(
    connection: &mut SqliteConnection,
    master: &MasterKey,
    positions: &mut Positions,
    jobs: &[Job],
) -> Result<Batched, StoreError> {
    let mut calls = load_calls(connection, jobs).await?;
    let stories = load_stories(connection, &calls, jobs).await?;
    let mut plan = Plan {
        master,
        positions,
        calls: &mut calls,
        stories,
        deliveries: Vec::new(),
        bodies: Vec::new(),
        notifications: Vec::new(),
    };
    for job in jobs {
        plan.take(job)?;
    }
    let Plan { mut stories, deliveries, bodies, notifications, .. } = plan;
    insert_deliveries(connection, &deliveries, bodies).await?;
    let duplicates = insert_notifications(connection, &notifications).await?;

    let mut batched = Batched { recorded: outcomes(jobs, &notifications, &duplicates), ..Batched::default() };
    let mut changes: Vec<Change> = Vec::new();
    for planned in notifications.iter().filter(|planned| !duplicates.contains(&planned.id)) {
        planned.tell(&mut calls, &mut stories);
        batched.kinds.push(planned.recognized.then(|| planned.facts.kind.clone()));
        changes.push(Change::notification(planned));
    }
    save_operations(connection, positions, &calls, stories, &mut batched, &mut changes).await?;
    save_calls(connection, positions, calls, &mut changes).await?;
    insert_changes(connection, positions, &changes).await?;
    Ok(batched)
}

// ---- 1. load

/// The calls that a batch speaks of, by source and id.
type Calls<'a> = HashMap<(&'a str, &'a PlatformId), Call>;

/// A call, as it was and as the batch makes it.
#[derive(Debug)]
struct Call {
    id: i64,
    receiver: String,
    audience: String,
    tenant: Option<String>,
    first_seen_at: Timestamp,
    /// Wrapped; `None` if the call was erased.
    data_key: Option<Vec<u8>>,
    seal: Option<Seal>,
    /// As stored; `None` for a call that begins in this batch.
    before: Option<CallStory>,
    story: CallStory,
    /// The story while the plan is made, when it is not yet known what is a duplicate: for lateness alone.
    expected: CallStory,
}

fn notifications(job: &Job) -> &[Notification] {
    match &job.delivery.content {
        Content::Read(notifications) => notifications,
        Content::Unreadable => &[],
    }
}

/// Which of the calls asked for, and its stored half.
type CallRow = (i64, i64, String, String, Option<String>, i64, Option<Vec<u8>>, String);

async fn load_calls<'a>(connection: &mut SqliteConnection, jobs: &'a [Job]) -> Result<Calls<'a>, StoreError> {
    let asked: BTreeSet<(&str, &PlatformId)> = jobs
        .iter()
        .flat_map(|job| notifications(job).iter().filter_map(|item| Some((job.delivery.source, item.call.as_ref()?))))
        .collect();
    if asked.is_empty() {
        return Ok(Calls::new());
    }
    let rows: Vec<CallRow> = sqlx::query_as(
        "SELECT asked.key, call.id, receiver, audience, tenant_id, first_seen_at, data_key, story
         FROM json_each(?1) AS asked
         CROSS JOIN call ON call.call_id = asked.value ->> 1 AND call.source = asked.value ->> 0",
    )
    .bind(json(&asked)?)
    .fetch_all(connection)
    .await?;
    let asked: Vec<_> = asked.into_iter().collect();
    rows.into_iter()
        .map(|(at, id, receiver, audience, tenant, first_seen_at, data_key, story)| {
            let key = usize::try_from(at).ok().and_then(|at| asked.get(at)).copied();
            let story: Option<CallStory> = serde_json::from_str(&story).ok();
            let (Some(key), Some(story)) = (key, story) else {
                return Err(StoreError::Inconsistent { table: "call", column: "story", id });
            };
            let call = Call {
                id,
                receiver,
                audience,
                tenant,
                first_seen_at: instant("call", id, first_seen_at)?,
                data_key,
                seal: None,
                before: Some(story.clone()),
                expected: story.clone(),
                story,
            };
            Ok((key, call))
        })
        .collect()
}

/// The facts of the operations that a batch speaks of, by call and subject.
type Stories = BTreeMap<(i64, String), Story>;

/// The facts about the operations of one subject, as they were and as the batch makes them.
#[derive(Debug, Default)]
struct Story {
    before: Vec<HeldFact>,
    new: Vec<HeldFact>,
    /// See [`Call::expected`].
    ended: bool,
}

async fn load_stories(connection: &mut SqliteConnection, calls: &Calls<'_>, jobs: &[Job]) -> Result<Stories, StoreError> {
    let asked: BTreeSet<(i64, &str)> = jobs
        .iter()
        .flat_map(|job| notifications(job).iter().map(move |item| (job.delivery.source, item)))
        .filter(|(_, item)| matches!(item.facts.fact, Fact::Operation(_)))
        .filter_map(|(source, item)| Some((calls.get(&(source, item.call.as_ref()?))?.id, item.subject.as_str())))
        .collect();
    let mut stories = Stories::new();
    if asked.is_empty() {
        return Ok(stories);
    }
    for (call, subject, held) in projection::held_facts(connection, &json(&asked)?).await? {
        stories.entry((call, subject)).or_default().before.push(held);
    }
    for story in stories.values_mut() {
        story.ended = story.before.iter().any(|held| ends(&held.fact));
    }
    Ok(stories)
}

/// Whether nothing can follow this fact but late ones.
fn ends(fact: &OperationFact) -> bool {
    fact.state.is_final() && !fact.inferred
}

// ---- 2. plan

struct Plan<'a, 'j> {
    master: &'a MasterKey,
    positions: &'a mut Positions,
    calls: &'a mut Calls<'j>,
    stories: Stories,
    deliveries: Vec<PlannedDelivery<'j>>,
    /// The sealed bodies, one behind the other.
    bodies: Vec<u8>,
    notifications: Vec<Planned<'j>>,
}

#[derive(Debug, Serialize)]
struct PlannedDelivery<'j> {
    id: i64,
    source: &'j str,
    receiver: &'j str,
    received_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation: Option<&'j Correlation>,
    sealed_for: Option<i64>,
    data_key: Option<String>,
    /// Where its body lies among the bodies, counted from 1, and how long it is (bytes).
    body_at: usize,
    body_length: usize,
}

/// A notification on its way to its row.
#[derive(Debug)]
struct Planned<'j> {
    id: i64,
    delivery: i64,
    /// The believed call: its position and its key among the batch's calls.
    call: Option<(i64, (&'j str, &'j PlatformId))>,
    subject: String,
    identity: [u8; 16],
    received_at: Timestamp,
    disposition: Disposition,
    recognized: bool,
    facts: std::borrow::Cow<'j, Facts>,
    correlation: &'j Correlation,
    personal: Option<Vec<u8>>,
}

impl<'j> Plan<'_, 'j> {
    fn take(&mut self, job: &'j Job) -> Result<(), StoreError> {
        let delivery = self.positions.next().0;
        let first = self.notifications.len();
        match &job.delivery.content {
            Content::Read(items) => {
                for item in items {
                    let planned = self.notification(job, delivery, item)?;
                    self.notifications.push(planned);
                }
            }
            Content::Unreadable => {
                let planned = self.unreadable(job, delivery);
                self.notifications.push(planned);
            }
        }
        self.delivery(job, delivery, first)
    }

    fn notification(&mut self, job: &'j Job, delivery: i64, item: &'j Notification) -> Result<Planned<'j>, StoreError> {
        let id = self.positions.next().0;
        let mut planned = Planned {
            id,
            delivery,
            call: None,
            subject: item.subject.clone(),
            identity: item.identity.0,
            received_at: job.delivery.received_at,
            disposition: if item.recognized { Disposition::Applied } else { Disposition::Unrecognized },
            recognized: item.recognized,
            facts: std::borrow::Cow::Borrowed(&item.facts),
            correlation: &job.delivery.correlation,
            personal: None,
        };
        let Some(call_id) = &item.call else { return Ok(planned) };
        let key = (job.delivery.source, call_id);
        let call = match self.calls.entry(key) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => new.insert(Call::begin(job, self.positions.next().0, self.master)?),
        };
        if call.audience != job.audience || call.tenant != job.tenant {
            planned.disposition = Disposition::Quarantined;
            planned.subject = quarantine_subject(call_id);
            return Ok(planned);
        }
        planned.call = Some((call.id, key));
        if planned.recognized && is_late(call, &mut self.stories, item) {
            planned.disposition = Disposition::Late;
        }
        call.expected.absorb(call_fact(&item.facts), &job.delivery.correlation, job.delivery.received_at);
        if let Some(personal) = &item.personal {
            let text = serde_json::to_vec(personal).map_err(|_error| SealError)?;
            planned.personal = call.seal(self.master)?.map(|seal| seal.seal(&personal_place(id), &text)).transpose()?;
        }
        Ok(planned)
    }

    fn unreadable(&mut self, job: &'j Job, delivery: i64) -> Planned<'j> {
        let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        hash.update(job.receiver.as_bytes());
        hash.update(&[0]);
        hash.update(&job.delivery.body);
        let identity = hash.finish().as_ref().first_chunk::<16>().copied().unwrap_or_default();
        let facts =
            Facts { kind: UNREADABLE.to_owned(), change: String::new(), occurred_at: None, sequence: None, fact: Fact::Other };
        Planned {
            id: self.positions.next().0,
            delivery,
            call: None,
            subject: UNREADABLE.to_owned(),
            identity,
            received_at: job.delivery.received_at,
            disposition: Disposition::Quarantined,
            recognized: false,
            facts: std::borrow::Cow::Owned(facts),
            correlation: &job.delivery.correlation,
            personal: None,
        }
    }

    /// Seals the body: with the call's key if it speaks of that call alone, else with a key of its own.
    fn delivery(&mut self, job: &'j Job, id: i64, first: usize) -> Result<(), StoreError> {
        let body = &job.delivery.body;
        let items = self.notifications.get(first..).unwrap_or_default();
        let call = items.first().and_then(|item| item.call).filter(|call| items.iter().all(|item| item.call == Some(*call)));
        let of_call = match call.and_then(|(_, key)| self.calls.get_mut(&key)) {
            Some(call) => call.seal(self.master)?.map(|seal| seal.seal(&body_place(id), body)).transpose()?,
            None => None,
        };
        let (sealed, sealed_for, data_key) = if let Some(sealed) = of_call {
            (sealed, call.map(|(call, _)| call), None)
        } else {
            let (seal, wrapped) = self.master.new_data_key(&delivery_key_place(id))?;
            (seal.seal(&body_place(id), body)?, None, Some(hex(&wrapped)))
        };
        let correlation = Some(&job.delivery.correlation).filter(|correlation| **correlation != Correlation::default());
        self.deliveries.push(PlannedDelivery {
            id,
            source: job.delivery.source,
            receiver: &job.receiver,
            received_at: job.delivery.received_at.as_millisecond(),
            correlation,
            sealed_for,
            data_key,
            body_at: self.bodies.len() + 1,
            body_length: sealed.len(),
        });
        self.bodies.extend_from_slice(&sealed);
        Ok(())
    }
}

/// The kind and the subject of a delivery that could not be read.
const UNREADABLE: &str = "unreadable";

/// The subject of notifications that claim a call which is not theirs.
pub(super) fn quarantine_subject(call: &PlatformId) -> String {
    format!("{QUARANTINE}{call}")
}

/// What such a subject begins with.
pub(super) const QUARANTINE: &str = "quarantine/";

fn call_fact(facts: &Facts) -> Option<&CallFact> {
    match &facts.fact {
        Fact::Call(fact) => Some(fact),
        Fact::Operation(_) | Fact::Participants(_) | Fact::Other => None,
    }
}

/// Whether the story that this belongs to is over: the operation's own, for all else the call's.
fn is_late(call: &Call, stories: &mut Stories, item: &Notification) -> bool {
    let Fact::Operation(fact) = &item.facts.fact else { return call.expected.is_over() };
    let story = stories.entry((call.id, item.subject.clone())).or_default();
    let late = story.ended;
    story.ended |= ends(fact);
    late
}

impl Call {
    /// A call of which this is the first fact.
    fn begin(job: &Job, id: i64, master: &MasterKey) -> Result<Self, StoreError> {
        let (seal, wrapped) = master.new_data_key(&call_key_place(id))?;
        Ok(Self {
            id,
            receiver: job.receiver.clone(),
            audience: job.audience.clone(),
            tenant: job.tenant.clone(),
            first_seen_at: job.delivery.received_at,
            data_key: Some(wrapped),
            seal: Some(seal),
            before: None,
            story: CallStory::default(),
            expected: CallStory::default(),
        })
    }

    /// The key that seals what belongs to the call; `None` if the call was erased.
    fn seal(&mut self, master: &MasterKey) -> Result<Option<&Seal>, SealError> {
        if self.seal.is_none()
            && let Some(wrapped) = &self.data_key
        {
            self.seal = Some(master.data_key(&call_key_place(self.id), wrapped)?);
        }
        Ok(self.seal.as_ref())
    }
}

impl<'j> Planned<'j> {
    /// Adds what it says to its call and its operation.
    fn tell(&self, calls: &mut Calls<'j>, stories: &mut Stories) {
        let Some((id, key)) = self.call else { return };
        if let Some(call) = calls.get_mut(&key) {
            call.story.absorb(call_fact(&self.facts), self.correlation, self.received_at);
        }
        if let (Fact::Operation(fact), true) = (&self.facts.fact, self.recognized) {
            stories.entry((id, self.subject.clone())).or_default().new.push(HeldFact {
                id: NotificationId(crate::domain::ids::Seq(self.id)),
                received_at: self.received_at,
                late: self.disposition == Disposition::Late,
                fact: fact.clone(),
            });
        }
    }
}

// ---- 3. insert

async fn insert_deliveries(
    connection: &mut SqliteConnection,
    deliveries: &[PlannedDelivery<'_>],
    bodies: Vec<u8>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO delivery (id, source, receiver, received_at, correlation, sealed_for, data_key, body)
         SELECT value ->> 'id', value ->> 'source', value ->> 'receiver', value ->> 'received_at', value -> 'correlation',
                value ->> 'sealed_for', unhex(value ->> 'data_key'), substr(?2, value ->> 'body_at', value ->> 'body_length')
         FROM json_each(?1)",
    )
    .bind(json(deliveries)?)
    .bind(bodies)
    .execute(connection)
    .await?;
    Ok(())
}

/// Inserts what is new, counts what is not on the row that it repeats, and returns the ids that were not needed.
async fn insert_notifications(connection: &mut SqliteConnection, planned: &[Planned<'_>]) -> Result<BTreeSet<i64>, StoreError> {
    let rows: Vec<_> = planned
        .iter()
        .map(|row| {
            let (call, at) = (row.call.map_or(0, |(call, _)| call), row.received_at.as_millisecond());
            let personal = row.personal.as_deref().map(hex);
            let disposition = row.disposition.as_str();
            (row.id, row.delivery, call, &row.subject, hex(&row.identity), at, disposition, &row.facts, personal)
        })
        .collect();
    let rows = json(&rows)?;
    let inserted = sqlx::query(
        "INSERT INTO notification
             (id, delivery_id, call_id, subject, identity, received_at, kind, disposition, facts, personal)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4), value ->> 5, value ->> '$[7].kind',
                value ->> 6, value -> 7, unhex(value ->> 8)
         FROM json_each(?1)
         WHERE true
         ON CONFLICT (call_id, subject, identity) DO NOTHING",
    )
    .bind(&rows)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    if usize::try_from(inserted).is_ok_and(|inserted| inserted == planned.len()) {
        return Ok(BTreeSet::new());
    }
    count_duplicates(connection, planned).await
}

async fn count_duplicates(connection: &mut SqliteConnection, planned: &[Planned<'_>]) -> Result<BTreeSet<i64>, StoreError> {
    let ids: Vec<i64> = planned.iter().map(|row| row.id).collect();
    let new: Vec<i64> = sqlx::query_scalar("SELECT id FROM notification WHERE id IN (SELECT value FROM json_each(?1))")
        .bind(json(&ids)?)
        .fetch_all(&mut *connection)
        .await?;
    let new: BTreeSet<i64> = new.into_iter().collect();
    let repeats: Vec<&Planned<'_>> = planned.iter().filter(|row| !new.contains(&row.id)).collect();
    let rows: Vec<_> = repeats
        .iter()
        .map(|row| (row.call.map_or(0, |(call, _)| call), &row.subject, hex(&row.identity), row.received_at.as_millisecond()))
        .collect();
    sqlx::query(
        "UPDATE notification
         SET duplicates = duplicates + repeats.count,
             last_duplicate_at = max(coalesce(last_duplicate_at, 0), repeats.last)
         FROM (
             SELECT value ->> 0 AS call_id, value ->> 1 AS subject, unhex(value ->> 2) AS identity,
                    count(*) AS count, max(value ->> 3) AS last
             FROM json_each(?1)
             GROUP BY 1, 2, 3
         ) AS repeats
         WHERE notification.call_id = repeats.call_id
           AND notification.subject = repeats.subject
           AND notification.identity = repeats.identity",
    )
    .bind(json(&rows)?)
    .execute(&mut *connection)
    .await?;

    let kept: BTreeSet<i64> = planned.iter().filter(|row| new.contains(&row.id)).map(|row| row.delivery).collect();
    let empty: BTreeSet<i64> = repeats.iter().map(|row| row.delivery).filter(|delivery| !kept.contains(delivery)).collect();
    sqlx::query("DELETE FROM delivery WHERE id IN (SELECT value FROM json_each(?1))")
        .bind(json(&empty)?)
        .execute(connection)
        .await?;
    Ok(repeats.into_iter().map(|row| row.id).collect())
}

fn outcomes(jobs: &[Job], planned: &[Planned<'_>], duplicates: &BTreeSet<i64>) -> Vec<Recorded> {
    let mut planned = planned.iter();
    jobs.iter()
        .map(|job| {
            let count = match &job.delivery.content {
                Content::Read(items) => items.len(),
                Content::Unreadable => 1,
            };
            let notifications = planned
                .by_ref()
                .take(count)
                .map(|row| {
                    if duplicates.contains(&row.id) {
                        return RecordedNotification::Duplicate;
                    }
                    RecordedNotification::New(NotificationId(crate::domain::ids::Seq(row.id)), row.disposition)
                })
                .collect();
            Recorded { notifications }
        })
        .collect()
}

// ---- 4. derive and save

async fn save_operations(
    connection: &mut SqliteConnection,
    positions: &mut Positions,
    calls: &Calls<'_>,
    stories: Stories,
    batched: &mut Batched,
    changes: &mut Vec<Change>,
) -> Result<(), StoreError> {
    let call_ids: HashMap<i64, &PlatformId> = calls.iter().map(|((_, id), call)| (call.id, *id)).collect();
    let mut saved = Vec::new();
    let mut gone = Vec::new();
    for ((call, subject), mut story) in stories {
        if story.new.is_empty() {
            continue;
        }
        let before: BTreeMap<_, _> = operations(&story.before).into_iter().map(|operation| (operation.id, operation)).collect();
        story.before.append(&mut story.new);
        let after = operations(&story.before);
        gone.extend(before.keys().filter(|id| !after.iter().any(|operation| operation.id == **id)).map(|id| id.0.0));
        for operation in after {
            let was = before.get(&operation.id);
            if was == Some(&operation) {
                continue;
            }
            if operation.state.is_final() && !was.is_some_and(|was: &Operation| was.state.is_final()) {
                batched.finals.push(operation.state);
            }
            if let Some(call_id) = call_ids.get(&call) {
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

async fn save_calls(
    connection: &mut SqliteConnection,
    positions: &mut Positions,
    calls: Calls<'_>,
    changes: &mut Vec<Change>,
) -> Result<(), StoreError> {
    let mut saved = Vec::new();
    for ((source, call_id), call) in calls {
        if call.before.as_ref() == Some(&call.story) {
            continue;
        }
        if call.before.as_ref().is_none_or(|before| before.state() != call.story.state()) {
            changes.push(Change::call(positions, &call));
        }
        saved.push(SavedCall {
            id: call.id,
            source: source.to_owned(),
            call_id: call_id.clone(),
            receiver: call.receiver,
            audience: call.audience,
            tenant: call.tenant,
            first_seen_at: call.first_seen_at.as_millisecond(),
            data_key: call.data_key.as_deref().map(hex),
            story: call.story,
        });
    }
    projection::save_calls(connection, &saved).await
}

/// A row of the change log.
#[derive(Debug)]
struct Change {
    seq: i64,
    kind: &'static str,
    call: Option<i64>,
    notification: Option<i64>,
    operation: Option<i64>,
    state: Option<&'static str>,
}

impl Change {
    /// A notification's position is its place in the log.
    fn notification(planned: &Planned<'_>) -> Self {
        let state = match &planned.facts.fact {
            Fact::Operation(fact) => Some(fact.state.as_str()),
            Fact::Call(fact) => fact.state.map(crate::domain::call::CallState::as_str),
            Fact::Participants(_) | Fact::Other => None,
        };
        let call = planned.call.map(|(call, _)| call);
        Self { seq: planned.id, kind: "notification", call, notification: Some(planned.id), operation: None, state }
    }

    fn operation(positions: &mut Positions, call: i64, operation: &Operation) -> Self {
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
        let state = call.story.state().map(crate::domain::call::CallState::as_str);
        Self { seq: positions.next().0, kind: "call", call: Some(call.id), notification: None, operation: None, state }
    }
}

async fn insert_changes(
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
         FROM json_each(?1)",
    )
    .bind(json(&rows)?)
    .bind(at)
    .execute(connection)
    .await?;
    Ok(())
}

// ---- small change

/// One parameter for a whole batch.
pub(super) fn json(rows: &(impl Serialize + ?Sized)) -> Result<String, StoreError> {
    serde_json::to_string(rows).map_err(|error| StoreError::Database(sqlx::Error::Encode(Box::new(error))))
}

/// Bytes inside a JSON parameter, for `unhex`.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            text.extend(DIGITS.get(usize::from(nibble)).copied().map(char::from));
        }
    }
    text
}

/// A stored time, in milliseconds.
pub(super) fn instant(table: &'static str, id: i64, milliseconds: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(milliseconds).map_err(|_error| StoreError::Inconsistent { table, column: "time", id })
}
