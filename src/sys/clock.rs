//! The time of publications: `CLOCK_MONOTONIC`, read cheaply where frames follow each other closely.
//!
//! A read of the clock costs 27 to 60 ns on virtual machines, as much as moving a cache line: it would be the
//! dearest part of a hand-over. The processor's tick counter costs 12. So between two reads of the real clock at
//! most [`WINDOW`] apart, time is interpolated by ticks; slower streams never see it (ADR 9).

use super::{current_cpu, monotonic_ns};

/// The longest interpolation, in ns. At 500 ppm, the most the kernel slews its clock, it is wrong by 50 ns.
const WINDOW: u64 = 100_000;

/// The shortest time from which the length of a tick is told, in ns: 10 ms, so to about 0.001 %.
const BASELINE: u64 = 10_000_000;

/// After this many ns the length of a tick is told anew.
const STALE: u64 = 10_000_000_000;

/// A moment, by both clocks.
#[derive(Debug, Clone, Copy)]
struct Moment {
    ns: u64,
    ticks: u64,
    /// Ticks that passed while both were read.
    gap: u64,
}

impl Moment {
    #[inline]
    fn read() -> Self {
        let before = ticks();
        let ns = monotonic_ns();
        let after = ticks();
        Self { ns, ticks: after, gap: after.wrapping_sub(before) }
    }
}

/// Interpolating clock of one producer; its user serialises.
#[derive(Debug)]
pub(crate) struct Clock {
    /// Where the baseline begins.
    anchor: Moment,
    /// The last read of the real clock that can be built on.
    last: Moment,
    /// The most that was said.
    said: u64,
    /// The longest gap of a read that nothing interrupted.
    quick: u64,
    /// ns per tick as a fraction of 2^32; 0 while unknown, or where ticks can't be trusted.
    rate: u64,
    /// [`WINDOW`] in ticks.
    window: u64,
    /// The processor at the last read.
    cpu: u32,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let reads: [Moment; 8] = std::array::from_fn(|_| Moment::read());
        let best = reads.iter().min_by_key(|moment| moment.gap).copied().unwrap_or(reads[0]);
        let quick = best.gap.saturating_mul(2);
        Self { anchor: best, last: best, said: 0, quick, rate: 0, window: 0, cpu: current_cpu() }
    }

    /// ns of `CLOCK_MONOTONIC`, never less than before.
    #[inline]
    pub(crate) fn now(&mut self) -> u64 {
        let since = ticks().wrapping_sub(self.last.ticks);
        let now = if since < self.window { self.last.ns + ((since * self.rate) >> 32) } else { self.read() };
        self.said = self.said.max(now);
        self.said
    }

    /// The processor this ran on at most [`WINDOW`] ago.
    #[inline]
    pub(crate) fn cpu(&self) -> u32 {
        self.cpu
    }

    #[cold]
    fn read(&mut self) -> u64 {
        self.cpu = current_cpu();
        let now = Moment::read();
        if now.ticks == 0 || now.gap > self.quick {
            return now.ns; // no counter to trust, or interrupted: the two readings don't belong together
        }
        self.last = now;
        let baseline = now.ns.saturating_sub(self.anchor.ns);
        let ticked = now.ticks.wrapping_sub(self.anchor.ticks);
        if baseline >= BASELINE && ticked > 0 {
            let fraction = |ns: u64, per: u64| u64::try_from((u128::from(ns) << 32) / u128::from(per.max(1)));
            self.rate = fraction(baseline, ticked).unwrap_or(0);
            self.window = fraction(WINDOW, self.rate).unwrap_or(0);
            if baseline >= STALE {
                self.anchor = now;
            }
        }
        now.ns
    }
}

/// The processor's tick counter; 0 where there is none to trust.
#[cfg(target_arch = "x86_64")]
#[inline]
fn ticks() -> u64 {
    use std::sync::OnceLock;
    static TRUSTED: OnceLock<bool> = OnceLock::new();
    // The kernel uses the counter as its own clock only after checking that all processors agree.
    let trusted = TRUSTED.get_or_init(|| {
        let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        std::fs::read_to_string(source).is_ok_and(|name| name.trim() == "tsc")
    });
    if !*trusted {
        return 0;
    }
    // SAFETY: every x86-64 has the instruction; it reads a register.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// ARM reads its clock without a system call and without a barrier worth saving.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn ticks() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn stays_with_the_real_clock_and_never_goes_back() {
        let mut clock = Clock::new();
        let mut last = 0;
        for round in 0..60 {
            for _ in 0..2000 {
                let before = monotonic_ns();
                let now = clock.now();
                let after = monotonic_ns();
                assert!(now >= last, "went back by {}", last - now);
                // An interrupted thread reads late, never early; interpolation is wrong by less than 1 µs.
                assert!(now + 1_000 >= before && now <= after + 1_000, "{before} {now} {after}");
                last = now;
            }
            if round % 10 == 0 {
                std::thread::sleep(Duration::from_millis(3));
            }
        }
    }
}
