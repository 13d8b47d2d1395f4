//! A stream that flows while it is attacked.

use crate::common::wire::Raw;
use crate::common::{LATEST, Over, PATIENCE, SOON, Scratch, check, eventually, publish};
use bips::ReceiveError;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

pub(crate) const BYTES: u64 = 64 << 10;

/// Lasts until the stream has flowed long enough, and for some rounds at least.
pub(crate) struct Attack<'a> {
    pub(crate) scratch: &'a Scratch,
    enough: &'a AtomicBool,
    pub(crate) rounds: Cell<u32>,
}

impl Attack<'_> {
    pub(crate) fn goes_on(&self) -> bool {
        self.rounds.set(self.rounds.get() + 1);
        self.rounds.get() <= 30 || !self.enough.load(Relaxed)
    }

    pub(crate) fn connect(&self) -> Raw {
        Raw::connect(self.scratch.path(), "cam")
    }
}

/// A stream that flows while `attack` goes on: `frames` frames at least, each seen whole by a reliable consumer and
/// in rising order by a keep-last one.
pub(crate) fn flows_during(frames: u64, attack: impl FnOnce(&Attack<'_>) + Send) {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(BYTES).slots(8).max_held(2).create().unwrap();
    let enough = AtomicBool::new(false);
    let mut reliable = scratch.consumer("cam").connect().unwrap();
    let mut latest = scratch.consumer("cam").policy(LATEST).connect().unwrap();
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
