//! Tests of drivers. They are left out on machines that lack these; here none may be.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Case, VmLane};
use crate::hw;
use crate::lanes::native::{self, pairs::Ring};
use crate::python::{Environments, Purpose};
use crate::workspace::on_path;

pub(super) const ALL: &[Case] = &[
    Case { name: "dma-heap and udmabuf: the backend's tests, none left out", run: dma_buf },
    Case { name: "drm and gbm: the backend's tests, none left out", run: drm },
    Case { name: "bips broker: makes memory for others, none left out", run: broker },
    Case { name: "cameras: the tests of capture, each with some kind of camera", run: cameras },
    Case { name: "a camera and PyTorch, each in a container, share dma-bufs", run: containers },
    Case { name: "Python waits for devices as for anything else", run: python },
    Case { name: "C, C++, Rust and Python share a heap's dma-bufs", run: languages },
    Case { name: "killed at each step, on a pool of a dma-heap", run: deaths },
    Case { name: "cargo xtask hw, on memory of each family, required", run: devices },
];

/// A camera as most are, one whose source changes, one with several planes, one that wants memory in one piece.
const CAMERAS: [&str; 4] = ["", ":input_types=0x3", ":multiplanar=2", ":allocators=1"];

fn dma_buf(lane: &VmLane) -> Result<()> {
    package(lane, "bips-dma-buf", "dma-buf")
}

/// The machine has the libraries that this one has.
fn drm(lane: &VmLane) -> Result<()> {
    let cache = Command::new("/sbin/ldconfig").arg("-p").output().context("cannot ask for libraries")?;
    let has_gbm = String::from_utf8_lossy(&cache.stdout).contains("libgbm.so.1 ");
    if !has_gbm {
        lane.skips.add("gbm: there is no libgbm.so.1 here: apt-get install libgbm1 libgl1-mesa-dri")?;
    }
    package(lane, "bips-drm", if has_gbm { "drm,gbm,vgem" } else { "drm,vgem" })
}

fn broker(lane: &VmLane) -> Result<()> {
    let programs = tests_of(lane, &["--package", "bips-cli", "--test", "broker"])?;
    let said = lane.said(&[], &[&programs[0], "--nocapture"])?;
    ensure!(said.contains("test result: ok. ") && !said.contains("skipped: "), "left out:\n{said}");
    Ok(())
}

/// Builds a package's tests here, and runs them there with the lane required that they belong to.
fn package(lane: &VmLane, package: &str, required: &str) -> Result<()> {
    let programs = tests_of(lane, &["--package", package])?;
    let script =
        "export BIPS_REQUIRE=\"$1\"; shift; for test; do echo \"$test\"; \"$test\" 2>&1 || exit; done";
    let mut command = vec!["sh", "-c", script, "sh", required];
    command.extend(programs.iter().map(String::as_str));
    let said = lane.said(&[], &command)?;
    let passed: usize = said
        .lines()
        .filter_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<usize>().ok())
        .sum();
    ensure!(passed > 0, "no test of {package} has run:\n{said}");
    lane.note(format!("{package}: {passed} tests of {} programs", programs.len()));
    Ok(())
}

/// A test may leave itself out with one camera, but not with each.
fn cameras(lane: &VmLane) -> Result<()> {
    let mut programs = tests_of(lane, &["--package", "bips-v4l2", "--test", "vivid"])?;
    programs.extend(tests_of(lane, &["--package", "bips-cli", "--test", "capture"])?);
    let (mut all, mut done) = (BTreeSet::new(), BTreeSet::new());
    for camera in CAMERAS {
        // Besides, the drivers whose memory a camera shall fill.
        let modules = format!("vgem,virtio-gpu,vivid{camera}");
        let script = "for test; do \"$test\" --test-threads=1 --nocapture 2>&1 || exit; done";
        let mut command = vec!["sh", "-c", script, "sh"];
        command.extend(programs.iter().map(String::as_str));
        let said = lane.said(&["--modules", &modules], &command).with_context(|| modules.clone())?;
        // With the line of one test come its words, up to the line of the next.
        for test in said.split("\ntest ").skip(1).filter(|test| !test.starts_with("result: ")) {
            let name = test.split(" ... ").next().unwrap_or_default().to_owned();
            if !test.contains("skipped: ") {
                done.insert(name.clone());
            }
            all.insert(name);
        }
    }
    let never: Vec<_> = all.difference(&done).collect();
    ensure!(!all.is_empty() && never.is_empty(), "left out with every camera: {never:?} of {}", all.len());
    lane.note(format!("{} tests with {} kinds of cameras", all.len(), CAMERAS.len()));
    Ok(())
}

/// PyTorch as the lane for frameworks has it, or not at all: it is too large to be fetched for this alone.
fn containers(lane: &VmLane) -> Result<()> {
    let python = lane.workspace.target.join("venv-frameworks/bin/python");
    if !python.exists() || on_path("bwrap").is_none() {
        return lane.skips.add(
            "a camera and PyTorch in containers: it takes bwrap (apt-get install bubblewrap), and the lane `frameworks` \
             before it (cargo xtask test frameworks)",
        );
    }
    let programs = tests_of(lane, &["--package", "bips-cli", "--test", "containers"])?;
    let script = "BIPS_TEST_PYTHON=$1 \"$2\" --nocapture 2>&1";
    let python = python.to_string_lossy();
    let options = ["--modules", "vivid", "--mem", "4096", "--timeout", "900"];
    let said = lane.said(&options, &["sh", "-c", script, "sh", &python, &programs[0]])?;
    for end in ["dma-bufs, 0 copied", "containers without devices"] {
        let line = said.lines().find(|line| line.ends_with(end));
        lane.note(line.with_context(|| format!("it was left out:\n{said}"))?);
    }
    Ok(())
}

