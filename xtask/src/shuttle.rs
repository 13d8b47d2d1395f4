//! `cargo xtask shuttle`: the signaler's real code under interleavings drawn at random, at sizes that loom can't reach.

use std::env;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::step::shown_live;
use crate::workspace::Workspace;

/// What `src/signaler/interleavings.rs` is told by.
const SCHEDULES: &str = "BIPS_SHUTTLE_SCHEDULES";
const SEED: &str = "BIPS_SHUTTLE_SEED";
const TEST: &str = "signaler::interleavings::shuttle_interleavings";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many interleavings
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    schedules: u64,
    /// The seed of an earlier run, to have the same drawn again; another each time, unless given
    #[arg(long)]
    seed: Option<u64>,
}

impl Options {
    /// For the lane: short, and the same each time.
    pub(crate) fn short() -> Self {
        Self { schedules: 2000, seed: Some(1) }
    }
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    shown_live(&mut command(workspace, options))
}

/// Optimised, or it takes ten times as long; apart, because the flag changes every crate.
fn command(workspace: &Workspace, options: &Options) -> Command {
    let seed = options.seed.unwrap_or_else(|| {
        // Small enough to be typed.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::from(now.subsec_nanos()) ^ now.as_secs() & 0xffff_ffff
    });
    let mut command = workspace.cargo(["test", "--release", "--lib", "--package", "bips"]);
    command.args(["--", TEST, "--exact", "--nocapture"]);
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    command.env("RUSTFLAGS", format!("{flags} --cfg bips_shuttle").trim());
    command.env("CARGO_TARGET_DIR", workspace.target.join("shuttle"));
    command.env(SCHEDULES, options.schedules.to_string()).env(SEED, seed.to_string());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Under another name the settings would be lost; and where no test has the name, nothing is run and all is well.
    #[test]
    fn the_test_listens_to_these_names() {
        let code = include_str!("../../src/signaler/interleavings.rs");
        let test = TEST.rsplit("::").next().unwrap();
        for name in [SCHEDULES, SEED, &format!("fn {test}()")] {
            assert!(code.contains(name), "{name}");
        }
    }
}
