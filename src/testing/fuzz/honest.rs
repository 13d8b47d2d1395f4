//! Consumers that keep to the protocol, in a stream where others don't, and what they may expect.

use crate::shm::{Seat, Shared};
use crate::signaler::{Policy, SeatId, Subscriber, TakeError};
use std::sync::atomic::Ordering::Relaxed;

/// Content of a slot that is being written.
pub(super) const UNWRITTEN: u64 = u64::MAX;

/// What an honest consumer holds: a slot, and the frame in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    pub(super) slot: u32,
    sequence: u64,
}

/// An honest consumer and what it was given.
#[derive(Debug)]
pub(super) struct Honest {
    pub(super) id: SeatId,
    pub(super) seat: Shared<Seat>,
    pub(super) leases: Vec<Lease>,
    subscriber: Subscriber,
    policy: Policy,
    max_held: u32,
    /// The sequence it expects next, or a later one where frames may be missed.
    next: u64,
}

impl Honest {
    pub(super) fn new(
        id: SeatId,
        seat: Shared<Seat>,
        subscriber: Subscriber,
        policy: Policy,
        max_held: u32,
    ) -> Self {
        Self { id, seat, leases: Vec::new(), subscriber, policy, max_held, next: 0 }
    }

    /// The next frame, if there is one; `content` is the sequence that was written into each slot.
    pub(super) fn take(&mut self, content: &[u64]) -> bool {
        match self.subscriber.take() {
            Ok(Some(taken)) => {
                let Some(written) = content.get(taken.slot as usize) else {
                    panic!("{taken:?} of {} slots", content.len());
                };
                assert_eq!(*written, taken.sequence, "another frame lies in the slot of {taken:?}");
                assert!(
                    self.leases.iter().all(|lease| lease.slot != taken.slot),
                    "{taken:?} is leased already"
                );
                match self.policy {
                    Policy::Reliable => assert_eq!(taken.sequence, self.next, "a frame was lost"),
                    Policy::KeepLast(_) => assert!(taken.sequence >= self.next, "a frame came again"),
                }
                self.next = taken.sequence + 1;
                self.leases.push(Lease { slot: taken.slot, sequence: taken.sequence });
                true
            }
            Ok(None) => false,
            Err(TakeError::TooManyHeld) => {
                assert_eq!(self.leases.len(), self.max_held as usize, "refused with room left");
                false
            }
            Err(TakeError::Protocol) => panic!("an honest producer was taken for a liar"),
        }
    }

    pub(super) fn release(&mut self, which: usize, content: &[u64]) {
        if !self.leases.is_empty() {
            let lease = self.leases.swap_remove(which % self.leases.len());
            assert_eq!(content[lease.slot as usize], lease.sequence, "{lease:?} was written to");
            self.subscriber.release(lease.slot);
        }
    }

    /// Ready to sleep, if there is nothing to read; the sleep itself is the kernel's part.
    pub(super) fn arm(&self) {
        if self.subscriber.arm(|| false).is_none() {
            self.subscriber.disarm();
        }
    }

    pub(super) fn is_asleep(&self) -> bool {
        self.seat.parked().load(Relaxed) & Seat::WAITS != 0
    }

    pub(super) fn wake(&self) {
        self.subscriber.disarm();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.subscriber.is_closed()
    }

    /// Whether the producer put it out.
    pub(super) fn is_out(&self) -> bool {
        self.subscriber.is_expelled()
    }

    /// The first sequence that is still to come to it, at most `tail`.
    pub(super) fn next_of(&self, tail: u64) -> u64 {
        if self.is_out() { tail } else { self.seat.cursor().load(Relaxed) }
    }

    /// Of these frames, it has got all that it was promised.
    pub(super) fn has_read_all(&self, tail: u64) {
        assert_eq!(self.next_of(tail), tail, "frames are left that can't be taken");
        if self.policy == Policy::Reliable && !self.is_out() {
            assert_eq!(self.next, tail, "a frame was lost");
        }
    }
}
