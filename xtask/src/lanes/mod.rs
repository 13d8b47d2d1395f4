//! `cargo xtask test`: the lanes, what each needs, and what became of it.

mod containers;
mod native;
mod podman;
mod pytest;
mod skips;
mod vm;
mod vulkan;

use std::collections::BTreeSet;
use std::env;
use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;

use self::skips::Skips;
use crate::loom;
use crate::python::Purpose;
use crate::shuttle;
use crate::soak;
use crate::step::shown_live;
use crate::workspace::{Workspace, on_path};

/// What is tested, in the order in which it is run: the quick and the likely first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Lane {
    /// Every Rust crate but those with a lane of their own, and the documentation's examples
    Rust,
    /// The memfd backend and its conformance
    Memfd,
    /// Memory of dma-heaps and udmabuf, where the kernel has them
    DmaBuf,
    /// Memory and timelines of DRM drivers, where the machine has some
    Drm,
    /// Memory of Vulkan drivers, which are programs that play a device, under the validation layer
    Vulkan,
    /// The `bips` program
    Cli,
    /// The Python package where no framework is installed but NumPy
    Python,
    /// The Python package with NumPy, PyTorch, JAX and TensorFlow in one process
    Frameworks,
    /// C and C++ against an installed package, and the examples from each language to each
    Native,
    /// Producer and consumers in different containers, which bubblewrap makes
    Containers,
    /// The same in podman's, with limits of memory, pauses and a seccomp filter
    Podman,
    /// The virtual machine with drivers for shared buffers: that it keeps its promises, and what those drivers show
    Vm,
    /// The same with vkms, vim2m and vicodec, which are built first
    VmExtra,
    /// A process killed at every step of the protocol, and who minds
    Crash,
    /// Peers that break every rule, while honest ones check what they get; BIPS_SCRIBBLES=2000000 for a long run
    Hostile,
    /// A short soak: processes that join, leave, stall and die at random, drawn from one seed
    Soak,
    /// The signaler under interleavings drawn at random, from one seed
    Shuttle,
    /// loom, and the counter-proof with each ordering weakened
    Loom,
}

/// What a lane came to.
pub(crate) enum Outcome {
    Passed,
    Skipped(String),
}

const REQUIRE: &str = "BIPS_REQUIRE";
/// What tests of several lanes use where it is, and `BIPS_REQUIRE` may name as well (`tests/common/skip.rs`).
const DEVICES: [&str; 4] = ["camera", "dma-heap", "vgem", "vulkan"];
/// These have a lane of their own.
const APART: [&str; 6] = ["bips-memfd", "bips-dma-buf", "bips-drm", "bips-vulkan", "bips-cli", "bips-python"];

