//! The signaler: publish, receive, release, reclaim, evict, park and wake over a board and its seats.
//!
//! Pure algorithm: it owns no file descriptor and starts no thread. The same code runs over shared memory in a
//! program and over the types of two model checkers ([`crate::sync`]). `docs/memory-model.md` explains every
//! ordering by the names used here.

mod expel;
mod publisher;
mod readiness;
mod reclaim;
mod standstill;
mod subscriber;

#[cfg(all(test, bips_shuttle))]
mod interleavings;
#[cfg(all(test, bips_loom))]
#[allow(unsafe_code, reason = "loom's cells hand out raw pointers")]
mod models;
#[cfg(all(test, not(any(bips_loom, bips_shuttle))))]
mod tests;

pub(crate) use publisher::{Hot, Member, Publisher, SeatId};
pub(crate) use readiness::{Readiness, settle};
pub(crate) use reclaim::Acquired;
pub(crate) use subscriber::{Subscriber, TakeError, Taken};

/// How a consumer wants frames it has not read yet to be treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Every frame, in order; the producer waits for this consumer when the pool is full.
    Reliable,
    /// The newest N frames; older unread ones are given up. N is 1 to 64.
    KeepLast(u32),
}

/// Bit of a slot in `held` and in the masks computed from it.
#[inline]
pub(crate) fn bit(slot: u32) -> u64 {
    1 << slot
}

/// The bits of the first `slots` slots.
pub(crate) fn mask(slots: u32) -> u64 {
    if slots >= 64 { u64::MAX } else { (1 << slots) - 1 }
}
