//! Closing a consumer from another thread.

#![cfg(not(any(bips_loom, bips_shuttle)))]

mod common;

use bips::{Consumer, Ending, ErrorKind, OnStall, ReceiveError, Wait};
use common::process::{Role, Stage, play};
use common::{PATIENCE, SOON, Scratch, assert_says, eventually, publish, receive};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::BorrowedFd;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

const ROLES: &[Role] = &[("comes next", come_next)];

#[test]
fn child_process() {
    common::process::child(ROLES);
}

/// The next producer of the name, which is stopped as soon as it is there.
fn come_next(stage: &Stage) {
    let producer = stage.producer("cam").bytes(100).slots(2).create().unwrap();
    stage.say("there");
    stage.hear();
    // Whoever asked for a seat is seated by now, or has hung up.
    let until = Instant::now() + Duration::from_millis(500);
    while Instant::now() < until && producer.wait_for_consumers(1, Wait::Now).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    for _ in 0..5 {
        publish(&producer);
    }
    stage.say("published");
}

/// It has asked the next producer for a seat, which nobody would read at.
#[test]
fn one_that_has_asked_for_a_seat() {
    let scratch = Scratch::new();
    let first = scratch.producer("cam").bytes(100).create().unwrap();
    let mut consumer = scratch.consumer("cam").reconnect(true).connect().unwrap();
    drop(first);
    let mut next = play("comes next", scratch.path(), 0);
    next.expect("there");
    next.stop();
    assert_eq!(consumer.receive(Wait::For(Duration::from_millis(300))).unwrap_err(), ReceiveError::Timeout);
    let closer = consumer.closer();
    closer.close();
    assert_eq!(consumer.receive(Wait::Forever).unwrap_err(), ReceiveError::Closed);
    next.resume();
    next.tell("go on");
    next.expect("published");
    next.finish();
    assert!(closer.is_closed());
}

/// A program that closes and then asks how it ended hears what had happened before.
#[test]
fn one_that_was_put_out() {
    let scratch = Scratch::new();
    let producer = scratch
        .producer("cam")
        .bytes(100)
        .slots(2)
        .on_stall(OnStall::Expel(Duration::from_millis(50)))
        .create();
    let producer = producer.unwrap();
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    for _ in 0..4 {
        publish(&producer);
    }
    eventually("it is put out", || consumer.ending() == Some(Ending::Expelled));
    consumer.close();
    assert_eq!(consumer.ending(), Some(Ending::Expelled));
    assert_eq!(consumer.receive(Wait::Now).unwrap_err(), ReceiveError::Closed);
    assert_eq!(consumer.ending(), Some(Ending::Expelled));
}

/// A sleeper that nobody woke looks for itself after a second.
const UNWOKEN: Duration = Duration::from_millis(900);

/// What a receive that waits for ever comes to when the consumer is closed, at many moments around its falling asleep.
fn is_closed_while_it_waits(make: impl Fn() -> Consumer, rounds: u32) {
    let mut unwoken = 0;
    for round in 0..rounds {
        let mut consumer = make();
        let closer = consumer.closer();
        let (say, hear) = channel();
        let waiter = thread::spawn(move || {
            let outcome = consumer.receive(Wait::Forever);
            say.send(outcome.map(drop).map_err(|error| (error, consumer.explain(error)))).unwrap();
        });
        thread::sleep(Duration::from_micros(u64::from(round) * 7 % 300));
        let closed = Instant::now();
        closer.close();
        let outcome = hear.recv_timeout(PATIENCE).expect("it wakes");
        unwoken += u32::from(closed.elapsed() > UNWOKEN);
        waiter.join().unwrap();
        let (error, said) = outcome.unwrap_err();
        assert_eq!(error, ReceiveError::Closed);
        assert_says(&said, ErrorKind::Closed, &["was closed by its own program", "connect again"]);
    }
    assert!(unwoken <= rounds / 10, "{unwoken} of {rounds} had to look for themselves");
}

