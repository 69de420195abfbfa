//! The queue and its circuit, step by step.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
use super::{
    held::{FIRST_PAUSE, LONGEST_PAUSE},
    *,
};
use crate::domain::ids::{DeliveryId, NotificationId};

fn unit(id: i64, calls: &[i64]) -> Unit {
    Unit {
        id: NotificationId(Seq(id)),
        delivery: DeliveryId(Seq(id - 1)),
        whole: false,
        calls: calls.iter().copied().map(Seq).collect(),
        source: "graph".to_owned(),
        kind: "call".to_owned(),
    }
}

fn queue(units: &[(i64, &[i64])]) -> Queue {
    let mut queue = Queue::new(4);
    for (id, calls) in units {
        queue.admit(unit(*id, calls), None, Instant::now());
    }
    queue
}

fn taken(queue: &mut Queue, now: Instant) -> Vec<i64> {
    std::iter::from_fn(|| queue.next(now)).map(|unit| unit.id.0.0).collect()
}

fn at() -> Timestamp {
    "2026-11-21T03:00:00Z".parse().unwrap()
}

fn answered(status: u16) -> Failure {
    Failure { status: Some(status), ..Failure::default() }
}

fn refused() -> Failure {
    Failure { not_connected: true, ..Failure::default() }
}

#[test]
fn calls_go_beside_each_other_and_a_delivery_about_several_waits_for_all_of_them() {
    let now = Instant::now();
    let mut queue = queue(&[(10, &[1]), (11, &[1]), (12, &[2]), (13, &[1, 2]), (14, &[2]), (15, &[])]);
    assert_eq!(taken(&mut queue, now), [10, 12, 15]);
    queue.delivered(Seq(12));
    assert_eq!(taken(&mut queue, now), [0_i64; 0], "13 is about call 1 as well");
    queue.delivered(Seq(10));
    assert_eq!(taken(&mut queue, now), [11]);
    queue.delivered(Seq(11));
    assert_eq!(taken(&mut queue, now), [13]);
    assert_eq!(queue.settled_to(Seq(99)), Seq(12));
    queue.delivered(Seq(13));
    assert_eq!(taken(&mut queue, now), [14]);
    queue.delivered(Seq(14));
    assert_eq!(queue.settled_to(Seq(99)), Seq(14), "15 is still on its way");
    queue.delivered(Seq(15));
    assert_eq!(queue.settled_to(Seq(99)), Seq(99));
    assert!(queue.oldest().is_none() && queue.by_call.is_empty() && queue.in_flight == 0);
}

#[test]
fn what_fails_gets_a_row_with_all_that_waits_behind_it_and_the_position_passes_them() {
    let now = Instant::now();
    let mut queue = queue(&[(10, &[1]), (11, &[2]), (12, &[1])]);
    assert_eq!(taken(&mut queue, now), [10, 11]);
    queue.delivered(Seq(11));
    queue.failed(Seq(10), &answered(500), (now, at()), false);
    assert_eq!(queue.settled_to(Seq(99)), Seq(9));
    let news = queue.news();
    let rows: Vec<_> = news.rows.iter().map(|(unit, state, tries)| (unit.id.0.0, *state, tries.attempts)).collect();
    assert_eq!(rows, [(10, ForwardState::Waiting, 1), (12, ForwardState::Waiting, 0)]);
    assert_eq!((queue.settled_to(Seq(99)), news.done.len()), (Seq(99), 1));
    assert!(queue.news().is_empty(), "told once");

    // not written after all: nothing passes them, and all of it is told again
    queue.untold(news);
    assert_eq!(queue.settled_to(Seq(99)), Seq(9));
    let news = queue.news();
    assert_eq!((news.rows.len(), news.done.len()), (2, 1));

    let due = queue.wakes().unwrap();
    assert!((now + FIRST_PAUSE / 2..=now + FIRST_PAUSE).contains(&due));
    assert_eq!(taken(&mut queue, now), [0_i64; 0]);
    assert_eq!(taken(&mut queue, due), [10]);
    queue.delivered(Seq(10));
    assert_eq!(taken(&mut queue, due), [12]);
    queue.delivered(Seq(12));
    let settled: Vec<i64> = queue.news().settled.iter().map(|unit| unit.id.0.0).collect();
    assert_eq!(settled, [10, 12]);
}

#[test]
fn an_endpoint_that_is_not_there_is_asked_by_one_try_at_a_time() {
    let now = Instant::now();
    let mut queue = queue(&[(10, &[1]), (11, &[2]), (12, &[3]), (13, &[4]), (14, &[5])]);
    assert_eq!(taken(&mut queue, now), [10, 11, 12, 13]);
    for id in [10, 11, 12, 13] {
        queue.failed(Seq(id), &refused(), (now, at()), false);
        assert!(!queue.circuit().is_closed());
    }
    assert!(queue.news().is_empty(), "nothing was sent, so nothing is to be told");
    assert_eq!(taken(&mut queue, now), [0_i64; 0]);
    let probe = queue.wakes().unwrap();
    assert_eq!(probe, now + Duration::from_secs(1));
    assert_eq!(taken(&mut queue, probe), [10]);
    queue.failed(Seq(10), &refused(), (probe, at()), false);
    let again = queue.wakes().unwrap();
    assert_eq!(again, probe + Duration::from_secs(1));
    assert_eq!(taken(&mut queue, again), [10]);
    queue.delivered(Seq(10));
    assert!(queue.circuit().is_closed());
    assert_eq!(taken(&mut queue, again), [11, 12, 13, 14]);
}

