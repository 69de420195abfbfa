//! What a roster tells of requests (rule 8): that somebody was muted, put on hold, or taken off hold, of which nothing else tells.

use jiff::Timestamp;

use crate::domain::{
    ids::NotificationId,
    people::Person,
    request::{HeldRequest, Via},
};

/// A roster that the ledger holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRoster {
    /// The notification that says it.
    pub id: NotificationId,
    /// When that came.
    pub received_at: Timestamp,
    /// When it was so, by the platform's clock.
    pub occurred_at: Option<Timestamp>,
    /// The platform's own number of it.
    pub sequence: Option<i64>,
    /// Who is in the call and how.
    pub people: Vec<Person>,
}

impl HeldRoster {
    fn shows(&self, wanted: &Person) -> bool {
        self.people.iter().any(|person| person.token == wanted.token && person.condition.is(wanted.condition))
    }
}

/// The roster that shows a request to be done: in the platform's order the first that can be its doing, which is none that came
/// before it was asked, nor one that stands before such a one.
pub(super) fn fulfilling<'a>(rosters: &'a [HeldRoster], request: &HeldRequest) -> Option<&'a HeldRoster> {
    let wanted = request.facts.shows.as_ref().filter(|_| request.may_have_begun(true))?;
    let registered = request.facts.via == Via::Registered;
    let is_before = |roster: &&HeldRoster| !registered && roster.id.0 < request.id.0;
    let known = rosters.iter().filter(is_before).filter_map(|roster| roster.sequence).max();
    let is_behind = |roster: &&HeldRoster| known.is_none() || roster.sequence.is_none_or(|sequence| Some(sequence) > known);
    rosters
        .iter()
        .filter(|roster| !is_before(roster))
        .filter(is_behind)
        .filter(|roster| roster.shows(wanted))
        .min_by_key(|roster| (roster.sequence, roster.occurred_at, roster.id))
}
