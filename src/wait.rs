//! How long a call may wait.

use crate::{Error, Result};
use std::time::{Duration, Instant};

/// How long a call may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wait {
    /// Not at all: try once.
    Now,
    /// At most this long.
    For(Duration),
    /// Until it happens or the other side is gone.
    #[default]
    Forever,
}

impl Wait {
    /// From seconds as floating point: `None` waits forever, 0 tries once.
    ///
    /// # Errors
    /// `InvalidArgument` for a negative number, NaN, or more than about 30 years.
    pub fn seconds(seconds: Option<f64>) -> Result<Self> {
        match seconds {
            None => Ok(Self::Forever),
            Some(0.0) => Ok(Self::Now),
            Some(seconds) if seconds > 0.0 && seconds < 1e9 => {
                Ok(Self::For(Duration::from_secs_f64(seconds)))
            }
            Some(seconds) if seconds == f64::INFINITY => Ok(Self::Forever),
            Some(seconds) => Err(Error::invalid(format!(
                "{seconds} is no time-out; give seconds from 0 upwards, or none to wait without limit"
            ))),
        }
    }

    pub(crate) fn deadline(self) -> Deadline {
        match self {
            Self::Now => Deadline::Passed,
            // Beyond what the clock can say is for ever.
            Self::For(time) => Instant::now().checked_add(time).map_or(Deadline::Never, Deadline::At),
            Self::Forever => Deadline::Never,
        }
    }
}

/// A [`Wait`] that has begun.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deadline {
    Passed,
    At(Instant),
    Never,
}

impl Deadline {
    /// What is left: `None` once it has passed; `Some(None)` without limit.
    #[allow(clippy::option_option)]
    pub(crate) fn left(self) -> Option<Option<Duration>> {
        match self {
            Self::Passed => None,
            Self::Never => Some(None),
            Self::At(at) => {
                let left = at.saturating_duration_since(Instant::now());
                (!left.is_zero()).then_some(Some(left))
            }
        }
    }

    /// What is left, but at least `floor`: `None` once both have passed.
    #[allow(clippy::option_option)]
    pub(crate) fn left_at_least(self, floor: Duration) -> Option<Option<Duration>> {
        match self.left() {
            Some(left) => Some(left.map(|left| left.max(floor))),
            None => (!floor.is_zero()).then_some(Some(floor)),
        }
    }

    /// What is left, but at most `limit`.
    pub(crate) fn left_at_most(self, limit: Duration) -> Option<Duration> {
        self.left().map(|left| left.map_or(limit, |left| left.min(limit)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_checked() {
        assert_eq!(Wait::seconds(None).unwrap(), Wait::Forever);
        assert_eq!(Wait::seconds(Some(0.0)).unwrap(), Wait::Now);
        assert_eq!(Wait::seconds(Some(1.5)).unwrap(), Wait::For(Duration::from_millis(1500)));
        for bad in [-1.0, f64::NAN, f64::NEG_INFINITY, 1e12] {
            let error = Wait::seconds(Some(bad)).unwrap_err();
            assert!(error.to_string().contains("from 0 upwards"), "{error}");
        }
    }
}
