//! The Python package's tests, in the environment of a purpose.

use anyhow::Result;

use super::Outcome;
use crate::python::{Environments, Purpose, hide_gpus};
use crate::step::shown_live;
use crate::workspace::Workspace;

/// Tests of a framework that isn't installed skip themselves, so both lanes run the same folder.
pub(crate) fn run(workspace: &Workspace, purpose: Purpose) -> Result<Outcome> {
    let python = Environments::new(workspace)?.of(purpose)?;
    let mut pytest = python.command();
    // Python puts the current folder in front of its own packages, and in `python/` that would be the
    // package's source without its compiled part. -P leaves it out, and so do the tests' own processes.
    pytest.args(["-P", "-m", "pytest", "-ra", "tests"]);
    pytest.current_dir(workspace.root.join("python")).env("PYTHONSAFEPATH", "1");
    hide_gpus(&mut pytest);
    shown_live(&mut pytest)?;
    Ok(Outcome::Passed)
}
