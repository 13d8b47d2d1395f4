//! Finding a producer and being let in: those who are not there yet, full, stopped, or gone again.

#![cfg(not(any(bips_loom, bips_shuttle)))]

mod common;

use bips::{ErrorKind, ReceiveError, Wait};
use common::process::{Role, Stage, play};
use common::wire::{Fake, Raw};
use common::{SOON, Scratch, assert_says, eventually, publish, receive};
use nix::sys::resource::{UsageWho, getrusage};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

const ROLES: &[Role] = &[("publishes", publish_when_told)];

#[test]
fn child_process() {
    common::process::child(ROLES);
}

fn publish_when_told(stage: &Stage) {
    let producer = stage.producer("cam").bytes(100).history(1).create().unwrap();
    publish(&producer);
    stage.say("published");
    stage.hear();
}

/// More connections than a producer keeps open, by peers that say nothing.
#[test]
fn a_full_producer_says_so() {
    let scratch = Scratch::new();
    let _producer = scratch.producer("cam").bytes(100).create().unwrap();
    let _silent: Vec<_> = (0..128).map(|_| Raw::connect(scratch.path(), "cam")).collect();
    let error = scratch.consumer("cam").connect().unwrap_err();
    assert_says(&error, ErrorKind::Timeout, &["as many connections as it allows", "try again"]);
    // Silent ones are dropped, and who waits gets in.
    scratch.consumer("cam").wait(SOON).connect().unwrap();
}

/// The answer to a consumer in no hurry comes as late as it likes.
#[test]
fn a_stopped_producer_is_waited_for_as_long_as_asked() {
    let scratch = Scratch::new();
    let mut child = play("publishes", scratch.path(), 0);
    child.expect("published");
    child.stop();
    let error = scratch.consumer("cam").wait(Wait::For(Duration::from_millis(10))).connect().unwrap_err();
    assert_says(&error, ErrorKind::Timeout, &["does not answer", "stopped"]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| scratch.consumer("cam").wait(SOON).connect());
        std::thread::sleep(Duration::from_millis(2500));
        assert!(!waiting.is_finished());
        child.resume();
        receive(&mut waiting.join().unwrap().unwrap());
    });
}

#[test]
fn a_wait_can_be_interrupted() {
    let scratch = Scratch::new();
    let fake = Fake::listen(scratch.path(), "silent");
    for (name, kind) in [("nobody", ErrorKind::NotFound), ("silent", ErrorKind::Timeout)] {
        let asked = Arc::new(AtomicU32::new(0));
        let count = asked.clone();
        let builder = scratch.consumer(name).wait(Wait::Forever);
        let error = builder.interrupt(move || count.fetch_add(1, Relaxed) == 3).connect().unwrap_err();
        assert_says(&error, kind, &[]);
        assert_eq!(asked.load(Relaxed), 4);
    }
    drop(fake);
}

/// A reconnecting consumer that only looks goes on with its one request from look to look.
#[test]
fn looking_for_the_next_producer_does_not_wait_for_it() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let mut consumer = scratch.consumer("cam").reconnect(true).connect().unwrap();
    publish(&producer);
    drop(producer);
    receive(&mut consumer);
    let mut look = |times: u32| {
        for _ in 0..times {
            assert_eq!(consumer.receive(Wait::Now).unwrap_err(), ReceiveError::Timeout);
        }
    };
    look(100);
    let fake = Fake::listen(scratch.path(), "cam");
    look(100);
    let raw = fake.accept();
    raw.hear().expect("a request");
    look(100);
    assert!(!fake.has_more(), "one request at a time");
    // The stopped one is gone; its successor lets the consumer in.
    drop((raw, fake));
    std::fs::remove_file(scratch.path().join("cam.sock")).unwrap();
    let mut child = play("publishes", scratch.path(), 0);
    child.expect("published");
    eventually("it goes on", || consumer.receive(Wait::Now).is_ok());
    assert_eq!(consumer.stats().reconnects, 1);
}

/// Waiting costs nothing: no looking around, only sleep until something changes where the name will be.
#[test]
fn who_waits_for_a_name_sleeps() {
    let scratch = Scratch::new();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let consumer = scratch.consumer("deep/down/cam").wait(SOON).connect().unwrap();
            let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
            (consumer, usage.voluntary_context_switches())
        });
        std::thread::sleep(Duration::from_millis(500));
        let producer = scratch.producer("deep/down/cam").bytes(100).create().unwrap();
        let (mut consumer, slept) = waiting.join().unwrap();
        publish(&producer);
        receive(&mut consumer);
        assert!(slept < 40, "it woke up {slept} times");
    });
}
