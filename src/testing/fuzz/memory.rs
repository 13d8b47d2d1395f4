//! Board, seats and bell to be used again and again: making a segment takes a hundred times as long as a case.

use crate::shm::{Bell, Board, Seat, Shared};
use crate::sys::{PAGE, Segment, Sharing};
use std::sync::Arc;

/// Seats that there are.
pub(super) const SEATS: usize = 5;

/// The shared memory of one stream, all zeros.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    pub(super) board: Shared<Board>,
    pub(super) bell: Shared<Bell>,
    pub(super) seats: [Shared<Seat>; SEATS],
}

thread_local! {
    static MEMORY: Memory = {
        let segment = |len| {
            let made = Segment::create("fuzz", len, Sharing::ReadWrite);
            Arc::new(made.expect("a few pages can be had"))
        };
        Memory {
            board: Shared::over(segment(size_of::<Board>() as u64)),
            bell: Shared::over(segment(PAGE)),
            seats: std::array::from_fn(|_| Shared::over(segment(PAGE))),
        }
    };
}

impl Memory {
    /// This thread's, with nothing left of the last case.
    pub(super) fn fresh() -> Self {
        let memory = MEMORY.with(Self::clone);
        memory.board.clear();
        memory.bell.clear();
        memory.seats.iter().for_each(Shared::clear);
        memory
    }
}
