//! Checks what a consumer receives: whole frames, in order, none missing, and in shared memory.

use bips::Frame;

use crate::exit::{Failure, Outcome};
use crate::pattern::{Pattern, find_wrong_noise, whose_noise};
use crate::testcard::TestCard;

/// Small enough to stay in the second-level cache while it is checked.
const CHUNK: usize = 64 * 1024;

/// Compares whole frames with what their sequence numbers say they hold.
#[derive(Default)]
pub(crate) struct Verifier {
    chunk: Vec<u8>,
    expected: Vec<u8>,
    card: Option<TestCard>,
}

impl Verifier {
    pub(crate) fn check(&mut self, frame: &Frame) -> Outcome {
        let sequence = frame.sequence();
        let wrong = match Pattern::from_tag(frame.metadata()) {
            Some(Pattern::Noise) => self.check_noise(frame),
            Some(Pattern::Picture) => self.check_picture(frame)?,
            _ => {
                return Err(Failure::failed(format!(
                    "frame {sequence} carries no pattern that can be checked; leave out --verify, or let \
                     `bips produce` make the frames"
                )));
            }
        };
        match wrong {
            None => Ok(()),
            Some(at) => Err(Failure::failed(self.describe(frame, at))),
        }
    }

    fn check_noise(&mut self, frame: &Frame) -> Option<usize> {
        self.chunk.resize(CHUNK, 0);
        (0..frame.nbytes()).step_by(CHUNK).find_map(|offset| {
            let chunk = &mut self.chunk[..CHUNK.min(frame.nbytes() - offset)];
            frame.copy_to(offset, chunk);
            find_wrong_noise(frame.sequence(), offset, chunk)
        })
    }

    fn check_picture(&mut self, frame: &Frame) -> Outcome<Option<usize>> {
        let Some(plane) = frame.planes().first() else {
            return Err(Failure::failed(format!("frame {} has no plane", frame.sequence())));
        };
        let card = match &mut self.card {
            Some(card) => card,
            none => none.insert(TestCard::new(frame.fourcc(), plane)?),
        };
        let bytes = card.row_bytes();
        self.chunk.resize(bytes, 0);
        self.expected.resize(bytes, 0);
        for y in 0..card.rows() {
            let offset = plane.offset as usize + card.row_offset(y);
            frame.copy_to(offset, &mut self.chunk);
            card.paint_row(frame.sequence(), y, &mut self.expected);
            if self.chunk != self.expected {
                let at = self.chunk.iter().zip(&self.expected).position(|(have, want)| have != want);
                return Ok(at.map(|at| offset + at));
            }
        }
        Ok(None)
    }

    fn describe(&mut self, frame: &Frame, at: usize) -> String {
        let sequence = frame.sequence();
        let mut byte = [0];
        frame.copy_to(at, &mut byte);
        let mut word = [0; 8];
        let whole = at / 8 * 8;
        let mut whose = None;
        if whole + 8 <= frame.nbytes() {
            frame.copy_to(whole, &mut word);
            whose = whose_noise(sequence, whole, word);
        }
        let whose = whose.map_or(String::new(), |other| format!(", which is the content of frame {other}"));
        format!(
            "frame {sequence} is torn: byte {at} of {} in slot {} is {:#04x}{whose}",
            frame.nbytes(),
            frame.slot(),
            byte[0]
        )
    }
}

/// Watches the sequence numbers.
#[derive(Default)]
pub(crate) struct Order {
    last: Option<u64>,
    /// Sequence numbers that never came.
    pub(crate) missing: u64,
    /// Places where some were missing.
    pub(crate) gaps: u64,
}

impl Order {
    pub(crate) fn take(&mut self, sequence: u64) -> Outcome {
        if let Some(last) = self.last {
            if sequence <= last {
                return Err(Failure::failed(format!(
                    "frame {sequence} came after frame {last}: out of order"
                )));
            }
            let missing = sequence - last - 1;
            self.missing += missing;
            self.gaps += u64::from(missing > 0);
        }
        self.last = Some(sequence);
        Ok(())
    }

    /// What comes next is another producer's, who counts anew.
    pub(crate) fn restart(&mut self) {
        self.last = None;
    }

    pub(crate) fn last(&self) -> Option<u64> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_counted_and_steps_back_refused() {
        let mut order = Order::default();
        for sequence in [5, 6, 9, 10, 12] {
            order.take(sequence).unwrap();
        }
        assert_eq!((order.missing, order.gaps, order.last()), (3, 2, Some(12)));
        assert!(order.take(12).is_err());
        assert!(order.take(3).is_err());
        order.restart();
        order.take(3).unwrap();
        assert_eq!((order.missing, order.gaps, order.last()), (3, 2, Some(3)));
    }
}
