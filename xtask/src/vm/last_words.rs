//! The end of a log that says why a machine ended.

use std::fs;
use std::path::Path;

/// What a kernel begins with when it tells of a fault, and the machine's scripts.
const FAULTS: [&str; 6] =
    ["BUG: ", "Oops", "Kernel panic", "sysrq: Trigger", "general protection fault", "bips-vm: "];
const LEAST: usize = 20;
const MOST: usize = 120;

/// Indented; nothing if the log is empty or not there.
pub(super) fn of(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let lines = lines[from(&lines)..].iter();
    lines.map(|line| format!("  | {line}\n")).collect()
}

/// The last lines from the first fault on: a kernel says the reason first, and then where it was.
fn from(lines: &[&str]) -> usize {
    let fault = lines.iter().position(|line| FAULTS.iter().any(|fault| line.contains(fault)));
    let last = lines.len().saturating_sub(LEAST);
    fault.unwrap_or(last).min(last).max(lines.len().saturating_sub(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_told_however_long_the_trace_is() {
        let mut lines = vec!["quiet"; 30];
        assert_eq!(from(&lines), 30 - LEAST);
        lines.push("[ 1.0] Kernel panic - not syncing");
        assert_eq!(from(&lines), 31 - LEAST);
        lines.extend(["[ 1.1]  trace"; 60]);
        assert_eq!(from(&lines), 30);
        lines.extend(["[ 1.2]  trace"; 600]);
        assert_eq!(from(&lines), lines.len() - MOST);
        assert_eq!(from(&[]), 0);
    }

    #[test]
    fn a_log_that_is_not_there_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(of(&folder.path().join("none")), "");
        let log = folder.path().join("log");
        fs::write(&log, b"one\r\n\r\n\xfftwo\r\n").unwrap();
        assert_eq!(of(&log), "  | one\n  | \u{fffd}two\n");
    }
}
