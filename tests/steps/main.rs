//! A process dies at every step of the protocol, on either side, under each policy, with one to three consumers.
//!
//! `bips::testing` knows the steps; a child kills itself at one. Then nobody else may wait for it, no slot may stay
//! taken, no frame may be torn, repeated or lost to a reliable survivor, and descriptors and mappings must be what
//! they were. `cargo xtask test crash` prints the table. `BIPS_STEP` takes only the steps whose text has that in it, and
//! `BIPS_DEATHS=one` one death at each instead of nine.

#![cfg(not(any(bips_loom, bips_shuttle)))]

#[path = "../common/mod.rs"]
mod common;
mod consumer_dies;
mod producer_dies;

use bips::Policy;
use bips::testing::{Side, steps};
use common::process::{Peer, Role, Stage, play};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

const ROLES: &[Role] = &[("consumer", consumer_dies::victim), ("producer", producer_dies::victim)];

#[test]
fn child_process() {
    common::process::child(ROLES);
}

#[test]
#[ignore = "for cargo xtask test crash"]
fn a_consumer_dies_at_every_step() {
    every_step(Side::Consumer, consumer_dies::scenario);
}

#[test]
#[ignore = "for cargo xtask test crash"]
fn a_producer_dies_at_every_step() {
    every_step(Side::Producer, producer_dies::scenario);
}

const POLICIES: [Policy; 3] = [Policy::Reliable, Policy::KeepLast(1), Policy::KeepLast(2)];

/// One death: where, and in what company.
#[derive(Debug, Clone, Copy)]
struct Scenario {
    /// Index in `steps()`.
    step: usize,
    /// Dies when it passes the step for this time.
    count: u32,
    policy: Policy,
    consumers: usize,
}

impl Scenario {
    fn text(&self) -> &'static str {
        steps().nth(self.step).expect("a step").1
    }

    /// Whether the producer puts consumers out.
    fn expels(&self) -> bool {
        self.text().starts_with("expel:")
    }

    /// Whether a consumer gets there only if the producer evicts it in the midst of a take.
    fn needs_eviction(&self) -> bool {
        let texts = ["take: claimed, but evicted", "take: the claim is taken back"];
        texts.iter().any(|start| self.text().starts_with(start))
    }

    /// Only keep-last consumers are evicted, or skip.
    fn can_happen(&self) -> bool {
        let keep_last_only =
            ["evict:", "skip:", "take: claimed, but evicted", "take: the claim is taken back"];
        self.policy != Policy::Reliable || !keep_last_only.iter().any(|start| self.text().starts_with(start))
    }

    /// Whether a process passes this step at most once.
    fn is_single(&self) -> bool {
        ["claim:", "close:"].iter().any(|start| self.text().starts_with(start))
    }

    fn start(&self, role: &str, directory: &Path) -> Peer {
        let policy = POLICIES.iter().position(|policy| *policy == self.policy).expect("one of them") as u64;
        play(role, directory, self.step as u64 | u64::from(self.count) << 16 | policy << 32)
    }

    /// What [`Scenario::start`] passed on; from now on this process is to die.
    fn begin(stage: &Stage) -> Self {
        let scenario = Self {
            step: (stage.number & 0xffff) as usize,
            count: (stage.number >> 16 & 0xffff) as u32,
            policy: POLICIES[(stage.number >> 32) as usize],
            consumers: 0,
        };
        bips::testing::die_at(scenario.text(), scenario.count).expect("a known step");
        scenario
    }
}

/// The victim's end, which must have been at its step.
#[track_caller]
fn died(victim: &mut Peer) {
    let status = victim.end();
    assert_eq!(status.signal(), Some(9), "the step was never reached: {status}");
}

fn every_step(side: Side, run: impl Fn(&Scenario)) {
    let begin = Instant::now();
    let only = std::env::var("BIPS_STEP").unwrap_or_default();
    let one_each = std::env::var("BIPS_DEATHS").is_ok_and(|which| which == "one");
    let (mut all, mut whole, mut good, mut bad) = (0, 0, 0, 0);
    println!("\n{side:?} dies at");
    for (step, (_, text)) in steps().enumerate().filter(|(_, (of, text))| *of == side && text.contains(&only))
    {
        let began = Instant::now();
        let (mut passed, mut failed) = (0, Vec::new());
        'company: for policy in POLICIES {
            for consumers in 1..=3 {
                let mut scenario = Scenario { step, count: 1, policy, consumers };
                if !scenario.is_single() {
                    scenario.count = consumers as u32 * 2 - 1;
                }
                if !scenario.can_happen() {
                    continue;
                }
                match catch_unwind(AssertUnwindSafe(|| run(&scenario))) {
                    Ok(()) => passed += 1,
                    Err(_) => failed.push(format!("{policy}, {consumers} consumers")),
                }
                if one_each {
                    break 'company;
                }
            }
        }
        let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
        println!("  {verdict:<7}{passed:>3} deaths {:>5.1} s  {text}", began.elapsed().as_secs_f64());
        for failed in &failed {
            println!("          not with {failed}");
        }
        all += 1;
        whole += u32::from(failed.is_empty());
        good += passed;
        bad += failed.len();
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!("{side:?}: {whole} of {all} steps, {good} deaths survived, {bad} not, {seconds:.1} s");
    assert_eq!(bad, 0, "see the table above");
}
