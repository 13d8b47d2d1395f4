//! Finding a producer and being let in: those who are not there yet, full, stopped, or gone again.

#![cfg(not(any(bips_loom, bips_shuttle)))]

mod common;

use bips::{ErrorKind, ReceiveError, Wait};
use common::process::{Role, Stage, play};
use common::wire::{Fake, REFUSED, Raw, code, join, tag};
use common::{PATIENCE, SOON, Scratch, assert_says, eventually, publish, receive};
use nix::sys::resource::{UsageWho, getrusage};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

const ROLES: &[Role] = &[("publishes", publish_when_told), ("hurries", publish_and_end)];

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

fn publish_and_end(stage: &Stage) {
    // So that whoever takes a seat for a consumer shows it.
    bips::testing::linger_at("admit: the consumer is seated, and not told", Duration::from_millis(300))
        .unwrap();
    let producer = stage.producer("cam").bytes(100).create().unwrap();
    stage.say("there");
    // Not asleep until it is told, but looking all the time.
    let until = Instant::now() + PATIENCE;
    while producer.wait_for_consumers(1, Wait::For(Duration::from_millis(1))).is_err() {
        assert!(Instant::now() < until);
    }
    publish(&producer);
}

/// A consumer that a producer has waited for gets its frames, however soon that ends then.
#[test]
fn who_was_waited_for_has_joined() {
    let scratch = Scratch::new();
    let mut producer = play("hurries", scratch.path(), 0);
    producer.expect("there");
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    assert_eq!(receive(&mut consumer).sequence(), 0);
    assert_eq!(consumer.receive(SOON).unwrap_err(), ReceiveError::Closed);
    producer.finish();
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

/// In containers it is all that tells consumers apart.
#[test]
fn a_consumer_says_who_it_is() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).slots(1).create().unwrap();
    let named = scratch.consumer("cam").label("front door").connect().unwrap();
    let usual = scratch.consumer("cam").connect().unwrap();
    let silent = Raw::connect(scratch.path(), "cam");
    silent.seated(None);
    let told = bips::query("cam", Some(scratch.path())).unwrap().consumers;
    let labels: Vec<_> = told.iter().map(|consumer| consumer.label.as_str()).collect();
    assert_eq!(labels, ["front door", usual.label(), ""]);
    assert!(usual.label().starts_with("joining-") && usual.label().contains('@'), "{}", usual.label());
    publish(&producer);
    let full = producer.explain(producer.acquire(Wait::Now).unwrap_err());
    assert_says(&full, ErrorKind::Timeout, &["\"front door\" holds 0 and has 1 unread"]);
    drop(named);
    for bad in ["x".repeat(65), "\x1b[2J".into(), "two\nlines".into()] {
        let error = scratch.consumer("cam").label(bad).connect().unwrap_err();
        assert_says(&error, ErrorKind::InvalidArgument, &["at most 64 bytes"]);
    }
}

/// A label is a stranger's text: one that could play tricks on a terminal is not let in, and nobody else notices.
#[test]
fn a_label_that_is_no_text_is_refused() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let mut good = scratch.consumer("cam").connect().unwrap();
    for label in [&b"\x1b]0;owned\x07"[..], b"\xff\xfe", b"a\nb", &[b'x'; 65]] {
        let mut request = join(None);
        request.extend((label.len() as u16).to_le_bytes());
        request.extend(label);
        let raw = Raw::connect(scratch.path(), "cam");
        assert!(raw.send(&request, &[]));
        let (answer, _) = raw.hear().unwrap();
        assert_eq!((tag(&answer), code(&answer)), (REFUSED, ErrorKind::Protocol as u32));
    }
    // More of it than comes, and none of what was said to come.
    let mut short = join(None);
    short.extend([9, 0]);
    let raw = Raw::connect(scratch.path(), "cam");
    assert!(raw.send(&short, &[]));
    assert_eq!(tag(&raw.hear().unwrap().0), REFUSED);
    publish(&producer);
    receive(&mut good);
    assert_eq!(producer.stats().unwrap().consumers.len(), 1);
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
