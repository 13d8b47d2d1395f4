//! Consumers that break every rule: they waste their own seat, and nobody else notices.

#![cfg(not(bips_loom))]

mod common;

use bips::{ErrorKind, ReceiveError, Wait};
use common::wire::{self, JOIN, Noise, QUERY, REFUSED, Raw, Scribble, seat, tail};
use common::{
    Over, PATIENCE, SOON, Scratch, assert_says, check, descriptors, eventually, publish, publish_if_possible,
    receive,
};
use proptest::prelude::*;
use std::cell::Cell;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const MAJOR: u16 = bips::PROTOCOL.0;
const BYTES: u64 = 64 << 10;

/// Lasts until the stream has flowed long enough, and for some rounds at least.
struct Attack<'a> {
    scratch: &'a Scratch,
    enough: &'a AtomicBool,
    rounds: Cell<u32>,
}

impl Attack<'_> {
    fn goes_on(&self) -> bool {
        self.rounds.set(self.rounds.get() + 1);
        self.rounds.get() <= 30 || !self.enough.load(Relaxed)
    }

    fn connect(&self) -> Raw {
        Raw::connect(self.scratch.path(), "cam")
    }
}

/// A stream that flows while `attack` goes on: `frames` frames at least, each seen whole by a reliable consumer and
/// in rising order by a keep-last one.
fn flows_during(frames: u64, attack: impl FnOnce(&Attack<'_>) + Send) {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(BYTES).slots(8).max_held(2).create().unwrap();
    let enough = AtomicBool::new(false);
    let mut reliable = scratch.consumer("cam").connect().unwrap();
    let mut latest = scratch.consumer("cam").policy(common::LATEST).connect().unwrap();
    std::thread::scope(|scope| {
        let _over = Over(&enough);
        let attacker = scope.spawn(|| {
            attack(&Attack { scratch: &scratch, enough: &enough, rounds: Cell::new(0) });
        });
        let all = scope.spawn(move || {
            for number in 0.. {
                match reliable.receive(SOON) {
                    Ok(frame) => assert_eq!((check(&frame), frame.sequence()), (number, number)),
                    Err(error) => return (number, error),
                }
            }
            unreachable!("a test does not publish 2^64 frames");
        });
        let newest = scope.spawn(move || {
            let mut last = None;
            loop {
                match latest.receive(SOON) {
                    Ok(frame) => {
                        assert_eq!(check(&frame), frame.sequence());
                        assert!(last < Some(frame.sequence()));
                        last = Some(frame.sequence());
                    }
                    Err(error) => return error,
                }
            }
        });
        let until = Instant::now() + PATIENCE;
        while producer.stats().unwrap().published < frames || !attacker.is_finished() {
            publish(&producer);
            if producer.stats().unwrap().published >= frames {
                enough.store(true, Relaxed);
            }
            assert!(Instant::now() < until, "the attack does not end");
        }
        attacker.join().unwrap();
        let published = producer.stats().unwrap().published;
        eventually("the attackers are gone", || producer.stats().unwrap().consumers.len() == 2);
        producer.close();
        assert_eq!(all.join().unwrap(), (published, ReceiveError::Closed));
        assert_eq!(newest.join().unwrap(), ReceiveError::Closed);
    });
}

// What a consumer can write to

/// The attacks below are worth something only if they hit what the producer reads: one who speaks the protocol by
/// hand, with the same words, is a consumer like any other.
#[test]
fn the_words_are_where_the_attacks_believe_them() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).slots(4).max_held(2).create().unwrap();
    let raw = Raw::connect(scratch.path(), "cam");
    let fds = raw.seated(None);
    let seat = Scribble::over(&fds[1]);
    let info = || producer.stats().unwrap().consumers[0];
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

/// Whoever may write to the frames may take their pages away. What was in them is lost, and who joins meanwhile is
/// refused; those who are there go on, and pages come back with the next frames.
#[test]
fn holes_in_a_writable_pool() {
    use nix::fcntl::{FallocateFlags, fallocate};
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(BYTES).slots(4).writable(true).create().unwrap();
    let raw = Raw::connect(scratch.path(), "cam");
    let fds = raw.seated(Some(1));
    let punch = || {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        for object in &fds[3..] {
            let len = nix::sys::stat::fstat(object).unwrap().st_size;
            fallocate(object, flags, 0, len).unwrap();
        }
    };
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    for number in 0..50 {
        assert_eq!(publish(&producer), number);
        punch();
        let frame = consumer.receive(SOON).unwrap();
        assert_eq!(frame.sequence(), number);
        let mut bytes = [1; 100];
        frame.copy_to(0, &mut bytes);
        assert_eq!(bytes, [0; 100], "the hole is felt");
    }
    let refused = scratch.consumer("cam").connect().unwrap_err();
    assert_says(&refused, ErrorKind::Protocol, &["not backed by memory"]);
    let mut all: Vec<_> = (0..4).map(|_| producer.acquire(SOON).unwrap()).collect();
    all.iter_mut().for_each(|frame| frame.bytes_mut().fill(1));
    drop(all);
    let mut late = scratch.consumer("cam").connect().unwrap();
    publish(&producer);
    for consumer in [&mut consumer, &mut late] {
        receive(consumer);
    }
}

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

