//! What must hold after each call of the producer.

use super::{HONEST, Stream};
use crate::shm::{RING, Seat};
use crate::signaler::{Policy, bit, mask};
use std::sync::atomic::Ordering::Relaxed;

impl Stream {
    /// A slot was given out to be written: nobody honest may have anything to do with it.
    pub(super) fn check_free(&self, slot: u32) {
        assert!(slot < self.slots, "slot {slot} of {}", self.slots);
        assert!(
            !self.writing.contains(&slot) && !self.views.contains(&slot),
            "slot {slot} is the producer's own"
        );
        let tail = self.ring.len();
        let kept = tail.saturating_sub(self.history as usize);
        assert!(!self.ring[kept..].contains(&slot), "slot {slot} is kept as history");
        for honest in &self.consumers.borrow().honest {
            assert!(
                honest.leases.iter().all(|lease| lease.slot != slot),
                "slot {slot} is leased by {honest:?}"
            );
            let unread = &self.ring[honest.next_of(tail as u64) as usize..];
            assert!(!unread.contains(&slot), "slot {slot} is unread by {honest:?}");
        }
    }

    /// No slot was to be had: each must be in use, by the rules, and no seat beyond what it is allowed.
    /// Nothing that would have freed none has been taken from anyone.
    pub(super) fn check_full(&self, evicted: u64) {
        let consumers = self.consumers.borrow();
        if consumers.stirred {
            return;
        }
        assert_eq!(self.publisher.evicted(), evicted, "frames were evicted for nothing");
        let of = |slots: &[u32]| slots.iter().fold(0, |all, slot| all | bit(*slot));
        let kept = self.ring.len().saturating_sub(self.history as usize);
        let mut used = of(&self.writing) | of(&self.views) | of(&self.ring[kept..]);
        let seats = self.memory.seats.iter();
        let policies = [Some(Policy::Reliable), None].into_iter();
        let policies = policies.chain(consumers.hostile.iter().map(|taken| taken.map(|(_, policy)| policy)));
        for (number, (seat, policy)) in seats.zip(policies).enumerate() {
            if number >= HONEST && policy.is_none() {
                continue;
            }
            let (cursor, held) = (seat.cursor().load(Relaxed), seat.held().load(Relaxed));
            assert!(held.count_ones() <= self.max_held, "seat {number} holds {held:#b} and stays");
            assert!(held & !mask(self.slots) == 0, "seat {number} holds {held:#b} and stays");
            used |= held;
            if policy == Some(Policy::Reliable) && cursor < Seat::EXPELLED {
                let unread = self.ring.get(cursor as usize..).expect("a cursor beyond the tail is found");
                assert!(
                    unread.len() <= self.slots as usize,
                    "seat {number} is {} behind and stays",
                    unread.len()
                );
                used |= of(unread);
            }
        }
        assert_eq!(used, mask(self.slots), "no slot is given although one is free");
    }

    /// What the producer tells about its consumers.
    pub(super) fn look(&self) {
        let consumers = self.consumers.borrow();
        let taken = consumers.hostile.iter().flatten().count();
        assert_eq!(self.publisher.members().count(), HONEST + taken);
        for member in self.publisher.members() {
            assert!(member.held <= self.slots && member.unread <= self.slots);
        }
    }

    /// Nobody honest sleeps while there is something to read.
    pub(super) fn check_awake(&self) {
        for honest in &self.consumers.borrow().honest {
            let tail = self.ring.len() as u64;
            let unread = tail - honest.next_of(tail);
            let news = unread > 0 || honest.is_out();
            assert!(!news || !honest.is_asleep(), "{honest:?} sleeps with {unread} to read");
            assert!(unread <= u64::from(self.slots).min(RING as u64));
            assert!(honest.leases.len() <= self.max_held as usize);
        }
    }
}
