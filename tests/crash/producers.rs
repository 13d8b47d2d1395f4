//! A producer dies.

use crate::MIB;
use crate::common::process::{Role, Stage, play};
use crate::common::{SOON, Scratch, check, publish, receive};
use bips::{DType, ReceiveError, Wait};
use std::os::fd::BorrowedFd;
use std::time::Duration;

pub(crate) const ROLES: [Role; 2] = [("publishes three", publish_three), ("publishes", publish_for_ever)];

fn publish_three(stage: &Stage) {
    let producer = stage.producer("cam").bytes(MIB).create().unwrap();
    producer.wait_for_consumers(1, SOON).unwrap();
    for _ in 0..3 {
        publish(&producer);
    }
    stage.say("published");
    stage.hear();
}

fn publish_for_ever(stage: &Stage) {
    let shape = [stage.number, 100];
    let producer = stage.producer("cam").tensor(DType::U8, &shape).create().unwrap();
    producer.wait_for_consumers(1, SOON).unwrap();
    loop {
        publish(&producer);
    }
}

#[test]
fn frames_outlive_a_killed_producer() {
    let scratch = Scratch::new();
    let mut child = play("publishes three", scratch.path(), 0);
    let mut consumer = scratch.consumer("cam").wait(SOON).connect().unwrap();
    child.expect("published");
    let held = [receive(&mut consumer), receive(&mut consumer)];
    child.kill();
    // The name is free at once, and what comes under it is another stream.
    let next = scratch.producer("cam").bytes(MIB).create().unwrap();
    publish(&next);
    for (number, frame) in held.iter().enumerate() {
        assert_eq!(check(frame), number as u64);
    }
    drop(held);
    assert_eq!(receive(&mut consumer).sequence(), 2);
    for wait in [SOON, Wait::Forever, Wait::Now] {
        assert_eq!(consumer.receive(wait).unwrap_err(), ReceiveError::Closed);
    }
}

#[test]
fn a_killed_producer_wakes_its_consumers() {
    let scratch = Scratch::new();
    let mut child = play("publishes three", scratch.path(), 0);
    let mut consumer = scratch.consumer("cam").wait(SOON).connect().unwrap();
    child.expect("published");
    for _ in 0..3 {
        receive(&mut consumer);
    }
    let mut second = scratch.consumer("cam").connect().unwrap();
    let fd = second.poll_fd().unwrap();
    assert_eq!(second.receive(Wait::Now).unwrap_err(), ReceiveError::Timeout);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| consumer.receive(SOON).unwrap_err());
        let polling = scope.spawn(|| {
            // SAFETY: `second` keeps the descriptor open.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            let mut fds = [nix::poll::PollFd::new(fd, nix::poll::PollFlags::POLLIN)];
            // The first signal says that the socket was noted; after it comes only the end.
            while second.receive(Wait::Now).unwrap_err() == ReceiveError::Timeout {
                assert_eq!(nix::poll::poll(&mut fds, 60_000u16).unwrap(), 1, "never readable");
            }
            second.receive(Wait::Now).unwrap_err()
        });
        std::thread::sleep(Duration::from_millis(20));
        child.kill();
        assert_eq!(waiting.join().unwrap(), ReceiveError::Closed);
        assert_eq!(polling.join().unwrap(), ReceiveError::Closed);
    });
}

#[test]
fn a_reconnecting_consumer_outlives_producers() {
    let scratch = Scratch::new();
    let mut child = play("publishes", scratch.path(), 1);
    let mut consumer = scratch.consumer("cam").wait(SOON).reconnect(true).connect().unwrap();
    let mut kept = None;
    for rows in 2..12 {
        let mut last = receive(&mut consumer);
        for _ in 0..50 {
            let sequence = last.sequence();
            last = receive(&mut consumer);
            assert_eq!(last.sequence(), sequence + 1);
        }
        assert_eq!(last.shape(), [rows - 1, 100]);
        let number = check(&last);
        // A frame of each pool is kept into the life of the next.
        if let Some((frame, number)) = kept.replace((last, number)) {
            assert_eq!(check(&frame), number);
        }
        child.kill();
        child = play("publishes", scratch.path(), rows);
        let first = loop {
            let frame = receive(&mut consumer);
            if frame.shape()[0] == rows {
                break frame;
            }
        };
        assert_eq!(first.sequence(), 0, "the numbers begin anew");
        assert_eq!(u64::from(first.generation()), rows - 1);
        assert_eq!((consumer.generation(), consumer.content().shape()), (first.generation(), first.shape()));
    }
    assert_eq!(consumer.stats().reconnects, 10);
}

#[test]
fn a_reconnecting_consumer_waits_as_long_as_it_takes() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let mut consumer = scratch.consumer("cam").reconnect(true).connect().unwrap();
    drop(producer);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| consumer.receive(Wait::Forever).map(|frame| frame.sequence()));
        std::thread::sleep(Duration::from_millis(5500));
        let next = scratch.producer("cam").bytes(100).create().unwrap();
        while next.wait_for_consumers(1, Wait::For(Duration::from_millis(50))).is_err() {
            assert!(!waiting.is_finished(), "given up: {:?}", waiting.join());
        }
        publish(&next);
        assert_eq!(waiting.join().unwrap(), Ok(0));
    });
}
