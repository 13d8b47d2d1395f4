//! The virtual machine of `cargo xtask vm`: that it does what it promises, and then what only its drivers can show.

mod cases;
mod drivers;
mod endings;
mod extra;

use std::env;
use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::{Outcome, Skips};
use crate::step::shown;
use crate::vm;
use crate::workspace::Workspace;

pub(crate) fn run(workspace: &Workspace, skips: &Skips) -> Result<Outcome> {
    if let Err(error) = vm::prepare(workspace) {
        return Ok(Outcome::Skipped(format!("there is no virtual machine here: {error:#}")));
    }
    workspace.build_cli()?;
    let groups = [(cases::ALL, 1), (drivers::ALL, ABREAST), (endings::ALL, 1)];
    all(workspace, skips, "vm-lane", &groups)
}

/// With the drivers that have to be built. A lane of its own, since that takes a compiler and a fetch.
pub(crate) fn run_extra(workspace: &Workspace, skips: &Skips) -> Result<Outcome> {
    if let Err(error) = vm::prepare_extra(workspace) {
        return Ok(Outcome::Skipped(format!("the drivers can't be built here: {error:#}")));
    }
    all(workspace, skips, "vm-extra-lane", &[(extra::ALL, 1)])
}

/// Has only the cases run whose name has that in it.
const ONLY: &str = "BIPS_VM_CASE";

/// So many machines of drivers' tests run at a time: an emulated one has one processor, and a quarter of its time it waits.
const ABREAST: usize = 2;

/// Runs all cases, even when one fails; of each group so many at a time.
fn all(
    workspace: &Workspace,
    skips: &Skips,
    folder: &str,
    groups: &[(&'static [Case], usize)],
) -> Result<Outcome> {
    let lane = VmLane::new(workspace, skips, folder)?;
    let only = env::var(ONLY).unwrap_or_default();
    let (mut count, mut failed) = (0, Vec::new());
    for (cases, abreast) in groups {
        let cases: Vec<_> = cases.iter().filter(|case| case.name.contains(&only)).collect();
        count += cases.len();
        let left = Mutex::new(cases.into_iter());
        let work = || {
            let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
            let mut failed = Vec::new();
            while let Some(case) = next() {
                failed.extend((!one(case, &lane)).then_some(case.name));
            }
            failed
        };
        let ended = thread::scope(|scope| {
            let workers: Vec<_> = (0..*abreast).map(|_| scope.spawn(work)).collect();
            workers.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        for worker in ended {
            failed.extend(worker.map_err(|_| anyhow!("a case panicked, see above"))?);
        }
    }
    ensure!(count > 0, "no case has `{only}` in its name ({ONLY})");
    if !failed.is_empty() {
        bail!("failed in the virtual machine: {}", failed.join("; "));
    }
    fs::remove_dir_all(&lane.folder)?;
    Ok(Outcome::Passed)
}

/// Runs a case; whether it passed. Its lines come at once, when it is over.
fn one(case: &Case, lane: &VmLane) -> bool {
    let lane = lane.for_a_case();
    let started = Instant::now();
    let result = (case.run)(&lane);
    let took = started.elapsed().as_secs_f64();
    let notes = lane.notes.into_inner().unwrap_or_else(PoisonError::into_inner);
    match &result {
        Ok(()) => println!("  ok    {:<62}{took:>6.1} s{notes}", case.name),
        Err(error) => println!("  FAIL  {:<62}{took:>6.1} s{notes}\n{error:#}", case.name),
    }
    result.is_ok()
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
    /// Lines for people.
    notes: Mutex<String>,
}

impl VmLane {
    fn new(workspace: &Workspace, skips: &Skips, folder: &str) -> Result<Self> {
        let folder = workspace.target.join(folder);
        // Left by a run that failed.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let (workspace, skips) = (workspace.clone(), skips.clone());
        Ok(Self { xtask: env::current_exe()?, workspace, folder, skips, notes: Mutex::default() })
    }

    fn for_a_case(&self) -> Self {
        Self {
            xtask: self.xtask.clone(),
            workspace: self.workspace.clone(),
            folder: self.folder.clone(),
            skips: self.skips.clone(),
            notes: Mutex::default(),
        }
    }

    /// A line below the case's own.
    fn note(&self, line: impl fmt::Display) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push_str(&format!("\n        {line}"));
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

    /// Runs tests that must pass, and returns what they said, which an error has too.
    fn said(&self, options: &[&str], command: &[&str]) -> Result<String> {
        let told = self.outcome(options, command)?;
        let said = String::from_utf8_lossy(&told.output.stdout).into_owned();
        told.demand(0).with_context(|| said.clone())?;
        Ok(said)
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
