//! The signaler's real code under loom: every interleaving of a small stream.
//!
//! Two slots, a ring of two entries, one or two consumers. What a slot holds is a loom cell, so a torn frame is
//! a detected data race. `BIPS_WEAK=name` weakens one ordering; the model named beside it in the table of
//! orderings must then fail, in words that `cargo xtask loom --weaken` knows (`xtask/src/loom.rs`).

mod deaths;
mod expulsion;

use super::*;
use crate::shm::{Bell, Board, Seat, Shared};
use crate::sync::Word;
use crate::sync::order::{FENCES, ORDERINGS};
use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicBool;
use loom::sync::{Arc, Mutex};
use loom::thread;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const SLOTS: u32 = 2;

/// What the producer's process shares between its own threads, and what everyone shares.
struct Stream {
    publisher: Mutex<Publisher<()>>,
    board: Shared<Board>,
    bell: Shared<Bell>,
    data: [UnsafeCell<u64>; SLOTS as usize],
}

// SAFETY: loom checks every use of the cells itself; that is the point.
unsafe impl Sync for Stream {}
// SAFETY: as above.
unsafe impl Send for Stream {}

impl Stream {
    fn new(max_held: u32) -> Arc<Self> {
        let board = Shared::new(Board::default());
        let bell = Shared::new(Bell::default());
        let publisher = Publisher::new(board.clone(), bell.clone(), SLOTS, max_held, 0);
        let data = [UnsafeCell::new(0), UnsafeCell::new(0)];
        Arc::new(Self { publisher: Mutex::new(publisher), board, bell, data })
    }

    fn join(&self, policy: Policy, max_held: u32) -> (SeatId, Subscriber) {
        self.join_where(false, policy, max_held)
    }

    /// Where the producer may, or may not, put consumers out.
    fn join_where(&self, expels: bool, policy: Policy, max_held: u32) -> (SeatId, Subscriber) {
        let seat = Shared::new(Seat::default());
        let id = self.publisher.lock().unwrap().join(seat.clone(), policy, ()).unwrap();
        (id, Subscriber::new(self.board.clone(), seat, self.bell.clone(), policy, expels, SLOTS, max_held))
    }

    fn acquire(&self) -> Option<u32> {
        match self.publisher.lock().unwrap().acquire() {
            Acquired::Slot(slot) => Some(slot),
            Acquired::Full => None,
            Acquired::Violation(id) => panic!("an honest seat was taken for a liar: {id:?}"),
        }
    }

    /// Writes the data, then publishes. In haste or not, by the clock given.
    fn publish(&self, slot: u32, clock: u64) -> u64 {
        let mut publisher = self.publisher.lock().unwrap();
        let sequence = publisher.published();
        // SAFETY: the slot was acquired; were it shared all the same, loom would end the model here.
        self.data[slot as usize].with_mut(|data| unsafe { *data = sequence + 100 });
        let hot = Hot { published: clock, captured: sequence + 500, cpu: 0, open: false };
        publisher.publish(slot, || hot, Some(&[sequence + 900]))
    }

    /// The same for a frame that a device writes afterwards: the caller's part is [`Stream::settle`].
    fn publish_open(&self, slot: u32, clock: u64) -> u64 {
        let mut publisher = self.publisher.lock().unwrap();
        let sequence = publisher.published();
        let hot = Hot { published: clock, captured: sequence + 500, cpu: 0, open: true };
        publisher.hold(slot);
        publisher.publish(slot, || hot, Some(&[sequence + 900]))
    }

    /// The device writes, and its slot is given back.
    fn settle(&self, slot: u32, sequence: u64) {
        // SAFETY: the slot is held; were it read or written all the same, loom would end the model here.
        self.data[slot as usize].with_mut(|data| unsafe { *data = sequence + 100 });
        super::settle(&self.board, slot, sequence, true);
        self.publisher.lock().unwrap().unhold(slot);
    }

    /// Tries to publish `frames` times; what finds no slot is dropped.
    fn produce(&self, frames: u64, pace: u64) {
        for i in 1..=frames {
            if let Some(slot) = self.acquire() {
                self.publish(slot, i * pace);
            }
        }
    }

    /// Reads a leased frame and checks that all of it belongs together.
    fn check(&self, reader: &Subscriber, taken: Taken) {
        assert_eq!(taken.captured, taken.sequence + 500, "the entry is torn");
        assert_eq!(reader.read_cold(taken.slot), [taken.sequence + 900], "the description is torn");
        // SAFETY: the slot is leased; were it written all the same, loom would end the model here.
        let value = self.data[taken.slot as usize].with(|data| unsafe { *data });
        assert_eq!(value, taken.sequence + 100, "the frame is torn");
    }

