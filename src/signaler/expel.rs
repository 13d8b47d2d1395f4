//! Putting a consumer out that stands in the way and doesn't move, where the producer was made to.

use super::{Member, Policy, Publisher, SeatId};
use crate::shm::Seat;
use crate::step::{Step, reach};
use crate::sync::order;
use std::sync::atomic::Ordering::Relaxed;

/// A producer that waits looks more often than this, in ns.
const PAUSE: u64 = 50_000_000;

/// How a consumer stands in the way of a producer that needs a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// It must read what it has not read.
    Unread,
    /// It has read all, holds frames, and is busy or stopped.
    Holds,
    /// It holds frames and waits for the next: mostly for the same others that the producer waits for.
    Waits,
}

impl<P> Member<P> {
    /// Whether it was put out; it may hold frames still.
    pub(super) fn is_expelled(&self) -> bool {
        self.expelled
    }

    /// Where it is, and which slots it holds.
    pub(super) fn stands(&self) -> (u64, u64) {
        (self.seat.cursor().load(Relaxed), self.seat.held().load(Relaxed))
    }

    /// How it stands in the way, the worst first, where something can be taken away from it; else `None`.
    fn is_to_move(&self, tail: u64) -> Option<Way> {
        let (cursor, _) = self.stood;
        if cursor >= Seat::EXPELLED { None } else { self.way(self.stood, tail) }
    }

    /// How one that stands so stands in the way, the worst first; not at all: `None`.
    pub(super) fn way(&self, (cursor, held): (u64, u64), tail: u64) -> Option<Way> {
        if self.policy == Policy::Reliable && cursor < tail {
            Some(Way::Unread)
        } else if held == 0 {
            None
        } else if self.seat.parked().load(Relaxed) & Seat::WAITS == 0 {
            Some(Way::Holds)
        } else {
            Some(Way::Waits)
        }
    }

    /// Takes away what it has not read, and its right to take more. What it holds it keeps, and gives back like anybody
    /// else: only its own word, or the end of its connection, says that it no longer reads that. False: it has moved.
    fn expel(&mut self) -> bool {
        let (cursor, _) = self.stood;
        // ORDERING(P7, acq_rel) -> C0, C3
        let moved = self.seat.cursor().compare_exchange(cursor, Seat::EXPELLED, order::P7(), Relaxed);
        if moved.is_ok() {
            self.reached = Seat::EXPELLED;
            self.expelled = true;
            reach(Step::ExpelMoved);
        }
        moved.is_ok()
    }
}

impl<P> Publisher<P> {
    /// To be called when there was no slot, at the time `now` (ns, not 0): puts out whoever stands in the way and has
    /// neither taken nor given back a frame for `patience` ns of the time that there has been none. Gives those; if
    /// there are any, slots may be free now.
    ///
    /// Only those who stand in the way in the worst manner there is: who holds a frame while it waits for the next can't
    /// move as long as others keep all the slots.
    pub(crate) fn expel_stalled(&mut self, now: u64, patience: u64) -> Vec<SeatId> {
        let gap = now.saturating_sub(std::mem::replace(&mut self.looked, now));
        if self.full_since == 0 {
            (self.full_since, self.excused) = (now, false);
        } else if gap > patience.max(PAUSE) && !self.excused {
            // So long we did not look: we were stopped ourselves, and perhaps everybody with us. Once: one that looks
            // so rarely as a rule is not to wait for ever.
            (self.full_since, self.excused) = (now, true);
        }
        for member in &mut self.members {
            let stands = member.stands();
            if stands != member.stood {
                (member.stood, member.stood_since) = (stands, now);
            }
        }
        let tail = self.tail;
        // Once: a consumer may begin to wait just now.
        let ways: Vec<_> = self.members.iter().map(|member| member.is_to_move(tail)).collect();
        let worst = ways.iter().flatten().min();
        let mut out = Vec::new();
        for (member, way) in self.members.iter_mut().zip(&ways) {
            // A frame held for long is no offence as long as there are others; the time counts from when there were not.
            let since = member.stood_since.max(self.full_since);
            if way.is_some()
                && way.as_ref() == worst
                && now.saturating_sub(since) >= patience
                && member.expel()
            {
                out.push(member.id);
            }
        }
        if !out.is_empty() {
            self.expelled += out.len() as u64;
            self.full_since = now; // what comes free by this has its time too
            self.wake();
        }
        out
    }

    /// What its connection is known by.
    pub(crate) fn port(&self, id: SeatId) -> Option<&P> {
        self.members.iter().find(|member| member.id == id).map(|member| &member.port)
    }
}
