//! What operations of one call have to do with each other: which canceled which, and which escaped.
//!
//! No notification says who canceled what. A cancel takes back what plays and records in its call; with one cancel on the call
//! it is that one, unless the operation was asked for behind it. With several it is the last that was asked for before word of the end came, and that is marked, because nobody
//! knows. A cancel of an invitation names it, and the answer to the invitation did.

use super::{Cause, Flag, Operation, State, Transition};
use crate::domain::{
    ids::{OperationId, PlatformId, Seq},
    request::{Cancels, HeldRequest, Via},
    result::ResultInfo,
};

/// An operation and its request.
pub(super) struct Told<'a> {
    pub subject: String,
    pub request: Option<&'a HeldRequest>,
    pub operation: Operation,
}

impl Told<'_> {
    /// Adds a mark in its place.
    pub fn mark(&mut self, flag: Flag) {
        let flags = &mut self.operation.flags;
        flags.push(flag);
        flags.sort_unstable();
        flags.dedup();
    }

    /// Whether somebody said so; that the call has ended without a word says nothing.
    fn has_failed(&self) -> bool {
        matches!(self.operation.state, State::Refused | State::Failed) && !self.operation.flags.contains(&Flag::Inferred)
    }

    /// Where the ledger got word of its end.
    fn ended(&self) -> Option<Seq> {
        let step = self.operation.history.last().filter(|step| step.to.is_final())?;
        match step.cause {
            Cause::Notification(id) => Some(id.0),
            Cause::Request(id) | Cause::Response(id) => Some(id.0),
            Cause::Deadline => None,
        }
    }

    /// Since when the ledger knows of it.
    fn begun(&self) -> Seq {
        self.operation.id.0
    }
}

