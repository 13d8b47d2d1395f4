//! Producer and consumers in different containers, which share one directory and nothing else.

use std::process::Command;

use anyhow::Result;

use super::{Outcome, Skips};
use crate::step::{logged, shown_live};
use crate::workspace::{Workspace, on_path};

/// Makes the containers that the tests make. Being installed isn't enough: a host may forbid namespaces.
const TRIAL: &str = "a_container_can_be_made";

pub(crate) fn run(workspace: &Workspace, skips: &Skips) -> Result<Outcome> {
    if on_path("bwrap").is_none() {
        return Ok(Outcome::Skipped("there is no bwrap: apt-get install bubblewrap".to_owned()));
    }
    // Apart, so that only a container that can't be made fails the trial.
    shown_live(test(workspace).arg("--no-run"))?;
    let log = workspace.log("containers-trial");
    let mut trial = test(workspace);
    trial.args(["--", "--exact", TRIAL, "--include-ignored"]);
    if logged("try to make a container", &mut trial, &log).is_err() {
        return Ok(Outcome::Skipped(format!(
            "bwrap can't make a container here (are user namespaces forbidden?): {}",
            log.display()
        )));
    }
    shown_live(skips.of(test(workspace).args(["--", "--include-ignored", "--nocapture"])))?;
    Ok(Outcome::Passed)
}

fn test(workspace: &Workspace) -> Command {
    workspace.cargo(["test", "--package", "bips", "--test", "containers"])
}
