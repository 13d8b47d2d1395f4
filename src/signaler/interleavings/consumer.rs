//! What a consumer does: it sits down, reads, and ends in one of several ways; then perhaps again.

use super::stream::Reading;
use super::*;
use crate::step::{Step, Stopped, stop_at};
use std::panic::resume_unwind;

/// Where a consumer can die.
const STEPS: [Step; 10] = [
    Step::TakeRead,
    Step::TakeHeld,
    Step::TakeMoved,
    Step::TakeLost,
    Step::TakeReturned,
    Step::SkipMoved,
    Step::ReleaseCleared,
    Step::ReleaseRung,
    Step::ParkAnnounced,
    Step::ParkWoken,
];

/// What a consumer does once it has received some frames.
#[derive(Clone, Copy)]
enum Turn {
    /// Goes on to the end of the stream.
    None,
    Leave,
    /// Takes no more, but reads on in what it holds.
    Resign,
    /// Dies when it next gets to this step.
    Die(Step),
    /// Does nothing, until it is put out or the stream ends.
    Stall,
}

impl Turn {
    fn draw(expels: bool) -> Self {
        match draw(0..=6) {
            0 | 1 => Self::None,
            2 => Self::Leave,
            3 => Self::Resign,
            // A producer that puts nobody out would wait for it.
            4 if expels => Self::Stall,
            _ => Self::Die(STEPS[draw(0..=STEPS.len() as u32 - 1) as usize]),
        }
    }
}

/// One consumer after the other in the same place.
pub(super) fn lives(stream: &Stream) {
    for _ in 0..draw(1..=4) {
        let policy = match draw(0..=3) {
            0 | 1 => Policy::Reliable,
            2 => Policy::KeepLast(1),
            _ => Policy::KeepLast(draw(1..=stream.plan.slots)),
        };
        let Some((id, reader, first)) = stream.join(policy) else { return };
        let mut life = Life { stream, reader: &reader, policy, next: first, received: 0, leases: Vec::new() };
        let end = catch_unwind(AssertUnwindSafe(|| life.run()));
        stop_at(None);
        RECEIVED.add(life.received);
        drop(life);
        match end {
            // Some are still seated when all is over.
            Ok(idle) if idle && reader.is_closed() && chance(2) => return,
            Ok(_) => {}
            Err(panic) if panic.is::<Stopped>() => STOPPED.add(1),
            Err(panic) => resume_unwind(panic),
        }
        // As its monitor does for one that died.
        stream.leave(id);
    }
}

struct Life<'a> {
    stream: &'a Stream,
    reader: &'a Subscriber,
    policy: Policy,
    /// The next sequence a reliable consumer must get.
    next: u64,
    received: u64,
    leases: Vec<(u32, Reading<'a>)>,
}

impl Life<'_> {
    /// Whether it is left with nothing, neither held nor unread.
    fn run(&mut self) -> bool {
        let plan = &self.stream.plan;
        let mut turn = Turn::draw(plan.expels.is_some());
        let after = u64::from(draw(0..=plan.frames[0]));
        loop {
            if self.received >= after {
                match std::mem::replace(&mut turn, Turn::None) {
                    Turn::None => {}
                    Turn::Leave => {
                        self.give_back();
                        return false;
                    }
                    Turn::Resign => {
                        self.reader.resign();
                        self.give_back();
                        if chance(2) {
                            // Seated to the end, as one that reads from another producer by then.
                            self.stream.stall(self.reader);
                        }
                        return true;
                    }
                    Turn::Die(step) => stop_at(Some(step)),
                    Turn::Stall => self.stream.stall(self.reader),
                }
            }
            let (over, out) = (self.reader.is_closed(), self.reader.is_expelled());
            match self.reader.take().unwrap() {
                Some(taken) => self.lease(taken),
                None if over || out => {
                    self.give_back();
                    self.check_end(out);
                    return true;
                }
                None => {
                    // Who waits for a frame with all slots in its hands waits for ever, or until it is put out.
                    if plan.expels.is_none() || !chance(4) {
                        self.give_back();
                    }
                    WAITS.add(1);
                    self.reader.park(None, || false);
                }
            }
        }
    }

    fn lease(&mut self, taken: Taken) {
        match self.policy {
            Policy::Reliable => assert_eq!(taken.sequence, self.next, "a reliable consumer lost a frame"),
            Policy::KeepLast(_) => assert!(taken.sequence >= self.next, "a frame came out of order"),
        }
        self.next = taken.sequence + 1;
        self.received += 1;
        self.leases.push((taken.slot, self.stream.read(self.reader, taken)));
        if self.leases.len() as u32 == self.stream.plan.max_held || chance(2) {
            self.release();
        }
    }

    /// Gives one back, any.
    fn release(&mut self) {
        let (slot, reading) = self.leases.swap_remove(draw(0..=self.leases.len() as u32 - 1) as usize);
        reading.check();
        drop(reading);
        self.reader.release(slot);
    }

    fn give_back(&mut self) {
        while !self.leases.is_empty() {
            self.release();
        }
    }

    fn check_end(&self, out: bool) {
        if out {
            assert!(self.stream.plan.expels.is_some(), "nobody is put out of this stream");
            assert_eq!(self.reader.take(), Ok(None), "who is out takes nothing");
        } else if self.policy == Policy::Reliable {
            assert_eq!(self.next, self.stream.published(), "a frame published before the end was lost");
        }
    }
}
