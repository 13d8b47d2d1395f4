//! Acquiring from memory that must be told of the CPU's access, where devices may still use a slot that every consumer
//! has given back.

use super::{FrameMut, Producer};
use crate::error::AcquireError;
use crate::shm::Bell;
use crate::wait::Deadline;
use std::time::Duration;

impl Producer {
    /// Why no slot can be had although consumers have given one back.
    pub(super) fn explain_busy(&self) -> Option<String> {
        if !self.inner.pool.is_announced() {
            return None;
        }
        let slot = self.inner.look().ok()??;
        // Given back at the end of this; by now it may be free.
        let busy = FrameMut::new(self.inner.clone(), slot).begin(Duration::ZERO).is_ok_and(|begun| !begun);
        busy.then(|| format!(
            "no consumer has slot {slot} of {}, but a device still uses it; wait longer, or look after the device",
            self.inner.name
        ))
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
