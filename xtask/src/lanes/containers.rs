//! Producer and consumers in different containers, which share one directory and nothing else.

use std::process::{Command, Stdio};

use anyhow::Result;

use super::Outcome;
use crate::step::shown_live;
use crate::workspace::{Workspace, on_path};

const ASK_FOR: &str = "BIPS_CONTAINERS";
/// The least that the tests need of each tool. Being installed isn't enough: a host may forbid namespaces.
const TOOLS: [(&str, &[&str]); 2] =
    [("bwrap", &["--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "true"]), ("podman", &["info"])];

pub(crate) fn run(workspace: &Workspace) -> Result<Outcome> {
    let installed: Vec<_> = TOOLS.into_iter().filter(|(name, _)| on_path(name).is_some()).collect();
    if installed.is_empty() {
        return Ok(Outcome::Skipped(
            "there is neither bwrap nor podman: apt-get install bubblewrap".to_owned(),
        ));
    }
    if !installed.iter().any(|(name, arguments)| works(name, arguments)) {
        let names: Vec<_> = installed.iter().map(|(name, _)| *name).collect();
        return Ok(Outcome::Skipped(format!(
            "{} can't make a container here (are user namespaces forbidden?)",
            names.join(" and ")
        )));
    }
    let mut test = workspace.cargo(["test", "--package", "bips", "--test", "containers"]);
    shown_live(test.args(["--", "--nocapture"]).env(ASK_FOR, "1"))?;
    Ok(Outcome::Passed)
}

fn works(name: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
