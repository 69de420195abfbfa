//! 1. The calls that a batch speaks of, and the facts of the operations that it does.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;
use jiff::Timestamp;
use sqlx::{FromRow, Row, SqliteConnection, sqlite::SqliteRow};

use super::{instant, json};
use crate::{
    domain::{
        call::CallStory,
        delivery::Content,
        ids::{NotificationId, PlatformId},
        notification::{Fact, Notification},
        operation::{HeldFact, Lapse, Place},
    },
    store::{
        MasterKey, StoreError,
        seal::{Seal, SealError},
        sqlite::{call_key_place, projection, work::Job},
    },
};

/// A source, and its id of a call.
pub(super) type CallKey = (&'static str, PlatformId);

/// The calls that a batch speaks of.
pub(super) type Calls = HashMap<CallKey, Call, RandomState>;

/// A call, as it was and as the batch makes it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: i64,
    pub(super) receiver: Arc<str>,
    pub(super) audience: Arc<str>,
    pub(super) tenant: Option<Arc<str>>,
    pub(super) first_seen_at: Timestamp,
    /// Whether a request for it is known.
    pub(super) requested: bool,
    /// When what is open in it counts as failed (milliseconds), and whether that has been written.
    pub(super) lapses_at: Option<i64>,
    pub(super) settled: bool,
    /// Wrapped; `None` if the call was erased.
    pub(super) data_key: Option<Vec<u8>>,
    pub(super) seal: Option<Seal>,
    /// As stored; `None` for a call of which this batch brings the first notification.
    pub(super) before: Option<CallStory>,
    pub(super) story: CallStory,
    /// The story while the plan is made, when it is not yet known what is a duplicate: for lateness alone.
    pub(super) expected: CallStory,
    /// What is known about its operations, by subject.
    pub(super) stories: BTreeMap<String, Story>,
    /// Whether that is all there is.
    pub(super) whole: bool,
    /// The notifications that the batch adds.
    pub(super) news: BTreeSet<NotificationId>,
    /// The last of those before, as far as that is known.
    pub(super) last: i64,
    /// When it was remembered as it is; see [`Known`](super::Known).
    pub(super) learnt: Option<u64>,
    /// How many calls and facts that is.
    pub(super) weight: usize,
}

/// What a delivery says of calls.
pub(super) fn about(job: &Job) -> impl Iterator<Item = (CallKey, &Notification)> {
    notifications(job).iter().filter_map(|item| Some(((job.delivery.source, item.call.clone()?), item)))
}

fn notifications(job: &Job) -> &[Notification] {
    match &job.delivery.content {
        Content::Read(notifications) => notifications,
        Content::Unreadable => &[],
    }
}

/// Which of the calls asked for, and its stored half.
type CallRow = (i64, i64, String, String, Option<String>, i64, Option<Vec<u8>>, String, Option<i64>, bool, bool);

/// What is seen of the database at the beginning of a transaction.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Another whenever other connections have written ([`Known::see`](super::Known::see)).
    pub(super) version: i64,
    /// Whether any request is a stray.
    pub(super) strays: bool,
}

/// Begins the transaction, and loads the calls that the batch speaks of and the facts of the operations that it does: one step to the
/// database, because each costs the writer a change of threads and back.
///
/// Also returns what else there is to be seen on the way.
pub(super) async fn begin(connection: &mut SqliteConnection, jobs: &[Job]) -> Result<(Calls, Seen), StoreError> {
    let asked: BTreeSet<CallKey> = jobs.iter().flat_map(|job| about(job).map(|(key, _)| key)).collect();
    let subjects: BTreeSet<(&str, PlatformId, &str)> = jobs
        .iter()
        .flat_map(about)
        .filter(|(_, item)| matches!(item.facts.fact, Fact::Operation(_)))
        .map(|((source, call), item)| (source, call, item.subject.as_str()))
        .collect();
    let rows: Vec<SqliteRow> = sqlx::query(
        "BEGIN IMMEDIATE;

         SELECT data_version, EXISTS (SELECT 1 FROM stray) FROM pragma_data_version;

         SELECT asked.key, call.id, receiver, audience, tenant_id, first_seen_at, data_key, story,
                lapses_at, settled, requested
         FROM json_each($1) AS asked
         CROSS JOIN call ON call.call_id = asked.value ->> 1 AND call.source = asked.value ->> 0;

         SELECT notification.call_id, subject, notification.id, identity, received_at, disposition = 'late', facts
         FROM jsonb_each($2) AS asked
         CROSS JOIN call ON call.call_id = asked.value ->> 1 AND call.source = asked.value ->> 0
         CROSS JOIN notification ON notification.call_id = call.id AND notification.subject = asked.value ->> 2
         WHERE disposition <> 'quarantined'",
    )
    .bind(json(&asked)?)
    .bind(json(&subjects)?)
    .fetch_all(connection)
    .await?;
    let asked: Vec<CallKey> = asked.into_iter().collect();
    let (mut calls, mut keys, mut seen) = (Calls::default(), HashMap::new(), Seen::default());
    for row in rows {
        // the selections are told apart by their widths, and the calls come before the facts
        if row.len() == 2 {
            seen = Seen { version: row.try_get(0)?, strays: row.try_get(1)? };
        } else if row.len() == 11 {
            let (key, call) = read_call(CallRow::from_row(&row)?, &asked)?;
            keys.insert(call.id, key);
            calls.insert(key.clone(), call);
        } else if let Some((call, subject, held)) = projection::read_held(FromRow::from_row(&row)?)?
            && let Some(call) = keys.get(&call).and_then(|key| calls.get_mut(*key))
        {
            let story = call.stories.entry(subject).or_default();
            story.end_with(&held);
            story.before.push(held);
        }
    }
    Ok((calls, seen))
}

