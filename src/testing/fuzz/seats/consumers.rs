//! Everybody but the producer: what the honest do, and what the hostile write.

use super::HONEST;
use crate::shm::Seat;
use crate::signaler::{Policy, SeatId, bit};
use crate::testing::fuzz::honest::Honest;
use crate::testing::fuzz::input::Input;
use crate::testing::fuzz::memory::{Memory, SEATS};
use std::sync::atomic::Ordering::Relaxed;

/// Everybody but the producer.
pub(super) struct Consumers {
    pub(super) input: Input,
    pub(super) honest: Vec<Honest>,
    /// Seats that lie while they are taken.
    pub(super) hostile: [Option<(SeatId, Policy)>; SEATS - HONEST],
    /// Whether anybody did anything since this was last unset.
    pub(super) stirred: bool,
    pub(super) memory: Memory,
    /// The sequence written into each slot.
    pub(super) content: Vec<u64>,
}

impl Consumers {
    /// While the producer is in the midst of something.
    pub(super) fn interfere(&mut self) {
        match self.input.byte() {
            choice @ 0..=79 => self.lie(usize::from(choice)),
            choice @ 80..=127 => self.behave(usize::from(choice)),
            _ => {}
        }
    }

    /// A hostile consumer writes to its seat.
    pub(super) fn lie(&mut self, which: usize) {
        self.stirred = true;
        let seat = &self.memory.seats[HONEST + which % self.hostile.len()];
        match self.input.below(8) {
            // As a consumer that reads would, or one that only seems to.
            0 | 1 => {
                let tail = self.memory.board.tail().load(Relaxed);
                let cursor = seat.cursor().load(Relaxed);
                seat.cursor().store(cursor.wrapping_add(1).min(tail), Relaxed);
            }
            2 => {
                let slot = self.input.below(self.content.len() + 1) as u32;
                seat.held().fetch_xor(bit(slot % 64), Relaxed);
            }
            3 => seat.held().store(0, Relaxed),
            4 => seat.cursor().store(Seat::RESIGNED, Relaxed),
            5 => {
                let tail = self.memory.board.tail().load(Relaxed);
                seat.cursor().store(self.input.number(tail), Relaxed);
            }
            6 => self.memory.bell.words()[0].store(self.input.number(0), Relaxed),
            _ => {
                let words = seat.words();
                let word = &words[self.input.below(words.len())];
                word.store(self.input.number(word.load(Relaxed)), Relaxed);
            }
        }
    }

    /// An honest consumer does what it is for.
    pub(super) fn behave(&mut self, which: usize) {
        self.stirred = true;
        let honest = &mut self.honest[which % HONEST];
        if honest.is_asleep() && which & 8 == 0 {
            return;
        }
        honest.wake();
        match which >> 1 & 3 {
            0 | 1 => {
                honest.take(&self.content);
            }
            2 => honest.release(which >> 4, &self.content),
            _ => honest.arm(),
        }
    }
}
