//! What a run has found: for people, for programs, for CI servers.

mod junit;
mod table;

pub(crate) use junit::junit;
pub(crate) use table::{devices, table};

use crate::inventory::Device;
use crate::verdict::Verdict;
use chrono::{DateTime, Local};
use serde::Serialize;
use std::path::PathBuf;

/// One case on one device.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    pub(crate) device: String,
    pub(crate) case: String,
    #[serde(flatten)]
    pub(crate) verdict: Verdict,
    pub(crate) seconds: f64,
    /// By which signal its process ended.
    pub(crate) signal: Option<&'static str>,
    /// Everything it said.
    pub(crate) log: Option<PathBuf>,
}

impl Outcome {
    /// Of what needed no process.
    pub(crate) fn of(device: &str, case: &str, verdict: Verdict) -> Self {
        Self { device: device.into(), case: case.into(), verdict, seconds: 0.0, signal: None, log: None }
    }
}

/// Where it was.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// A board's name, where the firmware says it.
    model: Option<String>,
    kernel: String,
    arch: &'static str,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let line =
            |path| Some(std::fs::read_to_string(path).ok()?.trim_matches(['\0', '\n', ' ']).to_owned());
        let model = ["/proc/device-tree/model", "/sys/class/dmi/id/product_name"].into_iter().find_map(line);
        let kernel = line("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self { model, kernel, arch: std::env::consts::ARCH }
    }
}

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Of this format; it changes when a reader could be misled.
    pub(crate) format: u32,
    pub(crate) version: &'static str,
    pub(crate) machine: Machine,
    pub(crate) started: DateTime<Local>,
    pub(crate) seconds: f64,
    pub(crate) required: Vec<String>,
    pub(crate) devices: Vec<Device>,
    pub(crate) results: Vec<Outcome>,
    pub(crate) counts: Counts,
    /// Why the run has failed, apart from single failures.
    pub(crate) problems: Vec<String>,
    pub(crate) ok: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) pass: usize,
    pub(crate) fail: usize,
    pub(crate) skip: usize,
    pub(crate) xfail: usize,
    pub(crate) xpass: usize,
}

impl Counts {
    pub(crate) fn of(outcomes: &[Outcome]) -> Self {
        let mut counts = Self::default();
        for outcome in outcomes {
            *match outcome.verdict {
                Verdict::Pass => &mut counts.pass,
                Verdict::Fail(_) => &mut counts.fail,
                Verdict::Skip(_) => &mut counts.skip,
                Verdict::Xfail(_) => &mut counts.xfail,
                Verdict::Xpass(_) => &mut counts.xpass,
            } += 1;
        }
        counts
    }
}

#[cfg(test)]
pub(crate) mod sample {
    use super::*;
    use crate::inventory::State;

    /// One of each verdict, and a problem.
    pub(crate) fn report() -> Report {
        let results = vec![
            Outcome { seconds: 0.25, ..Outcome::of("memfd", "a", Verdict::Pass) },
            Outcome {
                signal: Some("SIGSEGV"),
                log: Some("logs/memfd--b.log".into()),
                ..Outcome::of("memfd", "b", Verdict::Fail("killed by SIGSEGV".into()))
            },
            Outcome::of("drm:card0", "a", Verdict::Xfail("bug 7: <torn> & \"cut\"".into())),
            Outcome::of("drm:card0", "b", Verdict::Xpass("take it off".into())),
            Outcome::of("udmabuf", "present", Verdict::Skip("modprobe udmabuf".into())),
        ];
        let device =
            |id: &str, state| Device { id: id.into(), about: "x".into(), path: None, memory: true, state };
        Report {
            format: 1,
            version: "0",
            machine: Machine::this(),
            started: Local::now(),
            seconds: 1.5,
            required: vec!["memfd".into()],
            devices: vec![
                device("memfd", State::Present),
                device("drm:card0", State::Present),
                device("udmabuf", State::Absent("modprobe udmabuf".into())),
            ],
            counts: Counts::of(&results),
            results,
            problems: vec!["dma-heap is required".into()],
            ok: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_has_what_a_program_looks_for() {
        let report = sample::report();
        assert_eq!(report.counts, Counts { pass: 1, fail: 1, skip: 1, xfail: 1, xpass: 1 });
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((json["ok"].as_bool(), json["counts"]["xpass"].as_u64()), (Some(false), Some(1)));
        let failed = &json["results"][1];
        let field = |name: &str| failed[name].as_str();
        assert_eq!(
            (field("device"), field("case"), field("verdict"), field("reason"), field("signal")),
            (Some("memfd"), Some("b"), Some("fail"), Some("killed by SIGSEGV"), Some("SIGSEGV"))
        );
        assert_eq!(json["results"][0]["verdict"], "pass");
        assert!(json["results"][0].get("reason").is_none());
        assert_eq!(json["devices"][2]["reason"], "modprobe udmabuf");
        assert_eq!(json["problems"][0], "dma-heap is required");
        assert!(!json["machine"]["kernel"].as_str().unwrap().is_empty());
    }
}
