//! What can be asked about who is in a call: to add them, and to think better of it, to remove, to move, to mute them.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Acs, Event, Invitation, Job, LONGEST_INVITATION, Person,
    actions::{job, known_as, no_callback, not_found, person_named},
    say, text,
};
use crate::simulator::{Reply, after};

impl Acs {
    /// The actions on who is in a call.
    pub(super) fn with_people(&mut self, call: &str, action: &str, body: &Value, now: Timestamp) -> Reply {
        if let Err(refused) = self.connected(call) {
            return refused;
        }
        let Some(job) = job(body) else { return no_callback() };
        let done = Reply::json(202, json!({ "operationContext": job.context }));
        match action {
            "add" => self.add(call, job, body, now),
            "cancelAddParticipant" => self.cancel_add(call, job, body, now),
            "remove" => {
                let participant = person_named(body, "participantToRemove");
                let raw = say::raw_id(&participant);
                if let Some(known) = self.calls.get_mut(call) {
                    known.people.retain(|person| say::raw_id(&person.identifier) != raw);
                }
                let members = json!({ "participant": participant });
                self.happens_soon(call, now, Event::Told("RemoveParticipantSucceeded", job, members, say::owned(say::DONE)));
                self.happens_soon(call, now, Event::Roster);
                done
            }
            "moveHere" => {
                let participant = body.pointer("/targetParticipants/0").map(known_as).unwrap_or_default();
                if let Some(known) = self.calls.get_mut(call) {
                    known.people.push(Person { identifier: participant.clone(), is_muted: false, is_on_hold: false });
                }
                let members = json!({ "participant": participant, "fromCall": body.get("fromCall") });
                self.happens_soon(call, now, Event::Told("MoveParticipantSucceeded", job, members, say::owned(say::DONE)));
                self.happens_soon(call, now, Event::Roster);
                let shown = json!({ "operationContext": done.body.and_then(|body| body.get("operationContext").cloned()),
                                    "fromCall": body.get("fromCall"), "participants": [] });
                Reply::json(202, shown)
            }
            "mute" => {
                let target = body.pointer("/targetParticipants/0").and_then(say::raw_id);
                let muted = json!({ "targetParticipant": target.as_deref().map(say::identifier) });
                let turned = self.turn(call, &muted, now, |person| person.is_muted = true);
                if turned.is_success() { Reply { status: 200, ..done } } else { turned }
            }
            _ => not_found(),
        }
    }

    /// Changes something about somebody, of which the next roster tells.
    pub(super) fn turn(&mut self, call: &str, body: &Value, now: Timestamp, change: impl Fn(&mut Person)) -> Reply {
        let raw = body.get("targetParticipant").and_then(say::raw_id);
        let people = self.calls.get_mut(call).map(|known| known.people.iter_mut());
        let mut people = people.into_iter().flatten();
        let Some(person) = people.find(|person| raw.is_some() && say::raw_id(&person.identifier) == raw) else {
            return say::refuse(404, "8522", "The participant is not in the call.");
        };
        change(person);
        self.happens_soon(call, now, Event::Roster);
        Reply::empty(200)
    }

    fn add(&mut self, call: &str, job: Job, body: &Value, now: Timestamp) -> Reply {
        let participant = person_named(body, "participantToAdd");
        if participant.is_null() {
            return say::refuse(400, "BadRequest", "The participantToAdd is missing.");
        }
        let patience =
            body.get("invitationTimeoutInSeconds").and_then(Value::as_u64).map_or(LONGEST_INVITATION, Duration::from_secs);
        let rings = patience.min(self.pace.media);
        let (id, joins) = (self.ids.guid(), patience >= self.pace.media);
        let shown = json!({
            "operationContext": job.context,
            "participant": { "identifier": participant, "isMuted": false, "isOnHold": false },
            "invitationId": id,
        });
        if let Some(known) = self.calls.get_mut(call) {
            known.invitations.insert(id.clone(), Invitation { job, participant, joins });
        }
        self.happens(call, after(now, rings), Event::InvitationEnds(id));
        Reply::json(202, shown)
    }

    fn cancel_add(&mut self, call: &str, job: Job, body: &Value, now: Timestamp) -> Reply {
        let Some(invitation) = text(body, "invitationId") else {
            return say::refuse(400, "BadRequest", "The invitationId is missing.");
        };
        let shown = json!({ "invitationId": invitation, "operationContext": job.context });
        let open = self.calls.get_mut(call).and_then(|known| known.invitations.remove(invitation));
        let members = json!({ "invitationId": invitation });
        let event = if let Some(open) = open {
            let whom = say::raw_id(&open.participant).unwrap_or_default();
            let why = format!(
                "addParticipants failed for participant {whom}. Underlying reason: The Call Has Been Cancelled. DiagCode: 487#5234.@"
            );
            Event::Told("CancelAddParticipantSucceeded", job, members, (487, 5234, why))
        } else {
            let why = say::owned((400, 8522, "The invitation is not open any more."));
            Event::Told("CancelAddParticipantFailed", job, members, why)
        };
        self.happens_soon(call, now, event);
        Reply::json(202, shown)
    }

    pub(super) fn roster(&self, call: &str) -> Reply {
        let Some(known) = self.calls.get(call) else { return not_found() };
        Reply::json(200, json!({ "value": known.people.iter().map(say::person).collect::<Vec<_>>() }))
    }
}
