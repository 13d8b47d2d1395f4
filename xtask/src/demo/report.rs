//! What the parties measured, side by side, and whether it is what bips promises.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const SPARKLINE_WIDTH: usize = 60;
const PNG_MAGIC: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Where to look.
pub(crate) struct Evidence {
    pub(crate) producer: PathBuf,
    pub(crate) watcher: PathBuf,
    pub(crate) sheet: PathBuf,
    pub(crate) picture: PathBuf,
    pub(crate) left_behind: Vec<OsString>,
    pub(crate) new_in_dev_shm: Vec<OsString>,
}

#[derive(Deserialize)]
struct Produced {
    clip: String,
    width: u32,
    height: u32,
    frames: u64,
    seconds: f64,
    slots: u32,
    bytes_per_frame: u64,
    bytes_copied: u64,
    places: BTreeSet<String>,
    dev_shm: Vec<String>,
}

#[derive(Deserialize)]
struct Watched {
    frames: u64,
    lost: u64,
    inside: u64,
    places: BTreeSet<String>,
    latency_ns: Latency,
    bytes_copied: u64,
    mean: [f64; 3],
    deviation: [f64; 3],
    motion: Vec<f64>,
    torch: String,
    dev_shm: Vec<String>,
}

#[derive(Deserialize)]
struct Latency {
    p50: u64,
    p99: u64,
    max: u64,
}

#[derive(Deserialize)]
struct Sheet {
    frames: u64,
    tiles: u64,
    lost: u64,
    bytes_copied_by_bips: u64,
}

struct Check {
    holds: bool,
    claim: String,
}

pub(crate) struct Report {
    produced: Produced,
    watched: Watched,
    sheet: Sheet,
    picture: PathBuf,
    checks: Vec<Check>,
}

impl Report {
    pub(crate) fn read(evidence: Evidence) -> Result<Self> {
        let produced: Produced = read(&evidence.producer)?;
        let watched: Watched = read(&evidence.watcher)?;
        let sheet: Sheet = read(&evidence.sheet)?;
        let checks = checks(&produced, &watched, &sheet, &evidence);
        Ok(Self { produced, watched, sheet, picture: evidence.picture, checks })
    }

    pub(crate) fn verdict(&self) -> Result<()> {
        let broken: Vec<&str> =
            self.checks.iter().filter(|check| !check.holds).map(|check| check.claim.as_str()).collect();
        if broken.is_empty() {
            return Ok(());
        }
        bail!("{} of {} checks failed: {}", broken.len(), self.checks.len(), broken.join("; "))
    }

    fn copied(&self) -> u64 {
        self.produced.bytes_copied + self.watched.bytes_copied + self.sheet.bytes_copied_by_bips
    }
}

