//! For people.

use super::Report;
use crate::inventory::{Device, State};
use std::fmt::Write;

/// What this machine has, and why not the rest.
pub(crate) fn devices(devices: &[Device]) -> String {
    let width = devices.iter().map(|device| device.id.len()).max().unwrap_or(0);
    let mut text = String::from("Devices\n");
    for device in devices {
        let (word, reason) = match &device.state {
            State::Present => (if device.memory { "memory" } else { "there" }, device.about.as_str()),
            State::Absent(why) => ("absent", why.as_str()),
            State::Denied(why) => ("DENIED", why.as_str()),
            State::Broken(why) => ("BROKEN", why.as_str()),
        };
        let _ = writeln!(text, "  {:<width$}  {word:<6}  {reason}", device.id);
    }
    text
}

/// A line for each device that was tried, then all that is not plain success, then the sum.
pub(crate) fn table(report: &Report) -> String {
    let width = report.devices.iter().map(|device| device.id.len()).max().unwrap_or(0);
    let mut text =
        format!("{:<width$}  {:>5}{:>6}{:>6}{:>6}{:>6}\n", "", "pass", "fail", "skip", "xfail", "xpass");
    for device in &report.devices {
        let of_it: Vec<_> =
            report.results.iter().filter(|outcome| outcome.device == device.id).cloned().collect();
        if of_it.is_empty() {
            continue;
        }
        let n = super::Counts::of(&of_it);
        let _ = writeln!(
            text,
            "{:<width$}  {:>5}{:>6}{:>6}{:>6}{:>6}",
            device.id, n.pass, n.fail, n.skip, n.xfail, n.xpass
        );
    }
    text.push('\n');
    for outcome in report.results.iter().filter(|outcome| !outcome.verdict.reason().is_empty()) {
        let _ = writeln!(
            text,
            "{:<5}  {:<width$}  {}: {}",
            outcome.verdict.word(),
            outcome.device,
            outcome.case,
            outcome.verdict.reason()
        );
        if let (true, Some(log)) = (outcome.verdict.is_bad(), &outcome.log) {
            let _ = writeln!(text, "{:<7}{:<width$}  all of what it said: {}", "", "", log.display());
        }
    }
    for problem in &report.problems {
        let _ = writeln!(text, "FAIL   {problem}");
    }
    let n = report.counts;
    let _ = write!(
        text,
        "\n{}: {} passed, {} failed, {} skipped, {} failed as known, {} passed unexpectedly, in {:.1} s",
        if report.ok { "ok" } else { "FAILED" },
        n.pass,
        n.fail,
        n.skip,
        n.xfail,
        n.xpass,
        report.seconds
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn the_table_has_every_device_and_every_reason() {
        let report = sample::report();
        let text = table(&report);
        for line in [
            "memfd          1     1     0     0     0",
            "drm:card0      0     0     0     1     1",
            "FAIL   memfd      b: killed by SIGSEGV",
            "logs/memfd--b.log",
            "SKIP   udmabuf    present: modprobe udmabuf",
            "FAIL   dma-heap is required",
            "FAILED: 1 passed, 1 failed, 1 skipped, 1 failed as known, 1 passed unexpectedly",
        ] {
            assert!(text.contains(line), "{line:?} is missing in:\n{text}");
        }
        assert!(devices(&report.devices).contains("udmabuf    absent  modprobe udmabuf"));
    }
}