#[test]
fn one_that_waits() {
    let scratch = Scratch::new();
    let _producer = scratch.producer("cam").bytes(100).create().unwrap();
    is_closed_while_it_waits(|| scratch.consumer("cam").connect().unwrap(), 300);
    is_closed_while_it_waits(|| scratch.consumer("cam").spin(Duration::ZERO).connect().unwrap(), 300);
}

#[test]
fn one_with_a_poll_descriptor() {
    let scratch = Scratch::new();
    let _producer = scratch.producer("cam").bytes(100).create().unwrap();
    let make = || {
        let mut consumer = scratch.consumer("cam").connect().unwrap();
        consumer.poll_fd().unwrap();
        consumer
    };
    is_closed_while_it_waits(make, 200);
    let mut consumer = make();
    assert_eq!(consumer.receive(Wait::Now).unwrap_err(), ReceiveError::Timeout);
    let fd = consumer.poll_fd().unwrap();
    // SAFETY: the consumer's, which lives longer.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let closer = consumer.closer();
    let loops = thread::spawn(move || closer.close());
    let patience = PollTimeout::try_from(PATIENCE).unwrap();
    assert_eq!(poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], patience).unwrap(), 1);
    loops.join().unwrap();
    assert_eq!(consumer.receive(Wait::Now).unwrap_err(), ReceiveError::Closed);
    assert_eq!(poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::ZERO).unwrap(), 1, "for good");
}

/// There is no producer to wake anybody.
#[test]
fn one_that_looks_for_the_next_producer() {
    let scratch = Scratch::new();
    let make = || {
        let producer = scratch.producer("cam").bytes(100).create().unwrap();
        let consumer = scratch.consumer("cam").reconnect(true).connect().unwrap();
        drop(producer);
        consumer
    };
    is_closed_while_it_waits(make, 10);
}

/// Where it sleeps changes with the producer.
#[test]
fn one_that_has_joined_anew() {
    let scratch = Scratch::new();
    let first = scratch.producer("cam").bytes(100).create().unwrap();
    let mut consumer = scratch.consumer("cam").reconnect(true).spin(Duration::ZERO).connect().unwrap();
    let closer = consumer.closer();
    drop(first);
    let second = scratch.producer("cam").bytes(100).create().unwrap();
    let (say, hear) = channel();
    let waiter = thread::spawn(move || {
        while let Ok(frame) = consumer.receive(Wait::Forever) {
            say.send(frame.generation()).unwrap();
        }
        consumer.stats().reconnects
    });
    second.wait_for_consumers(1, SOON).unwrap();
    publish(&second);
    assert_eq!(hear.recv_timeout(PATIENCE).unwrap(), 1);
    thread::sleep(Duration::from_millis(20)); // asleep again, most likely
    closer.close();
    assert!(hear.recv_timeout(PATIENCE).is_err(), "it ends");
    assert_eq!(waiter.join().unwrap(), 1);
}

/// A producer does not wait for who reads no more; what is leased stays leased.
#[test]
fn one_that_holds_the_producer_back() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).slots(2).create().unwrap();
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    let first = publish(&producer);
    let held = receive(&mut consumer);
    publish(&producer);
    assert!(producer.acquire(Wait::Now).is_err(), "one held, one unread");
    consumer.close();
    assert!(consumer.closer().is_closed() && consumer.ending().is_none());
    drop(producer.acquire(SOON).unwrap());
    assert_eq!(held.sequence(), first);
    assert_eq!(consumer.receive(Wait::Forever).unwrap_err(), ReceiveError::Closed);

    // From elsewhere: with the next receive.
    let mut other = scratch.consumer("cam").connect().unwrap();
    publish(&producer);
    assert!(producer.acquire(Wait::Now).is_err());
    other.closer().close();
    assert_eq!(other.receive(SOON).unwrap_err(), ReceiveError::Closed);
    producer.acquire(SOON).unwrap();
    consumer.close(); // again: nothing
}
