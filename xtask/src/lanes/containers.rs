//! Producer and consumers in different containers, which share one directory and nothing else.

use std::process::{Command, Stdio};

use anyhow::Result;

use super::Outcome;
use crate::step::shown_live;
use crate::workspace::{Workspace, on_path};

const ASK_FOR: &str = "BIPS_CONTAINERS";
/// The least that the tests need of it. Being installed isn't enough: a host may forbid namespaces.
const TRIAL: [&str; 6] = ["--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev"];

pub(crate) fn run(workspace: &Workspace) -> Result<Outcome> {
    if on_path("bwrap").is_none() {
        return Ok(Outcome::Skipped("there is no bwrap: apt-get install bubblewrap".to_owned()));
    }
    if !works() {
        let reason = "bwrap can't make a container here (are user namespaces forbidden?)";
        return Ok(Outcome::Skipped(reason.to_owned()));
    }
    let mut test = workspace.cargo(["test", "--package", "bips", "--test", "containers"]);
    shown_live(test.args(["--", "--nocapture"]).env(ASK_FOR, "1"))?;
    Ok(Outcome::Passed)
}

fn works() -> bool {
    let mut command = Command::new("bwrap");
    command.args(TRIAL).arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
