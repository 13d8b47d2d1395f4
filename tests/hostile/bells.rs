//! The bell, which everybody may write to and sleep on.

use crate::common::wire::{Noise, Raw, Scribble};
use crate::common::{Over, Scratch, publish, receive};
use crate::flow::flows_during;
use crate::futex;
use bips::{Consumer, Producer};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The bell is a hint: a producer without a slot finds one all the same, whatever the bell says, and even when its
/// sleep is moved away to a word that nobody wakes.
#[test]
fn a_bell_that_lies() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).slots(1).spin(Duration::ZERO).create().unwrap();
    let raw = Raw::connect(scratch.path(), "cam");
    let fds = raw.seated(Some(1));
    let (bell, over) = (Scribble::over(&fds[2]), AtomicBool::new(false));
    let consumer = scratch.consumer("cam").connect().unwrap();
    std::thread::scope(|scope| {
        let _over = Over(&over);
        scope.spawn(|| {
            let mut noise = Noise(77);
            while !over.load(Relaxed) {
                if noise.word().is_multiple_of(8) {
                    bell.words()[0].store(noise.word() % 2, Relaxed);
                }
                futex::requeue(&bell.words()[0], &bell.words()[100]);
                std::thread::yield_now();
            }
        });
        flow(&producer, consumer);
    });
}

/// Rung without end, and everybody on it woken for nothing all the time.
#[test]
fn a_bell_that_never_stops() {
    flows_during(1000, |attack| {
        let raw = attack.connect();
        let bell = Scribble::over(&raw.seated(Some(1))[2]);
        while attack.goes_on() {
            for _ in 0..100 {
                bell.words()[0].fetch_add(1, Relaxed);
                futex::wake(&bell.words()[0]);
            }
        }
        assert!(!raw.has_ended(), "everybody may ring");
    });
}

/// More strangers sleep on the bell, and before the producer, than a ring wakes: it takes a look of its own.
#[test]
fn a_bell_whose_wake_ups_are_swallowed() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).slots(1).spin(Duration::ZERO).create().unwrap();
    let raw = Raw::connect(scratch.path(), "cam");
    let (bell, over) = (Scribble::over(&raw.seated(Some(1))[2]), AtomicBool::new(false));
    let swallowed = AtomicU64::new(0);
    let consumer = scratch.consumer("cam").connect().unwrap();
    std::thread::scope(|scope| {
        let _over = Over(&over);
        for _ in 0..32 {
            scope.spawn(|| {
                let word = &bell.words()[0];
                while !over.load(Relaxed) {
                    let seen = word.load(Relaxed);
                    futex::wait(word, seen as u32, Duration::from_millis(200));
                    swallowed.fetch_add(u64::from(word.load(Relaxed) != seen), Relaxed);
                }
            });
        }
        flow(&producer, consumer);
    });
    assert!(swallowed.into_inner() > 0, "nobody rang");
}

/// A hundred frames through one slot. The producer falls asleep before each of them.
fn flow(producer: &Producer, mut consumer: Consumer) {
    std::thread::scope(|scope| {
        let received = scope.spawn(move || {
            for _ in 0..100 {
                let frame = receive(&mut consumer);
                std::thread::sleep(Duration::from_millis(1));
                drop(frame);
            }
        });
        for _ in 0..100 {
            publish(producer);
        }
        received.join().unwrap();
    });
}
