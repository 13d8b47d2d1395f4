//! What a stream in use refuses, and who it says is to blame.

#![cfg(not(any(bips_loom, bips_shuttle)))]

mod common;

use bips::{AcquireError, Description, ErrorKind, Fence, ReceiveError, Wait};
use common::process::{Role, Stage, play};
use common::{LATEST, PATIENCE, SOON, Scratch, assert_says, eventually, publish, receive};
use std::time::Duration;

const ROLES: &[Role] = &[("holder", hold_two_until_told)];

#[test]
fn child_process() {
    common::process::child(ROLES);
}

fn hold_two_until_told(stage: &Stage) {
    let mut consumer = stage.consumer("cam").connect().unwrap();
    stage.say("ready");
    let held = [receive(&mut consumer), receive(&mut consumer)];
    stage.say("holding");
    stage.hear();
    drop(held);
}

#[test]
fn all_slots_taken_says_who_holds_them() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).slots(4).max_held(2).create().unwrap();
    let mut child = play("holder", scratch.path(), 0);
    child.expect("ready");
    for _ in 0..3 {
        publish(&producer);
    }
    child.expect("holding");
    let own = producer.acquire(Wait::Now).unwrap();
    let error = producer.acquire(Wait::Now).unwrap_err();
    assert_eq!(error, AcquireError::Timeout);
    let holder = format!("consumer pid {} \"refusals-", child.pid());
    assert_says(
        &producer.explain(error),
        ErrorKind::Timeout,
        &[
            "all 4 slots of cam",
            "this producer itself holds 1",
            &holder,
            "holds 2 and has 1 unread (reliable)",
            "raise `slots`",
            "keep-last",
        ],
    );
    let error = producer.acquire(Wait::For(Duration::from_millis(20))).unwrap_err();
    assert_eq!(error, AcquireError::Timeout);
    drop(own);
    child.tell("go");
    producer.acquire(SOON).unwrap();
}

#[test]
fn receiving_after_the_end() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    let error = consumer.receive(Wait::Now).unwrap_err();
    assert_says(&consumer.explain(error), ErrorKind::Timeout, &["cam", "wait longer"]);
    publish(&producer);
    producer.close();
    producer.close();
    drop(receive(&mut consumer));
    for wait in [Wait::Now, Wait::For(PATIENCE), Wait::Forever] {
        let error = consumer.receive(wait).unwrap_err();
        assert_eq!(error, ReceiveError::Closed);
        assert_says(&consumer.explain(error), ErrorKind::Closed, &["cam has ended", "reconnect"]);
    }
}

#[test]
fn using_a_closed_producer() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let frame = producer.acquire(Wait::Now).unwrap();
    producer.close();
    let error = frame.publish(Description::new(), Fence::Signaled).unwrap_err();
    assert_says(&error, ErrorKind::Closed, &["cam is closed", "not published"]);
    let error = producer.acquire(Wait::Forever).unwrap_err();
    assert_says(&producer.explain(error), ErrorKind::Closed, &["make a new one"]);
    let error = producer.wait_for_consumers(1, Wait::Forever).unwrap_err();
    assert_says(&error, ErrorKind::Closed, &["cam is closed"]);
}

#[test]
fn closing_wakes_who_waits_for_a_slot() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).slots(1).create().unwrap();
    let _taken = producer.acquire(Wait::Now).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| producer.acquire(SOON).map(drop));
        std::thread::sleep(Duration::from_millis(20));
        producer.close();
        assert_eq!(waiting.join().unwrap(), Err(AcquireError::Closed));
    });
}

#[test]
fn leasing_more_than_allowed() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).slots(4).create().unwrap();
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    assert_eq!(consumer.max_held(), 2);
    for _ in 0..3 {
        publish(&producer);
    }
    let held = [receive(&mut consumer), receive(&mut consumer)];
    let error = consumer.receive(Wait::Now).unwrap_err();
    assert_eq!(error, ReceiveError::TooManyHeld);
    assert_says(
        &consumer.explain(error),
        ErrorKind::TooManyHeld,
        &["leases 2 frames of cam", "release one", "max_held"],
    );
    drop(held);
    assert_eq!(receive(&mut consumer).sequence(), 2);
}

#[test]
fn missing_consumers_are_counted() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let _consumer = scratch.consumer("cam").connect().unwrap();
    let error = producer.wait_for_consumers(2, Wait::For(Duration::from_millis(20))).unwrap_err();
    assert_says(&error, ErrorKind::Timeout, &["1 of 2 consumers", "start the others"]);
}

// Who may join, and how

#[test]
fn reliable_consumers_can_be_refused() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).reliable(false).create().unwrap();
    let error = scratch.consumer("cam").connect().unwrap_err();
    assert_says(&error, ErrorKind::AccessDenied, &["no reliable consumers", "\"keep-last:N\""]);
    let mut consumer = scratch.consumer("cam").policy(LATEST).connect().unwrap();
    publish(&producer);
    receive(&mut consumer);
}

#[test]
fn read_only_is_said_on_both_sides() {
    let scratch = Scratch::new();
    for writable in [false, true] {
        let producer = scratch.producer("cam").bytes(100).writable(writable).create().unwrap();
        let mut consumer = scratch.consumer("cam").connect().unwrap();
        assert_eq!((producer.writable(), consumer.writable()), (writable, writable));
        assert_eq!(bips::query("cam", Some(scratch.path())).unwrap().writable, writable);
        publish(&producer);
        assert_eq!(receive(&mut consumer).readonly(), !writable);
    }
}

#[test]
fn the_65th_consumer_is_refused() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let mut all: Vec<_> =
        (0..64).map(|_| scratch.consumer("cam").policy(LATEST).connect().unwrap()).collect();
    let error = scratch.consumer("cam").connect().unwrap_err();
    assert_says(&error, ErrorKind::Timeout, &["64 seats", "end a consumer"]);
    assert_eq!(bips::query("cam", Some(scratch.path())).unwrap().consumers.len(), 64);
    publish(&producer);
    for consumer in &mut all {
        receive(consumer);
    }
    all.pop();
    eventually("a seat is free again", || producer.stats().unwrap().consumers.len() == 63);
    scratch.consumer("cam").connect().unwrap();
}
