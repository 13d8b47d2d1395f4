//! Consumers that stop: they are seen, and put out where the producer was made to; what they hold stays theirs.

#![cfg(not(any(bips_loom, bips_shuttle)))]

mod common;

use bips::{AcquireError, ConsumerInfo, Ending, ErrorKind, OnStall, Policy, Producer, ReceiveError, Wait};
use common::process::{Peer, Role, Stage, play};
use common::wire::{Raw, Scribble, seat};
use common::{SOON, Scratch, assert_says, check, eventually, publish, receive};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const BYTES: u64 = 100_000;
const MOMENT: Duration = Duration::from_millis(20);

const ROLES: &[Role] = &[("holds one", hold_one), ("holds one, reconnecting", hold_one_reconnecting)];

#[test]
fn child_process() {
    common::process::child(ROLES);
}

/// Holds its first frame, is stopped, and then says what it finds.
fn hold_one(stage: &Stage) {
    let mut consumer = stage.consumer("cam").policy(policy(stage.number)).connect().unwrap();
    stage.say("ready");
    let held = receive(&mut consumer);
    stage.say("holding");
    stage.hear();
    let error = consumer.receive(SOON).unwrap_err();
    assert_eq!(consumer.ending(), Some(Ending::Expelled));
    let texts = ["put this consumer out", "keep-last", "reconnect"];
    assert_says(&consumer.explain(error), ErrorKind::Closed, &texts);
    assert_eq!(check(&held), 0, "it is still what it was");
    stage.say("out");
    stage.hear();
    drop(held);
    stage.say("empty-handed");
    stage.hear();
}

fn hold_one_reconnecting(stage: &Stage) {
    let mut consumer = stage.consumer("cam").reconnect(true).connect().unwrap();
    stage.say("ready");
    let held = receive(&mut consumer);
    stage.say("holding");
    stage.hear();
    let next = receive(&mut consumer);
    assert_eq!((held.generation(), next.generation()), (0, 1));
    assert_eq!(check(&held), 0);
    stage.say(next.sequence());
    stage.hear();
}

fn policy(number: u64) -> Policy {
    if number == 0 { Policy::Reliable } else { Policy::KeepLast(number as u32) }
}

/// A producer of four slots and a consumer that holds a frame of it and is stopped.
fn stopped(scratch: &Scratch, role: &str, number: u64, on_stall: OnStall) -> (Producer, Peer) {
    let producer = scratch.producer("cam").bytes(BYTES).on_stall(on_stall).create().unwrap();
    let mut child = play(role, scratch.path(), number);
    child.expect("ready");
    publish(&producer);
    child.expect("holding");
    child.stop();
    (producer, child)
}

fn only_consumer(scratch: &Scratch) -> ConsumerInfo {
    let info = bips::query("cam", Some(scratch.path())).unwrap();
    assert_eq!(info.consumers.len(), 1);
    info.consumers[0].clone()
}

/// Takes every free slot at once.
fn free_slots(producer: &Producer) -> usize {
    std::iter::from_fn(|| producer.acquire(Wait::Now).ok()).collect::<Vec<_>>().len()
}

#[test]
fn a_stopped_consumer_is_seen_and_waited_for() {
    let scratch = Scratch::new();
    let (producer, child) = stopped(&scratch, "holds one", 0, OnStall::Wait);
    for _ in 0..3 {
        publish(&producer);
        std::thread::sleep(MOMENT);
    }
    let seen = only_consumer(&scratch);
    assert_eq!((seen.pid, seen.held, seen.unread, seen.expelled), (child.pid(), 1, 3, false));
    assert!(seen.held_for >= MOMENT * 3 && seen.unread_for >= MOMENT * 3, "{seen:?}");
    assert!(seen.held_for > seen.unread_for, "the frame held is the older one: {seen:?}");
    let error = producer.acquire(Wait::For(MOMENT * 10)).unwrap_err();
    let who = format!("pid {} \"stall-", child.pid());
    let resume = format!("(`kill -CONT {}`)", child.pid());
    let says = ["holds 1 and has 3 unread", "s ago, and is stopped", &who, &resume, "with `on_stall`"];
    assert_says(&producer.explain(error), ErrorKind::Timeout, &says[..]);
    let later = only_consumer(&scratch);
    assert!(later.held_for >= seen.held_for + MOMENT * 10);
    assert_eq!(producer.stats().unwrap().expelled, 0);
    assert!(!seen.in_the_way && later.in_the_way, "{later:?}");
    let info = bips::query("cam", Some(scratch.path())).unwrap();
    assert!(info.stalled_for.is_some_and(|time| time >= MOMENT * 10), "{info:?}");
    drop(child);
    eventually("the stall is over with the consumer's end", || {
        producer.stats().unwrap().stalled_for.is_none()
    });
}

