//! What a consumer can send.

use crate::common::wire::{self, JOIN, QUERY, REFUSED, Raw, Scribble, seat};
use crate::common::{Over, SOON, Scratch, descriptors, eventually, publish, receive};
use crate::flow::{BYTES, flows_during};
use proptest::prelude::*;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const MAJOR: u16 = bips::PROTOCOL.0;

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

/// A request to join with each of its bytes changed, cut at each, of each policy and depth at the ends of the ranges.
#[test]
fn requests_with_each_byte_changed() {
    let welcomed = AtomicU64::new(0);
    let refused = AtomicU64::new(0);
    flows_during(1000, |attack| {
        let mut requests = Vec::new();
        for whole in [wire::join(None), wire::join(Some(1)), wire::message(MAJOR, QUERY, &[])] {
            for at in 0..whole.len() {
                requests.push(whole[..at + 1].to_vec());
                for change in [1, 0x80, 0xff] {
                    let mut request = whole.clone();
                    request[at] ^= change;
                    requests.push(request);
                }
            }
        }
        for depth in [0, 1, 63, 64, 65, 1 << 31, u32::MAX] {
            requests.push(wire::join(Some(depth)));
        }
        for len in [0, 1, 100, (16 << 10) - 12, (16 << 10) - 11, 60_000] {
            requests.push(wire::message(MAJOR, QUERY, &vec![7; len]));
            requests.push(wire::message(MAJOR, JOIN, &vec![0; len.max(8)]));
        }
        for request in requests {
            let raw = attack.connect();
            assert!(raw.send(&request, &[]));
            let (reply, fds) = raw.hear().expect("an answer before the end");
            match wire::tag(&reply) {
                wire::WELCOME => {
                    welcomed.fetch_add(1, Relaxed);
                    assert_eq!(fds.len(), 4, "board, seat, bell, pool");
                }
                REFUSED => {
                    refused.fetch_add(1, Relaxed);
                    assert!(raw.hear().is_none(), "it hangs up after a refusal");
                }
                _ => assert!(raw.hear().is_none(), "it hangs up after an answer"),
            }
        }
    });
    let (welcomed, refused) = (welcomed.into_inner(), refused.into_inner());
    println!("{welcomed} welcomed, {refused} refused");
    // Only versions and reserved bytes may be anything.
    assert!(welcomed > 10 && refused > 100, "{welcomed} welcomed, {refused} refused");
}

/// Whoever connects and goes, in each state and as fast as it can, from many threads at once.
#[test]
fn floods_of_connections() {
    let before = descriptors();
    flows_during(1000, |attack| {
        let (scratch, over) = (attack.scratch, AtomicBool::new(false));
        let count = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let _over = Over(&over);
            for number in 0..8 {
                let (count, over) = (&count, &over);
                scope.spawn(move || {
                    while !over.load(Relaxed) {
                        let Some(raw) = Raw::try_connect(scratch.path(), "cam") else {
                            std::thread::yield_now();
                            continue;
                        };
                        count.fetch_add(1, Relaxed);
                        match number % 4 {
                            0 => {}
                            1 => drop(raw.send(&wire::join(Some(1)), &[])),
                            2 => drop(raw.send(&wire::message(MAJOR, QUERY, &[]), &[])),
                            _ => drop(raw.send(b"half", &[0; 253])),
                        }
                    }
                });
            }
            while attack.goes_on() || count.load(Relaxed) < 2_000 {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        println!("{} connections", count.into_inner());
    });
    eventually("the descriptors are closed again", || descriptors() < before + 100);
}
