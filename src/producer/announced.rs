//! Acquiring from memory that must be told of the CPU's access, where devices may still use a slot that every consumer
//! has given back.

use super::{FrameMut, Producer};
use crate::error::AcquireError;
use crate::shm::Bell;
use crate::signaler::bit;
use crate::wait::Deadline;
use std::time::Duration;

impl Producer {
    /// Why there was no slot: consumers have them, and devices may still use those that nobody has. To ask changes nothing.
    pub(super) fn explain_timeout(&self) -> String {
        if !self.inner.pool.is_announced() {
            return self.inner.explain_full();
        }
        let unused = self.inner.unused().unwrap_or_default();
        let is_busy = |slot: &u32| unused & bit(*slot) != 0 && self.inner.pool.is_busy(*slot);
        let busy: Vec<_> = (0..self.slots()).filter(is_busy).map(|slot| slot.to_string()).collect();
        let (slots, them) = if busy.len() == 1 { ("slot", "it") } else { ("slots", "them") };
        let (list, name) = (busy.join(", "), &self.inner.name);
        if busy.is_empty() {
            self.inner.explain_full()
        } else if unused.count_ones() == self.slots() {
            format!(
                "no consumer has {slots} {list} of {name}, but a device still uses {them}; wait longer, or look after the device"
            )
        } else {
            format!("a device still uses {slots} {list} of {name}, and {}", self.inner.explain_full())
        }
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