/// A producer that keeps every slot to itself has nobody else to blame; a consumer without a frame is not in the way.
#[test]
fn a_producer_that_has_all_slots_itself_blames_nobody() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(BYTES).create().unwrap();
    let _consumer = scratch.consumer("cam").connect().unwrap();
    let slots: Vec<_> = std::iter::from_fn(|| producer.acquire(Wait::Now).ok()).collect();
    let error = producer.explain(AcquireError::Timeout);
    assert!(
        error.to_string().ends_with("itself holds 4; publish or give back the slots that were acquired"),
        "{error}"
    );
    let stats = producer.stats().unwrap();
    assert!(stats.stalled_for.is_some() && !stats.consumers[0].in_the_way, "{stats:?}");
    drop(slots);
    assert_eq!(producer.stats().unwrap().stalled_for, None, "free slots end it, before anybody asks for one");
}

#[test]
fn a_stalled_consumer_is_put_out_and_keeps_its_frame() {
    for policy in [0, 1, 4] {
        let scratch = Scratch::new();
        let (producer, mut child) = stopped(&scratch, "holds one", policy, OnStall::Expel(MOMENT));
        if policy > 0 {
            // What a keep-last consumer has not read never stands in the way; only with nothing else it is a stall.
            let others = [(); 3].map(|()| producer.acquire(SOON).unwrap());
            assert_eq!(producer.acquire(Wait::For(MOMENT * 10)).unwrap_err(), AcquireError::Timeout);
            drop(others);
        }
        for _ in 0..40 {
            publish(&producer);
        }
        assert_eq!(free_slots(&producer), 3, "one slot is not given away, whatever the clock says");
        let seen = only_consumer(&scratch);
        assert_eq!((seen.held, seen.unread, seen.expelled), (1, 0, true));
        let others = [(); 3].map(|()| producer.acquire(SOON).unwrap());
        let error = producer.explain(producer.acquire(Wait::Now).unwrap_err());
        assert_says(&error, ErrorKind::Timeout, &["put out but not gone", "were acquired", "`kill -CONT"]);
        assert!(!error.to_string().contains("release frames sooner"), "nobody is left who could: {error}");
        drop(others);
        assert_eq!(producer.stats().unwrap().expelled, 1);
        child.resume();
        child.tell("go on");
        child.expect("out");
        assert_eq!(free_slots(&producer), 3);
        let error = producer.explain(AcquireError::Timeout);
        assert_says(&error, ErrorKind::Timeout, &[&format!("end consumer pid {}", child.pid())]);
        child.tell("let go");
        child.expect("empty-handed");
        assert_eq!(free_slots(&producer), 4, "back by its own word");
        child.tell("end");
        child.finish();
        eventually("its seat is gone", || producer.stats().unwrap().consumers.is_empty());
    }
}

#[test]
fn the_slot_of_one_put_out_comes_back_with_its_death() {
    let scratch = Scratch::new();
    let (producer, mut child) = stopped(&scratch, "holds one", 0, OnStall::Expel(MOMENT));
    for _ in 0..10 {
        publish(&producer);
    }
    assert_eq!(free_slots(&producer), 3);
    child.kill();
    eventually("all slots are free", || free_slots(&producer) == 4);
    assert!(producer.stats().unwrap().consumers.is_empty());
}

#[test]
fn one_that_reconnects_comes_back() {
    let scratch = Scratch::new();
    let (producer, mut child) = stopped(&scratch, "holds one, reconnecting", 0, OnStall::Expel(MOMENT));
    for _ in 0..10 {
        publish(&producer);
    }
    child.resume();
    child.tell("go on");
    eventually("it has joined again", || producer.stats().unwrap().consumers.len() == 2);
    let sequence = publish(&producer);
    child.expect(&sequence.to_string());
    child.tell("end");
    child.finish();
}

