//! How far a frame is that was published before the producer's device was done with it.
//!
//! Each slot has a word for it on the board. The producer keeps a hold on the slot until it is settled, so the word is one
//! frame's at a time.

use crate::shm::{Board, Shared};
use crate::sync::order;

/// The lower two bits of the word; above them stands whose frame it is, the lower 30 bits of sequence + 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// The device is at work.
    Open = 1,
    /// All of the frame is written.
    Whole = 2,
    /// It will never be: the device failed.
    Lost = 3,
}

impl Readiness {
    pub(super) fn of(self, sequence: u64) -> u32 {
        (sequence.wrapping_add(1) as u32) << 2 | self as u32
    }

    /// Another frame's word says that this one is no longer leased: then nobody reads it, and nobody need wait for it.
    pub(super) fn read(word: u32, sequence: u64) -> Self {
        if word == Self::Open.of(sequence) {
            Self::Open
        } else if word == Self::Lost.of(sequence) {
            Self::Lost
        } else {
            Self::Whole
        }
    }
}

/// Says that the device is done with a frame published open, or failed. Before its slot is given back.
pub(crate) fn settle(board: &Shared<Board>, slot: u32, sequence: u64, whole: bool) {
    let readiness = if whole { Readiness::Whole } else { Readiness::Lost };
    board.readiness(slot).store(readiness.of(sequence), order::R1()); // ORDERING(R1, release) -> R2
    // All: a stranger among them must not take the wake-up of whom it was for, and it is no thread that publishes that pays.
    board.readiness(slot).wake_all();
}

#[cfg(all(test, not(any(bips_loom, bips_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_of_one_frame() {
        for sequence in [0, 1, 7, (1 << 30) - 2, (1 << 30) - 1, u64::MAX] {
            for readiness in [Readiness::Open, Readiness::Whole, Readiness::Lost] {
                assert_eq!(Readiness::read(readiness.of(sequence), sequence), readiness);
                assert_eq!(
                    Readiness::read(readiness.of(sequence.wrapping_add(1)), sequence),
                    Readiness::Whole
                );
            }
            assert_eq!(Readiness::read(0, sequence), Readiness::Whole);
        }
    }
}
