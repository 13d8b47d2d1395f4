//! What was left out inside a lane that ran. A test that leaves itself out passes, so this would be silence.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::Lane;
use crate::workspace::Workspace;

/// Names the file to which tests append a line for each skip (`tests/common/skip.rs`).
const COLLECT: &str = "BIPS_SKIPS";

/// The collection of one lane.
#[derive(Clone)]
pub(crate) struct Skips(PathBuf);

impl Skips {
    /// Without what an earlier run has left.
    pub(crate) fn collect(workspace: &Workspace, lane: Lane) -> Result<Self> {
        Self::empty(workspace.log(&format!("skips-{lane}")))
    }

    fn empty(file: PathBuf) -> Result<Self> {
        let made = file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&file, ""));
        made.with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self(file))
    }

    /// Has the tests that this command runs tell.
    pub(crate) fn of<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env(COLLECT, &self.0)
    }

    pub(crate) fn add(&self, skip: &str) -> Result<()> {
        let mut file = fs::OpenOptions::new().append(true).open(&self.0)?;
        writeln!(file, "{skip}").with_context(|| format!("cannot write {}", self.0.display()))
    }

    /// Everything told so far.
    pub(crate) fn told(&self) -> Result<Vec<String>> {
        let text =
            fs::read_to_string(&self.0).with_context(|| format!("cannot read {}", self.0.display()))?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_run_left_does_not_count() {
        let folder = std::env::temp_dir().join(format!("bips-skips-{}", std::process::id()));
        let file = folder.join("logs/skips.log");
        let skips = Skips::empty(file.clone()).unwrap();
        assert!(skips.told().unwrap().is_empty());
        skips.add("tests/a.rs:7: only root can").unwrap();
        skips.add("tests/a.rs:9: only root can").unwrap();
        assert_eq!(skips.told().unwrap().len(), 2);
        let mut command = Command::new("true");
        assert!(skips.of(&mut command).get_envs().eq([(COLLECT.as_ref(), Some(file.as_os_str()))]));
        assert!(Skips::empty(file).unwrap().told().unwrap().is_empty());
        fs::remove_dir_all(folder).unwrap();
    }
}
