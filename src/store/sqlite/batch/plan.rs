//! 2. The rows of a batch: what to believe, what to keep apart, what comes late, and how it is sealed.

use std::{borrow::Cow, collections::hash_map::Entry, sync::Arc};

use aws_lc_rs::digest;
use jiff::Timestamp;

use super::load::{Call, CallKey, Calls};
use crate::{
    domain::{
        delivery::{Content, Correlation},
        ids::{NotificationId, PlatformId, Seq},
        notification::{Disposition, Fact, Facts, Identity, Notification},
        operation::HeldFact,
        people::{NamedPerson, Person, names_in},
    },
    store::{
        MasterKey, StoreError,
        seal::{Seal, SealError},
        sqlite::{
            body_place, delivery_key_place, forwards::SealedHead, head_place, personal_place, positions::Positions, work::Job,
        },
    },
};

pub(super) struct Plan<'a, 'j> {
    pub(super) master: &'a MasterKey,
    pub(super) positions: &'a mut Positions,
    pub(super) calls: Calls,
    pub(super) deliveries: Vec<PlannedDelivery<'j>>,
    pub(super) notifications: Vec<Planned<'j>>,
    /// Who is in which call, by their tokens.
    pub(super) people: Vec<(i64, String)>,
    /// The headers of those deliveries that are to be forwarded as they came.
    pub(super) heads: Vec<SealedHead<'j>>,
}

#[derive(Debug)]
pub(super) struct PlannedDelivery<'j> {
    pub(super) id: i64,
    pub(super) source: &'j str,
    pub(super) receiver: &'j Arc<str>,
    pub(super) received_at: i64,
    pub(super) audience: Option<&'j Arc<str>>,
    pub(super) tenant_id: Option<&'j Arc<str>>,
    pub(super) token_hash: Option<i64>,
    pub(super) correlation: Option<&'j Correlation>,
    pub(super) sealed_for: Option<i64>,
    pub(super) data_key: Option<Vec<u8>>,
    /// Sealed.
    pub(super) body: Vec<u8>,
}

/// A notification on its way to its row.
#[derive(Debug)]
pub(super) struct Planned<'j> {
    pub(super) id: i64,
    pub(super) delivery: i64,
    /// Its place in the body, counted from 0.
    pub(super) item: usize,
    /// The believed call: its position and its key among the batch's calls.
    pub(super) call: Option<(i64, CallKey)>,
    pub(super) subject: String,
    pub(super) source: &'j str,
    /// Of the token that brought it.
    pub(super) token_hash: Option<i64>,
    pub(super) identity: [u8; 16],
    /// Whether the identity alone decides what is a duplicate.
    pub(super) named: bool,
    pub(super) received_at: Timestamp,
    pub(super) disposition: Disposition,
    pub(super) recognized: bool,
    pub(super) facts: Cow<'j, Facts>,
    pub(super) correlation: &'j Correlation,
    pub(super) personal: Option<Vec<u8>>,
}

impl<'a, 'j> Plan<'a, 'j> {
    /// The plan of these deliveries, given the calls that they speak of; one that is not among them begins here.
    pub(super) fn of(
        master: &'a MasterKey,
        positions: &'a mut Positions,
        calls: Calls,
        jobs: &'j [Job],
    ) -> Result<Self, StoreError> {
        let mut plan = Self {
            master,
            positions,
            calls,
            deliveries: Vec::new(),
            notifications: Vec::new(),
            people: Vec::new(),
            heads: Vec::new(),
        };
        for job in jobs {
            plan.take(job)?;
        }
        Ok(plan)
    }

