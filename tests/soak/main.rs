//! A stream in which nothing stays as it is: consumers join, leave, are stopped and die all the time, and now and then
//! the producer does. Descriptors, mappings, memory and slots must stay what they were, and no frame be torn or lost.
//!
//! One producer, eight consumers. Who does what, and dies when, is drawn from one seed; the moments are the machine's.
//! Every few seconds all leave, and what is then left of them is a leak. `cargo xtask soak` runs it for as long as one
//! likes.

#![cfg(not(any(bips_loom, bips_shuttle)))]

#[path = "../common/mod.rs"]
mod common;
mod consumer;
mod driver;
mod facts;
mod places;
mod plan;
mod producer;
mod quiet;
mod reigns;
mod role;
mod tally;

use common::Scratch;
use common::process::Role;
use driver::Soak;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use tally::{Finding, Tally};

const STREAM: &str = "cam";
const MAX_HELD: u32 = 2;
const FRAME_EVERY: Duration = Duration::from_micros(1000);
const KIB: u64 = 1 << 10;
const GENERATIONS: u64 = 256;

/// Whether the producer's pool is of so many small pages that its consumers say in their seats that they live. Each
/// second one's is.
fn is_watched(generation: u64) -> bool {
    generation % 2 == 1
}

fn slots(generation: u64) -> u32 {
    if is_watched(generation) { 32 } else { 8 }
}

/// Most of a frame: of one that is not watched, and of one that is.
const MOST: [u64; 2] = [256 * KIB, 300 * KIB];

/// Each producer's frames are of another size, so that nobody takes them for another's.
fn frame_bytes(generation: u64) -> u64 {
    MOST[usize::from(is_watched(generation))] - generation % GENERATIONS * 8
}

/// Whose frames are of that size.
fn generation_of(bytes: u64) -> u64 {
    (MOST[usize::from(bytes > MOST[0])] - bytes) / 8
}

const ROLES: &[Role] =
    &[("produces", producer::produce), ("consumes", consumer::consume), ("stays", consumer::stay)];

#[test]
fn child_process() {
    common::process::child(ROLES);
}

/// A number from the environment.
fn given<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    let Ok(text) = std::env::var(name) else { return otherwise };
    text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}; give a number"))
}

#[test]
#[ignore = "for cargo xtask soak"]
fn soak() {
    let seed: u64 = given("BIPS_SOAK_SEED", 1);
    let length = Duration::from_secs_f64(given("BIPS_SOAK_SECONDS", 20.0));
    println!("\nseed {seed}, {:.0} s", length.as_secs_f64());
    // Children of those that die become ours, so that none outlives this.
    // SAFETY: a plain number.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }, 0);
    let scratch = Scratch::new();
    let mut tally = Tally::default();
    let began = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut soak = Soak::begin(&scratch, &mut tally, seed, length)?;
        soak.run(length)
    }));
    let mut finding = match result {
        Ok(result) => result.err(),
        Err(_) => Some(Finding::new("the driver itself failed; see the panic above")),
    };
    if finding.is_none()
        && let Some(what) = tally.missing()
    {
        finding = Some(Finding::new(format!("never was there {what}; run longer, or with another seed")));
    }
    println!("\n{}", tally.verdict(seed, began.elapsed().as_secs_f64(), finding.as_ref()));
    if let Some(finding) = finding {
        panic!("{}\nthe same again: cargo xtask soak --seed {seed}", finding.text);
    }
}
