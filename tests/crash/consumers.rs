//! A consumer dies.

use crate::MIB;
use crate::common::process::{Role, Stage, play};
use crate::common::{SOON, Scratch, check, eventually, publish, receive};
use bips::ReceiveError;
use std::time::Duration;

pub(crate) const ROLES: [Role; 2] = [("holds two", hold_two), ("receives", receive_for_ever)];

fn hold_two(stage: &Stage) {
    let mut consumer = stage.consumer("cam").connect().unwrap();
    stage.say("ready");
    let _held = [receive(&mut consumer), receive(&mut consumer)];
    stage.say("holding");
    stage.hear();
}

fn receive_for_ever(stage: &Stage) {
    let mut consumer = stage.consumer("cam").connect().unwrap();
    stage.say("ready");
    loop {
        receive(&mut consumer);
    }
}

#[test]
fn the_slots_of_a_killed_consumer_come_back() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(MIB).create().unwrap();
    let mut other = scratch.consumer("cam").connect().unwrap();
    let mut child = play("holds two", scratch.path(), 0);
    child.expect("ready");
    for number in 0..3 {
        publish(&producer);
        assert_eq!(receive(&mut other).sequence(), number);
    }
    child.expect("holding");
    let holder = producer.stats().unwrap().consumers[1].clone();
    assert_eq!((holder.pid, holder.held, holder.unread), (child.pid(), 2, 1));
    child.kill();
    for number in 3..103 {
        publish(&producer);
        assert_eq!(receive(&mut other).sequence(), number);
    }
    assert_eq!(producer.stats().unwrap().consumers.len(), 1);
}

#[test]
fn consumers_killed_at_any_moment() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(MIB).create().unwrap();
    let mut other = scratch.consumer("cam").connect().unwrap();
    let survivor = std::thread::spawn(move || {
        for number in 0.. {
            match other.receive(SOON) {
                Ok(frame) => assert_eq!((check(&frame), frame.sequence()), (number, number)),
                Err(error) => {
                    assert_eq!(error, ReceiveError::Closed);
                    return number;
                }
            }
        }
        unreachable!("a test does not publish 2^64 frames");
    });
    for round in 0..15 {
        let mut child = play("receives", scratch.path(), 0);
        child.expect("ready");
        // Around the kill frames flow; how many before it differs from round to round.
        for _ in 0..5 + round * 7 % 20 {
            publish(&producer);
        }
        std::thread::scope(|scope| {
            scope.spawn(|| child.kill());
            for _ in 0..30 {
                publish(&producer);
            }
        });
    }
    let published = producer.stats().unwrap().published;
    eventually("the dead are gone", || producer.stats().unwrap().consumers.len() == 1);
    producer.close();
    assert_eq!(survivor.join().unwrap(), published);
}

#[test]
fn a_killed_consumer_wakes_who_waits_for_its_slots() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).slots(3).max_held(3).create().unwrap();
    let mut child = play("holds two", scratch.path(), 0);
    child.expect("ready");
    for _ in 0..3 {
        publish(&producer);
    }
    child.expect("holding");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| publish(&producer));
        std::thread::sleep(Duration::from_millis(20));
        child.kill();
        assert_eq!(waiting.join().unwrap(), 3);
    });
}
