//! The Python environments: `target/venv-core` (no framework but NumPy) and `target/venv-frameworks`.
//!
//! The demo and the framework tests share the second: torch is most of the download.

mod interpreter;
mod torch;
mod venv;

use std::cell::OnceCell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use self::interpreter::Interpreter;
pub(crate) use self::torch::hide_gpus;
pub(crate) use self::venv::Venv;
use crate::step;
use crate::workspace::Workspace;

/// What an environment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// The core tests: NumPy, pytest and mypy
    Core,
    /// The linters, in the same environment
    Lint,
    /// The film demo and the benchmarks: torch, PyAV, a film
    Demo,
    /// The framework tests: torch, JAX, TensorFlow, pytest
    Frameworks,
}

pub(crate) struct Environments<'a> {
    workspace: &'a Workspace,
    interpreter: Interpreter,
    wheel: OnceCell<PathBuf>,
    // Two set-ups at once would install over each other; the second waits for this.
    _lock: File,
}

impl<'a> Environments<'a> {
    pub(crate) fn new(workspace: &'a Workspace) -> Result<Self> {
        let interpreter = Interpreter::find()?;
        let lock = File::create(workspace.target.join(".xtask-python.lock"))?;
        if lock.try_lock().is_err() {
            eprintln!("waiting for another `cargo xtask` to finish its Python set-up");
            lock.lock()?;
        }
        Ok(Self { workspace, interpreter, wheel: OnceCell::new(), _lock: lock })
    }

    /// The environment of a purpose, with today's bips in it.
    pub(crate) fn of(&self, purpose: Purpose) -> Result<Venv> {
        let workspace = self.workspace;
        let nothing = |_: &Venv, _: &Path| Ok(());
        let venv = match purpose {
            Purpose::Core | Purpose::Lint => self.open("core")?,
            Purpose::Demo | Purpose::Frameworks => {
                let venv = self.open("frameworks")?;
                let machine = self.interpreter.machine.as_str();
                venv.layer(
                    workspace,
                    "torch",
                    torch::variant(),
                    "torch for the CPU, 0.5 GB",
                    |venv, file| torch::finish(workspace, venv, file, machine),
                )?;
                venv
            }
        };
        match purpose {
            Purpose::Core => venv.layer(workspace, "core", "", "NumPy, pytest and mypy", nothing)?,
            Purpose::Lint => {
                venv.layer(workspace, "core", "", "NumPy, pytest and mypy", nothing)?;
                venv.layer(workspace, "lint", "", "the linters", nothing)?;
            }
            Purpose::Demo => venv.layer(workspace, "demo", "", "PyAV and a film", nothing)?,
            Purpose::Frameworks => {
                venv.layer(workspace, "frameworks", "", "JAX, TensorFlow and pytest, 0.4 GB", nothing)?;
            }
        }
        self.install_bips(&venv)?;
        Ok(venv)
    }

    fn open(&self, name: &str) -> Result<Venv> {
        Venv::open(self.workspace, name, &self.interpreter)
    }

    fn install_bips(&self, venv: &Venv) -> Result<()> {
        let wheel = self.wheel()?;
        let mut install = venv.pip(&["install", "--no-deps", "--no-index", "--force-reinstall"]);
        install.arg(wheel);
        let log = self.workspace.log(&format!("pip-{}-bips", venv.name));
        step::logged(&format!("install bips into {}", venv.dir.display()), &mut install, &log)
    }

    /// The package's wheel, built at most once per run (and by cargo only where something changed).
    fn wheel(&self) -> Result<&PathBuf> {
        if let Some(wheel) = self.wheel.get() {
            return Ok(wheel);
        }
        let manifest = self.workspace.root.join("python/Cargo.toml");
        let venv = self.open("core")?;
        venv.layer(self.workspace, "tools", "", "maturin", |_, _| Ok(()))?;
        let folder = self.workspace.target.join("wheels/xtask");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        let mut build = std::process::Command::new(venv.program("maturin"));
        // `linux`, not `manylinux`: this wheel stays on this machine.
        build.args(["build", "--release", "--compatibility", "linux", "--manifest-path"]);
        build.arg(manifest).arg("--out").arg(&folder).arg("--interpreter").arg(&venv.python);
        build.current_dir(&self.workspace.root).env("CARGO_TARGET_DIR", &self.workspace.target);
        step::logged("build the Python package (maturin)", &mut build, &self.workspace.log("maturin"))?;
        let mut wheels = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("no wheel in {}", folder.display()))? {
            wheels.push(entry?.path());
        }
        wheels.retain(|path| path.extension().is_some_and(|extension| extension == "whl"));
        let [wheel] = wheels.as_slice() else {
            bail!("maturin left {} wheels in {}, not one", wheels.len(), folder.display());
        };
        Ok(self.wheel.get_or_init(|| wheel.clone()))
    }
}
