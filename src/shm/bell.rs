//! The bell: a word everyone may ring, on which a producer without a free slot sleeps.

use super::Line;
use crate::sync::{Word, order};
use std::time::Duration;

/// Because any consumer may scribble on it, the bell is a hint: whoever waits looks again every 5 ms.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Line<Word>,
}

impl Bell {
    /// The longest a producer trusts the bell before it looks for itself.
    pub(crate) const RECHECK: Duration = Duration::from_millis(5);

    /// Threads of a producer that may wait for a slot and be woken at once.
    const SLEEPERS: u32 = 8;

    pub(crate) fn ring(&self) {
        self.rung.add(order::B1()); // ORDERING(B1, release) -> B2
        // Some: several threads of the producer may sleep here, but so may any number of strangers, at the cost of
        // whoever rings. Should they take the place of one of ours, it looks for itself before long.
        self.rung.wake_some(Self::SLEEPERS);
    }

    pub(crate) fn read(&self) -> u32 {
        self.rung.load(order::B2()) // ORDERING(B2, acquire) -> B1
    }

    /// Sleeps until someone rings after `read` gave `seen`, or `timeout`.
    pub(crate) fn wait(&self, seen: u32, timeout: Duration) {
        self.rung.wait(seen, Some(timeout));
    }
}