#[test]
fn what_fails_probes_after_ever_longer_rests_and_something_new_goes_before_it() {
    let now = Instant::now();
    let mut queue = queue(&[(10, &[1]), (11, &[2]), (12, &[3])]);
    for id in taken(&mut queue, now) {
        queue.failed(Seq(id), &Failure::default(), (now, at()), false);
    }
    assert!(!queue.circuit().is_closed());
    let mut then = now;
    for rest in [1, 2, 4, 5, 5] {
        let probe = queue.wakes().unwrap();
        assert_eq!(probe, then + Duration::from_secs(rest));
        let probing = taken(&mut queue, probe);
        assert_eq!((probing.len(), queue.wakes()), (1, None));
        queue.failed(Seq(probing[0]), &Failure::default(), (probe, at()), false);
        then = probe;
    }
    // one of those that hang is being tried when something new comes
    let probe = queue.wakes().unwrap();
    assert_eq!(taken(&mut queue, probe).len(), 1);
    queue.admit(unit(20, &[9]), None, probe);
    assert_eq!(taken(&mut queue, probe), [20]);
    queue.admit(unit(21, &[8]), None, probe);
    assert_eq!(taken(&mut queue, probe), [0_i64; 0], "one new one at a time");
    queue.delivered(Seq(20));
    assert!(queue.circuit().is_closed());
    assert!(taken(&mut queue, probe).contains(&21));
}

#[test]
fn a_call_with_too_much_to_say_leaves_room_for_others() {
    let now = Instant::now();
    let mut queue = Queue::new(4);
    for id in 10..2000 {
        if queue.has_room() {
            queue.admit(unit(id, &[1]), None, now);
        }
    }
    assert!(!queue.has_room());
    assert_eq!(taken(&mut queue, now), [10], "slow, but it does not fail");
    assert_eq!(queue.news().rows.len(), UNTRIED - 1);
    assert!(queue.has_room());
    assert_eq!(queue.settled_to(Seq(5000)), Seq(9));
    queue.delivered(Seq(10));
    assert_eq!(queue.settled_to(Seq(5000)), Seq(5000));
}

#[test]
fn a_probe_that_is_skipped_or_cannot_be_sent_leaves_the_circuit_to_the_next() {
    let end: [fn(&mut Queue, Instant); 3] = [
        |queue, now| {
            queue.skip(unit(10, &[1]));
            queue.failed(Seq(10), &refused(), (now, at()), false);
        },
        |queue, now| queue.refuse(Seq(10), "why".to_owned(), (now, at())),
        |queue, now| queue.put_back(Seq(10), now),
    ];
    for end in end {
        let now = Instant::now();
        let mut queue = queue(&[(10, &[1]), (11, &[2])]);
        queue.circuit.failed(9, 9, &refused(), now);
        let probe = queue.wakes().unwrap();
        assert_eq!(taken(&mut queue, probe), [10]);
        end(&mut queue, probe);
        let next = queue.wakes().unwrap();
        assert_eq!(taken(&mut queue, next.max(probe)).len(), 1);
    }
}

#[test]
fn one_call_that_is_not_wanted_stops_no_other_and_many_do() {
    let now = Instant::now();
    let calls: Vec<(i64, [i64; 1])> = (0..20).map(|n| (100 + n, [n])).collect();
    let mut queue = Queue::new(64);
    for (id, calls) in &calls {
        queue.admit(unit(*id, calls), None, now);
    }
    let ids = taken(&mut queue, now);
    for id in ids.iter().take(15) {
        queue.failed(Seq(*id), &answered(500), (now, at()), false);
    }
    assert!(queue.circuit().is_closed());
    queue.failed(Seq(ids[15]), &answered(500), (now, at()), false);
    assert!(!queue.circuit().is_closed());
    queue.delivered(Seq(ids[16]));
    assert!(queue.circuit().is_closed());
    // too many requests: of which it says until when
    queue.failed(Seq(ids[17]), &Failure { retry_after: Some(Duration::from_secs(7)), ..answered(429) }, (now, at()), false);
    assert_eq!(queue.wakes(), Some(now + Duration::from_secs(7)));
}

#[test]
fn what_is_too_old_is_given_up_and_its_time_begins_anew_when_it_is_wanted_again() {
    let now = Instant::now();
    let mut queue = queue(&[(10, &[1]), (11, &[1])]);
    assert_eq!(taken(&mut queue, now), [10]);
    let given_up = queue.give_up_older(Seq(12));
    assert_eq!(given_up.iter().map(|unit| unit.id.0.0).collect::<Vec<_>>(), [11], "10 is on its way");
    queue.failed(Seq(10), &answered(500), (now, at()), true);
    let rows = queue.news().rows;
    let dead: Vec<_> = rows.iter().map(|(unit, state, tries)| (unit.id.0.0, *state, tries.next_at)).collect();
    assert_eq!(dead, [(11, ForwardState::Dead, None), (10, ForwardState::Dead, None)]);
    queue.revive(unit(10, &[1]), rows[1].2.clone(), (now, at()));
    assert!(queue.give_up_older(Seq(12)).is_empty());
    assert_eq!(taken(&mut queue, now), [10]);
    assert_eq!(queue.news().rows[0].1, ForwardState::Waiting);
}

#[test]
fn pauses_double_up_to_a_limit() {
    assert_eq!(pause(1, 1.0), FIRST_PAUSE);
    assert_eq!(pause(1, 0.0), FIRST_PAUSE / 2);
    assert_eq!(pause(4, 1.0), FIRST_PAUSE * 8);
    assert_eq!(pause(40, 1.0), LONGEST_PAUSE);
    assert_eq!(pause(u32::MAX, 0.0), LONGEST_PAUSE / 2);
}
