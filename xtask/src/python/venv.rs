//! A virtual environment made of layers, each of which is installed once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::interpreter::Interpreter;
use crate::step;
use crate::workspace::Workspace;

#[derive(Debug, Clone)]
pub(crate) struct Venv {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) python: PathBuf,
}

impl Venv {
    /// `target/venv-NAME`, made now unless it is there, whole, and of the same interpreter.
    pub(crate) fn open(workspace: &Workspace, name: &str, interpreter: &Interpreter) -> Result<Self> {
        let dir = workspace.target.join(format!("venv-{name}"));
        let venv = Self { name: name.to_owned(), python: dir.join("bin").join("python"), dir };
        let base = format!("{} {:?}\n", interpreter.path.display(), interpreter.version);
        if !venv.has("base", &base) {
            if venv.dir.exists() {
                fs::remove_dir_all(&venv.dir)
                    .with_context(|| format!("cannot remove {}", venv.dir.display()))?;
            }
            let mut make = Command::new(&interpreter.path);
            make.args(["-m", "venv"]).arg(&venv.dir);
            step::logged(
                &format!(
                    "make {} (Python {}.{})",
                    venv.dir.display(),
                    interpreter.version.0,
                    interpreter.version.1
                ),
                &mut make,
                &workspace.log(&format!("venv-{name}")),
            )?;
            venv.stamp("base", &base)?;
        }
        Ok(venv)
    }

    /// A program of the environment.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.dir.join("bin").join(name)
    }

    /// The environment's Python.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.python);
        command.env_remove("PYTHONPATH").env_remove("PYTHONHOME");
        command
    }

    pub(crate) fn pip(&self, arguments: &[&str]) -> Command {
        let mut command = self.command();
        command.args(["-m", "pip", "--disable-pip-version-check", "--no-input"]).args(arguments);
        command
    }

    /// Installs a layer unless it is there as it stands in its requirements file, in this variant. `finish` is what the
    /// layer needs beyond pip; the stamp is set after it, so an interrupted set-up is done again.
    pub(crate) fn layer(
        &self,
        workspace: &Workspace,
        name: &str,
        variant: &str,
        title: &str,
        finish: impl FnOnce(&Self, &Path) -> Result<()>,
    ) -> Result<()> {
        let file = workspace.root.join("python/requirements").join(format!("{name}.txt"));
        let wanted =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))? + variant;
        if self.has(name, &wanted) {
            return Ok(());
        }
        let mut install = self.pip(&["install", "--no-deps", "--requirement"]);
        install.arg(&file);
        step::logged(
            &format!("install {title} (pip)"),
            &mut install,
            &workspace.log(&format!("pip-{}-{name}", self.name)),
        )
        .context("if PyPI can't be reached, check the network, or set PIP_INDEX_URL to a mirror")?;
        finish(self, &file)?;
        self.stamp(name, &wanted)
    }

    /// Whether this was done with exactly this. (A copy of what was done is as short as its hash is opaque.)
    fn has(&self, what: &str, content: &str) -> bool {
        self.python.exists() && fs::read_to_string(self.stamp_file(what)).is_ok_and(|done| done == content)
    }

    fn stamp(&self, what: &str, content: &str) -> Result<()> {
        let file = self.stamp_file(what);
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))
    }

    fn stamp_file(&self, what: &str) -> PathBuf {
        self.dir.join(format!(".done-{what}"))
    }
}
