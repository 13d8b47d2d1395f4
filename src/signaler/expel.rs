//! Putting a consumer out that stands in the way and doesn't move, where the producer was made to.

use super::{Member, Policy, Publisher, SeatId};
use crate::shm::Seat;
use crate::step::{Step, reach};
use crate::sync::order;
use std::sync::atomic::Ordering::Relaxed;

impl<P> Member<P> {
    /// Whether it was put out; it may hold frames still.
    pub(super) fn is_expelled(&self) -> bool {
        self.reached == Seat::EXPELLED
    }

    /// Whether slots would come free if it moved on.
    fn stands_in_the_way(&self, tail: u64) -> bool {
        let (cursor, held) = self.stood;
        held != 0 || self.policy == Policy::Reliable && cursor < tail
    }

    /// Takes away what it has not read, and its right to take more. What it holds it keeps, and gives back like anybody
    /// else: only its own word, or the end of its connection, says that it no longer reads that. False: it has moved.
    fn expel(&mut self) -> bool {
        let (cursor, _) = self.stood;
        // ORDERING(P7, acq_rel) -> C0, C3
        let moved = self.seat.cursor().compare_exchange(cursor, Seat::EXPELLED, order::P7(), Relaxed);
        if moved.is_ok() {
            self.reached = Seat::EXPELLED;
            reach(Step::ExpelMoved);
        }
        moved.is_ok()
    }
}

impl<P> Publisher<P> {
    /// To be called when there was no slot, at the time `now` (ns, not 0): puts out whoever stands in the way and has
    /// neither taken nor given back a frame for `patience` ns of the time that there has been none. Gives those; if
    /// there are any, slots may be free now.
    pub(crate) fn expel_stalled(&mut self, now: u64, patience: u64) -> Vec<SeatId> {
        if self.full_since == 0 {
            self.full_since = now;
        }
        let mut out = Vec::new();
        for member in &mut self.members {
            let stands = (member.seat.cursor().load(Relaxed), member.seat.held().load(Relaxed));
            if stands != member.stood {
                (member.stood, member.stood_since) = (stands, now);
            }
            // A frame held for long is no offence as long as there are others; the time counts from when there were not.
            let since = member.stood_since.max(self.full_since);
            if stands.0 < Seat::EXPELLED
                && member.stands_in_the_way(self.tail)
                && now.saturating_sub(since) >= patience
                && member.expel()
            {
                out.push(member.id);
            }
        }
        if !out.is_empty() {
            self.expelled += out.len() as u64;
            self.wake();
        }
        out
    }

    /// What its connection is known by.
    pub(crate) fn port(&self, id: SeatId) -> Option<&P> {
        self.members.iter().find(|member| member.id == id).map(|member| &member.port)
    }
}
