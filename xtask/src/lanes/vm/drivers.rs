//! Tests of drivers. They are left out on machines that lack these; here none may be.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Case, VmLane};

pub(super) const ALL: &[Case] =
    &[Case { name: "dma-heap and udmabuf: the backend's tests, none left out", run: dma_buf }];

fn dma_buf(lane: &VmLane) -> Result<()> {
    package(lane, "bips-dma-buf", "dma-buf")
}

/// Builds a package's tests here, and runs them there with the lane required that they belong to.
fn package(lane: &VmLane, package: &str, required: &str) -> Result<()> {
    let programs = tests_of(lane, package)?;
    let script =
        "export BIPS_REQUIRE=\"$1\"; shift; for test; do echo \"$test\"; \"$test\" 2>&1 || exit; done";
    let mut command = vec!["sh", "-c", script, "sh", required];
    command.extend(programs.iter().map(String::as_str));
    let told = lane.outcome(&[], &command)?;
    let said = String::from_utf8_lossy(&told.output.stdout).into_owned();
    told.demand(0).with_context(|| said.clone())?;
    let passed: usize = said
        .lines()
        .filter_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<usize>().ok())
        .sum();
    ensure!(passed > 0, "no test of {package} has run:\n{said}");
    println!("        {package}: {passed} tests of {} programs", programs.len());
    Ok(())
}

fn tests_of(lane: &VmLane, package: &str) -> Result<Vec<String>> {
    let mut build = Command::new("cargo");
    build.args(["test", "--no-run", "--message-format=json", "--package", package]);
    build.current_dir(&lane.root).env("CARGO_TARGET_DIR", &lane.target).stdin(Stdio::null());
    let output = build.output().context("cannot start cargo")?;
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "the tests of {package} can't be built:\n{complaints}");
    let programs: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(str::to_owned))
        .collect();
    ensure!(!programs.is_empty(), "{package} has no tests:\n{complaints}");
    Ok(programs)
}
