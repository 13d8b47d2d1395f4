//! Taking times so that the clock and other processes disturb little.

use std::time::Instant;

use crate::exit::Outcome;
use crate::stats::{median, quantile};

/// Nanoseconds for one call of `once`, measured over batches of calls: the clock, which costs half as much as a
/// hand-over, is read once a batch, and a batch that lost the core is one outlier among many.
pub(super) fn batches(count: usize, batch: usize, mut once: impl FnMut() -> Outcome) -> Outcome<Vec<f64>> {
    let mut times = Vec::with_capacity(count / batch + 1);
    for _ in 0..count / batch {
        let start = Instant::now();
        for _ in 0..batch {
            once()?;
        }
        times.push(start.elapsed().as_nanos() as f64 / batch as f64);
    }
    Ok(times)
}

/// What reading the clock itself adds to a single measurement.
pub(super) fn clock_cost() -> f64 {
    let mut times: Vec<f64> = (0..2000).map(|_| Instant::now().elapsed().as_nanos() as f64).collect();
    median(&mut times)
}

/// Rounds of one thing measured beside its floor.
#[derive(Default)]
pub(super) struct Rounds {
    floor: Vec<f64>,
    cost: Vec<f64>,
    ratio: Vec<f64>,
}

pub(super) struct Pair {
    pub(super) floor: f64,
    pub(super) cost: f64,
    /// The median of the rounds' own ratios, not the ratio of the medians.
    pub(super) ratio: f64,
}

impl Rounds {
    /// `cost` lay between the two floors in time.
    pub(super) fn push(&mut self, before: f64, cost: f64, after: f64) {
        let floor = (before + after) / 2.0;
        self.floor.push(floor);
        self.cost.push(cost);
        self.ratio.push(cost / floor);
    }

    pub(super) fn extend(&mut self, other: &Self) {
        self.floor.extend(&other.floor);
        self.cost.extend(&other.cost);
        self.ratio.extend(&other.ratio);
    }

    pub(super) fn pair(&self) -> Pair {
        let middle = |values: &[f64]| {
            if values.is_empty() { f64::NAN } else { median(&mut values.to_vec()) }
        };
        Pair { floor: middle(&self.floor), cost: middle(&self.cost), ratio: middle(&self.ratio) }
    }

    /// The span in which nine of ten rounds' ratios lie.
    pub(super) fn spread(&self) -> (f64, f64) {
        if self.ratio.is_empty() {
            return (f64::NAN, f64::NAN);
        }
        let mut ratios = self.ratio.clone();
        (quantile(&mut ratios, 0.05), quantile(&mut ratios, 0.95))
    }
}
