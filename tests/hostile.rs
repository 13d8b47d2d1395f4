//! Consumers that break every rule: they waste their own seat, and nobody else notices.

#![cfg(not(bips_loom))]

mod common;

use bips::{Producer, ReceiveError, Wait};
use common::wire::{self, JOIN, Noise, POLL, QUERY, REFUSED, Raw, Scribble};
use common::{Over, PATIENCE, SOON, Scratch, check, eventually, publish, receive};
use proptest::prelude::*;
use std::cell::Cell;
use std::os::fd::{AsRawFd, OwnedFd};
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
                    // The words that mean something.
                    let at = [0, 1, 8, 16, 17][noise.word() as usize % 5];
                    seat.words()[at].store(noise.word() >> (noise.word() % 64), Relaxed);
                }
            }
        });
    }
}

/// Values a consumer may have, at times it may not: the cursor jumps, bits come and go.
#[test]
fn a_seat_that_lies_plausibly() {
    flows_during(1000, |attack| {
        let mut noise = Noise(0xfeed_5678_9abc_def1);
        while attack.goes_on() {
            let raw = attack.connect();
            let fds = raw.seated(Some(4));
            let seat = Scribble::over(&fds[1]);
            let (cursor, held, parked) = (&seat.words()[0], &seat.words()[1], &seat.words()[8]);
            for _ in 0..2_000 {
                let tail = tail(&fds[0]);
                cursor.store(tail.saturating_sub(noise.word() % 9), Relaxed);
                held.store(1 << (noise.word() % 8) | 1 << (noise.word() % 8), Relaxed);
                parked.store(noise.word() % 4, Relaxed);
                if noise.word().is_multiple_of(16) {
                    std::thread::yield_now();
                }
            }
        }
    });
}

/// The board's count of frames, as any consumer may read it.
fn tail(board: &OwnedFd) -> u64 {
    use nix::sys::uio::pread;
    let mut word = [0; 8];
    assert_eq!(pread(board, &mut word, 128).unwrap(), 8);
    u64::from_le_bytes(word)
}

/// What is claimed and never given back costs `max_held` slots; what is never read by a keep-last seat, nothing.
#[test]
fn a_seat_that_never_lets_go() {
    flows_during(1000, |attack| {
        let raw = attack.connect();
        let seat = Scribble::over(&raw.seated(Some(64))[1]);
        while attack.goes_on() {
            seat.words()[1].store(0b11, Relaxed);
            std::thread::yield_now();
        }
    });
}

#[test]
fn a_seat_claiming_more_than_allowed_is_removed() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).max_held(2).create().unwrap();
    for (word, value) in [(1, 0b111), (1, 1 << 4), (1, u64::MAX), (0, 5), (0, u64::MAX - 1)] {
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

fn publish_if_possible(producer: &Producer) {
    if let Ok(frame) = producer.acquire(Wait::Now) {
        frame.publish(bips::Description::new(), bips::Fence::Signaled).unwrap();
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
fn poll_sockets_that_are_none() {
    let files: Vec<OwnedFd> = ["/dev/null", "/dev/zero", "/proc/self/maps", "/"]
        .iter()
        .map(|path| std::fs::File::open(path).unwrap().into())
        .collect();
    let mut raw: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
    raw.extend([0; 200]);
    let before = descriptors();
    flows_during(1000, |attack| {
        while attack.goes_on() {
            let seated = attack.connect();
            let seat = Scribble::over(&seated.seated(Some(1))[1]);
            // Waiting in poll: were it taken, the producer would signal on it.
            seat.words()[8].store(2, Relaxed);
            let from = attack.rounds.get() as usize % files.len();
            assert!(seated.send(&wire::message(MAJOR, POLL, &[]), &raw[from..]));
            let (reply, _) = seated.hear().expect("a refusal before the end");
            assert_eq!(wire::tag(&reply), REFUSED);
        }
    });
    // Nobody else's: nextest gives each test a process, cargo test a few threads.
    eventually("the descriptors are closed again", || descriptors() < before + 100);
}

/// Poll sockets as they should be, but nobody reads them, they are closed behind, and there is always another.
#[test]
fn poll_sockets_that_nobody_reads() {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    let pair = || socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let before = descriptors();
    flows_during(1000, |attack| {
        let seated = attack.connect();
        let seat = Scribble::over(&seated.seated(Some(1))[1]);
        let mut unread = Vec::new();
        while attack.goes_on() {
            // Blocking, as it comes: the producer must not trust that it isn't.
            let (ours, theirs) = pair();
            assert!(seated.send(&wire::message(MAJOR, POLL, &[]), &[theirs.as_raw_fd()]));
            if attack.rounds.get() % 2 == 0 {
                unread.push(ours);
                unread.truncate(3);
            }
            for _ in 0..1000 {
                seat.words()[8].store(2, Relaxed);
                std::hint::spin_loop();
            }
        }
    });
    eventually("the descriptors are closed again", || descriptors() < before + 100);
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
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
            if raw.send(&garbage, &[]) && seated && wire::tag_of(&garbage) != Some(POLL) {
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
