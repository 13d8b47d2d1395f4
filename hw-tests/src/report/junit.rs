//! JUnit XML: a suite for each device, a failed case for each problem of the whole run.

use super::{Outcome, Report};
use crate::verdict::Verdict;
use anyhow::Result;
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use std::path::Path;
use std::time::Duration;

/// Of what a failed case said; a driver may say it a million times.
const SHOWN_AT_MOST: usize = 16 << 10;

/// The XML, with what failed cases have said from their logs in `out`.
pub(crate) fn junit(report: &Report, out: &Path) -> Result<String> {
    let mut xml = quick_junit::Report::new("bips-hw-tests");
    xml.set_timestamp(report.started).set_time(Duration::from_secs_f64(report.seconds));
    for device in &report.devices {
        let outcomes: Vec<_> = report.results.iter().filter(|outcome| outcome.device == device.id).collect();
        if outcomes.is_empty() {
            continue;
        }
        let mut suite = TestSuite::new(&*device.id);
        suite.set_time(Duration::from_secs_f64(outcomes.iter().map(|outcome| outcome.seconds).sum()));
        suite.add_property(("about", &*device.about));
        suite.add_test_cases(outcomes.into_iter().map(|outcome| case(outcome, out)));
        xml.add_test_suite(suite);
    }
    if !report.problems.is_empty() {
        let mut suite = TestSuite::new("run");
        for problem in &report.problems {
            let mut failed = TestCase::new(&**problem, failure("requirement", problem));
            failed.set_classname("run");
            suite.add_test_case(failed);
        }
        xml.add_test_suite(suite);
    }
    Ok(xml.to_string()?)
}

fn case(outcome: &Outcome, out: &Path) -> TestCase {
    let status = match &outcome.verdict {
        Verdict::Pass => TestCaseStatus::success(),
        Verdict::Fail(why) => failure(outcome.signal.unwrap_or("failure"), why),
        Verdict::Xpass(why) => failure("unexpected pass", why),
        Verdict::Skip(why) => skipped(why.clone()),
        // JUnit has no word for it; servers show why a case was skipped.
        Verdict::Xfail(why) => skipped(format!("expected failure: {why}")),
    };
    let mut case = TestCase::new(&*outcome.case, status);
    case.set_classname(&*outcome.device).set_time(Duration::from_secs_f64(outcome.seconds));
    if let (true, Some(log)) = (outcome.verdict.is_bad(), &outcome.log) {
        case.set_system_out(tail(&out.join(log)));
    }
    case
}

fn failure(kind: &str, why: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_type(kind).set_message(why);
    status
}

fn skipped(why: String) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(why);
    status
}

fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&text[text.len().saturating_sub(SHOWN_AT_MOST)..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    /// Read back by a parser, not searched as text.
    #[test]
    fn each_verdict_is_what_a_server_makes_of_it() {
        let out = tempfile::tempdir().unwrap();
        std::fs::create_dir(out.path().join("logs")).unwrap();
        std::fs::write(out.path().join("logs/memfd--b.log"), "before it died \u{1b}[31m\u{1}").unwrap();
        let xml = junit(&sample::report(), out.path()).unwrap();
        let read = quick_junit::Report::deserialize_from_str(&xml).unwrap();
        assert_eq!((read.tests, read.failures, read.errors), (6, 3, 0), "{xml}");
        let skipped = |suite: &TestSuite| {
            suite
                .test_cases
                .iter()
                .filter(|case| matches!(case.status, TestCaseStatus::Skipped { .. }))
                .count()
        };
        let suites: Vec<_> = read
            .test_suites
            .iter()
            .map(|suite| (suite.name.as_str(), suite.tests, suite.failures, skipped(suite)))
            .collect();
        assert_eq!(
            suites,
            [("memfd", 2, 1, 0), ("drm:card0", 2, 1, 1), ("udmabuf", 1, 0, 1), ("run", 1, 1, 0)]
        );
        let died = &read.test_suites[0].test_cases[1];
        assert_eq!(died.classname.as_ref().map(|name| name.as_str()), Some("memfd"));
        assert!(died.system_out.as_ref().is_some_and(|said| said.contains("before it died")), "{xml}");
        match &died.status {
            TestCaseStatus::NonSuccess { message, ty, .. } => {
                assert_eq!(message.as_deref(), Some("killed by SIGSEGV"));
                assert_eq!(ty.as_deref(), Some("SIGSEGV"));
            }
            other => panic!("{other:?}"),
        }
        match &read.test_suites[1].test_cases[0].status {
            TestCaseStatus::Skipped { message, .. } => {
                assert_eq!(message.as_deref(), Some("expected failure: bug 7: <torn> & \"cut\""));
            }
            other => panic!("{other:?}"),
        }
    }
}
