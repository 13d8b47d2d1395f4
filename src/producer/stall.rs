//! What a producer does about consumers that hold it up.

use crate::{Error, Result};
use std::fmt;
use std::time::Duration;

/// What a producer does when there is no slot because consumers neither take nor give back frames: one is stopped, has
/// hung itself up, or holds what it has forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnStall {
    /// It waits for them.
    #[default]
    Wait,
    /// It puts those out that have not moved for so long while there was no slot. What such a consumer has not read is
    /// freed at once. What it leases is not, whatever the clock says: it comes back when the consumer gives it back or its
    /// process ends. The consumer then learns that the stream has ended for it
    /// ([`Ending::Expelled`](crate::Ending::Expelled)) and may join again.
    Expel(Duration),
}

/// Beyond this it is no different from waiting.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

impl OnStall {
    /// From `wait` or `expel:SECONDS`.
    ///
    /// # Errors
    /// `InvalidArgument` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        if text == "wait" {
            return Ok(Self::Wait);
        }
        let seconds = text.strip_prefix("expel:").and_then(|seconds| seconds.parse().ok());
        let after = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).ok_or_else(|| {
            Error::invalid(format!(
                "{text:?} says not what to do about a stall; use \"wait\" or \"expel:SECONDS\", such as \"expel:2.5\""
            ))
        })?;
        Self::Expel(after).checked()
    }

    /// Refuses times that no consumer can keep, or live to see.
    pub(crate) fn checked(self) -> Result<Self> {
        match self {
            Self::Expel(after) if after < Duration::from_millis(1) || after > LONGEST => Err(Error::invalid(
                format!("on_stall is to expel after {after:?}; use 1 ms to a year, or \"wait\""),
            )),
            stall => Ok(stall),
        }
    }
}

impl fmt::Display for OnStall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait => f.write_str("wait"),
            Self::Expel(after) => write!(f, "expel:{}", after.as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        for text in ["wait", "expel:2.5", "expel:0.001", "expel:86400"] {
            assert_eq!(OnStall::parse(text).unwrap().to_string(), text);
        }
        for bad in
            ["", "expel", "expel:", "expel:0", "expel:-1", "expel:nan", "expel:inf", "expel:1e300", "kill:1"]
        {
            let error = OnStall::parse(bad).unwrap_err().to_string();
            assert!(error.contains("\"wait\""), "{error}");
        }
    }
}