    /// Checks that nobody holds or awaits anything.
    fn check_free(&self) {
        assert!(self.acquire().is_some() && self.acquire().is_some(), "a slot did not come back");
    }

    /// Takes up to `frames` frames in up to `tries` looks.
    fn consume(&self, reader: &Subscriber, frames: u32, tries: u32) {
        let mut last = None;
        let mut got = 0;
        for _ in 0..tries {
            if let Some(taken) = reader.take().unwrap() {
                assert!(last.is_none_or(|last| taken.sequence > last), "a frame came out of order");
                last = Some(taken.sequence);
                self.check(reader, taken);
                reader.release(taken.slot);
                got += 1;
            }
            if got == frames {
                return;
            }
        }
    }
}

const SLOW: u64 = 1_000_000;
const HASTE: u64 = 1;

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    builder.check(model);
}

/// One consumer reads and gives back while the producer reuses its slots.
fn handover(preemptions: usize, policy: Policy, max_held: u32, pace: u64) {
    explore(preemptions, move || {
        let stream = Stream::new(max_held);
        let (_, reader) = stream.join(policy, max_held);
        let theirs = stream.clone();
        let consumer = thread::spawn(move || theirs.consume(&reader, 2, 3));
        stream.produce(3, pace);
        consumer.join().unwrap();
    });
}

#[test]
fn loom_handover() {
    handover(3, Policy::Reliable, 1, SLOW);
}

#[test]
fn loom_handover_in_haste() {
    handover(3, Policy::Reliable, 1, HASTE);
}

/// Eviction has many more interleavings: one preemption less keeps the lane short.
#[test]
fn loom_evict() {
    handover(2, Policy::KeepLast(2), 2, SLOW);
}

#[test]
fn loom_skip() {
    handover(2, Policy::KeepLast(1), 1, SLOW);
}

/// Two consumers of different policies at once.
#[test]
fn loom_two_consumers() {
    explore(2, || {
        let stream = Stream::new(1);
        let readers = [stream.join(Policy::Reliable, 1), stream.join(Policy::KeepLast(1), 1)];
        let consumers = readers.map(|(_, reader)| {
            let stream = stream.clone();
            thread::spawn(move || stream.consume(&reader, 1, 2))
        });
        stream.produce(3, SLOW);
        for consumer in consumers {
            consumer.join().unwrap();
        }
    });
}

/// A consumer joins, reads and leaves while the producer publishes.
#[test]
fn loom_join_and_leave() {
    explore(3, || {
        let stream = Stream::new(1);
        let theirs = stream.clone();
        let consumer = thread::spawn(move || {
            let (id, reader) = theirs.join(Policy::Reliable, 1);
            theirs.consume(&reader, 1, 2);
            theirs.publisher.lock().unwrap().leave(id);
        });
        stream.produce(3, SLOW);
        consumer.join().unwrap();
        // Whatever the consumer left behind came back with its seat.
        stream.check_free();
    });
}

/// A consumer stops taking frames while it holds one: that one stays whole, the rest is free.
#[test]
fn loom_resign() {
    explore(3, || {
        let stream = Stream::new(1);
        let (_, reader) = stream.join(Policy::Reliable, 1);
        let slot = stream.acquire().unwrap();
        stream.publish(slot, SLOW);
        let theirs = stream.clone();
        let consumer = thread::spawn(move || {
            let taken = reader.take().unwrap().expect("one frame is there");
            reader.resign();
            theirs.check(&reader, taken);
            reader.release(taken.slot);
        });
        stream.produce(3, SLOW);
        consumer.join().unwrap();
        stream.check_free();
    });
}

/// A sleeping consumer hears of every frame, and of the end. A lost wake-up is a deadlock.
#[test]
fn loom_park() {
    explore(3, || {
        let stream = Stream::new(1);
        let (_, reader) = stream.join(Policy::Reliable, 1);
        let theirs = stream.clone();
        let consumer = thread::spawn(move || {
            loop {
                if let Some(taken) = reader.take().unwrap() {
                    theirs.check(&reader, taken);
                    reader.release(taken.slot);
                    return;
                }
                reader.park(None, || false);
            }
        });
        let slot = stream.acquire().unwrap();
        stream.publish(slot, SLOW);
        consumer.join().unwrap();
    });
}

/// A frame published before its device was done: what the device writes comes after the publication, and whoever waited for
/// it reads that. A lost wake-up is a deadlock.
#[test]
fn loom_ready() {
    explore(3, || {
        let stream = Stream::new(1);
        let (_, reader) = stream.join(Policy::Reliable, 1);
        let theirs = stream.clone();
        let slot = stream.acquire().unwrap();
        let sequence = stream.publish_open(slot, SLOW);
        let consumer = thread::spawn(move || {
            let taken = reader.take().unwrap().expect("one frame is there");
            assert!(taken.open);
            reader.resign();
            while reader.readiness(taken.slot, taken.sequence) == Readiness::Open {
                reader.await_readiness(taken.slot, taken.sequence, Duration::ZERO);
            }
            theirs.check(&reader, taken);
            reader.release(taken.slot);
        });
        stream.settle(slot, sequence);
        stream.produce(2, SLOW);
        consumer.join().unwrap();
        stream.check_free();
    });
}