impl Lane {
    fn run(self, workspace: &Workspace, skips: &Skips) -> Result<Outcome> {
        match self {
            Self::Rust => rust(workspace, skips),
            Self::Memfd => package(workspace, skips, "bips-memfd"),
            Self::DmaBuf => package(workspace, skips, "bips-dma-buf"),
            Self::Drm => package(workspace, skips, "bips-drm"),
            Self::Vulkan => vulkan::run(workspace, skips),
            Self::Cli => package(workspace, skips, "bips-cli"),
            Self::Python => pytest::run(workspace, Purpose::Core, skips),
            Self::Frameworks => pytest::run(workspace, Purpose::Frameworks, skips),
            Self::Native => native::run(workspace, skips),
            Self::Containers => containers::run(workspace, skips),
            Self::Podman => podman::run(workspace, skips),
            Self::Vm => vm::run(workspace, skips),
            Self::VmExtra => vm::run_extra(workspace, skips),
            Self::Crash => shown(workspace, skips, "steps"),
            Self::Hostile => shown(workspace, skips, "hostile"),
            Self::Soak => {
                shown_live(skips.of(&mut soak::command(workspace, &soak::Options::short())?))?;
                Ok(Outcome::Passed)
            }
            Self::Shuttle => {
                shuttle::run(workspace, &shuttle::Options::short())?;
                Ok(Outcome::Passed)
            }
            Self::Loom => {
                loom::run(workspace, &loom::Options::plain())?;
                loom::run(workspace, &loom::Options::weakened())?;
                Ok(Outcome::Passed)
            }
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// Runs the lanes (all, if none are named) and ends with a table of them.
pub(crate) fn run(workspace: &Workspace, named: &[Lane]) -> Result<()> {
    let required = required(&env::var(REQUIRE).unwrap_or_default())?;
    let all = Lane::value_variants();
    let lanes: Vec<Lane> =
        all.iter().copied().filter(|lane| named.is_empty() || named.contains(lane)).collect();

    let mut table = Vec::new();
    for lane in lanes {
        println!("\n=== {lane} ===");
        let started = Instant::now();
        let skips = Skips::collect(workspace, lane)?;
        let outcome = lane.run(workspace, &skips);
        let inside = skips.told()?;
        for skip in &inside {
            println!("skipped inside this lane: {skip}");
        }
        let result = judge(outcome, &inside, required.lanes.contains(&lane), &required.devices);
        let line = Line { lane, result, took: started.elapsed() };
        println!("=== {line}");
        table.push(line);
    }

    println!("\nLanes");
    for line in &table {
        println!("  {line}");
    }
    let count = |wanted: fn(&Verdict) -> bool| table.iter().filter(|line| wanted(&line.result)).count();
    let failed = count(|verdict| matches!(verdict, Verdict::Failed(_)));
    println!(
        "lanes: {} passed, {failed} failed, {} skipped",
        count(|verdict| matches!(verdict, Verdict::Passed(_))),
        count(|verdict| matches!(verdict, Verdict::Skipped(_)))
    );
    if failed > 0 {
        let names = table.iter().filter(|line| matches!(line.result, Verdict::Failed(_)));
        let names: Vec<_> = names.map(|line| line.lane.to_string()).collect();
        bail!("failed: {}; one lane again: cargo xtask test {}", names.join(", "), names[0]);
    }
    Ok(())
}

/// A required lane must be run, and all of it; but for want of a device only where that is required too.
fn judge(outcome: Result<Outcome>, inside: &[String], required: bool, devices: &BTreeSet<&str>) -> Verdict {
    let missing = inside.iter().filter(|skip| match device_of(skip) {
        Some(device) => devices.contains(device),
        None => required,
    });
    let (missing, inside) = (missing.count(), inside.len());
    match outcome {
        Ok(Outcome::Passed) if inside == 0 => Verdict::Passed(String::new()),
        Ok(Outcome::Passed) if missing > 0 => Verdict::Failed(format!(
            "{missing} skipped inside, see above: give them what they lack, or take the lane or device out of {REQUIRE}"
        )),
        Ok(Outcome::Passed) => Verdict::Passed(format!("{inside} skipped inside, see above")),
        Ok(Outcome::Skipped(reason)) if required => {
            Verdict::Failed(format!("required by {REQUIRE}, but {reason}"))
        }
        Ok(Outcome::Skipped(reason)) => Verdict::Skipped(reason),
        Err(error) => Verdict::Failed(format!("{error:#}")),
    }
}

/// The device for want of which a test was left out, as `tests/common/skip.rs` writes it.
fn device_of(skip: &str) -> Option<&'static str> {
    DEVICES.into_iter().find(|device| skip.contains(&format!(": [{device}] ")))
}

/// What must not be skipped.
#[derive(Debug, Default, PartialEq, Eq)]
struct Required {
    lanes: BTreeSet<Lane>,
    devices: BTreeSet<&'static str>,
}

/// A misspelt lane or device would never be missed, so it is an error.
fn required(list: &str) -> Result<Required> {
    let mut required = Required::default();
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if let Ok(lane) = Lane::from_str(name, false) {
            required.lanes.insert(lane);
        } else if let Some(device) = DEVICES.into_iter().find(|device| *device == name) {
            required.devices.insert(device);
        } else {
            let lanes: Vec<_> = Lane::value_variants().iter().map(Lane::to_string).collect();
            bail!(
                "{REQUIRE} names `{name}`, which is no lane and no device; there are: {}; {}",
                lanes.join(", "),
                DEVICES.join(", ")
            );
        }
    }
    Ok(required)
}

#[derive(Debug, PartialEq)]
enum Verdict {
    /// With what must be said all the same.
    Passed(String),
    Skipped(String),
    Failed(String),
}

struct Line {
    lane: Lane,
    result: Verdict,
    took: Duration,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, reason) = match &self.result {
            Verdict::Passed(remark) => ("passed", remark.as_str()),
            Verdict::Skipped(reason) => ("skipped", reason.as_str()),
            Verdict::Failed(reason) => ("FAILED", reason.as_str()),
        };
        write!(f, "{:<12}{word:<9}{:>7.1} s  {reason}", self.lane, self.took.as_secs_f64())
    }
}

