//! dma-bufs on real drivers: devices that are still at work, what peers may send, who may do what.
//!
//! Cases are left out with the reason where the machine lacks the device, unless `BIPS_REQUIRE` names `dma-buf`.

mod adopt;
mod bad_input;
mod broker;
mod fences;
mod limits;
mod vgem;

use bips::{Backend, Consumer, ConsumerBuilder, Producer, ProducerBuilder, Registry, Wait};
use bips_dma_buf::{DmaHeap, Udmabuf};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Ends a test instead of hanging it.
const SOON: Wait = Wait::For(Duration::from_secs(30));

fn registry() -> Registry {
    Registry::new().with(Arc::new(DmaHeap::new())).with(Arc::new(Udmabuf::new()))
}

/// Whether pools of these kinds can be made here.
#[track_caller]
fn are_here(kinds: &[&str]) -> bool {
    let registry = registry();
    kinds.iter().all(|kind| bips_conformance::is_here(&registry.get(kind).unwrap(), "dma-buf"))
}

fn backend(kind: &str) -> Arc<dyn Backend> {
    registry().get(kind).unwrap()
}

/// A directory of the test's own, gone when it ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("bips-devices-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn producer(&self, kind: &str) -> ProducerBuilder {
        Producer::builder("device").registry(registry()).memory(kind).bytes(10_000).directory(&self.0)
    }

    fn consumer(&self) -> ConsumerBuilder {
        consumer(&self.0)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn consumer(directory: &Path) -> ConsumerBuilder {
    Consumer::builder("device").registry(registry()).directory(directory).wait(SOON)
}

const ROLE: &str = "BIPS_DEVICES_ROLE";
const DIRECTORY: &str = "BIPS_DEVICES_DIR";

/// This program once more, in a role; what it prints comes back.
fn in_role(role: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_process", "--nocapture"]).env(ROLE, role).env(DIRECTORY, directory);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Plays a role in another test's child process; in a plain test run it has none.
#[test]
fn child_process() {
    let (Ok(role), Some(directory)) = (std::env::var(ROLE), std::env::var_os(DIRECTORY)) else { return };
    let directory = PathBuf::from(directory);
    match role.as_str() {
        "identify" => limits::identify(&directory),
        "scribble" => limits::scribble(&directory),
        "read" => adopt::read(&directory),
        "serve" => broker::serve(&directory),
        "produce" => broker::produce(&directory),
        "ask" => broker::ask(&directory),
        "plan" => bad_input::plan_all(),
        role => panic!("no role {role}"),
    }
}
