//! The bell, which everybody may write to and sleep on.

use crate::common::wire::{Noise, Raw, Scribble};
use crate::common::{Over, Scratch, publish, receive};
use nix::libc;
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
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    std::thread::scope(|scope| {
        let _over = Over(&over);
        scope.spawn(|| {
            let mut noise = Noise(77);
            while !over.load(Relaxed) {
                if noise.word().is_multiple_of(8) {
                    bell.words()[0].store(noise.word() % 2, Relaxed);
                }
                requeue(&bell.words()[0], &bell.words()[100]);
                std::thread::yield_now();
            }
        });
        let received = scope.spawn(move || {
            for _ in 0..100 {
                let frame = receive(&mut consumer);
                // The producer falls asleep meanwhile.
                std::thread::sleep(Duration::from_millis(1));
                drop(frame);
            }
        });
        for _ in 0..100 {
            publish(&producer);
        }
        received.join().unwrap();
    });
}

/// Moves whoever sleeps on one futex word to another, as anyone may who has both mapped.
fn requeue(from: &AtomicU64, to: &AtomicU64) {
    let (none, all) = (0, i32::MAX as usize);
    // SAFETY: both words live; FUTEX_REQUEUE touches the value of neither.
    unsafe { libc::syscall(libc::SYS_futex, from.as_ptr(), libc::FUTEX_REQUEUE, none, all, to.as_ptr()) };
}