fn rust(workspace: &Workspace, skips: &Skips) -> Result<Outcome> {
    let except: Vec<&str> = APART.iter().flat_map(|name| ["--exclude", *name]).collect();
    shown_live(skips.of(tests(workspace, &["--workspace"]).args(&except)))?;
    // Neither nextest nor `cargo test --all-targets` runs the examples in the documentation.
    shown_live(&mut workspace.cargo(["test", "--doc", "--workspace", "--exclude", "bips-python"]))?;
    Ok(Outcome::Passed)
}

fn package(workspace: &Workspace, skips: &Skips, name: &str) -> Result<Outcome> {
    shown_live(skips.of(&mut tests(workspace, &["--package", name])))?;
    Ok(Outcome::Passed)
}

/// A test program of the core, all of it, with what its tests print: tables, numbers, seeds. One test after the other,
/// or that is a mixture.
fn shown(workspace: &Workspace, skips: &Skips, program: &str) -> Result<Outcome> {
    let mut tests = workspace.cargo(["test", "--package", "bips", "--test", program]);
    tests.args(["--", "--include-ignored", "--nocapture", "--test-threads=1"]);
    shown_live(skips.of(&mut tests))?;
    Ok(Outcome::Passed)
}

/// nextest if it is there (each test in its own process, and the slow ones are named), else cargo's own.
fn tests(workspace: &Workspace, which: &[&str]) -> Command {
    let mut command = if on_path("cargo-nextest").is_some() {
        workspace.cargo(["nextest", "run", "--no-tests=pass", "--no-fail-fast"])
    } else {
        workspace.cargo(["test", "--all-targets", "--no-fail-fast"])
    };
    command.args(which);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_lanes_are_known_ones() {
        let both = required(" loom, memfd,camera").unwrap();
        assert_eq!(both.lanes, BTreeSet::from([Lane::Memfd, Lane::Loom]));
        assert_eq!(both.devices, BTreeSet::from(["camera"]));
        assert_eq!(required("").unwrap(), Required::default());
        let error = required("memfd,pyton").unwrap_err().to_string();
        assert!(error.contains("`pyton`") && error.contains("frameworks, native, containers"), "{error}");
    }

    #[test]
    fn what_is_required_is_run_and_all_of_it() {
        let skipped = || Ok(Outcome::Skipped("there is no bwrap".to_owned()));
        let fails = |verdict| matches!(verdict, Verdict::Failed(_));
        let judge = |outcome, inside: &[&str], required, devices: &[&'static str]| {
            let inside: Vec<String> = inside.iter().map(ToString::to_string).collect();
            super::judge(outcome, &inside, required, &devices.iter().copied().collect())
        };
        let (root, camera) = ("tests/a.rs:7: only root can", "cli/tests/b.rs:9: [camera] there is none");
        assert_eq!(judge(Ok(Outcome::Passed), &[], true, &["camera"]), Verdict::Passed(String::new()));
        assert_eq!(judge(skipped(), &[], false, &[]), Verdict::Skipped("there is no bwrap".to_owned()));
        assert!(fails(judge(skipped(), &[], true, &[])));
        let verdict = judge(Ok(Outcome::Passed), &[root, root, camera], false, &[]);
        assert!(matches!(verdict, Verdict::Passed(said) if said.contains("3 skipped")));
        assert!(fails(judge(Ok(Outcome::Passed), &[root], true, &[])));
        assert!(!fails(judge(Ok(Outcome::Passed), &[camera], true, &[])));
        assert!(fails(judge(Ok(Outcome::Passed), &[camera], false, &["camera"])));
        assert!(fails(judge(Err(anyhow::anyhow!("a test failed")), &[], false, &[])));
    }
}
