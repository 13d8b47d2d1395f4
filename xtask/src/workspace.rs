//! Where things are: the checkout, cargo's target directory, the programs built there.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::step;

/// The checkout that this program was built from.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

impl Workspace {
    pub(crate) fn find() -> Result<Self> {
        let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = xtask.parent().context("xtask has no parent folder")?.to_path_buf();
        // Like cargo, which takes a relative one from where it was called.
        let target = match env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
            Some(dir) => env::current_dir()?.join(dir),
            None => root.join("target"),
        };
        std::fs::create_dir_all(&target).with_context(|| format!("cannot make {}", target.display()))?;
        Ok(Self { root, target })
    }

    /// Cargo, in the root, building into the same place as everything else.
    pub(crate) fn cargo<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments).current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// A log file under the target directory, for a step whose output only matters when it fails.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.target.join("logs").join(format!("{name}.log"))
    }

    /// Builds the `bips` program and says where it is.
    pub(crate) fn build_cli(&self) -> Result<PathBuf> {
        let mut build = self.cargo(["build", "--release", "--package", "bips-cli"]);
        step::logged("build the bips program", &mut build, &self.log("build-cli"))?;
        Ok(self.target.join("release").join("bips"))
    }
}

/// A program on PATH.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}
