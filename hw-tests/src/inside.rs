//! What is done in a process of its own: whatever reaches a driver.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use bips::{Backend, Content, Requirements};

use crate::cases;
use crate::common;
use crate::inventory::{Attempt, Kind};
use crate::options::Inside;

/// Names the memory to a case and to its children.
pub(crate) const KIND: &str = "BIPS_HW_KIND";

/// Plays a role in a case, if this process was started for one.
pub(crate) fn role() -> Option<ExitCode> {
    let kind = std::env::var(KIND);
    if bips_conformance::plays_a_role() {
        let kind = kind.ok()?;
        bips_conformance::child(backend(&kind).expect("the case had it"));
        return Some(ExitCode::SUCCESS);
    }
    common::process::is_child().then(|| {
        common::process::child(cases::ROLES);
        ExitCode::SUCCESS
    })
}

/// The memory that this role is about.
pub(crate) fn subject() -> Arc<dyn Backend> {
    backend(&std::env::var(KIND).expect("the case says it")).expect("the case had it")
}

fn backend(kind: &str) -> Result<Arc<dyn Backend>> {
    let registry = bips_backends::registry();
    registry.get(kind).with_context(|| format!("this build has no memory kind {kind}"))
}

pub(crate) fn run(inside: &Inside) -> Result<()> {
    // With the runner gone nobody would stop it.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    match inside {
        Inside::Kinds { devices } => {
            cases::mischief::at("kinds");
            print(&kinds(devices))
        }
        Inside::Probe { kind } => {
            cases::mischief::at("probe");
            print(&attempt(&backend(kind)?))
        }
        Inside::Open { node } => {
            let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(node);
            opened.map(drop).with_context(|| format!("cannot open {}", node.display()))
        }
        Inside::Case { case } => {
            let subject = backend(&std::env::var(KIND).context(KIND)?)?;
            let case = cases::all().find(|known| known.name == case).context("there is no such case")?;
            // If memory runs out, the kernel shall end this process and not the runner.
            let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
            (case.run)(subject);
            Ok(())
        }
    }
}

fn print(value: &impl serde::Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// What the registry has, and what else of these devices it knows by name.
fn kinds(devices: &[String]) -> Vec<Kind> {
    let registry = bips_backends::registry();
    let by_name = devices.iter().filter_map(|device| registry.get(device));
    let mut kinds: Vec<Kind> = Vec::new();
    for backend in registry.iter().cloned().chain(by_name) {
        let info = backend.info();
        if kinds.iter().all(|known| known.id != info.kind) {
            kinds.push(Kind { id: info.kind.clone(), about: info.description.clone() });
        }
    }
    kinds
}

/// One page, really allocated: a trial and not a flag.
fn attempt(backend: &Arc<dyn Backend>) -> Attempt {
    let pool = || {
        let content = Content::bytes(4096)?;
        let wanted = Requirements { slots: 1, ..Requirements::of(content) };
        backend.allocate(&backend.plan(&wanted)?, 1)
    };
    match pool() {
        Ok(_) => Attempt::Works,
        Err(error) => Attempt::Refused { kind: error.kind().name().to_owned(), message: error.to_string() },
    }
}
