//! What a consumer can write to: its seat.

use crate::common::wire::{Noise, Raw, Scribble, seat, tail};
use crate::common::{Over, Scratch, eventually, publish, publish_if_possible};
use crate::flow::flows_during;
use crate::futex;
use bips::Wait;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The attacks below are worth something only if they hit what the producer reads: one who speaks the protocol by
/// hand, with the same words, is a consumer like any other.
#[test]
fn the_words_are_where_the_attacks_believe_them() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).slots(4).max_held(2).create().unwrap();
    let raw = Raw::connect(scratch.path(), "cam");
    let fds = raw.seated(None);
    let seat = Scribble::over(&fds[1]);
    let info = || producer.stats().unwrap().consumers[0].clone();
    let set = |at: usize, value| seat.words()[at].store(value, Relaxed);
    for number in 1..=3 {
        set(seat::PARKED, 1);
        publish(&producer);
        assert_eq!(tail(&fds[0]), number);
        assert_eq!(seat.words()[seat::PARKED].load(Relaxed), 2, "a publication wakes");
        assert_eq!(u64::from(info().unread), number);
    }
    set(seat::HELD, 0b10);
    set(seat::CURSOR, 2);
    set(seat::RECEIVED, 2);
    set(seat::MISSED, 77);
    let info = info();
    assert_eq!((info.held, info.unread, info.received, info.missed), (1, 1, 2, 77));
}

/// Any word, anywhere in its seat.
#[test]
fn a_seat_full_of_noise() {
    for depth in [None, Some(1), Some(64)] {
        flows_during(1000, move |attack| {
            let mut noise = Noise(0x1234_5678_9abc_def1);
            while attack.goes_on() {
                let raw = attack.connect();
                let seat = Scribble::over(&raw.seated(depth)[1]);
                for _ in 0..20 {
                    for word in seat.words() {
                        word.store(noise.word(), Relaxed);
                    }
                }
                for _ in 0..20_000 {
                    let at = seat::ALL[noise.word() as usize % seat::ALL.len()];
                    seat.words()[at].store(noise.word() >> (noise.word() % 64), Relaxed);
                }
                // If nothing so far was too much, this is.
                seat.words()[seat::HELD].store(u64::MAX, Relaxed);
                eventually("noise is noticed", || raw.has_ended());
            }
        });
    }
}

/// Values a consumer may have, at times it may not: the cursor jumps, bits come and go.
#[test]
fn a_seat_that_lies_plausibly() {
    flows_during(1000, |attack| {
        let mut noise = Noise(0xfeed_5678_9abc_def1);
        let (mut woken, mut believed) = (false, 0);
        while attack.goes_on() {
            let raw = attack.connect();
            let fds = raw.seated(Some(4));
            let seat = Scribble::over(&fds[1]);
            let [cursor, held, parked] = [seat::CURSOR, seat::HELD, seat::PARKED].map(|at| &seat.words()[at]);
            // From here on only the producer writes a 0 there.
            let mut asleep = None;
            for _ in 0..2_000 {
                // Never backwards by our own count, but perhaps by the producer's, which may have evicted us.
                let ahead = tail(&fds[0]).saturating_sub(noise.word() % 4);
                cursor.fetch_max(ahead, Relaxed);
                held.store(1 << (noise.word() % 8) | 1 << (noise.word() % 8), Relaxed);
                // Odd is asleep; whoever wakes it makes it even.
                let said = (noise.word() % 8) | 1;
                woken |= asleep.replace(said).is_some_and(|said| parked.load(Relaxed) == said + 1);
                parked.store(said, Relaxed);
                if noise.word().is_multiple_of(16) {
                    std::thread::yield_now();
                }
                if raw.has_ended() {
                    break;
                }
                believed += 1;
            }
        }
        assert!(woken, "the producer never acted on `parked`");
        assert!(believed > 1000, "hardly a lie was plausible: {believed}");
    });
}

/// What is claimed and never given back costs `max_held` slots; what is never read by a keep-last seat, nothing.
#[test]
fn a_seat_that_never_lets_go() {
    flows_during(1000, |attack| {
        let raw = attack.connect();
        let seat = Scribble::over(&raw.seated(Some(64))[1]);
        while attack.goes_on() {
            seat.words()[seat::HELD].store(0b11, Relaxed);
            std::thread::yield_now();
        }
        assert!(!raw.has_ended(), "what it does is allowed");
        let info = bips::query("cam", Some(attack.scratch.path())).unwrap();
        assert!(info.consumers.iter().any(|consumer| consumer.held == 2), "the claim is believed");
    });
}

/// A crowd of threads that sleep on one seat's word: the producer wakes one of them at a time.
#[test]
fn a_seat_with_a_crowd_asleep_on_it() {
    let woken = AtomicU64::new(0);
    flows_during(1000, |attack| {
        let (raw, over) = (attack.connect(), AtomicBool::new(false));
        let seat = Scribble::over(&raw.seated(Some(1))[1]);
        let parked = &seat.words()[seat::PARKED];
        std::thread::scope(|scope| {
            let _over = Over(&over);
            for _ in 0..200 {
                scope.spawn(|| {
                    while !over.load(Relaxed) {
                        // Odd is asleep; whoever wakes it makes it even.
                        let seen = parked.fetch_or(1, Relaxed) | 1;
                        futex::wait(parked, seen as u32, Duration::from_millis(200));
                        woken.fetch_add(u64::from(parked.load(Relaxed) != seen), Relaxed);
                    }
                });
            }
            while attack.goes_on() || woken.load(Relaxed) == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        assert!(!raw.has_ended(), "everybody may sleep");
    });
}

#[test]
fn a_seat_claiming_more_than_allowed_is_removed() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).max_held(2).create().unwrap();
    for (word, value) in [
        (seat::HELD, 0b111),
        (seat::HELD, 1 << 4),
        (seat::HELD, u64::MAX),
        (seat::CURSOR, 5),
        (seat::CURSOR, u64::MAX - 1),
    ] {
        let raw = Raw::connect(scratch.path(), "cam");
        let seat = Scribble::over(&raw.seated(None)[1]);
        assert_eq!(producer.stats().unwrap().consumers.len(), 1);
        seat.words()[word].store(value, Relaxed);
        // The producer looks when it next needs to; in haste it uses up what it knows to be free first.
        eventually("the seat is removed", || {
            drop(producer.acquire(Wait::Now));
            publish_if_possible(&producer);
            producer.stats().unwrap().consumers.is_empty()
        });
        assert!(raw.hear().is_none(), "it is told by the end of its connection");
    }
}

#[test]
fn holes_in_a_seat_and_a_bell() {
    use nix::fcntl::{FallocateFlags, fallocate};
    flows_during(1000, |attack| {
        while attack.goes_on() {
            let raw = attack.connect();
            let fds = raw.seated(Some(1));
            let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            for _ in 0..50 {
                fallocate(&fds[1], flags, 0, 4096).unwrap();
                fallocate(&fds[2], flags, 0, 4096).unwrap();
            }
            for fd in [&fds[0], &fds[3]] {
                assert!(fallocate(fd, flags, 0, 4096).is_err(), "read-only memory has no holes made");
            }
            for fd in &fds {
                assert!(nix::unistd::ftruncate(fd, 0).is_err(), "sealed memory shrinks");
                assert!(nix::unistd::ftruncate(fd, 1 << 20).is_err(), "sealed memory grows");
            }
        }
    });
}
