//! Somebody listens: to the end of an operation, or to all that changes ([`follow`]); and the bots, who are told ([`forward`]).
//!
//! A wait looks once, and then again each time a commit changes an operation of the same call or context. Without a writer
//! in the process (a command that reads a ledger directly) it looks twice a second. Called by `http`.

pub mod follow;
pub mod forward;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep, timeout_at},
};

use crate::{
    domain::{
        clock::Clock,
        ids::{OperationId, PlatformId},
    },
    store::{
        LedgerReader, StoreError,
        rows::{ChangedOperation, OperationFilter, OperationRow, PageRequest},
    },
};

/// How often a ledger is looked at whose writer is elsewhere.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a wait for a match came to.
#[derive(Debug)]
pub enum Waited {
    /// The newest match; it has ended.
    Ended(Box<OperationRow>),
    /// Several open ones match.
    Ambiguous(Vec<OperationId>),
    /// The time was over first.
    TimedOut,
}

/// Waits until the operation has ended or `patience` is over, and returns it as it then is; `None` if there is no such
/// operation.
///
/// # Errors
/// [`StoreError`].
pub async fn wait_for(
    reader: &LedgerReader,
    clock: &Clock,
    id: OperationId,
    patience: Duration,
) -> Result<Option<OperationRow>, StoreError> {
    let end = Instant::now() + patience;
    let mut changes = reader.changes();
    loop {
        let Some(operation) = reader.operation(id, clock.now()).await? else { return Ok(None) };
        if operation.state.is_final() {
            return Ok(Some(operation));
        }
        let concerns = |changed: &ChangedOperation| changed.id == id || Some(&changed.call_id) == operation.call_id.as_ref();
        if !changed(&mut changes, end, concerns).await {
            return Ok(Some(operation));
        }
    }
}

/// Waits until the newest operation that matches has ended, also one that nobody has seen yet.
///
/// # Errors
/// [`StoreError`].
pub async fn wait_for_match(
    reader: &LedgerReader,
    clock: &Clock,
    filter: &OperationFilter,
    patience: Duration,
) -> Result<Waited, StoreError> {
    let end = Instant::now() + patience;
    let context = filter.context.as_deref().and_then(PlatformId::parse);
    let concerns = |changed: &ChangedOperation| {
        filter.call_id.as_ref().is_none_or(|call| *call == changed.call_id)
            && context
                .as_ref()
                .is_none_or(|context| changed.context.as_deref().and_then(PlatformId::parse).as_ref() == Some(context))
    };
    let mut changes = reader.changes();
    loop {
        if let Some(waited) = look(reader, clock, filter).await? {
            return Ok(waited);
        }
        if !changed(&mut changes, end, concerns).await {
            return Ok(Waited::TimedOut);
        }
    }
}

/// What there is to say now; `None`: wait on.
async fn look(reader: &LedgerReader, clock: &Clock, filter: &OperationFilter) -> Result<Option<Waited>, StoreError> {
    let newest = reader.operations(filter, PageRequest { after: None, limit: 1 }, clock.now()).await?.rows.pop();
    let Some(newest) = newest else { return Ok(None) };
    if newest.state.is_final() {
        return Ok(Some(Waited::Ended(Box::new(newest))));
    }
    let open = OperationFilter { open: Some(true), ..filter.clone() };
    let open = reader.operations(&open, PageRequest { after: None, limit: 10 }, clock.now()).await?.rows;
    let several = open.len() > 1;
    Ok(several.then(|| Waited::Ambiguous(open.iter().map(|operation| operation.id).collect())))
}

/// Waits for a commit that concerns us; `false` once the time is over.
async fn changed(
    changes: &mut Option<Receiver<Arc<Vec<ChangedOperation>>>>,
    end: Instant,
    concerns: impl Fn(&ChangedOperation) -> bool,
) -> bool {
    let Some(changes) = changes else {
        return timeout_at(end, sleep(LOOK_EVERY)).await.is_ok();
    };
    loop {
        match timeout_at(end, changes.recv()).await {
            Err(_elapsed) => return false,
            // Too many to have heard them all: look.
            Ok(Err(RecvError::Lagged(_))) => return true,
            Ok(Err(RecvError::Closed)) => return false,
            Ok(Ok(commit)) if commit.iter().any(&concerns) => return true,
            Ok(Ok(_)) => {}
        }
    }
}
