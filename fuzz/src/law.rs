//! What holds for the stories that facts tell: they are a function of the set of facts, whatever the order in which these came.

use std::collections::{BTreeMap, BTreeSet};

use callback_ledger::domain::{
    call::CallStory,
    delivery::Correlation,
    ids::{NotificationId, PlatformId, Seq},
    notification::Notification,
    operation::{CallFacts, Flag, HeldFact, Lapse, Operation, operations},
};
use jiff::{SignedDuration, Timestamp};

/// A notification as the ledger holds it, at its place in the order of receipt.
type Received<'a> = (NotificationId, &'a Notification);

/// Checks the stories of the notifications of one delivery.
///
/// # Panics
/// If an order tells another story.
pub fn holds(notifications: &[Notification], correlation: &Correlation) {
    let [as_it_came, others @ ..] = orders(&once(notifications)).map(by_call);
    for (call, received) in &as_it_came {
        call_story(received, correlation);
        operations_alone(received);
        for lapse in [None, Some(lapse())] {
            let said = said(received, lapse.as_ref());
            for other in &others {
                assert_eq!(self::said(&other[call], lapse.as_ref()), said, "another order tells another story");
            }
        }
    }
}

/// Those that the ledger would not take for copies of others.
fn once(notifications: &[Notification]) -> Vec<&Notification> {
    let (mut seen, mut named) = (BTreeSet::new(), BTreeSet::new());
    let mut once = Vec::new();
    for item in notifications {
        let is_new = seen.insert((&item.call, &item.subject, item.identity));
        if is_new & (!item.named || named.insert(item.identity)) {
            once.push(item);
        }
    }
    once
}

/// As they came, the other way round, and every third first.
fn orders<'a>(once: &[&'a Notification]) -> [Vec<Received<'a>>; 3] {
    let received = |items: Vec<&'a Notification>| (1..).map(|id| NotificationId(Seq(id))).zip(items).collect();
    let thirds = (0..3).flat_map(|first| once.iter().skip(first).step_by(3)).copied().collect();
    [received(once.to_vec()), received(once.iter().rev().copied().collect()), received(thirds)]
}

fn by_call(order: Vec<Received<'_>>) -> BTreeMap<&PlatformId, Vec<Received<'_>>> {
    let mut calls: BTreeMap<&PlatformId, Vec<Received<'_>>> = BTreeMap::new();
    for (id, item) in order {
        if let Some(call) = &item.call {
            calls.entry(call).or_default().push((id, item));
        }
    }
    calls
}

/// When it was received: a millisecond behind the one before.
fn at(id: NotificationId) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_millis(id.0.0)
}

/// The end of a call, behind all that came.
fn lapse() -> Lapse {
    let at = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
    Lapse { by: NotificationId(Seq(i64::MAX)), at, due: at, over: true }
}

fn facts(received: &[Received<'_>]) -> CallFacts {
    let mut facts = CallFacts::default();
    for (id, item) in received {
        let held = HeldFact::of(*id, item.identity, at(*id), false, &item.facts);
        facts.subjects.entry(item.subject.clone()).or_default().extend(held);
    }
    facts
}

/// What is told, marks, ids and times aside.
fn said(received: &[Received<'_>], lapse: Option<&Lapse>) -> Vec<String> {
    let told = facts(received).told(lapse);
    let mut said: Vec<String> = told.iter().map(|(subject, operation)| format!("{subject}: {}", line(operation))).collect();
    said.sort_unstable();
    said
}

fn line(operation: &Operation) -> String {
    let Operation { operation_id, kind, context, state, result, .. } = operation;
    let flags: Vec<_> = operation.flags.iter().filter(|flag| !matches!(flag, Flag::Late | Flag::Corrected)).collect();
    let history: Vec<_> = operation.history.iter().map(|step| (step.from, step.to, &step.note)).collect();
    let facts = operation.facts.len();
    format!("{:?}", (operation_id, kind, context, state, result, flags, history, facts))
}

/// A subject tells the same alone as with the others of its call, in whichever order its facts are loaded.
fn operations_alone(received: &[Received<'_>]) {
    let facts = facts(received);
    let together = facts.told(None);
    for (subject, facts) in &facts.subjects {
        let alone = operations(facts, None);
        let reversed: Vec<HeldFact> = facts.iter().rev().cloned().collect();
        assert_eq!(operations(&reversed, None), alone, "{subject}: loaded the other way round");
        let of_subject: Vec<_> = together.iter().filter(|(of, _)| of == subject).map(|(_, operation)| line(operation)).collect();
        assert_eq!(of_subject, alone.iter().map(line).collect::<Vec<_>>(), "{subject}: alone");
        assert_eq!(alone.iter().map(|operation| operation.facts.len()).sum::<usize>(), facts.len(), "{subject}: a fact is lost");
        for operation in &alone {
            let (last, inner) = operation.history.split_last().expect("an operation has a history");
            assert_eq!((last.to, inner.iter().any(|step| step.to.is_final())), (operation.state, false), "{operation:?}");
        }
    }
}

/// A call's story takes its facts in any order and more than once, and is stored as it is.
fn call_story(received: &[Received<'_>], correlation: &Correlation) {
    let absorb = |mut story: CallStory, (id, item): &Received<'_>| {
        story.absorb(*id, &item.facts, correlation, at(*id));
        story
    };
    let forth = received.iter().fold(CallStory::default(), absorb);
    let back = received.iter().rev().fold(CallStory::default(), absorb);
    assert_eq!(forth, back, "the call has another story the other way round");
    assert_eq!(received.iter().fold(forth.clone(), absorb), forth, "told twice, the call has another story");
    let stored = serde_json::to_string(&forth).expect("a story has a form in JSON");
    assert_eq!(serde_json::from_str::<CallStory>(&stored).expect("a story that was stored is read"), forth);
}
