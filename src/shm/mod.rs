//! The layout of the memory that peers can write, and the only code that touches it.
//!
//! Everything here is an atomic: another process may change any byte at any time, so nothing is ever a plain
//! reference to data. Values read from here are input, and the signaler checks them.

#[cfg(not(any(bips_loom, bips_shuttle)))]
mod alive;
mod bell;
mod board;
mod seat;
mod shared;
#[cfg(not(any(bips_loom, bips_shuttle)))]
mod slot;

#[cfg(not(any(bips_loom, bips_shuttle)))]
pub(crate) use alive::Alive;
pub(crate) use bell::Bell;
pub(crate) use board::{Board, Cold, Entry, RING, State};
pub(crate) use seat::Seat;
pub(crate) use shared::Shared;
#[cfg(not(any(bips_loom, bips_shuttle)))]
pub(crate) use slot::{SlotMemory, WritableSlot};

/// A pair of cache lines to itself. What two processes write must not share a line, and processors fetch lines
/// in pairs: with one line each, reading one would still take its neighbour away from its writer.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct Line<T>(pub(crate) T);

impl<T> std::ops::Deref for Line<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}
