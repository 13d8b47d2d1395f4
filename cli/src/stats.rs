//! Latencies of any number of frames in a fixed 60 KiB: a histogram whose buckets are 1/128 of their value wide.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

const SUB_BITS: u32 = 7;
const SUB: u64 = 1 << SUB_BITS;
const BUCKETS: usize = ((64 - SUB_BITS as usize) + 1) * SUB as usize;

/// Now on the clock that frames are stamped with.
pub(crate) fn monotonic_ns() -> u64 {
    // The clock exists on every Linux; a failure would show as absurd latencies, not as a crash.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| Duration::from(time).as_nanos() as u64)
}

pub(crate) struct Histogram {
    counts: Box<[u64]>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into(), total: 0, max: 0 }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// The value that a share `q` of all samples does not exceed; None without samples.
    pub(crate) fn quantile(&self, q: f64) -> Option<u64> {
        let rank = ((self.total as f64 * q).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        let index = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(upper_edge(index).min(self.max))
    }

    pub(crate) fn json(&self) -> Value {
        let max = (self.total > 0).then_some(self.max);
        json!({ "p50": self.quantile(0.5), "p99": self.quantile(0.99), "max": max })
    }
}

fn bucket(value: u64) -> usize {
    if value < SUB {
        return value as usize;
    }
    let shift = 63 - value.leading_zeros() - SUB_BITS;
    ((u64::from(shift) + 1) * SUB + ((value >> shift) - SUB)) as usize
}

fn upper_edge(index: usize) -> u64 {
    let (shift, within) = (index as u64 / SUB, index as u64 % SUB);
    if shift == 0 {
        return within;
    }
    let next = u128::from(SUB + within + 1) << (shift - 1);
    u64::try_from(next - 1).unwrap_or(u64::MAX)
}

/// The middle one; sorts what it is given. Panics on nothing, which no caller has.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

pub(crate) fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = ((values.len() as f64 * q).ceil() as usize).clamp(1, values.len()) - 1;
    values[index]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_narrow() {
        for value in (0..5000).chain([u64::MAX / 3, u64::MAX - 1, u64::MAX]) {
            let edge = upper_edge(bucket(value));
            assert!(edge >= value && (edge - value) as f64 <= value as f64 / 127.0, "{value} -> {edge}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        (1..=100).for_each(|value| histogram.record(value));
        assert_eq!(histogram.quantile(0.5), Some(50));
        assert_eq!(histogram.quantile(0.99), Some(99));
        assert_eq!(histogram.quantile(1.0), Some(100));
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
    }
}