fn checks(produced: &Produced, watched: &Watched, sheet: &Sheet, evidence: &Evidence) -> Vec<Check> {
    let mut list = Vec::new();
    let mut check = |holds: bool, claim: String| list.push(Check { holds, claim });
    let frames = produced.frames;
    check(
        watched.frames == frames && sheet.frames == frames && watched.lost + sheet.lost == 0,
        format!("both consumers saw all {frames} frames (torch {}, sheet {})", watched.frames, sheet.frames),
    );
    check(
        watched.inside == frames,
        format!("{} of {frames} tensors lie inside the mapped slot", watched.inside),
    );
    check(
        !watched.places.is_empty() && watched.places.is_subset(&produced.places),
        format!(
            "the kernel names the same memory for FFmpeg's destination and for torch's source ({} slots)",
            watched.places.len()
        ),
    );
    let copied = produced.bytes_copied + watched.bytes_copied + sheet.bytes_copied_by_bips;
    check(copied == 0, format!("bips copied {copied} bytes"));
    let picture = fs::read(&evidence.picture).unwrap_or_default();
    check(
        picture.starts_with(PNG_MAGIC) && sheet.tiles > 0,
        format!("the contact sheet is a PNG with {} tiles", sheet.tiles),
    );
    check(
        evidence.left_behind.is_empty(),
        match evidence.left_behind.as_slice() {
            [] => "the runtime directory is as before".to_owned(),
            left => format!("the runtime directory is as before, but for {left:?}"),
        },
    );
    // Other programs may come and go in /dev/shm meanwhile; what counts is whether one of ours used it.
    let used: Vec<&String> = produced.dev_shm.iter().chain(&watched.dev_shm).collect();
    check(
        used.is_empty(),
        match (used.as_slice(), evidence.new_in_dev_shm.as_slice()) {
            ([], []) => "/dev/shm is as before".to_owned(),
            ([], others) => format!("nobody here used /dev/shm (others put {others:?} there meanwhile)"),
            (used, _) => format!("nobody used /dev/shm, but for {used:?}"),
        },
    );
    list
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("no result in {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} isn't the result it should be", path.display()))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (produced, watched) = (&self.produced, &self.watched);
        let micros = |ns: u64| format!("{:.0} µs", ns as f64 / 1e3);
        let shared = produced.frames * produced.bytes_per_frame;
        let pool = u64::from(produced.slots) * produced.bytes_per_frame;
        let rows = [
            ("film", format!("{}, {}x{} RGB", produced.clip, produced.width, produced.height)),
            ("frames", format!("{} in {:.1} s", produced.frames, produced.seconds)),
            ("fps", format!("{:.1}", produced.frames as f64 / produced.seconds)),
            (
                "publish to receipt",
                format!(
                    "p50 {}, p99 {}, worst {}",
                    micros(watched.latency_ns.p50),
                    micros(watched.latency_ns.p99),
                    micros(watched.latency_ns.max)
                ),
            ),
            (
                "bytes shared",
                format!("{} with 2 processes, through a pool of {}", bytes(shared), bytes(pool)),
            ),
            ("bytes copied by bips", self.copied().to_string()),
            ("tensors in the slot", format!("{} of {}", watched.inside, watched.frames)),
            ("seen by torch", format!("{}: RGB {}", watched.torch, colours(watched))),
            ("motion energy", sparkline(&watched.motion)),
            ("contact sheet", self.picture.display().to_string()),
        ];
        writeln!(f)?;
        for (name, value) in rows {
            writeln!(f, "  {name:<22}{value}")?;
        }
        writeln!(f)?;
        for check in &self.checks {
            writeln!(f, "  {}  {}", if check.holds { "ok" } else { "NO" }, check.claim)?;
        }
        writeln!(f)
    }
}

fn colours(watched: &Watched) -> String {
    let pairs = watched.mean.iter().zip(&watched.deviation);
    pairs.map(|(mean, deviation)| format!("{mean:.0}±{deviation:.0}")).collect::<Vec<_>>().join(" ")
}

fn bytes(count: u64) -> String {
    if count >= 1_000_000_000 {
        format!("{:.2} GB", count as f64 / 1e9)
    } else {
        format!("{:.1} MB", count as f64 / 1e6)
    }
}

/// The values as one line of bars, each the mean of its stretch, from 0 to the largest.
fn sparkline(values: &[f64]) -> String {
    if values.is_empty() {
        return "none".to_owned();
    }
    let width = SPARKLINE_WIDTH.min(values.len());
    let stretches: Vec<f64> = (0..width)
        .map(|i| {
            let stretch = &values[i * values.len() / width..(i + 1) * values.len() / width];
            stretch.iter().sum::<f64>() / stretch.len() as f64
        })
        .collect();
    let top = stretches.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let bar =
        |value: &f64| BARS[((value / top * (BARS.len() - 1) as f64).round() as usize).min(BARS.len() - 1)];
    stretches.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparkline_spans_from_zero_to_the_largest() {
        assert_eq!(sparkline(&[]), "none");
        assert_eq!(sparkline(&[0.0, 1.0, 2.0]), "▁▅█");
        assert_eq!(sparkline(&[0.0; 500]).chars().count(), SPARKLINE_WIDTH);
    }

    #[test]
    fn bytes_are_readable() {
        assert_eq!(bytes(2_764_800), "2.8 MB");
        assert_eq!(bytes(1_459_814_400), "1.46 GB");
    }
}
