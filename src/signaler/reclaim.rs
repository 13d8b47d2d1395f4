//! Which slots are free: read off the seats, never counted. A seat that says nonsense is given up.

use super::{Policy, Publisher, SeatId, bit, mask};
use crate::shm::{RING, Seat};
use crate::step::{Step, reach};
use crate::sync::order;
use std::sync::atomic::Ordering::Relaxed;

/// Who stands in the way of each slot.
struct Busy {
    /// Held by someone, unread by a reliable consumer, kept for late joiners, or being written.
    firm: u64,
    /// Unread by keep-last consumers only; eviction frees it.
    unread: u64,
}

/// Outcome of [`Publisher::acquire`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    Slot(u32),
    Full,
    /// This seat holds what can't be; remove it and ask again.
    Violation(SeatId),
}

impl<P> Publisher<P> {
    /// Takes a free slot for writing, the one used last if that is free: its memory is still in the cache.
    ///
    /// While frames follow each other in haste the slots found free before are used up first: nobody can have
    /// touched much of such frames, and looking at the seats for each would move one more line per hand-over.
    pub(crate) fn acquire(&mut self) -> Acquired {
        if self.in_haste
            && let Some(slot) = self.take_hottest()
        {
            return Acquired::Slot(slot);
        }
        for _ in 0..=RING {
            // Anew before each eviction: what was given back meanwhile spares a frame.
            let busy = match self.look_over() {
                Ok(busy) => busy,
                Err(id) => return Acquired::Violation(id),
            };
            if let Some(slot) = self.take_hottest() {
                return Acquired::Slot(slot);
            }
            if !self.evict(&busy, mask(self.slots)) {
                break;
            }
        }
        Acquired::Full
    }

    /// Takes this very slot. Unread frames of keep-last seats are evicted as far as that frees it, and no others.
    /// That it is taken says nothing about the others, so nobody is called to account for it.
    pub(crate) fn acquire_at(&mut self, slot: u32) -> Acquired {
        for _ in 0..=RING {
            let busy = match self.look_over() {
                Ok(busy) => busy,
                Err(id) => return Acquired::Violation(id),
            };
            if self.known_free & bit(slot) != 0 {
                self.take(slot);
                return Acquired::Slot(slot);
            }
            if !self.evict(&busy, bit(slot)) {
                break;
            }
        }
        Acquired::Full
    }

    /// The slots that nobody has, nor as an unread frame; bit i is slot i.
    pub(crate) fn unused(&mut self) -> Result<u64, SeatId> {
        let busy = self.scan()?;
        Ok(!(busy.firm | busy.unread) & mask(self.slots))
    }

    /// The slots that an acquire could take as things are, evictions included; bit i is slot i.
    pub(crate) fn free(&mut self) -> Result<u64, SeatId> {
        let busy = self.scan()?;
        Ok(!busy.firm & mask(self.slots))
    }

    /// Reads the seats, and notes which slots are free.
    fn look_over(&mut self) -> Result<Busy, SeatId> {
        let busy = self.scan()?;
        reach(Step::AcquireScanned);
        self.known_free = !(busy.firm | busy.unread) & mask(self.slots);
        Ok(busy)
    }

    /// Of the slots known to be free takes the one published last.
    fn take_hottest(&mut self) -> Option<u32> {
        let slot = self.hottest(self.known_free)?;
        self.take(slot);
        Some(slot)
    }

    fn take(&mut self, slot: u32) {
        self.known_free &= !bit(slot);
        self.full_since = 0;
        self.none_since = 0;
        self.hold(slot);
        reach(Step::AcquireHeld);
    }

    /// Of these slots the one published last.
    fn hottest(&self, mut free: u64) -> Option<u32> {
        let mut best = None;
        while free != 0 {
            let slot = free.trailing_zeros();
            free &= free - 1;
            let used = self.last_use[slot as usize];
            if best.is_none_or(|(_, last)| used > last) {
                best = Some((slot, used));
            }
        }
        best.map(|(slot, _)| slot)
    }

    /// Reads every seat. The cursor first, then the held bits: the consumer sets its bit before it moves the
    /// cursor, so a cursor that moved shows the bit.
    fn scan(&mut self) -> Result<Busy, SeatId> {
        let mut busy = Busy {
            firm: self.own_holds()
                | slots_between(&self.ring, self.tail.saturating_sub(self.history), self.tail),
            unread: 0,
        };
        let (tail, ring, slots, max_held) = (self.tail, &self.ring, self.slots, self.max_held);
        for member in &mut self.members {
            let cursor = member.seat.cursor().load(order::P1()); // ORDERING(P1, acquire) -> C3, C6, C9, C10
            let held = member.seat.held().load(order::P2()); // ORDERING(P2, acquire) -> C4, C5
            // Whoever has resigned or is out has nothing unread, only what it holds.
            let unread = match cursor {
                Seat::RESIGNED => Some(0),
                Seat::EXPELLED if member.is_expelled() => Some(0),
                _ => tail.checked_sub(cursor),
            };
            // A cursor only ever moves on; one that went back would keep slots that were free, or let in again whom
            // we put out.
            if unread.is_none_or(|unread| unread > u64::from(slots))
                || cursor < member.reached
                || held & !mask(slots) != 0
                || held.count_ones() > max_held
            {
                return Err(member.id);
            }
            member.reached = cursor;
            busy.firm |= held;
            match member.policy {
                Policy::Reliable => busy.firm |= slots_between(ring, cursor, tail),
                Policy::KeepLast(_) => busy.unread |= slots_between(ring, cursor, tail),
            }
        }
        Ok(busy)
    }

    /// Takes the oldest unread frame in one of the `wanted` slots away from keep-last seats whose slot nobody else
    /// keeps, with what is older. False: eviction can free nothing. True: something has changed, look again.
    fn evict(&mut self, busy: &Busy, wanted: u64) -> bool {
        let oldest = self.tail.saturating_sub(u64::from(self.slots));
        let victim = (oldest..self.tail).find(|sequence| {
            let slot = self.ring[*sequence as usize % RING];
            // A slot can lie behind several of the last sequences; only the newest is what it holds now.
            let current = self.last_use[slot as usize] == sequence + 1;
            current && bit(slot) & busy.firm == 0 && bit(slot) & busy.unread & wanted != 0
        });
        let Some(victim) = victim else {
            return false;
        };
        for member in &mut self.members {
            if let Policy::KeepLast(_) = member.policy {
                let cursor = member.seat.cursor().load(order::P1()); // ORDERING(P1, acquire) -> C3, C6, C9, C10
                // Read anew, so input anew: one that went back since the scan is for the next scan to find.
                if !(member.reached..=victim).contains(&cursor) {
                    continue;
                }
                reach(Step::EvictChosen);
                let moved = member.seat.cursor().compare_exchange(
                    cursor,
                    victim + 1,
                    order::P3(), // ORDERING(P3, acq_rel) -> C0, C3
                    Relaxed,
                );
                // Lost: the consumer moved on by itself. The next scan sees where to.
                if moved.is_ok() {
                    reach(Step::EvictMoved);
                    member.reached = victim + 1;
                    member.evicted += victim + 1 - cursor;
                    self.evicted += victim + 1 - cursor;
                }
            }
        }
        true
    }
}

/// The slots of the sequences from `cursor` up to `tail`; at most a pool's worth.
pub(super) fn slots_between(ring: &[u32; RING], cursor: u64, tail: u64) -> u64 {
    (cursor..tail).fold(0, |slots, sequence| slots | bit(ring[sequence as usize % RING]))
}
