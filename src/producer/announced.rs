//! Acquiring from memory that must be told of the CPU's access, where devices may still use a slot that every consumer
//! has given back.

use super::{FrameMut, Producer};
use crate::error::AcquireError;
use crate::shm::Bell;
use crate::wait::Deadline;
use std::time::Duration;

impl Producer {
    /// Why no slot can be had although consumers have given some back.
    pub(super) fn explain_busy(&self) -> Option<String> {
        if !self.inner.pool.is_announced() {
            return None;
        }
        // Each is taken for a moment, or another thread of ours could begin with it at the same time.
        let is_busy = |slot: &u32| {
            let unused = self.inner.look_at_unused(*slot).unwrap_or_default();
            unused && matches!(FrameMut::new(self.inner.clone(), *slot).begin(Duration::ZERO), Ok(false))
        };
        let busy: Vec<_> = (0..self.slots()).filter(is_busy).map(|slot| slot.to_string()).collect();
        (!busy.is_empty()).then(|| {
            let (slots, them) = if busy.len() == 1 { ("slot", "it") } else { ("slots", "them") };
            format!(
                "no consumer has {slots} {} of {}, but a device still uses {them}; wait longer, or look after the device",
                busy.join(", "),
                self.inner.name
            )
        })
    }

    #[cold]
    pub(super) fn acquire_announced(&self, deadline: Deadline) -> Result<FrameMut, AcquireError> {
        // Kept while another is looked for, or the same would be found again.
        let mut busy: Vec<FrameMut> = Vec::new();
        loop {
            let (mut frame, timeout) = match self.inner.look()? {
                Some(slot) => (FrameMut::new(self.inner.clone(), slot), Duration::ZERO),
                None if busy.is_empty() => (self.acquire_slowly(deadline)?, Duration::ZERO),
                // Devices use all that are free. One may be done first, or a consumer may give back another.
                None => match deadline.left_at_most(Bell::RECHECK) {
                    Some(left) => (busy.remove(0), left),
                    None => return Err(AcquireError::Timeout),
                },
            };
            match frame.begin(timeout) {
                Ok(true) => return Ok(frame),
                Ok(false) => busy.push(frame),
                Err(_) => return Err(AcquireError::Memory),
            }
        }
    }
}
