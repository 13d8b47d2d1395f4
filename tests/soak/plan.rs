//! What becomes of each process, drawn from the seed.

use crate::common::wire::Noise;
use bips::Policy;
use bips::testing::{Side, steps};
use std::fmt;
use std::time::Duration;

/// Draws.
#[derive(Debug)]
pub(crate) struct Dice(Noise);

impl Dice {
    /// Seeds that differ in little give draws that differ in all (the finalizer of splitmix64).
    pub(crate) fn new(seed: u64) -> Self {
        let mut word = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // Noise knows no way out of zero.
        Self(Noise((word ^ (word >> 31)).max(1)))
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0.word()
    }

    /// From `least` to `most`.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        // The high bits of xorshift are its best.
        least + (self.word() >> 16) % (most - least + 1)
    }

    pub(crate) fn one_in(&mut self, many: u64) -> bool {
        self.between(1, many) == 1
    }

    pub(crate) fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.between(least, most))
    }

    /// A step of that side, as its index in `steps()`, from those whose text suits.
    pub(crate) fn step(&mut self, side: Side, suits: impl Fn(&str) -> bool) -> usize {
        let all: Vec<_> = steps().enumerate().filter(|(_, (of, text))| *of == side && suits(text)).collect();
        all[self.between(0, all.len() as u64 - 1) as usize].0
    }
}

/// The text of a step, by its index.
pub(crate) fn step_text(step: usize) -> &'static str {
    steps().nth(step).expect("a step").1
}

/// How a consumer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It gives everything back and leaves.
    Leave,
    /// kill -9 by the driver, at any time.
    Kill,
    /// It kills itself when it passes a step for this time, while it leaves at the latest; where that never comes, it
    /// leaves.
    Step(usize, u32),
    /// It aborts with frames in hand.
    Abort,
}

/// A consumer's life.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) policy: Policy,
    /// Frames in hand at most.
    pub(crate) hold: usize,
    pub(crate) reconnect: bool,
    /// Waits by its poll descriptor.
    pub(crate) polls: bool,
    /// Leaves a forked child behind.
    pub(crate) forks: bool,
    /// One frame in so many is kept for a while; none if 0.
    pub(crate) lingers: u64,
    /// When it is stopped, and for how long.
    pub(crate) stopped: Option<(Duration, Duration)>,
    /// How long after its start the end begins.
    pub(crate) lasts: Duration,
    pub(crate) end: End,
}

impl Plan {
    /// The same in the driver and in the consumer.
    pub(crate) fn of(seed: u64) -> Self {
        let dice = &mut Dice::new(seed);
        let policy = match dice.between(0, 4) {
            0 | 1 => Policy::Reliable,
            2 => Policy::KeepLast(1),
            _ => Policy::KeepLast(dice.between(2, 6) as u32),
        };
        let lasts = dice.millis(150, 2000);
        let mut plan = Self {
            policy,
            hold: dice.between(1, u64::from(crate::MAX_HELD)) as usize,
            reconnect: dice.one_in(2),
            polls: false,
            forks: dice.one_in(8),
            lingers: if dice.one_in(2) { dice.between(5, 60) } else { 0 },
            stopped: dice.one_in(4).then(|| (lasts.mul_f64(0.4), dice.millis(20, 250))),
            lasts,
            end: End::Leave,
        };
        plan.polls = !plan.reconnect && dice.one_in(2);
        plan.end = match dice.between(0, 19) {
            0..=4 => End::Leave,
            5..=11 => End::Kill,
            12..=16 => plan.step(dice),
            _ => End::Abort,
        };
        // Some don't get as far as joining.
        if plan.end == End::Kill && dice.one_in(6) {
            plan.lasts = dice.millis(0, 30);
        }
        plan
    }

    /// Draws a step, and makes the life one that passes it if any can.
    fn step(&mut self, dice: &mut Dice) -> End {
        let step = dice.step(Side::Consumer, |_| true);
        let text = step_text(step);
        let keep_last_only = ["skip:", "take: claimed, but evicted", "take: the claim is taken back"];
        if keep_last_only.iter().any(|start| text.starts_with(start)) {
            self.policy = Policy::KeepLast(1);
            self.lingers = 2;
        }
        (self.polls, self.reconnect) = match text {
            _ if text.starts_with("poll:") => (true, false),
            _ if text.starts_with("rejoin:") => (false, true),
            _ => (self.polls, self.reconnect),
        };
        let once = ["join:", "resign:", "rejoin:"].iter().any(|start| text.starts_with(start));
        End::Step(step, if once { 1 } else { dice.between(1, 60) as u32 })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, holds {}", self.policy, self.hold)?;
        let traits = [(self.reconnect, "reconnects"), (self.polls, "polls"), (self.forks, "forks")];
        traits.iter().filter(|(has, _)| *has).try_for_each(|(_, word)| write!(f, ", {word}"))?;
        let lasts = self.lasts.as_millis();
        match self.end {
            End::Leave => write!(f, ", leaves after {lasts} ms"),
            End::Kill => write!(f, ", killed after {lasts} ms"),
            End::Step(step, count) => write!(f, ", dies at `{}` for time {count}", step_text(step)),
            End::Abort => write!(f, ", aborts after {lasts} ms"),
        }
    }
}

/// How a producer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fall {
    Kill,
    /// At a step, while it goes on.
    Step(usize, u32),
    /// At a step of closing the stream.
    Closing(usize),
}

impl Fall {
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let is_closing = |text: &str| text.starts_with("close:");
        match dice.between(0, 5) {
            0..=2 => Self::Kill,
            3 | 4 => {
                let step = dice.step(Side::Producer, |text| !is_closing(text) && !text.starts_with("claim:"));
                Self::Step(step, dice.between(1, 20) as u32)
            }
            _ => Self::Closing(dice.step(Side::Producer, is_closing)),
        }
    }
}

/// What a producer is told at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reign {
    pub(crate) generation: u64,
    /// Leaves a forked child behind.
    pub(crate) forks: bool,
    /// Dies at this step of taking the name.
    pub(crate) dies: Option<usize>,
}

impl Reign {
    pub(crate) fn draw(dice: &mut Dice, generation: u64) -> Self {
        let dies = dice.one_in(4).then(|| dice.step(Side::Producer, |text| text.starts_with("claim:")));
        Self { generation, forks: dice.one_in(3), dies }
    }

    pub(crate) fn encode(self) -> u64 {
        let dies = self.dies.map_or(0, |step| step as u64 + 1);
        self.generation << 16 | dies << 1 | u64::from(self.forks)
    }

    pub(crate) fn decode(number: u64) -> Self {
        let dies = (number >> 1 & 0x7fff) as usize;
        Self { generation: number >> 16, forks: number & 1 == 1, dies: dies.checked_sub(1) }
    }
}
