//! Streams between processes, as they are meant to be used.

#![cfg(not(any(bips_loom, bips_shuttle)))]

mod common;

use bips::{ConsumerBuilder, Description, Fence, Producer, ReceiveError, Wait};
use common::process::{Role, Stage, play};
use common::{LATEST, SOON, Scratch, check, publish, receive};
use nix::poll::{PollFd, PollFlags, poll};
use std::os::fd::BorrowedFd;
use std::time::Duration;

const MIB: u64 = 1 << 20;

const ROLES: &[Role] = &[
    ("produces", produce),
    ("receives all", receive_all),
    ("receives newest", receive_newest),
    ("polls", poll_in_a_loop),
    ("echoes", echo),
    ("receives one", receive_one),
];

#[test]
fn child_process() {
    common::process::child(ROLES);
}

/// Publishes as many frames as its number once two consumers are there.
fn produce(stage: &Stage) {
    let producer = stage.producer("a/b/cam").bytes(MIB).create().unwrap();
    producer.wait_for_consumers(2, SOON).unwrap();
    for _ in 0..stage.number {
        publish(&producer);
    }
    stage.say("published");
}

fn waiting(stage: &Stage) -> ConsumerBuilder {
    stage.consumer("a/b/cam").wait(SOON)
}

fn receive_all(stage: &Stage) {
    let mut consumer = waiting(stage).connect().unwrap();
    for number in 0..stage.number {
        assert_eq!(receive(&mut consumer).sequence(), number);
    }
    assert_eq!(consumer.receive(SOON).unwrap_err(), ReceiveError::Closed);
    assert_eq!(consumer.stats().missed, 0);
    stage.say(consumer.stats().received);
}

fn receive_newest(stage: &Stage) {
    let mut consumer = waiting(stage).policy(LATEST).connect().unwrap();
    let mut last = None;
    loop {
        match consumer.receive(SOON) {
            Ok(frame) => {
                assert_eq!(check(&frame), frame.sequence());
                assert!(last < Some(frame.sequence()), "{last:?} then {}", frame.sequence());
                last = Some(frame.sequence());
            }
            Err(error) => {
                assert_eq!(error, ReceiveError::Closed);
                break;
            }
        }
    }
    // The last frame is never missed, and what was received and missed is all there was.
    assert_eq!(last, Some(stage.number - 1));
    let stats = consumer.stats();
    assert!(stats.received + stats.missed <= stage.number);
    stage.say(stats.received);
}

#[test]
fn two_thousand_megabyte_frames_to_two_processes() {
    let scratch = Scratch::new();
    let frames = 2000;
    // Consumers first: the name and even its directory do not exist yet.
    let mut all = play("receives all", scratch.path(), frames);
    let mut newest = play("receives newest", scratch.path(), frames);
    std::thread::sleep(Duration::from_millis(50));
    let mut producer = play("produces", scratch.path(), frames);
    producer.expect("published");
    all.expect(&frames.to_string());
    println!("keep-last:1 received {} of {frames}", newest.hear());
    producer.finish();
    all.finish();
    newest.finish();
    assert!(scratch.files().is_empty());
}

/// Each step of a nested name appears by itself, with other names coming and going beside it.
#[test]
fn a_consumer_started_first_waits_for_the_name() {
    let scratch = Scratch::new();
    for name in ["cam", "a/b/c/cam"] {
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| scratch.consumer(name).wait(SOON).connect().map(drop));
            for round in 0..20 {
                let beside = ["other", "a/other", "a/b/other"][round % 3];
                drop(scratch.producer(beside).bytes(100).create().unwrap());
            }
            let producer = scratch.producer(name).bytes(100).create().unwrap();
            waiting.join().unwrap().unwrap_or_else(|error| panic!("{name}: {error}"));
            drop(producer);
        });
    }
}

// Waiting

