//! `cargo xtask hw`: the devices of this machine. All but the build is in `hw-tests`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::step;
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// What `bips-hw-tests` is given
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Becomes that program, whose exit code and output are for those who called.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let program = build(workspace)?;
    let error = command(workspace, options, &program).exec();
    Err(error).with_context(|| format!("starting {}", program.display()))
}

/// Builds the program, and says where it is.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    let mut build = workspace.cargo(["build", "--package", "bips-hw-tests"]);
    step::logged("build the device tests", &mut build, &workspace.log("build-hw"))?;
    Ok(workspace.target.join("debug/bips-hw-tests"))
}

/// A later `--out` counts.
fn command(workspace: &Workspace, options: &Options, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--out").arg(workspace.target.join("hw")).args(&options.arguments);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Called {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn everything_goes_through_as_it_is() {
        let workspace = Workspace::find().unwrap();
        let called = Called::parse_from(["hw", "--device", "drm:*", "--out", "here", "--json"]);
        let command = command(&workspace, &called.options, "x".as_ref());
        let arguments: Vec<_> = command.get_args().map(|text| text.to_string_lossy()).collect();
        assert_eq!(arguments[0], "--out");
        assert!(arguments[1].ends_with("/hw"), "{arguments:?}");
        assert_eq!(arguments[2..], ["--device", "drm:*", "--out", "here", "--json"]);
    }
}