/// Today's bips, in the environment of the lane for Python.
fn core_python(lane: &VmLane) -> Result<PathBuf> {
    Ok(Environments::new(&lane.workspace)?.of(Purpose::Core)?.python)
}

/// Python's own part in waiting for a device.
fn python(lane: &VmLane) -> Result<()> {
    let python = core_python(lane)?;
    let tests = lane.workspace.root.join("python/tests");
    let script = "cd \"$2\" && PYTHONDONTWRITEBYTECODE=1 exec \"$1\" -P -m pytest -p no:cacheprovider -ra test_devices.py 2>&1";
    let words = [python, tests].map(|path| path.to_string_lossy().into_owned());
    let said = lane.said(&["--modules", "vgem"], &["sh", "-c", script, "sh", &words[0], &words[1]])?;
    let end = said.lines().last().unwrap_or_default();
    ensure!(end.contains(" passed") && !end.contains("skipped"), "left out:\n{said}");
    lane.note(end.trim_matches(['=', ' ']));
    Ok(())
}

/// As the lane for C and C++ builds them.
fn languages(lane: &VmLane) -> Result<()> {
    let python = core_python(lane)?;
    if let Some(reason) = native::build_examples(&lane.workspace, &lane.skips)? {
        return lane.skips.add(&format!("languages on dma-bufs: {reason}"));
    }
    let ring = Ring::of(&lane.workspace, &python, "dma-heap", "dmabuf");
    let out = lane.folder.join("languages");
    fs::create_dir_all(&out)?;
    let quoted = |words: &[String]| words.iter().map(|word| format!("'{word}' ")).collect::<String>();
    let mut script = String::from("mkdir -p /tmp/run; export BIPS_DIR=/tmp/run RUST_LIB_BACKTRACE=0\n");
    for (i, pair) in ring.pairs.iter().enumerate() {
        let said = out.join(i.to_string()).display().to_string();
        script += &format!("{}>'{said}.sender' 2>&1 &\n", quoted(&pair.sender));
        script += &format!("{}>'{said}.receiver' 2>&1; wait\n", quoted(&pair.receiver));
    }
    let out_text = out.display().to_string();
    lane.outcome(&["--modules", "none", "--out", &out_text], &["sh", "-c", &script])?.demand(0)?;
    for (i, pair) in ring.pairs.iter().enumerate() {
        let said = |who| fs::read_to_string(out.join(format!("{i}.{who}")));
        ring.judge(&said("sender")?, &said("receiver")?).with_context(|| pair.name.clone())?;
    }
    let names: Vec<_> = ring.pairs.iter().map(|pair| pair.name.as_str()).collect();
    lane.note(format!("the same inode and place on both sides: {}", names.join(", ")));
    Ok(())
}

/// One death at each step: nine take an emulated processor five minutes, and differ in company, not in memory.
fn deaths(lane: &VmLane) -> Result<()> {
    let programs = tests_of(lane, &["--package", "bips", "--features", "testing", "--test", "steps"])?;
    let script = "BIPS_TEST_MEMORY=dma-heap BIPS_DEATHS=one exec \"$1\" --test-threads=1 --include-ignored --nocapture 2>&1";
    let said = lane.said(&["--modules", "vgem"], &["sh", "-c", script, "sh", &programs[0]])?;
    let sums: Vec<_> = said.lines().filter(|line| line.contains(" deaths survived, 0 not")).collect();
    ensure!(sums.len() == 2 && !said.contains(" 0 deaths"), "not both sides died:\n{said}");
    sums.iter().for_each(|sum| lane.note(sum));
    Ok(())
}

fn devices(lane: &VmLane) -> Result<()> {
    let program = hw::build(&lane.workspace)?;
    // One of each: of the rest the backends' own tests tell the same.
    let script = "BIPS_REQUIRE=dma-heap:system,udmabuf,drm:card0,v4l2:video0 exec \"$1\" --out /tmp/results \
                  --device dma-heap:system --device udmabuf --device drm:card0 --device v4l2:video0 2>&1";
    let said = lane.said(&[], &["sh", "-c", script, "sh", &program.to_string_lossy()])?;
    lane.note(said.lines().find(|line| line.starts_with("ok: ")).unwrap_or_default());
    Ok(())
}

pub(super) fn tests_of(lane: &VmLane, which: &[&str]) -> Result<Vec<String>> {
    let mut build = lane.workspace.cargo(["test", "--no-run", "--message-format=json"]);
    build.args(which).stdin(Stdio::null());
    let output = build.output().context("cannot start cargo")?;
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "the tests {which:?} can't be built:\n{complaints}");
    let programs: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["profile"]["test"] == true)
        .filter_map(|message| message["executable"].as_str().map(str::to_owned))
        .collect();
    ensure!(!programs.is_empty(), "there are no tests {which:?}:\n{complaints}");
    Ok(programs)
}
