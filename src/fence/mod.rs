//! When device work on a buffer is done: timelines, and fences on them.

#[cfg(not(any(bips_loom, bips_shuttle)))]
mod attend;

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
/// A frame published with a fence that is still open is on its way to consumers at once. They get it when the work is done,
/// or, where they asked for that ([`ConsumerBuilder::explicit_sync`](crate::ConsumerBuilder::explicit_sync)), before,
/// with a fence of their own ([`Frame::ready`](crate::Frame::ready)). A frame released with one is given back when its work
/// is done. Of memory that must be told of the CPU's access (dma-bufs) the fence is waited for right there.
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
