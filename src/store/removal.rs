//! What is taken out of the ledger: by retention as time passes, and for who asks to be forgotten.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{OpenError, Options, sqlite};
use crate::domain::ids::PlatformId;

/// How long what came is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Bodies and personal facts; `None`: for ever.
    pub bodies: Option<Duration>,
    /// Everything; `None`: for ever.
    pub everything: Option<Duration>,
}

/// How long what came is kept, by source; of a source that is not named, for ever.
pub type Retention = BTreeMap<String, Keep>;

/// Whom somebody wants forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// A call.
    Call(PlatformId),
    /// Every call in which somebody of this name is: an id or a telephone number, as the platforms write them.
    Participant(String),
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Calls.
    pub calls: u64,
    /// Operations.
    pub operations: u64,
    /// Notifications.
    pub notifications: u64,
    /// Requests.
    pub requests: u64,
    /// Bodies of deliveries.
    pub bodies: u64,
    /// Notifications whose personal facts alone went.
    pub personal: u64,
}

impl std::ops::AddAssign for Removed {
    fn add_assign(&mut self, more: Self) {
        self.calls += more.calls;
        self.operations += more.operations;
        self.notifications += more.notifications;
        self.requests += more.requests;
        self.bodies += more.bodies;
        self.personal += more.personal;
    }
}

/// Removes what is known of a call or of a person, beside a running service or without one, and says what that was; with `dry_run` it
/// only says it. The keys of the calls go, so that what is left of them in copies and in the log of the database opens no more. What an
/// erasure before it has left because it was cut off goes as well, unless more has been told of that call since.
///
/// # Errors
/// [`OpenError`] if the ledger cannot be opened, or the database fails on the way: the next erasure, of whatever, goes on from there.
pub async fn erase(options: &Options, whom: &Forgotten, dry_run: bool) -> Result<Removed, OpenError> {
    sqlite::erase::erase(options, whom, dry_run).await
}

/// Takes what retention takes, to its end, in steps that a server beside us does not feel; with `dry_run` it only says what that is.
///
/// # Errors
/// [`OpenError`] if the ledger cannot be opened, or the database fails on the way.
pub async fn retain(options: &Options, now: Timestamp, dry_run: bool) -> Result<Removed, OpenError> {
    sqlite::retention::retain(options, now, dry_run).await
}
