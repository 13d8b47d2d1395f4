//! Producer and consumers in different containers, which share one directory and nothing else.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::Result;

use super::{Outcome, Skips};
use crate::python::{Environments, Purpose};
use crate::step::{logged, shown_live};
use crate::workspace::{Workspace, on_path};

/// Makes the containers that the tests make. Being installed isn't enough: a host may forbid namespaces.
const TRIAL: &str = "a_container_can_be_made";
/// Names an interpreter with bips and NumPy to the tests (`tests/containers/site.rs`).
const PYTHON: &str = "BIPS_TEST_PYTHON";

/// In containers made by bubblewrap.
pub(crate) fn run(workspace: &Workspace, skips: &Skips) -> Result<Outcome> {
    if on_path("bwrap").is_none() {
        return Ok(Outcome::Skipped("there is no bwrap: apt-get install bubblewrap".to_owned()));
    }
    let why_not = "bwrap can't make a container here (are user namespaces forbidden?)";
    run_under(workspace, skips, "bubblewrap", &[], why_not)
}

/// The tests of one engine, with what they are to find in their environment.
pub(super) fn run_under(
    workspace: &Workspace,
    skips: &Skips,
    engine: &str,
    environment: &[(&str, &OsStr)],
    why_not: &str,
) -> Result<Outcome> {
    let test = || {
        let mut test = workspace.cargo(["test", "--package", "bips", "--test", "containers"]);
        test.envs(environment.iter().copied());
        test
    };
    // Apart, so that only a container that can't be made fails the trial.
    shown_live(test().arg("--no-run"))?;
    let log = workspace.log(&format!("trial-{engine}"));
    let mut trial = test();
    trial.args(["--", "--exact", &format!("under::{engine}::{TRIAL}"), "--include-ignored"]);
    if logged(&format!("try to make a container with {engine}"), &mut trial, &log).is_err() {
        return Ok(Outcome::Skipped(format!("{why_not}: {}", log.display())));
    }
    // Not kept: what it locks must not wait for the tests.
    let python = Environments::new(workspace)?.of(Purpose::Core)?.python;
    let tests = format!("under::{engine}::");
    let mut all: Command = test();
    all.args(["--", "--include-ignored", "--nocapture", &tests]).env(PYTHON, python);
    shown_live(skips.of(&mut all))?;
    println!("containers made by {engine}");
    Ok(Outcome::Passed)
}
