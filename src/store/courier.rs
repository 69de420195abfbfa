//! Brings a commit's answers to the threads that wait for them, together.
//!
//! To wake a task on another thread's runtime costs that runtime a system call. A commit answers many callers on few threads: those of
//! one thread go to it as one parcel, whose opening wakes them from within.

use std::cell::RefCell;

use tokio::sync::mpsc;

use super::{RecordError, Recorded, sqlite::work::Job};

/// An answer, and whom to tell it.
pub(super) type Letter = (Job, Result<Recorded, RecordError>);

/// Takes letters to one thread.
#[derive(Clone)]
pub(super) struct Courier(mpsc::UnboundedSender<Vec<Letter>>);

thread_local! {
    static OF_THIS_THREAD: RefCell<Option<Courier>> = const { RefCell::new(None) };
}

/// From now on the answers to what this thread records arrive together. To be called within a `LocalSet`, on which they are opened.
pub fn arrive_together() {
    let (courier, mut parcels) = mpsc::unbounded_channel::<Vec<Letter>>();
    OF_THIS_THREAD.set(Some(Courier(courier)));
    tokio::task::spawn_local(async move {
        while let Some(letters) = parcels.recv().await {
            for (job, answer) in letters {
                job.answer(answer);
            }
        }
    });
}

impl Courier {
    /// The one that goes to this thread, if there is one.
    pub(super) fn here() -> Option<Self> {
        OF_THIS_THREAD.with_borrow(Clone::clone)
    }
}

/// Sends everybody's answer on its way.
pub(super) fn send(letters: impl Iterator<Item = Letter>) {
    let mut parcels: Vec<(Courier, Vec<Letter>)> = Vec::new();
    for (job, answer) in letters {
        let Some(courier) = job.courier() else {
            job.answer(answer);
            continue;
        };
        match parcels.iter_mut().find(|(known, _)| known.0.same_channel(&courier.0)) {
            Some((_, parcel)) => parcel.push((job, answer)),
            None => parcels.push((courier.clone(), vec![(job, answer)])),
        }
    }
    for (courier, parcel) in parcels {
        // A thread that is gone has taken its callers with it; what is committed stays committed.
        let _gone = courier.0.send(parcel);
    }
}