    fn take(&mut self, job: &'j Job) -> Result<(), StoreError> {
        let delivery = self.positions.next().0;
        let first = self.notifications.len();
        match &job.delivery.content {
            Content::Read(items) => {
                for (at, item) in items.iter().enumerate() {
                    let planned = self.notification(job, (delivery, at), item)?;
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

    fn notification(
        &mut self,
        job: &'j Job,
        (delivery, at): (i64, usize),
        item: &'j Notification,
    ) -> Result<Planned<'j>, StoreError> {
        let id = self.positions.next().0;
        let mut planned = Planned {
            id,
            delivery,
            item: at,
            call: None,
            subject: item.subject.clone(),
            source: job.delivery.source,
            token_hash: job.token_hash,
            identity: item.identity.0,
            named: item.named,
            received_at: job.delivery.received_at,
            disposition: if item.recognized { Disposition::Applied } else { Disposition::Unrecognized },
            recognized: item.recognized,
            facts: Cow::Borrowed(&item.facts),
            correlation: &job.delivery.correlation,
            personal: None,
        };
        if item.named {
            planned.identity = named(job, &item.identity.0);
        }
        let Some(call_id) = &item.call else {
            if !item.named {
                planned.identity = apart(job, &item.identity.0);
            }
            return Ok(planned);
        };
        let key = (job.delivery.source, call_id.clone());
        let call = match self.calls.entry(key.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Call::begin(job, self.positions.next().0, self.master)?),
        };
        call.claim(job);
        if call.audience != job.audience || call.tenant != job.tenant {
            planned.disposition = Disposition::Quarantined;
            planned.subject = quarantine_subject(call_id);
            planned.identity = apart(job, &item.identity.0);
            planned.named = false;
            return Ok(planned);
        }
        planned.call = Some((call.id, key));
        let late = match planned.held() {
            Some(held) => is_late(call, &held, &planned.subject),
            None => call.expected.is_over(),
        };
        if late && planned.recognized {
            planned.disposition = Disposition::Late;
        }
        call.expected.absorb(NotificationId(Seq(id)), &item.facts, &job.delivery.correlation, job.delivery.received_at);
        if !item.people.is_empty()
            && let Some(seal) = call.seal(self.master)?
        {
            let person = |person: &NamedPerson| Person { token: seal.token(&person.raw_id), condition: person.condition };
            planned.facts.to_mut().roster = item.people.iter().map(person).collect();
        }
        if let Some(personal) = &item.personal {
            let text = serde_json::to_vec(personal).map_err(|_error| SealError)?;
            if let Some(seal) = call.seal(self.master)? {
                planned.personal = Some(seal.seal(&personal_place(id), &text)?);
                let tokens: Vec<String> = names_in(personal).iter().map(|name| seal.token(name)).collect();
                self.people.extend(tokens.into_iter().map(|token| (call.id, token)));
            }
        }
        Ok(planned)
    }

    fn unreadable(&mut self, job: &'j Job, delivery: i64) -> Planned<'j> {
        let identity = apart(job, &job.delivery.body);
        let facts = Facts::new(UNREADABLE.to_owned(), String::new(), Fact::Other);
        Planned {
            id: self.positions.next().0,
            delivery,
            item: 0,
            call: None,
            subject: UNREADABLE.to_owned(),
            source: job.delivery.source,
            token_hash: job.token_hash,
            identity,
            named: false,
            received_at: job.delivery.received_at,
            disposition: Disposition::Quarantined,
            recognized: false,
            facts: Cow::Owned(facts),
            correlation: &job.delivery.correlation,
            personal: None,
        }
    }

    /// Seals the body: with the call's key if it speaks of that call alone, else with a key of its own.
    fn delivery(&mut self, job: &'j Job, id: i64, first: usize) -> Result<(), StoreError> {
        let body = &job.delivery.body;
        let items = self.notifications.get(first..).unwrap_or_default();
        let call = items.first().and_then(|item| item.call.clone());
        let call = call.filter(|call| items.iter().all(|item| item.call.as_ref() == Some(call)));
        let sealed = |seal: &Seal| -> Result<_, SealError> {
            let head = job.delivery.head.as_ref().map(|head| seal.seal(&head_place(id), &head.headers)).transpose()?;
            Ok((seal.seal(&body_place(id), body)?, head))
        };
        let of_call = match call.as_ref().and_then(|(_, key)| self.calls.get_mut(key)) {
            Some(call) => call.seal(self.master)?,
            None => None,
        };
        let ((sealed, head), sealed_for, data_key) = if let Some(seal) = of_call {
            (sealed(seal)?, call.map(|(call, _)| call), None)
        } else {
            let (seal, wrapped) = self.master.new_data_key(&delivery_key_place(id))?;
            (sealed(&seal)?, None, Some(wrapped))
        };
        if let (Some(sealed), Some(kept)) = (head, &job.delivery.head) {
            let expires_at = kept.expires_at.as_millisecond();
            self.heads.push(SealedHead { delivery: id, expires_at, targets: &kept.targets, sealed });
        }
        let correlation = Some(&job.delivery.correlation).filter(|correlation| **correlation != Correlation::default());
        self.deliveries.push(PlannedDelivery {
            id,
            source: job.delivery.source,
            receiver: &job.receiver,
            audience: sealed_for.is_none().then_some(&job.audience),
            tenant_id: job.tenant.as_ref().filter(|_| sealed_for.is_none()),
            token_hash: job.token_hash,
            received_at: job.delivery.received_at.as_millisecond(),
            correlation,
            sealed_for,
            data_key,
            body: sealed,
        });
        Ok(())
    }
}

/// The identity of what belongs to no believed call: copies are copies only if the same sender sent them to the same
/// receiver, or a stranger's copy could hide another's.
fn apart(job: &Job, content: &[u8]) -> [u8; 16] {
    hash([job.delivery.source, &job.receiver, &job.audience, job.tenant.as_deref().unwrap_or_default()], content)
}

/// The identity of an event that its sender has named. Names of one customer say nothing of another's; at which of the
/// customer's receivers it comes does not matter.
fn named(job: &Job, name: &[u8]) -> [u8; 16] {
    hash([job.delivery.source, "", &job.audience, job.tenant.as_deref().unwrap_or_default()], name)
}

fn hash(whose: [&str; 4], content: &[u8]) -> [u8; 16] {
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in whose {
        hash.update(part.as_bytes());
        hash.update(&[0]);
    }
    hash.update(content);
    hash.finish().as_ref().first_chunk::<16>().copied().unwrap_or_default()
}

/// The kind and the subject of a delivery that could not be read.
const UNREADABLE: &str = "unreadable";

/// The subject of notifications that claim a call which is not theirs.
pub(in crate::store::sqlite) fn quarantine_subject(call: &PlatformId) -> String {
    format!("{QUARANTINE}{call}")
}

/// What such a subject begins with.
pub(in crate::store::sqlite) const QUARANTINE: &str = "quarantine/";

/// Whether the story that this belongs to is over: the operation's own, for all else the call's. Where the platform says no
/// more after the end of a call, all that comes is late.
fn is_late(call: &mut Call, item: &HeldFact, subject: &str) -> bool {
    let story = call.stories.entry(subject.to_owned()).or_default();
    let late = story.is_over_for(item);
    story.end_with(item);
    late || call.expected.release.is_some()
}

impl Planned<'_> {
    /// Adds what it says to its call and its operation.
    pub(super) fn tell(&self, calls: &mut Calls) {
        let Some(call) = self.call.as_ref().and_then(|(_, key)| calls.get_mut(key)) else { return };
        call.story.absorb(NotificationId(Seq(self.id)), &self.facts, self.correlation, self.received_at);
        if let Some(held) = self.held() {
            call.stories.entry(self.subject.clone()).or_default().new.push(held);
        }
        call.news.insert(NotificationId(Seq(self.id)));
    }

    /// What it says about an operation, if it does.
    fn held(&self) -> Option<HeldFact> {
        let late = self.disposition == Disposition::Late;
        HeldFact::of(NotificationId(Seq(self.id)), Identity(self.identity), self.received_at, late, &self.facts)
    }
}
