//! C and C++ against an installed package, as a native developer has it: nothing of the checkout but the examples.

mod compilers;
mod examples;
mod exports;
pub(crate) mod pairs;
mod project;
mod verdict;

use std::path::PathBuf;

use anyhow::Result;

use super::{Outcome, Skips};
use crate::install;
use crate::python::{Environments, Purpose};
use crate::workspace::{Workspace, on_path};

/// To be typed by a person.
const INSTALL: &str = "apt-get install gcc g++ cmake make pkg-config";

pub(crate) fn run(workspace: &Workspace, skips: &Skips) -> Result<Outcome> {
    for compiler in ["cc", "c++"] {
        if on_path(compiler).is_none() {
            return Ok(Outcome::Skipped(format!("there is no {compiler}: {INSTALL}")));
        }
    }
    let prefix = installed(workspace)?;
    exports::check(workspace, &prefix)?;
    compilers::run(workspace, &prefix, skips)?;

    let programs = pairs::examples(workspace);
    if let Some(reason) = examples::build(workspace, &prefix, &programs, skips)? {
        return Ok(Outcome::Skipped(reason));
    }
    // Not kept: what it locks must not wait for the tests.
    let python = Environments::new(workspace)?.of(Purpose::Core)?.python;
    project::run(workspace, &prefix, &python, skips)?;
    pairs::run(workspace, &programs, &python)?;
    Ok(Outcome::Passed)
}

fn installed(workspace: &Workspace) -> Result<PathBuf> {
    let prefix = workspace.target.join("native/prefix");
    install::into(workspace, &prefix)?;
    Ok(prefix)
}

/// Builds the examples as they are now. The reason if this machine can't.
pub(crate) fn build_examples(workspace: &Workspace, skips: &Skips) -> Result<Option<String>> {
    examples::build(workspace, &installed(workspace)?, &pairs::examples(workspace), skips)
}
