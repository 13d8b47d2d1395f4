//! The control socket with a peer that speaks it wrongly, on either end.

#![cfg(not(any(bips_loom, bips_shuttle)))]

mod common;

use bips::{ErrorKind, Wait};
use common::wire::{self, Fake, JOIN, QUERY, REFUSED, Raw, WELCOME};
use common::{Scratch, assert_says, eventually};
use std::time::{Duration, Instant};

const MAJOR: u16 = bips::PROTOCOL.0;

/// What a producer answers to a first message.
fn answer(scratch: &Scratch, message: &[u8]) -> (u32, String) {
    let raw = Raw::connect(scratch.path(), "cam");
    assert!(raw.send(message, &[]));
    let (reply, fds) = raw.hear().expect("an answer before the end");
    assert_eq!(wire::tag(&reply), REFUSED);
    assert!(fds.is_empty());
    assert!(raw.hear().is_none(), "it hangs up after a refusal");
    (wire::code(&reply), wire::refusal(&reply))
}

#[test]
fn a_producer_refuses_another_major_version_naming_both() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    for tag in [JOIN, QUERY, 77] {
        let (code, text) = answer(&scratch, &wire::message(9, tag, &[0; 8]));
        assert_eq!(code, ErrorKind::Protocol as u32);
        let ours = format!("{}.{}", bips::PROTOCOL.0, bips::PROTOCOL.1);
        assert!(text.contains(&ours) && text.contains("9.0"), "{text}");
        assert!(text.contains("update"), "{text}");
    }
    assert!(producer.stats().unwrap().consumers.is_empty());
}

#[test]
fn a_consumer_refuses_another_major_version_naming_both() {
    let scratch = Scratch::new();
    let fake = Fake::listen(scratch.path(), "cam");
    let served = std::thread::spawn(move || {
        for _ in 0..2 {
            let raw = fake.accept();
            raw.hear().expect("a request");
            raw.send(&wire::message(9, WELCOME, &[0; 100]), &[]);
        }
    });
    let ours = format!("{}.{}", bips::PROTOCOL.0, bips::PROTOCOL.1);
    let error = scratch.consumer("cam").connect().unwrap_err();
    assert_says(&error, ErrorKind::Protocol, &[&ours, "9.0", "update the older"]);
    let error = bips::query("cam", Some(scratch.path())).unwrap_err();
    assert_says(&error, ErrorKind::Protocol, &[&ours, "9.0", "update the older"]);
    served.join().unwrap();
}

#[test]
fn a_newer_minor_version_is_understood() {
    let scratch = Scratch::new();
    let _producer = scratch.producer("cam").bytes(100).create().unwrap();
    let raw = Raw::connect(scratch.path(), "cam");
    let mut message = wire::join(None);
    message[6] = 200;
    assert!(raw.send(&message, &[]));
    let (reply, fds) = raw.hear().expect("an answer");
    assert_eq!(wire::tag(&reply), WELCOME);
    assert_eq!(fds.len(), 4, "board, seat, bell, pool");
}

#[test]
fn half_a_message_is_refused() {
    let scratch = Scratch::new();
    let _producer = scratch.producer("cam").bytes(100).create().unwrap();
    let whole = wire::join(None);
    for len in 1..whole.len() {
        let (code, text) = answer(&scratch, &whole[..len]);
        assert_eq!(code, ErrorKind::Protocol as u32);
        assert!(text.contains("too short"), "{text}");
    }
}

#[test]
fn requests_at_the_wrong_time() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let (code, text) = answer(&scratch, &wire::message(MAJOR, 55, &[]));
    assert_eq!(code, ErrorKind::Protocol as u32, "{text}");
    assert!(text.contains("request 55"), "{text}");
    let (_, text) = answer(&scratch, &wire::message(MAJOR, JOIN, &[7, 0, 0, 0, 0, 0, 0, 0]));
    assert!(text.contains("policy 7"), "{text}");
    for second in [wire::join(None), wire::message(MAJOR, QUERY, &[])] {
        let raw = Raw::connect(scratch.path(), "cam");
        raw.seated(None);
        assert_eq!(producer.stats().unwrap().consumers.len(), 1);
        raw.send(&second, &[]);
        let (reply, _) = raw.hear().expect("an answer before the end");
        assert_eq!(wire::tag(&reply), REFUSED);
        assert!(raw.hear().is_none());
        eventually("its seat is free", || producer.stats().unwrap().consumers.is_empty());
    }
}

#[test]
fn who_does_not_speak_bips() {
    let scratch = Scratch::new();
    let _producer = scratch.producer("cam").bytes(100).create().unwrap();
    let (code, text) = answer(&scratch, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(code, ErrorKind::Protocol as u32);
    assert!(text.contains("does not speak bips"), "{text}");
    let (_, text) = answer(&scratch, &vec![b'x'; 20 << 10]);
    assert!(text.contains("larger than the protocol allows"), "{text}");
}

/// A child that is stopped, or another program altogether.
#[test]
fn a_producer_that_does_not_answer() {
    let scratch = Scratch::new();
    let fake = Fake::listen(scratch.path(), "cam");
    let error = scratch.consumer("cam").connect().unwrap_err();
    assert_says(&error, ErrorKind::Timeout, &["does not answer", "stopped"]);
    drop(fake);
}

#[test]
fn a_producer_that_hangs_up_instead_of_answering() {
    let scratch = Scratch::new();
    let fake = Fake::listen(scratch.path(), "cam");
    let served = std::thread::spawn(move || drop(fake.accept()));
    let error = scratch.consumer("cam").connect().unwrap_err();
    assert_says(&error, ErrorKind::NotFound, &["ended while it was asked", "try again"]);
    served.join().unwrap();
}

/// A wait that was long in finding the producer leaves it as much time to answer as any other.
#[test]
fn patience_begins_when_the_producer_is_found() {
    let scratch = Scratch::new();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| scratch.consumer("cam").wait(Wait::Forever).connect().map(drop));
        std::thread::sleep(Duration::from_millis(5500));
        let fake = Fake::listen(scratch.path(), "cam");
        let raw = fake.accept();
        raw.hear().expect("a request");
        // Slow, but far from dead.
        std::thread::sleep(Duration::from_millis(200));
        raw.send(&wire::message(9, WELCOME, &[]), &[]);
        let error = waiting.join().unwrap().unwrap_err();
        assert_says(&error, ErrorKind::Protocol, &["9.0"]);
    });
    assert!(begin.elapsed() > Duration::from_secs(5));
}
