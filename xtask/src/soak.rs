//! `cargo xtask soak`: a stream on which everybody joins, leaves and dies for as long as one likes.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};

use crate::step::shown_live;
use crate::workspace::Workspace;

/// What `tests/soak` is told by.
const SECONDS: &str = "BIPS_SOAK_SECONDS";
const SEED: &str = "BIPS_SOAK_SEED";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The seed of an earlier run, to have the same drawn again; another each time, unless given
    #[arg(long)]
    seed: Option<u64>,
}

impl Options {
    /// For the lane: short, and the same each time.
    pub(crate) fn short() -> Self {
        Self { minutes: 0.3, seed: Some(1) }
    }
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    shown_live(&mut command(workspace, options)?)
}

/// The test program, optimised: it is to keep frames moving, not the processors busy with checking them.
pub(crate) fn command(workspace: &Workspace, options: &Options) -> Result<Command> {
    let seconds = options.minutes * 60.0;
    if !(seconds >= 1.0 && seconds.is_finite()) {
        bail!("--minutes {} is no time to soak; give 0.3 or more", options.minutes);
    }
    let seed = options.seed.unwrap_or_else(|| {
        // Small enough to be typed.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::from(now.subsec_nanos()) ^ now.as_secs() & 0xffff_ffff
    });
    let mut tests = workspace.cargo(["test", "--release", "--package", "bips", "--test", "soak"]);
    tests.args(["--", "soak", "--exact", "--include-ignored", "--nocapture"]);
    tests.env(SECONDS, seconds.to_string()).env(SEED, seed.to_string());
    Ok(tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Under another name the seed would be lost, and every soak the same.
    #[test]
    fn the_soak_listens_to_these_names() {
        let soak = include_str!("../../tests/soak/main.rs");
        for name in [SECONDS, SEED] {
            assert!(soak.contains(name), "{name}");
        }
    }

    #[test]
    fn no_time_at_all_is_refused() {
        let workspace = Workspace::find().unwrap();
        for minutes in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(command(&workspace, &Options { minutes, seed: None }).is_err(), "{minutes}");
        }
        assert!(command(&workspace, &Options::short()).is_ok());
    }
}