// What a consumer can send

#[test]
fn silent_connections_are_dropped_and_block_nobody() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let silent: Vec<_> = (0..60).map(|_| Raw::connect(scratch.path(), "cam")).collect();
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    publish(&producer);
    receive(&mut consumer);
    for raw in &silent {
        assert!(raw.hear().is_none(), "dropped without a word");
    }
    publish(&producer);
    receive(&mut consumer);
    assert_eq!(producer.stats().unwrap().consumers.len(), 1);
}

/// More than the producer keeps open: whoever comes then is kept waiting, not turned away for good.
#[test]
fn a_crowd_of_silent_connections() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let _silent: Vec<_> = (0..200).map(|_| Raw::connect(scratch.path(), "cam")).collect();
    let mut consumer = scratch.consumer("cam").wait(SOON).connect().unwrap();
    publish(&producer);
    receive(&mut consumer);
}

/// Descriptors of anything, as many as fit, often. They are refused, and closed.
#[test]
fn descriptors_nobody_asked_for() {
    let files: Vec<OwnedFd> = ["/dev/null", "/dev/zero", "/proc/self/maps", "/"]
        .iter()
        .map(|path| std::fs::File::open(path).unwrap().into())
        .collect();
    let mut raw: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
    raw.extend([0; 200]);
    let before = descriptors();
    flows_during(1000, |attack| {
        while attack.goes_on() {
            let seated = attack.connect();
            let seat = Scribble::over(&seated.seated(Some(1))[1]);
            seat.words()[seat::PARKED].store(1, Relaxed);
            let from = attack.rounds.get() as usize % files.len();
            assert!(seated.send(&wire::message(MAJOR, JOIN, &[]), &raw[from..]));
            let (reply, _) = seated.hear().expect("a refusal before the end");
            assert_eq!(wire::tag(&reply), REFUSED);
        }
    });
    // Nobody else's: nextest gives each test a process, cargo test a few threads.
    eventually("the descriptors are closed again", || descriptors() < before + 100);
}

#[test]
fn requests_whose_answers_nobody_reads() {
    flows_during(1000, |attack| {
        let mut open = Vec::new();
        while attack.goes_on() {
            let raw = attack.connect();
            raw.send(&wire::message(MAJOR, QUERY, &[]), &[]);
            open.push(raw);
            open.truncate(50);
            std::thread::yield_now();
        }
    });
}

/// Whoever joins, breaks the rules and reads nothing keeps the producer's descriptors in flight, which the kernel
/// limits for all of a user's programs: such connections count until they are closed.
#[test]
fn welcomes_that_nobody_reads() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(BYTES).create().unwrap();
    let mut honest = scratch.consumer("cam").connect().unwrap();
    let before = descriptors();
    let rude: Vec<_> = (0..400)
        .map_while(|_| {
            let raw = Raw::try_connect(scratch.path(), "cam")?;
            raw.send(&wire::join(None), &[]);
            raw.send(&wire::join(None), &[]);
            Some(raw)
        })
        .collect();
    assert!(rude.len() >= 160, "{} could connect", rude.len());
    // Each is a descriptor of ours here, and of the producer's where it was accepted.
    assert!(descriptors() <= before + rude.len() + 240, "{} descriptors", descriptors());
    publish(&producer);
    receive(&mut honest);
    eventually("some were answered", || rude.iter().filter(|raw| raw.is_readable()).count() >= 10);
    // Those not yet accepted have heard nothing.
    let heard = rude.iter().filter(|raw| raw.is_readable()).filter_map(Raw::hear);
    let welcomed = heard.filter(|(reply, _)| wire::tag(reply) == wire::WELCOME).count();
    assert!((1..=127).contains(&welcomed), "{welcomed} got the producer's descriptors");
    drop(rude);
    scratch.consumer("cam").wait(SOON).connect().unwrap();
    eventually("the descriptors are closed again", || descriptors() <= before);
}

/// Garbage before and after joining. The connection ends; the stream does not.
#[test]
fn garbage_does_not_disturb_a_stream() {
    static ROUNDS: AtomicU64 = AtomicU64::new(0);
    let garbage = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..2000),
        (any::<u16>(), any::<u16>(), prop::collection::vec(any::<u8>(), 0..300))
            .prop_map(|(major, tag, body)| wire::message(major, tag, &body)),
        (0u16..5, prop::collection::vec(any::<u8>(), 0..300))
            .prop_map(|(tag, body)| wire::message(MAJOR, tag, &body)),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(|body| wire::message(MAJOR, JOIN, &body)),
    ];
    flows_during(1000, move |attack| {
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            cases: 300,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let seats = (any::<bool>(), garbage);
        let outcome = runner.run(&seats, |(seated, garbage)| {
            ROUNDS.fetch_add(1, Relaxed);
            let raw = attack.connect();
            if seated {
                raw.seated(Some(1));
            }
            if raw.send(&garbage, &[]) && seated {
                let (reply, _) = raw.hear().expect("a refusal before the end");
                prop_assert_eq!(wire::tag(&reply), REFUSED);
                prop_assert!(raw.hear().is_none());
            }
            Ok(())
        });
        outcome.unwrap();
    });
    assert!(ROUNDS.load(Relaxed) >= 300);
}
