//! What an attempt comes to.

use std::time::Duration;

use chrono::NaiveDate;
use nix::sys::signal::Signal;
use serde::Serialize;

use crate::known::Known;
use crate::process::End;

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "verdict", content = "reason", rename_all = "lowercase")]
pub(crate) enum Verdict {
    Pass,
    Fail(String),
    Skip(String),
    /// Failed, as is known: why that is.
    Xfail(String),
    /// Passed though known to fail: it must be taken off the list.
    Xpass(String),
}

impl Verdict {
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail(_) => "FAIL",
            Self::Skip(_) => "SKIP",
            Self::Xfail(_) => "XFAIL",
            Self::Xpass(_) => "XPASS",
        }
    }

    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Pass => "",
            Self::Fail(why) | Self::Skip(why) | Self::Xfail(why) | Self::Xpass(why) => why,
        }
    }

    /// Whether the run has failed by it.
    pub(crate) fn is_bad(&self) -> bool {
        matches!(self, Self::Fail(_) | Self::Xpass(_))
    }

    /// In the light of what is known to fail.
    pub(crate) fn given(self, known: Option<&Known>, today: NaiveDate) -> Self {
        match (self, known) {
            (Self::Fail(why), Some(known)) if today > known.until => {
                Self::Fail(format!("{why}; known ({}), but excused until {} only", known.reason, known.until))
            }
            (Self::Fail(why), Some(known)) => Self::Xfail(format!("{}: {why}", known.reason)),
            (Self::Pass, Some(known)) => {
                Self::Xpass(format!("passes, though known to fail ({}): take it off the list", known.reason))
            }
            (verdict, _) => verdict,
        }
    }

    /// Of a device that must pass whole.
    pub(crate) fn required(self) -> Self {
        match self {
            Self::Skip(why) => Self::Fail(format!("required, but {why}")),
            verdict => verdict,
        }
    }
}

/// Of a process that ended so, having said this, and told of these skips.
pub(crate) fn of(end: &End, said: &str, skips: &[String], limit: Duration) -> Verdict {
    match end {
        End::Exited(0) if skips.is_empty() => Verdict::Pass,
        End::Exited(0) => Verdict::Skip(skips.join("; ")),
        other => Verdict::Fail(failure(other, said, limit)),
    }
}

/// In one line what became of a process that did not end well.
pub(crate) fn failure(end: &End, said: &str, limit: Duration) -> String {
    match end {
        End::Exited(code) => complaint(said).unwrap_or_else(|| format!("ended with exit code {code}")),
        End::Signaled(Signal::SIGKILL) => {
            "killed by SIGKILL, which was not sent from here: memory ran out, if `dmesg` tells of oom-kill"
                .into()
        }
        End::Signaled(signal) => format!("killed by {signal}"),
        End::Overran { stuck: None } => {
            format!("took longer than {} s and was stopped; --timeout gives more", limit.as_secs_f64())
        }
        End::Overran { stuck: Some(place) } => format!(
            "took longer than {} s, and SIGKILL does not end it: {place}; the driver does not let go of it until \
             the machine is started again",
            limit.as_secs_f64()
        ),
    }
}

/// The signal by its name, for machines that read reports.
pub(crate) fn signal(end: &End) -> Option<&'static str> {
    match end {
        End::Signaled(signal) => Some(signal.as_str()),
        End::Exited(_) | End::Overran { .. } => None,
    }
}

/// What a panic says, or an error at the end.
fn complaint(said: &str) -> Option<String> {
    let mut lines = said.lines();
    match lines.by_ref().find(|line| line.contains("panicked at ")) {
        Some(panic) => {
            let place = panic.split_once("panicked at ")?.1.trim_end_matches(':');
            Some(format!("{} ({place})", lines.next()?.trim()))
        }
        None => Some(said.lines().rfind(|line| line.starts_with("error: "))?.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(9);

    fn known(until: (i32, u32, u32)) -> Known {
        let until = NaiveDate::from_ymd_opt(until.0, until.1, until.2).unwrap();
        Known::new("case", "device", "bug 7", until)
    }

    fn today() -> NaiveDate {
        NaiveDate::from_ymd_opt(2027, 3, 1).unwrap()
    }

    #[test]
    fn ends_become_verdicts() {
        let of = |end, said, skips: &[String]| super::of(&end, said, skips, LIMIT);
        assert_eq!(of(End::Exited(0), "", &[]), Verdict::Pass);
        let skip = "a.rs:7: only root can".to_owned();
        assert_eq!(of(End::Exited(0), "", std::slice::from_ref(&skip)), Verdict::Skip(skip.clone()));
        assert_eq!(of(End::Exited(4), "", &[skip]), Verdict::Fail("ended with exit code 4".into()));
        assert_eq!(of(End::Signaled(Signal::SIGBUS), "", &[]), Verdict::Fail("killed by SIGBUS".into()));
        for (end, text) in [
            (End::Signaled(Signal::SIGKILL), "oom-kill"),
            (End::Overran { stuck: None }, "longer than 9 s"),
            (End::Overran { stuck: Some("pid 7 in `dma_fence_wait`".into()) }, "dma_fence_wait"),
        ] {
            assert!(matches!(of(end, "", &[]), Verdict::Fail(why) if why.contains(text)), "{text}");
        }
    }

    #[test]
    fn a_panic_and_an_error_say_why() {
        let said = "some log\nthread 'main' (7) panicked at src/a.rs:3:5:\nslot 2\nnote: run with\n";
        assert_eq!(failure(&End::Exited(101), said, LIMIT), "slot 2 (src/a.rs:3:5)");
        let said = "error: cannot open /dev/video0: No such device (os error 19)\n";
        assert_eq!(failure(&End::Exited(2), said, LIMIT), said.trim());
    }

    #[test]
    fn a_known_failure_is_excused_until_its_day_and_may_not_pass() {
        let until_today = known((2027, 3, 1));
        let fail = || Verdict::Fail("torn".into());
        assert_eq!(fail().given(Some(&until_today), today()), Verdict::Xfail("bug 7: torn".into()));
        let late = fail().given(Some(&known((2027, 2, 28))), today());
        assert!(matches!(&late, Verdict::Fail(why) if why.contains("2027-02-28")), "{late:?}");
        let passed = Verdict::Pass.given(Some(&until_today), today());
        assert!(matches!(&passed, Verdict::Xpass(why) if why.contains("bug 7")) && passed.is_bad());
        let skip = Verdict::Skip("absent".into());
        assert_eq!(skip.clone().given(Some(&until_today), today()), skip);
        assert_eq!(fail().given(None, today()), fail());
        assert!(!Verdict::Xfail(String::new()).is_bad());
    }

    #[test]
    fn what_is_required_may_not_be_skipped() {
        let verdict = Verdict::Skip("no heap".into()).required();
        assert_eq!(verdict, Verdict::Fail("required, but no heap".into()));
        assert_eq!(Verdict::Xfail("bug 7".into()).required(), Verdict::Xfail("bug 7".into()));
    }
}