/// Waits by `poll` for as many frames as its number, reading one at a time.
fn poll_in_a_loop(stage: &Stage) {
    let mut consumer = stage.consumer("cam").connect().unwrap();
    let fd = consumer.poll_fd().unwrap();
    assert_eq!(consumer.poll_fd().unwrap(), fd);
    // SAFETY: the consumer keeps the descriptor open.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    stage.say("ready");
    let mut next = 0;
    while next < stage.number {
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, 20_000u16).unwrap(), 1, "the wake-up for frame {next} was lost");
        match consumer.receive(Wait::Now) {
            Ok(frame) => {
                assert_eq!((check(&frame), frame.sequence()), (next, next));
                next += 1;
            }
            Err(error) => assert_eq!(error, ReceiveError::Timeout),
        }
    }
    stage.say("all");
}

#[test]
fn polling_loses_no_wake_up() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let mut child = play("polls", scratch.path(), 1000);
    child.expect("ready");
    for number in 0..1000_u64 {
        publish(&producer);
        // Now in bursts, now one by one, now with the consumer long asleep.
        if number % 100 > 60 {
            std::thread::sleep(Duration::from_micros(number % 7 * 50));
        }
    }
    child.expect("all");
    child.finish();
}

/// Frames in pairs, the next as soon as the last is given back, which is when the consumer empties its descriptor:
/// both may come in the middle of that, and no third comes to wake it for the second.
#[test]
fn polling_loses_no_wake_up_for_pairs() {
    let scratch = Scratch::new();
    let spin = Duration::from_millis(100);
    let producer = scratch.producer("cam").bytes(100).slots(2).max_held(2).spin(spin).create().unwrap();
    let pairs = 30_000;
    let mut child = play("polls", scratch.path(), 2 * pairs);
    child.expect("ready");
    for number in 0..pairs {
        let Ok(mut first) = producer.acquire(SOON) else { break };
        let Ok(mut second) = producer.acquire(SOON) else { break };
        common::fill(&mut first, 2 * number, 100);
        common::fill(&mut second, 2 * number + 1, 100);
        for frame in [first, second] {
            frame.publish(Description::new(), Fence::Signaled).unwrap();
        }
    }
    child.expect("all");
    child.finish();
}

#[test]
fn nothing_new_is_not_readable() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    let fd = consumer.poll_fd().unwrap();
    // SAFETY: the consumer keeps the descriptor open.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let readable = || poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], 0u16).unwrap() == 1;
    for _ in 0..20 {
        // The first signal may say no more than that the producer knows the socket; it may come late.
        common::eventually("it is quiet", || {
            assert_eq!(consumer.receive(Wait::Now).unwrap_err(), ReceiveError::Timeout);
            !readable()
        });
        publish(&producer);
        common::eventually("it is readable", readable);
        receive(&mut consumer);
    }
    producer.close();
    common::eventually("the end is readable", readable);
}

/// Someone who now polls and now blocks: whatever was waited for last, `poll` tells of the next frame.
#[test]
fn polling_after_a_blocking_receive_loses_no_wake_up() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let mut consumer = scratch.consumer("cam").spin(Duration::ZERO).connect().unwrap();
    let fd = consumer.poll_fd().unwrap();
    // SAFETY: the consumer keeps the descriptor open.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(consumer.receive(Wait::Now).unwrap_err(), ReceiveError::Timeout);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            publish(&producer);
        });
        receive(&mut consumer);
    });
    publish(&producer);
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, 5_000u16).unwrap(), 1, "a frame is there and poll does not tell");
}

/// Sends back each number it gets, asleep in between.
fn echo(stage: &Stage) {
    let mut there = stage.consumer("there").spin(Duration::ZERO).wait(SOON).connect().unwrap();
    let back = stage.producer("back").bytes(100).spin(Duration::ZERO).create().unwrap();
    loop {
        match there.receive(SOON) {
            Ok(frame) => common::publish_number(&back, check(&frame)),
            Err(error) => {
                assert_eq!(error, ReceiveError::Closed);
                return;
            }
        };
    }
}

