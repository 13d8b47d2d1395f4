//! The seat: shared by one consumer and the producer, writable by both.

use super::Line;
use crate::sync::{AtomicU64, Word};
use std::sync::atomic::Ordering::Relaxed;

/// See `docs/protocol.md` for every byte.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Seat {
    progress: Line<Progress>,
    parked: Line<Word>,
    counters: Line<Counters>,
    #[cfg(not(any(bips_loom, bips_shuttle)))]
    alive: Line<Word>,
}

#[repr(C)]
#[derive(Debug, Default)]
struct Progress {
    cursor: AtomicU64,
    held: AtomicU64,
}

#[repr(C)]
#[derive(Debug, Default)]
struct Counters {
    received: AtomicU64,
    skipped: AtomicU64,
}

#[cfg(not(any(bips_loom, bips_shuttle)))]
const _: () = {
    assert!(std::mem::offset_of!(Seat, parked) == 128);
    assert!(std::mem::offset_of!(Seat, counters) == 256);
    assert!(std::mem::offset_of!(Seat, alive) == 384);
    assert!(size_of::<Seat>() <= 4096);
};

impl Seat {
    /// Value of the cursor of a consumer that takes no more frames but still holds some.
    pub(crate) const RESIGNED: u64 = u64::MAX;

    /// The same, by the producer's will.
    pub(crate) const EXPELLED: u64 = u64::MAX - 1;

    /// Bit of `parked` that says the consumer waits; whoever wakes it adds 1, which clears the bit and makes every
    /// wait a number of its own.
    pub(crate) const WAITS: u32 = 1;

    /// The next sequence the consumer takes.
    #[inline]
    pub(crate) fn cursor(&self) -> &AtomicU64 {
        &self.progress.cursor
    }

    /// Bit i: the consumer leases slot i.
    #[inline]
    pub(crate) fn held(&self) -> &AtomicU64 {
        &self.progress.held
    }

    /// Odd while the consumer waits to be woken; the word it sleeps on.
    #[inline]
    pub(crate) fn parked(&self) -> &Word {
        &self.parked
    }

    /// 0, or the thread that stands for the consumer's process; the kernel says here when that ends.
    #[cfg(not(any(bips_loom, bips_shuttle)))]
    pub(crate) fn alive(&self) -> &Word {
        &self.alive
    }

    /// What [`Seat::alive`] says once the producer has removed the seat: no thread has this number.
    #[cfg(not(any(bips_loom, bips_shuttle)))]
    pub(crate) const LEFT: u32 = libc::FUTEX_TID_MASK;

    /// Whether this value of [`Seat::alive`] says that the consumer's process is dead.
    #[cfg(not(any(bips_loom, bips_shuttle)))]
    pub(crate) fn is_dead(alive: u32) -> bool {
        alive & libc::FUTEX_OWNER_DIED != 0
    }

    /// Tells whoever watches over the consumer that the seat is removed. Not under a lock: others can sleep there too.
    pub(crate) fn leave(&self) {
        #[cfg(not(any(bips_loom, bips_shuttle)))]
        self.alive.announce(Self::LEFT);
    }

    /// Counts frames for `info` and `top`. A plain add: only the consumer writes, and it is one thread.
    #[inline]
    pub(crate) fn count(&self, received: u64, skipped: u64) {
        let counters = &self.counters;
        counters.received.store(counters.received.load(Relaxed).wrapping_add(received), Relaxed);
        if skipped > 0 {
            counters.skipped.store(counters.skipped.load(Relaxed).wrapping_add(skipped), Relaxed);
        }
    }

    /// Frames received and skipped, as the consumer says.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.counters.received.load(Relaxed), self.counters.skipped.load(Relaxed))
    }
}
