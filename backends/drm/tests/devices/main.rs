//! DRM on real drivers: how images lie, who takes the buffers, who may open what, timelines between processes.
//!
//! Cases are left out with the reason where the machine lacks the driver or libgbm, unless `BIPS_REQUIRE` names `drm` or
//! `gbm`.

#[path = "../common/mod.rs"]
mod common;

mod display;
mod layout;
mod nodes;
mod takers;
mod timelines;
#[path = "../../../dma-buf/tests/devices/vgem.rs"]
mod vgem;

use bips::{Backend, Content, Fourcc, Layout, Requirements, Result, Usage};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// The kind on that driver's card, `None` where there is none, which is said.
#[track_caller]
fn backend(kind: &str, driver: &str) -> Option<Arc<dyn Backend>> {
    let backend: Arc<dyn Backend> = match kind {
        "gbm" => Arc::new(common::gbm(driver)),
        _ => Arc::new(common::drm(driver)),
    };
    bips_conformance::is_here(&backend, kind).then_some(backend)
}

fn image(code: &str, width: u32, height: u32) -> Content {
    Content::image(Fourcc::parse(code).unwrap(), width, height).unwrap()
}

fn plan(backend: &Arc<dyn Backend>, content: Content, usage: Usage) -> Result<Layout> {
    backend.plan(&Requirements { slots: 2, usage, ..Requirements::of(content) })
}

const ROLE: &str = "BIPS_DEVICES_ROLE";
const ARGUMENT: &str = "BIPS_DEVICES_ARGUMENT";

/// This program once more, in a role; what it prints comes back.
fn in_role(role: &str, argument: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_process", "--nocapture"]).env(ROLE, role).env(ARGUMENT, argument);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What it said, once it has ended well.
#[track_caller]
fn said(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    said
}

/// Plays a role in another test's child process; in a plain test run it has none.
#[test]
fn child_process() {
    let (Ok(role), Ok(argument)) = (std::env::var(ROLE), std::env::var(ARGUMENT)) else { return };
    match role.as_str() {
        "plan" => nodes::plan_of(&argument),
        "signal" => timelines::signal(&argument),
        role => panic!("no role {role}"),
    }
}
