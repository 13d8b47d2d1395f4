//! Values that several commands take.

use std::fmt::Display;
use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use bips::{Fourcc, Policy, Wait};

/// Where streams are found; given before or after the command's name.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Place {
    /// Runtime directory of the streams [default: $BIPS_DIR, /run/bips, $XDG_RUNTIME_DIR/bips or /tmp/bips-UID]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

impl Place {
    pub(crate) fn path(&self) -> Option<&std::path::Path> {
        self.directory.as_deref()
    }
}

/// `1920x1080`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Size<T> {
    pub(crate) width: T,
    pub(crate) height: T,
}

pub(crate) fn size(text: &str) -> Result<Size<u32>, String> {
    pair(text).ok_or_else(|| "write it as WIDTHxHEIGHT, both from 1 upwards, such as 1920x1080".into())
}

/// `4x3` tiles, few enough that each stays visible.
pub(crate) fn grid(text: &str) -> Result<Size<usize>, String> {
    pair(text)
        .filter(|grid: &Size<usize>| grid.width <= 64 && grid.height <= 64)
        .ok_or_else(|| "write it as COLSxROWS, both from 1 to 64, such as 4x3".into())
}

/// Two numbers from 1 upwards.
fn pair<T: FromStr + PartialOrd + From<u8>>(text: &str) -> Option<Size<T>> {
    let number = |side: &str| side.parse().ok().filter(|number| *number >= T::from(1));
    let (width, height) = text.split_once(['x', 'X'])?;
    Some(Size { width: number(width)?, height: number(height)? })
}

/// Whole numbers of a range. (clap's own say "invalid digit" of a negative one.)
pub(crate) fn whole<T: FromStr + PartialOrd + Display>(
    range: impl RangeBounds<T> + Clone,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            match (range.start_bound(), range.end_bound()) {
                (Bound::Included(least), Bound::Included(most)) => {
                    format!("give a whole number from {least} to {most}")
                }
                (Bound::Included(least), _) => format!("give a whole number from {least} upwards"),
                _ => "give a whole number".into(),
            }
        })
    }
}

pub(crate) fn fourcc(text: &str) -> Result<Fourcc, bips::Error> {
    Fourcc::parse(text)
}

pub(crate) fn policy(text: &str) -> Result<Policy, bips::Error> {
    Policy::parse(text)
}

/// Seconds from 0 upwards, or `forever`.
pub(crate) fn wait(text: &str) -> Result<Wait, String> {
    if text == "forever" {
        return Ok(Wait::Forever);
    }
    let wait = text.parse().ok().and_then(|seconds| Wait::seconds(Some(seconds)).ok());
    wait.ok_or_else(|| "give seconds from 0 upwards, such as 2.5, or `forever`".into())
}

pub(crate) fn fps(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|fps: &f64| fps.is_finite() && (0.0..=1e6).contains(fps))
        .ok_or_else(|| "give frames per second, such as 29.97, or 0 for as fast as possible".to_owned())
}

/// A [`Wait`] spent in slices, so that Ctrl-C is answered meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    until: Option<Instant>,
}

impl Patience {
    pub(crate) fn new(wait: Wait) -> Self {
        let time = match wait {
            Wait::Now => Some(Duration::ZERO),
            Wait::For(time) => Some(time),
            Wait::Forever => None,
        };
        Self { until: time.and_then(|time| Instant::now().checked_add(time)) }
    }

    /// What to wait for next, at most a slice; None when the time is over.
    pub(crate) fn slice(&self, slice: Duration) -> Option<Wait> {
        let Some(until) = self.until else {
            return Some(Wait::For(slice));
        };
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| Wait::For(left.min(slice)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("1920x1080"), Ok(Size { width: 1920, height: 1080 }));
        for bad in ["", "1920", "x", "0x10", "10x0", "-1x4", "4x4x4", "9999999999x1"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(grid("4x3"), Ok(Size { width: 4, height: 3 }));
        for bad in ["65x1", "1x65", "0x3", "4"] {
            assert!(grid(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn whole_numbers() {
        assert_eq!(whole(1..=64u32)("64"), Ok(64));
        for bad in ["-1", "0", "65", "1.5", ""] {
            assert_eq!(whole(1..=64u32)(bad), Err("give a whole number from 1 to 64".into()), "{bad}");
        }
        assert_eq!(whole(1u64..)("0"), Err("give a whole number from 1 upwards".into()));
    }

    #[test]
    fn rates() {
        assert_eq!(fps("29.97"), Ok(29.97));
        assert_eq!(fps("0"), Ok(0.0));
        for bad in ["-1", "nan", "inf", "fast", "1e9"] {
            assert!(fps(bad).is_err(), "{bad}");
        }
    }
}