/// Who has read all and waits with a frame in hand is stuck for the same one as the producer.
#[test]
fn who_waits_for_the_next_frame_is_not_to_blame() {
    let scratch = Scratch::new();
    let (producer, _stopped) = stopped(&scratch, "holds one", 0, OnStall::Expel(MOMENT * 3));
    let mut good = scratch.consumer("cam").policy(Policy::KeepLast(2)).connect().unwrap();
    let mut reliable = scratch.consumer("cam").connect().unwrap();
    std::thread::scope(|scope| {
        let readers = [&mut good, &mut reliable].map(|consumer| {
            scope.spawn(move || {
                let mut last = receive(consumer);
                while last.sequence() < 30 {
                    last = receive(consumer); // with the one before in hand
                }
                consumer.ending()
            })
        });
        for _ in 0..30 {
            publish(&producer);
        }
        assert_eq!(readers.map(|reader| reader.join().unwrap()), [None, None]);
    });
    assert_eq!(producer.stats().unwrap().expelled, 1);
}

/// It has not received what came after, whatever became of its producer then.
#[test]
fn who_was_put_out_is_not_told_that_the_stream_ended() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(BYTES).on_stall(OnStall::Expel(MOMENT)).create().unwrap();
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    for _ in 0..10 {
        publish(&producer);
    }
    producer.close();
    assert_eq!(consumer.receive(SOON).unwrap_err(), ReceiveError::Closed);
    assert_eq!(consumer.ending(), Some(Ending::Expelled));
}

#[test]
fn what_came_meanwhile_counts_as_missed() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(BYTES).on_stall(OnStall::Expel(MOMENT)).create().unwrap();
    let mut consumer = scratch.consumer("cam").reconnect(true).connect().unwrap();
    let stream = consumer.stream_id();
    publish(&producer);
    drop(receive(&mut consumer));
    for _ in 0..10 {
        publish(&producer);
    }
    eventually("it joins anew", || {
        assert_eq!(consumer.receive(Wait::For(MOMENT)).unwrap_err(), ReceiveError::Timeout);
        consumer.generation() == 1
    });
    publish(&producer);
    let frame = receive(&mut consumer);
    assert_eq!((frame.sequence(), frame.generation(), consumer.stream_id()), (11, 1, stream));
    assert_eq!(consumer.stats().missed, 10);
}

/// Waking up in the middle of its time-out is early enough.
#[test]
fn whoever_moves_in_time_stays() {
    let scratch = Scratch::new();
    let producer =
        scratch.producer("cam").bytes(BYTES).slots(2).on_stall(OnStall::Expel(MOMENT * 50)).create().unwrap();
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    std::thread::scope(|scope| {
        let slow = scope.spawn(move || {
            for number in 0..20 {
                let frame = receive(&mut consumer);
                assert_eq!(frame.sequence(), number);
                std::thread::sleep(MOMENT);
            }
            assert_eq!(consumer.receive(SOON).unwrap_err(), ReceiveError::Closed);
            consumer.ending()
        });
        for _ in 0..20 {
            publish(&producer);
        }
        eventually("it has read all", || producer.stats().unwrap().consumers[0].received == 20);
        producer.close();
        assert_eq!(slow.join().unwrap(), Some(Ending::Closed));
    });
}

/// One that is out and writes itself in again gets nothing that others may hold back; it is hung up on.
#[test]
fn putting_oneself_in_again_breaks_the_protocol() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(BYTES).on_stall(OnStall::Expel(MOMENT)).create().unwrap();
    let raw = Raw::connect(scratch.path(), "cam");
    let seat = Scribble::over(&raw.seated(None)[1]);
    let word = &seat.words()[seat::CURSOR];
    for _ in 0..10 {
        publish(&producer);
    }
    assert_eq!(word.load(Relaxed), u64::MAX - 1);
    assert!(!raw.has_ended(), "it is told by its seat: its connection says how long it may still read");
    word.store(3, Relaxed);
    eventually("it is found out", || {
        drop(producer.acquire(Wait::Now));
        common::publish_if_possible(&producer);
        raw.has_ended()
    });
    assert_eq!(free_slots(&producer), 4);
}

#[test]
fn nonsense_is_refused() {
    let scratch = Scratch::new();
    for after in [Duration::ZERO, Duration::from_micros(999), Duration::MAX] {
        let builder = scratch.producer("cam").bytes(BYTES).on_stall(OnStall::Expel(after));
        assert_says(&builder.create().unwrap_err(), ErrorKind::InvalidArgument, &["on_stall", "1 ms"]);
    }
}
