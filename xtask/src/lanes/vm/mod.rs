//! The virtual machine of `cargo xtask vm`: that it does what it promises, and then what only its drivers can show.

mod cases;
mod drivers;
mod endings;
mod extra;

use std::env;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use super::{Outcome, Skips};
use crate::step::shown;
use crate::vm;
use crate::workspace::Workspace;

pub(crate) fn run(workspace: &Workspace, skips: &Skips) -> Result<Outcome> {
    if let Err(error) = vm::prepare(workspace) {
        return Ok(Outcome::Skipped(format!("there is no virtual machine here: {error:#}")));
    }
    workspace.build_cli()?;
    all(workspace, skips, "vm-lane", cases::ALL.iter().chain(drivers::ALL).chain(endings::ALL))
}

/// With the drivers that have to be built. A lane of its own, since that takes a compiler and a fetch.
pub(crate) fn run_extra(workspace: &Workspace, skips: &Skips) -> Result<Outcome> {
    if let Err(error) = vm::prepare_extra(workspace) {
        return Ok(Outcome::Skipped(format!("the drivers can't be built here: {error:#}")));
    }
    all(workspace, skips, "vm-extra-lane", extra::ALL)
}

/// Has only the cases run whose name has that in it.
const ONLY: &str = "BIPS_VM_CASE";

/// Runs all cases, even when one fails.
fn all<'a>(
    workspace: &Workspace,
    skips: &Skips,
    folder: &str,
    cases: impl IntoIterator<Item = &'a Case>,
) -> Result<Outcome> {
    let lane = VmLane::new(workspace, skips, folder)?;
    let only = env::var(ONLY).unwrap_or_default();
    let cases: Vec<_> = cases.into_iter().filter(|case| case.name.contains(&only)).collect();
    ensure!(!cases.is_empty(), "no case has `{only}` in its name ({ONLY})");
    let mut failed = Vec::new();
    for case in cases {
        let started = Instant::now();
        let result = (case.run)(&lane);
        let took = started.elapsed().as_secs_f64();
        match result {
            Ok(()) => println!("  ok    {:<62}{took:>6.1} s", case.name),
            Err(error) => {
                println!("  FAIL  {:<62}{took:>6.1} s\n{error:#}", case.name);
                failed.push(case.name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("failed in the virtual machine: {}", failed.join("; "));
    }
    fs::remove_dir_all(&lane.folder)?;
    Ok(Outcome::Passed)
}

/// What is tried, each in a machine of its own.
struct Case {
    name: &'static str,
    run: fn(&VmLane) -> Result<()>,
}

/// What cases have at hand.
struct VmLane {
    /// This very program.
    xtask: PathBuf,
    workspace: Workspace,
    /// For files, which the machine sees under the same name.
    folder: PathBuf,
    skips: Skips,
}

impl VmLane {
    fn new(workspace: &Workspace, skips: &Skips, folder: &str) -> Result<Self> {
        let folder = workspace.target.join(folder);
        // Left by a run that failed.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { xtask: env::current_exe()?, workspace: workspace.clone(), folder, skips: skips.clone() })
    }

    /// `cargo xtask vm OPTIONS -- COMMAND`, as a user calls it.
    fn vm(&self, options: &[&str], command: &[&str]) -> Command {
        let mut vm = Command::new(&self.xtask);
        // Long: a machine takes a multiple of its time where many processes want the processor.
        vm.args(["vm", "--timeout", "400"]).args(options).arg("--").args(command);
        vm.current_dir(&self.workspace.root)
            .env("CARGO_TARGET_DIR", &self.workspace.target)
            .stdin(Stdio::null());
        vm
    }

    /// Runs one to its end.
    fn outcome(&self, options: &[&str], command: &[&str]) -> Result<Told> {
        Told::of(&mut self.vm(options, command))
    }

    /// Runs a command that must succeed, and returns what it printed.
    fn printed(&self, options: &[&str], command: &[&str]) -> Result<String> {
        let told = self.outcome(options, command)?;
        told.demand(0)?;
        String::from_utf8(told.output.stdout).context("that isn't text")
    }
}

/// What a call said and ended with.
struct Told {
    call: String,
    output: Output,
}

impl Told {
    fn of(command: &mut Command) -> Result<Self> {
        let output = command.output().context("cannot start the virtual machine's maker")?;
        Ok(Self { call: shown(command), output })
    }

    fn demand(&self, code: i32) -> Result<()> {
        ensure!(
            self.output.status.code() == Some(code),
            "`{}` ended with {:?} (signal {:?}) instead of {code}\n{}",
            self.call,
            self.output.status.code(),
            self.output.status.signal(),
            self.errors()
        );
        Ok(())
    }

    fn errors(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }
}

/// Bytes of all values, which no encoding survives by chance.
fn noise(length: usize, mut state: u64) -> Vec<u8> {
    let mut noise = Vec::with_capacity(length + 8);
    while noise.len() < length {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise.truncate(length);
    noise
}

fn same(what: &str, got: &[u8], expected: &[u8]) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    let at = got.iter().zip(expected).position(|(got, expected)| got != expected);
    bail!(
        "{what} has {} bytes instead of {} and differs from byte {} on",
        got.len(),
        expected.len(),
        at.unwrap_or_else(|| got.len().min(expected.len()))
    )
}

fn written(file: &std::path::Path, content: &[u8]) -> Result<()> {
    fs::write(file, content).with_context(|| format!("cannot write {}", file.display()))
}

fn opened(file: &std::path::Path) -> Result<File> {
    File::create(file).with_context(|| format!("cannot write {}", file.display()))
}