/// Fills in the links of the operations of one call.
pub(super) fn link(all: &mut [Told<'_>]) {
    link_media(all);
    link_invitations(all);
}

/// A cancel of what plays and records.
struct MediaCancel {
    id: OperationId,
    sent: Seq,
    /// Whether it may have been sent before that.
    registered: bool,
    kinds: Vec<String>,
    all: bool,
}

fn link_media(all: &mut [Told<'_>]) {
    let cancels: Vec<MediaCancel> = all
        .iter()
        .filter(|told| !told.has_failed())
        .filter_map(|told| {
            let Some(Cancels::Media { kinds, all }) = &told.request?.facts.cancels else { return None };
            let request = told.request?;
            let registered = request.facts.via == Via::Registered;
            Some(MediaCancel { id: told.operation.id, sent: request.id.0, registered, kinds: kinds.clone(), all: *all })
        })
        .collect();
    let mut links: Vec<(OperationId, OperationId, bool)> = Vec::new();
    for told in all.iter_mut() {
        // what was written down behind a cancel before it was sent is none of its doing
        let asked = told.request.filter(|request| request.facts.via == Via::Gateway).map(|request| request.id.0);
        let could = |cancel: &&MediaCancel| {
            cancel.kinds.contains(&told.operation.kind) && (cancel.registered || asked.is_none_or(|asked| asked < cancel.sent))
        };
        let of_kind: Vec<&MediaCancel> = cancels.iter().filter(could).collect();
        let Some(ended) = told.ended() else { continue };
        if told.operation.state == State::Canceled {
            let before: Vec<&&MediaCancel> = of_kind.iter().filter(|cancel| cancel.sent < ended).collect();
            let only = if let [only] = of_kind.as_slice() { Some(*only) } else { None };
            let by = only.or_else(|| before.iter().max_by_key(|cancel| cancel.sent).map(|cancel| **cancel));
            if only.is_none() && of_kind.len() > 1 {
                let candidates = if before.len() > 1 { before.iter().map(|c| c.id).collect() } else { Vec::new() };
                if !candidates.is_empty() {
                    told.operation.links.candidates = candidates;
                    told.mark(Flag::Ambiguous);
                }
            }
            if let Some(by) = by {
                told.operation.links.canceled_by = Some(by.id);
                links.push((by.id, told.operation.id, true));
            }
        } else {
            let escaped = of_kind.iter().filter(|cancel| cancel.all && told.begun() < cancel.sent && cancel.sent < ended);
            links.extend(escaped.map(|cancel| (cancel.id, told.operation.id, false)));
        }
    }
    for cancel in cancels.iter().filter(|cancel| !cancel.all) {
        mark_more_than_one(all, cancel.id, &mut links);
    }
    for (cancel, of, is_canceled) in links {
        let Some(told) = all.iter_mut().find(|told| told.operation.id == cancel) else { continue };
        let links = &mut told.operation.links;
        let list = if is_canceled { &mut links.cancels } else { &mut links.escaped };
        list.push(of);
        list.sort_unstable();
    }
}

/// A cancel of the one under way has not canceled two: of several it is not known which it was.
fn mark_more_than_one(all: &mut [Told<'_>], cancel: OperationId, links: &mut Vec<(OperationId, OperationId, bool)>) {
    let is_its_doing = |link: &(OperationId, OperationId, bool)| link.0 == cancel && link.2;
    if links.iter().filter(|link| is_its_doing(link)).count() < 2 {
        return;
    }
    links.retain(|link| !is_its_doing(link));
    for told in all.iter_mut().filter(|told| told.operation.links.canceled_by == Some(cancel)) {
        told.operation.links.canceled_by = None;
        told.operation.links.candidates.push(cancel);
        told.operation.links.candidates.sort_unstable();
        told.operation.links.candidates.dedup();
        told.mark(Flag::Ambiguous);
    }
}

fn link_invitations(all: &mut [Told<'_>]) {
    for at in 0..all.len() {
        let Some((cancel, invitation)) = all.get(at).and_then(canceled_invitation) else { continue };
        let Some(cause) = all.get(at).and_then(|told| told.operation.history.last().cloned()) else { continue };
        for other in 0..all.len() {
            let Some(told) = all.get_mut(other).filter(|told| invites(told, &invitation)) else { continue };
            let invited = told.operation.id;
            let is_told = told.operation.state.is_final() && !told.operation.flags.contains(&Flag::Inferred);
            if !is_told {
                cancel_by(&mut told.operation, cancel, &cause);
                told.mark(Flag::Inferred);
            } else if told.operation.state == State::Completed {
                told.mark(Flag::Conflict);
            }
            let (is_told, completed) = (is_told, told.operation.state == State::Completed);
            let Some(told) = all.get_mut(at) else { continue };
            if !is_told {
                told.operation.links.cancels.push(invited);
            } else if completed {
                told.mark(Flag::Conflict);
                told.operation.links.escaped.push(invited);
            }
        }
    }
}

/// The invitation that a cancel has taken back.
fn canceled_invitation(told: &Told<'_>) -> Option<(OperationId, PlatformId)> {
    let asked = told.request.and_then(|request| match &request.facts.cancels {
        Some(Cancels::Invitation(invitation)) => Some(invitation.clone()),
        _ => None,
    });
    let is_cancel = asked.is_some() || told.operation.kind == "cancelAddParticipant";
    let invitation = asked.or_else(|| told.operation.operation_id.clone())?;
    (is_cancel && told.operation.state == State::Completed).then_some((told.operation.id, invitation))
}

fn invites(told: &Told<'_>, invitation: &PlatformId) -> bool {
    let answer = told.request.and_then(|request| request.answer.as_ref());
    answer.is_some_and(|answer| answer.facts.invitation_id.as_ref() == Some(invitation))
        && !matches!(told.request.map(|request| &request.facts.cancels), Some(Some(Cancels::Invitation(_))))
}

/// An invitation that was open has ended with its cancel.
fn cancel_by(operation: &mut Operation, cancel: OperationId, cause: &Transition) {
    operation.history.retain(|step| !step.to.is_final());
    let from = operation.history.last().map(|step| step.to);
    let note = Some(format!("inferred: {cancel} took the invitation back"));
    operation.history.push(Transition { from, to: State::Canceled, at: cause.at, cause: cause.cause, note });
    operation.state = State::Canceled;
    operation.result = Some(ResultInfo { reason: Some("invitationCanceled".to_owned()), ..ResultInfo::default() });
    operation.finished_at = Some(cause.at);
    operation.updated_at = operation.updated_at.max(cause.at);
    operation.links.canceled_by = Some(cancel);
}