/// A consumer with a descriptor for event loops: a thread of its own sleeps in its place and makes the descriptor,
/// here another word, readable. It looks once unasked, then once each time the descriptor is readable, and takes one
/// frame at a time: no frame may be left behind a descriptor that says nothing.
#[test]
fn loom_pollable() {
    explore(2, || {
        let stream = Stream::new(1);
        let (_, reader) = stream.join(Policy::Reliable, 1);
        let event = Arc::new(Word::default());
        let ring = |event: &Word| {
            event.store(1, Relaxed);
            event.wake_all();
        };
        let stopped = Arc::new(AtomicBool::new(false));
        let last = reader.last_wake();
        assert!(reader.arm(|| false).is_some(), "the last look found nothing");
        let helper = {
            let (event, reader, stopped) = (event.clone(), reader.clone(), stopped.clone());
            thread::spawn(move || {
                let mut last = last;
                while let Some(wake) = reader.await_wake(last, || stopped.load(Relaxed)) {
                    ring(&event);
                    last = wake;
                }
            })
        };
        let consumer = {
            let stream = stream.clone();
            thread::spawn(move || {
                // As `Consumer::receive` without a wait.
                let look = || {
                    if let Some(taken) = reader.take().unwrap() {
                        return Some(taken);
                    }
                    if reader.arm(|| false).is_some() {
                        event.store(0, Relaxed);
                        if reader.arm(|| false).is_none() {
                            ring(&event);
                        }
                    }
                    reader.take().unwrap()
                };
                let mut taken = look();
                let mut got = 0;
                loop {
                    if let Some(taken) = taken {
                        stream.check(&reader, taken);
                        reader.release(taken.slot);
                        got += 1;
                    }
                    if got == 2 {
                        break;
                    }
                    event.wait(0, None);
                    taken = look();
                }
                stopped.store(true, Relaxed);
                reader.wake_self();
            })
        };
        for _ in 0..2 {
            let slot = stream.acquire().unwrap();
            stream.publish(slot, SLOW);
        }
        consumer.join().unwrap();
        helper.join().unwrap();
    });
}

/// What was published before the end is received before the end is heard of.
#[test]
fn loom_close() {
    explore(3, || {
        let stream = Stream::new(1);
        let (_, reader) = stream.join(Policy::Reliable, 1);
        let theirs = stream.clone();
        let consumer = thread::spawn(move || {
            let mut got = 0;
            loop {
                let ended = reader.is_closed();
                match reader.take().unwrap() {
                    Some(taken) => {
                        theirs.check(&reader, taken);
                        reader.release(taken.slot);
                        got += 1;
                    }
                    None if ended => break,
                    None => reader.park(None, || false),
                }
            }
            assert_eq!(got, 1, "a frame published before the end was lost");
        });
        let slot = stream.acquire().unwrap();
        stream.publish(slot, SLOW);
        stream.publisher.lock().unwrap().close();
        consumer.join().unwrap();
    });
}

/// A producer without a slot sleeps until one is given back. Loom has no time: the 5 ms recheck can't help here.
#[test]
fn loom_hungry() {
    explore(3, || {
        let stream = Stream::new(2);
        let (_, reader) = stream.join(Policy::Reliable, 2);
        for clock in 1..=2 {
            let slot = stream.acquire().unwrap();
            stream.publish(slot, clock * SLOW);
        }
        let theirs = stream.clone();
        let consumer = thread::spawn(move || {
            let taken = reader.take().unwrap().expect("two frames are there");
            theirs.check(&reader, taken);
            reader.release(taken.slot);
        });
        let slot = loop {
            let seen = stream.publisher.lock().unwrap().hungry();
            let found = stream.acquire();
            if found.is_none() {
                stream.bell.wait(seen, Bell::RECHECK);
            }
            stream.publisher.lock().unwrap().fed();
            if let Some(slot) = found {
                break slot;
            }
        };
        stream.publish(slot, 3 * SLOW);
        consumer.join().unwrap();
    });
}

/// For the lane that weakens: which orderings, and the model that must then fail.
#[test]
fn loom_weak_list() {
    for row in ORDERINGS.iter().chain(FENCES).filter(|row| !row.model.is_empty()) {
        println!("WEAK {} signaler::models::loom_{}", row.name, row.model);
    }
}
