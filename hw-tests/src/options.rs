//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use glob::Pattern;

/// Try every memory device of this machine with every case, and write JSON and JUnit XML.
///
/// Exit codes: 0 all well, 1 something failed or nothing ran, 2 the arguments or files can't be meant so.
#[derive(Debug, Parser)]
#[command(name = "bips-hw-tests", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    /// Only cases whose name matches, like '*consumer*'; may be given again
    #[arg(long, value_name = "PATTERN")]
    pub(crate) case: Vec<Pattern>,
    /// Only devices that match, like memfd or 'drm:*'; may be given again
    #[arg(long, value_name = "PATTERN")]
    pub(crate) device: Vec<Pattern>,
    /// Show the devices and cases, and run nothing
    #[arg(long)]
    pub(crate) list: bool,
    /// Print the JSON instead of the table
    #[arg(long)]
    pub(crate) json: bool,
    /// Where results.json, junit.xml and the logs are written
    #[arg(long, value_name = "DIR", default_value = "target/hw", overrides_with = "out")]
    pub(crate) out: PathBuf,
    /// Other known failures than those built in (hw-tests/known_failures.toml)
    #[arg(long, value_name = "FILE")]
    pub(crate) known: Option<PathBuf>,
    /// Devices that must be there and pass whole, like dma-heap,drm:card0; BIPS_REQUIRE, unless given
    #[arg(long, value_name = "DEVICE,…")]
    pub(crate) require: Option<String>,
    /// A case that takes longer is stopped and has failed
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub(crate) timeout: Duration,
    #[command(subcommand)]
    pub(crate) inside: Option<Inside>,
}

/// What this program is run for by itself: all that reaches a driver.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Inside {
    /// Print the memory kinds of this build, and which of these devices are memory
    #[command(hide = true)]
    Kinds { devices: Vec<String> },
    /// Try to allocate
    #[command(hide = true)]
    Probe { kind: String },
    /// Open a device node
    #[command(hide = true)]
    Open { node: PathBuf },
    /// Run one case
    #[command(hide = true)]
    Case { case: String },
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| (Duration::from_millis(100)..=Duration::from_hours(24)).contains(time))
        .ok_or_else(|| "give 0.1 to 86400 seconds".to_owned())
}

/// Refuses a filter that nothing passes: it is misspelt.
pub(crate) fn all_match(option: &str, patterns: &[Pattern], names: &[&str]) -> anyhow::Result<()> {
    match patterns.iter().find(|pattern| !names.iter().any(|name| pattern.matches(name))) {
        None => Ok(()),
        Some(pattern) => anyhow::bail!("{option} '{pattern}' matches none of: {}", names.join(", ")),
    }
}

/// Whether a filter lets it through; none given lets all.
pub(crate) fn chosen(patterns: &[Pattern], name: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(name))
}
