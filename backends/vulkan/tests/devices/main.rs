//! Vulkan memory on whatever drivers there are: a device at work at both ends of a stream, and what peers may send.
//!
//! Cases are left out with the reason where there is no driver, unless `BIPS_REQUIRE` names `vulkan`.

mod at_work;
mod bad_input;
mod drivers;
mod fences;
mod given;
mod validation;

use bips::{Backend, Consumer, ConsumerBuilder, Producer, ProducerBuilder, Registry, Wait};
use bips_vulkan::Vulkan;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

/// Ends a test instead of hanging it.
const SOON: Wait = Wait::For(Duration::from_secs(30));
const ROLE: &str = "BIPS_TEST_ROLE";
const DIRECTORY: &str = "BIPS_TEST_DIR";

/// The driver's memory, or nothing where there is none, which is said.
#[track_caller]
fn here() -> Option<Arc<dyn Backend>> {
    let backend: Arc<dyn Backend> = Arc::new(Vulkan::new());
    bips_conformance::is_here(&backend, "vulkan").then_some(backend)
}

fn producer(backend: &Arc<dyn Backend>, directory: &Path) -> ProducerBuilder {
    Producer::builder("gpu").backend(backend.clone()).bytes(1 << 20).slots(2).directory(directory)
}

fn consumer(directory: &Path) -> ConsumerBuilder {
    let registry = Registry::new().with(Arc::new(Vulkan::new()));
    Consumer::builder("gpu").registry(registry).directory(directory).wait(SOON)
}

/// This program again, in a role of its own.
fn in_role(role: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "role", "--nocapture"]).env(ROLE, role).env(DIRECTORY, directory);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Plays a role in another test's child process; in a plain test run it has none.
#[test]
fn role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let directory = std::env::var_os(DIRECTORY).unwrap();
    match role.as_str() {
        "copy" => at_work::copy(Path::new(&directory)),
        "early" => fences::early(Path::new(&directory)),
        "given" => given::both_ways(),
        "late" => fences::late(Path::new(&directory)),
        "refused" => drivers::refused(Path::new(&directory)),
        "plan" => drivers::plan(),
        "beyond" => validation::beyond(),
        "hazard" => validation::hazard(),
        role => panic!("no role {role}"),
    }
}
