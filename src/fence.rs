//! When device work on a buffer is done: timelines, and fences on them.

use crate::{ErrorKind, Result};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A 64-bit counter that device work advances and never turns back.
pub trait Timeline: Send + Sync + fmt::Debug {
    /// Where it stands.
    ///
    /// # Errors
    /// What the device reports, for instance that it was lost.
    fn value(&self) -> Result<u64>;

    /// Blocks until it stands at `value` or beyond.
    ///
    /// # Errors
    /// `Timeout`, or what the device reports.
    fn wait(&self, value: u64, timeout: Option<Duration>) -> Result<()>;
}

/// A point on a timeline, or none: the work is done.
///
/// No memory kind of this release exports timelines to other processes, so a fence that is still open when a
/// frame is published or released is waited for by the host, right there. `backends/README.md` has the table.
#[derive(Debug, Clone, Default)]
pub enum Fence {
    /// Nothing to wait for.
    #[default]
    Signaled,
    /// Done once the timeline reaches the value.
    Timeline(Arc<dyn Timeline>, u64),
}

impl Fence {
    /// Blocks until the work is done.
    ///
    /// # Errors
    /// What the timeline reports.
    pub fn wait(&self) -> Result<()> {
        match self {
            Self::Signaled => Ok(()),
            Self::Timeline(timeline, value) => timeline.wait(*value, None),
        }
    }

    /// Blocks at most so long; whether the work is done.
    ///
    /// # Errors
    /// What the timeline reports.
    pub fn wait_for(&self, timeout: Duration) -> Result<bool> {
        let Self::Timeline(timeline, value) = self else { return Ok(true) };
        match timeline.wait(*value, Some(timeout)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Timeout => Ok(false),
            Err(error) => Err(error),
        }
    }
}
