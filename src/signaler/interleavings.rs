//! The signaler's real code under shuttle: interleavings drawn at random, at sizes that loom can't reach.
//!
//! Two threads of a producer and three consumers that join, stall, stop and leave, over 40 to 200 frames in a pool of 1
//! to 8 slots. Half of the schedules draw every step; half draw priorities and change them a few times (PCT), which finds
//! what needs one participant to be far behind the others. `cargo xtask shuttle` runs it.

mod consumer;
mod stream;

use super::*;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::Arc;
use shuttle::{Config, FailurePersistence, MaxSteps, Runner, thread};
use std::cell::RefCell;
use std::env;
use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use stream::Stream;

const SCHEDULES: &str = "BIPS_SHUTTLE_SCHEDULES";
const SEED: &str = "BIPS_SHUTTLE_SEED";

/// Schedules of one seed, the smallest that can be had again: PCT learns from one schedule how long the next may be.
const ROUND: u64 = 50;
/// How many changes of priority a fault may need, and one.
const DEPTH: usize = 4;
/// A schedule that takes more steps than this goes round in circles.
const MOST_STEPS: usize = 2_000_000;
/// The stream lies on a stack until it has its place.
const STACK: usize = 256 * 1024;
const REMIND_EVERY: Duration = Duration::from_secs(10);

/// What is drawn for a schedule before it begins.
#[derive(Debug, Clone)]
struct Plan {
    slots: u32,
    max_held: u32,
    history: u32,
    /// Whether the producer puts out who stands in its way for so many looks.
    expels: Option<u64>,
    /// Frames that each thread of the producer is to publish.
    frames: [u32; 2],
    /// Whether the stream is closed as soon as one of these threads is done.
    hurried_end: bool,
    consumers: usize,
}

impl Plan {
    fn draw() -> Self {
        // In a small pool everybody stands in everybody's way.
        let slots = draw(1..=8).min(draw(1..=8));
        let frames = draw(40..=200);
        let first = draw(1..=frames - 1);
        Self {
            slots,
            max_held: draw(1..=slots),
            history: if chance(2) { 0 } else { draw(0..=slots - 1) },
            expels: chance(3).then(|| u64::from(draw(1..=20))),
            frames: [first, frames - first],
            hurried_end: chance(4),
            consumers: 3,
        }
    }
}

fn draw(range: RangeInclusive<u32>) -> u32 {
    thread_rng().gen_range(range)
}

/// Once in so many times.
fn chance(times: u32) -> bool {
    draw(1..=times) == 1
}

/// How often something came about, in all schedules: what never does is not tested.
struct Tally {
    what: &'static str,
    times: AtomicU64,
}

impl Tally {
    const fn of(what: &'static str) -> Self {
        Self { what, times: AtomicU64::new(0) }
    }

    fn add(&self, times: u64) {
        self.times.fetch_add(times, Relaxed);
    }
}

static DONE: AtomicU64 = AtomicU64::new(0);
static STEPS: AtomicU64 = AtomicU64::new(0);
static PUBLISHED: Tally = Tally::of("frames published");
static RECEIVED: Tally = Tally::of("received");
static EVICTED: Tally = Tally::of("evicted");
static HUNGER: Tally = Tally::of("waits for a slot");
static WAITS: Tally = Tally::of("waits for a frame");
static SEATS: Tally = Tally::of("seats taken");
static STOPPED: Tally = Tally::of("consumers that died");
static EXPELLED: Tally = Tally::of("put out");
static TALLIES: [&Tally; 8] = [&PUBLISHED, &RECEIVED, &EVICTED, &HUNGER, &WAITS, &SEATS, &STOPPED, &EXPELLED];

std::thread_local! {
    /// Of the schedule that runs in this thread of the system.
    static PLAN: RefCell<Option<Plan>> = const { RefCell::new(None) };
}

/// One schedule, from a new stream to the proof that nothing of it was lost.
fn schedule() {
    let plan = Plan::draw();
    PLAN.set(Some(plan.clone()));
    let stream = Stream::new(&plan);
    let consumers: Vec<_> = (0..plan.consumers)
        .map(|_| {
            let stream = stream.clone();
            thread::spawn(move || consumer::lives(&stream))
        })
        .collect();
    let [first, second] = plan.frames.map(|frames| {
        let stream = stream.clone();
        thread::spawn(move || stream.produce(frames))
    });
    first.join().unwrap();
    if plan.hurried_end {
        stream.close();
        second.join().unwrap();
    } else {
        second.join().unwrap();
        stream.close();
    }
    for consumer in consumers {
        consumer.join().unwrap();
    }
    stream.check_free();
    DONE.fetch_add(1, Relaxed);
    STEPS.fetch_add(shuttle::current::context_switches() as u64, Relaxed);
}

/// So many schedules, half of each kind; the same for the same seed.
fn round(seed: u64, schedules: u64) {
    let each = schedules as usize / 2;
    run(RandomScheduler::new_from_seed(seed, schedules as usize - each));
    run(PctScheduler::new_from_seed(seed, DEPTH, each));
}

fn run(scheduler: impl Scheduler + 'static) {
    let mut config = Config::new();
    config.stack_size = STACK;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(MOST_STEPS);
    // That it takes every ordering for SeqCst is known: the orderings are loom's part.
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(schedule);
}

fn setting<T: FromStr<Err: Debug>>(name: &str, otherwise: T) -> T {
    env::var(name)
        .map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn shuttle_interleavings() {
    let (schedules, seed): (u64, u64) = (setting(SCHEDULES, 1000), setting(SEED, 1));
    let (begun, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let started = Instant::now();
    let work = || {
        while !stop.load(Relaxed) {
            let from = begun.fetch_add(ROUND, Relaxed);
            if from >= schedules {
                return;
            }
            let (seed, count) = (seed.wrapping_add(from / ROUND), ROUND.min(schedules - from));
            if catch_unwind(AssertUnwindSafe(|| round(seed, count))).is_err() {
                stop.store(true, Relaxed);
                let plan = PLAN.take();
                println!(
                    "\nfound in {plan:?}\nagain: cargo xtask shuttle --seed {seed} --schedules {count}\n"
                );
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        let mut reminded = Instant::now();
        while !threads.iter().all(|thread| thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(20));
            if reminded.elapsed() >= REMIND_EVERY {
                reminded = Instant::now();
                println!(
                    "  .. {} of {schedules} schedules, {:.0} s",
                    DONE.load(Relaxed),
                    started.elapsed().as_secs_f64()
                );
            }
        }
    });
    let (done, steps) = (DONE.load(Relaxed), STEPS.load(Relaxed));
    println!("seed {seed}: {done} schedules, {steps} steps, {:.1} s", started.elapsed().as_secs_f64());
    let tallies = TALLIES.map(|tally| format!("{} {}", tally.times.load(Relaxed), tally.what));
    println!("{}", tallies.join(", "));
    assert!(!stop.into_inner(), "a schedule failed, see above");
    for tally in TALLIES {
        let some = tally.times.load(Relaxed) > 0;
        assert!(some || schedules < ROUND, "{}: none in {schedules} schedules", tally.what);
    }
}
