//! Whether the stream stands still now, and because of whom. Only looked at, nothing is changed.

use super::expel::Way;
use super::reclaim::slots_between;
use super::{Member, Policy, Publisher, mask};
use crate::shm::Seat;

/// No slot is free although one was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standstill {
    /// Since when, in ns.
    pub(crate) since: u64,
    /// The worst way in which a consumer stands in the way; `None`: the producer itself has all the slots.
    worst: Option<Way>,
}

impl<P> Publisher<P> {
    /// To be called when there was no slot; asks for the time, not 0, only where it is needed.
    pub(crate) fn found_none(&mut self, now: impl FnOnce() -> u64) {
        if self.none_since == 0 {
            self.none_since = now();
        }
    }

    /// The state of the stream now: `None` while there is a slot, or nobody has asked for one in vain.
    pub(crate) fn standstill(&self) -> Option<Standstill> {
        let since = self.none_since;
        let kept = self.tail - self.history.min(self.tail);
        let mut firm = self.own_holds() | slots_between(&self.ring, kept, self.tail);
        for member in &self.members {
            firm |= self.keeps(member);
        }
        if since == 0 || firm & mask(self.slots) != mask(self.slots) {
            return None;
        }
        let worst = self.members.iter().filter_map(|member| member.way(member.stands(), self.tail)).min();
        Some(Standstill { since, worst })
    }

    /// Whether this consumer is one of those the stream waits for.
    pub(super) fn is_in_the_way(&self, standstill: Option<Standstill>, member: &Member<P>) -> bool {
        let way = member.way(member.stands(), self.tail);
        way.is_some() && standstill.is_some_and(|standstill| way <= standstill.worst)
    }

    /// The slots that it keeps from being free. Nonsense counts for nothing here; the next scan finds it.
    fn keeps(&self, member: &Member<P>) -> u64 {
        let (cursor, held) = member.stands();
        let oldest = self.tail.saturating_sub(u64::from(self.slots));
        match member.policy {
            Policy::Reliable if cursor < Seat::EXPELLED => {
                held | slots_between(&self.ring, cursor.clamp(oldest, self.tail), self.tail)
            }
            _ => held,
        }
    }
}