fn read_call(row: CallRow, asked: &[CallKey]) -> Result<(&CallKey, Call), StoreError> {
    let (at, id, receiver, audience, tenant, first_seen_at, data_key, story, lapses_at, settled, requested) = row;
    let key = usize::try_from(at).ok().and_then(|at| asked.get(at));
    let story: Option<CallStory> = serde_json::from_str(&story).ok();
    let (Some(key), Some(story)) = (key, story) else {
        return Err(StoreError::Inconsistent { table: "call", column: "story", id });
    };
    let call = Call {
        id,
        receiver: receiver.into(),
        audience: audience.into(),
        tenant: tenant.map(Into::into),
        first_seen_at: instant("call", id, first_seen_at)?,
        requested,
        lapses_at,
        settled,
        data_key,
        seal: None,
        before: Some(story.clone()),
        expected: story.clone(),
        story,
        stories: BTreeMap::new(),
        whole: false,
        news: BTreeSet::new(),
        last: 0,
        learnt: None,
        weight: 0,
    };
    Ok((key, call))
}

impl Call {
    /// A call of which this is the first fact.
    pub(super) fn begin(job: &Job, id: i64, master: &MasterKey) -> Result<Self, StoreError> {
        let (seal, wrapped) = master.new_data_key(&call_key_place(id))?;
        Ok(Self {
            id,
            receiver: job.receiver.clone(),
            audience: job.audience.clone(),
            tenant: job.tenant.clone(),
            first_seen_at: job.delivery.received_at,
            requested: false,
            lapses_at: None,
            settled: false,
            data_key: Some(wrapped),
            seal: Some(seal),
            before: None,
            story: CallStory::default(),
            expected: CallStory::default(),
            stories: BTreeMap::new(),
            whole: true,
            news: BTreeSet::new(),
            last: 0,
            learnt: None,
            weight: 0,
        })
    }

    /// Of a call that was known by requests alone, the first notification says of whom others are believed.
    pub(super) fn claim(&mut self, job: &Job) {
        if self.audience.is_empty() {
            self.receiver.clone_from(&job.receiver);
            self.audience.clone_from(&job.audience);
            self.tenant.clone_from(&job.tenant);
            self.before = None;
        }
    }

    /// Fixes when what is open in it counts as failed, once it has ended.
    pub(super) fn fix_lapse(&mut self, grace: Duration) {
        let Some(release) = self.story.release.filter(|_| self.lapses_at.is_none()) else { return };
        let grace = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        // from its commit, which follows its receipt within moments: what was committed before can then never be behind it
        self.lapses_at = Some((release.by.0 / 1000).saturating_add(grace));
    }

    /// How it ended, if that ends what is open in it.
    pub(super) fn lapse(&self) -> Result<Option<Lapse>, StoreError> {
        projection::lapse(self.id, self.story.release.as_ref(), self.lapses_at, self.settled)
    }

    /// The key that seals what belongs to the call; `None` if the call was erased.
    pub(super) fn seal(&mut self, master: &MasterKey) -> Result<Option<&Seal>, SealError> {
        if self.seal.is_none()
            && let Some(wrapped) = &self.data_key
        {
            self.seal = Some(master.data_key(&call_key_place(self.id), wrapped)?);
        }
        Ok(self.seal.as_ref())
    }
}

/// The facts about the operations of one subject, as they were and as the batch makes them.
#[derive(Debug, Default)]
pub(super) struct Story {
    pub(super) before: Vec<HeldFact>,
    pub(super) new: Vec<HeldFact>,
    /// What has ended and where; see [`Call::expected`].
    ends: Ends,
}

#[derive(Debug, Default)]
struct Ends {
    /// An operation that cannot follow another.
    once: bool,
    /// Where operations that can have ended, the last of them.
    last: Option<Place>,
}

impl Story {
    /// Whether the operation that this fact is about has ended. Where another may follow, that is the one which ended behind it.
    pub(super) fn is_over_for(&self, held: &HeldFact) -> bool {
        if !held.fact.recurs {
            return self.ends.once;
        }
        !held.fact.state.is_final() && self.ends.last.as_ref().is_some_and(|end| held.place() < *end)
    }

    /// Forgets the ends that were expected and have not come.
    pub(super) fn expect_nothing(&mut self) {
        self.ends = Ends::default();
        for held in std::mem::take(&mut self.before) {
            self.end_with(&held);
            self.before.push(held);
        }
    }

    /// Takes note of the end that a fact tells.
    pub(super) fn end_with(&mut self, held: &HeldFact) {
        if !held.fact.state.is_final() || held.fact.inferred {
            return;
        }
        if held.fact.recurs {
            self.ends.last = self.ends.last.take().max(Some(held.place()));
        } else {
            self.ends.once = true;
        }
    }
}