#[test]
fn blocking_hand_over_in_both_directions() {
    let scratch = Scratch::new();
    // One slot: each side waits for the other, for frames and for slots.
    for slots in [1, 4] {
        let there = scratch.producer("there").bytes(100).slots(slots).spin(Duration::ZERO).create().unwrap();
        let child = play("echoes", scratch.path(), 0);
        let back = scratch.consumer("back").spin(Duration::ZERO).wait(SOON);
        let mut back = back.connect().unwrap();
        for number in 0..3000 {
            publish(&there);
            assert_eq!(receive(&mut back).sequence(), number);
        }
        drop(there);
        child.finish();
    }
}

#[test]
fn waiting_for_consumers() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    producer.wait_for_consumers(0, Wait::Now).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| producer.wait_for_consumers(3, SOON));
        let children: Vec<_> = (0..3).map(|_| play("receives one", scratch.path(), 0)).collect();
        waiting.join().unwrap().unwrap();
        publish(&producer);
        children.into_iter().for_each(|child| child.finish());
    });
}

fn receive_one(stage: &Stage) {
    let mut consumer = stage.consumer("cam").wait(SOON).connect().unwrap();
    receive(&mut consumer);
}

// Stopped peers

fn publish_many(producer: &Producer, frames: u64) {
    for _ in 0..frames {
        publish(producer);
    }
}

#[test]
fn a_stopped_keep_last_consumer_blocks_nobody() {
    let scratch = Scratch::new();
    let producer = scratch.producer("a/b/cam").bytes(1000).create().unwrap();
    let child = play("receives newest", scratch.path(), 1100);
    producer.wait_for_consumers(1, SOON).unwrap();
    publish_many(&producer, 100);
    child.stop();
    publish_many(&producer, 1000);
    let stats = producer.stats().unwrap();
    assert!(stats.evicted >= 900 && stats.consumers[0].held <= 1, "{stats:?}");
    child.resume();
    drop(producer);
    child.finish();
}

#[test]
fn a_stopped_reliable_consumer_holds_back_until_it_goes_on() {
    let scratch = Scratch::new();
    let producer = scratch.producer("a/b/cam").bytes(1000).create().unwrap();
    let child = play("receives all", scratch.path(), 100);
    producer.wait_for_consumers(1, SOON).unwrap();
    publish_many(&producer, 50);
    child.stop();
    let (mut published, error) = (
        50,
        loop {
            match producer.acquire(Wait::For(Duration::from_millis(100))) {
                Ok(frame) => drop(frame),
                Err(error) => break error,
            }
            if producer.stats().unwrap().published < 60 {
                publish(&producer);
            }
        },
    );
    let message = producer.explain(error).to_string();
    let pid = format!("consumer pid {}", child.pid());
    assert!(message.contains(&pid) && message.contains("(reliable)"), "{message}");
    published = published.max(producer.stats().unwrap().published);
    child.resume();
    publish_many(&producer, 100 - published);
    drop(producer);
    child.finish();
}

#[test]
fn a_stopped_producer_is_not_a_dead_one() {
    let scratch = Scratch::new();
    let child = play("echoes", scratch.path(), 0);
    let there = scratch.producer("there").bytes(100).create().unwrap();
    let mut back = scratch.consumer("back").wait(SOON).connect().unwrap();
    publish(&there);
    receive(&mut back);
    child.stop();
    publish(&there);
    assert_eq!(back.receive(Wait::For(Duration::from_millis(100))).unwrap_err(), ReceiveError::Timeout);
    let error = scratch.consumer("back").connect().unwrap_err();
    common::assert_says(&error, bips::ErrorKind::Timeout, &["stopped"]);
    let error = scratch.producer("back").bytes(100).create().unwrap_err();
    assert_eq!(error.kind(), bips::ErrorKind::NameTaken);
    child.resume();
    receive(&mut back);
    drop(there);
    child.finish();
}
