//! Acquiring a certain slot, for whoever is told which one was filled: a camera's driver, a decoder.

use super::{FrameMut, Producer};
use crate::error::AcquireError;
use crate::shm::Bell;
use crate::wait::{Deadline, Wait};

impl Producer {
    /// Takes the slot of this index for writing, waiting for it as long as `wait` says.
    ///
    /// It is not to be had while a consumer leases it, a reliable one has it unread, history keeps it, or this process
    /// holds it. Unread frames of keep-last consumers are given up, but no more than frees this slot. A consumer that
    /// holds it is not put out for that ([`OnStall`](crate::OnStall) is for when no slot at all can be had).
    ///
    /// Where something else decides which buffer is filled next, keep a [`FrameMut`] for each buffer that it has: then
    /// [`Producer::acquire`] gives those that came free, and [`FrameMut::slot`] says which.
    ///
    /// # Errors
    /// See [`AcquireError`]; [`Producer::explain`] says who holds what.
    pub fn acquire_slot(&self, slot: u32, wait: Wait) -> Result<FrameMut, AcquireError> {
        let deadline = wait.deadline();
        let mut frame = self.wait_for_slot(slot, deadline)?;
        if !self.inner.pool.is_announced() {
            return Ok(frame);
        }
        loop {
            let left = deadline.left_at_most(Bell::RECHECK);
            match frame.begin(left.unwrap_or_default()) {
                Ok(true) => return Ok(frame),
                Ok(false) if left.is_some() => {}
                Ok(false) => return Err(AcquireError::Timeout),
                Err(_) => return Err(AcquireError::Memory),
            }
        }
    }

    fn wait_for_slot(&self, slot: u32, deadline: Deadline) -> Result<FrameMut, AcquireError> {
        let look = || -> Result<_, AcquireError> {
            let free = self.inner.look_at(slot)?;
            Ok(free.then(|| FrameMut::new(self.inner.clone(), slot)))
        };
        if let Some(frame) = look()? {
            return Ok(frame);
        }
        while let Some(left) = deadline.left_at_most(Bell::RECHECK) {
            let hunger = self.inner.hunger();
            if let Some(frame) = look()? {
                return Ok(frame);
            }
            hunger.wait(left);
            // What was freed at the last moment is not a time-out.
            if let Some(frame) = look()? {
                return Ok(frame);
            }
        }
        Err(AcquireError::Timeout)
    }

    /// The slots that could be acquired now: bit i is slot i. A device may still use one that is among them, where the
    /// memory is a device's.
    ///
    /// # Errors
    /// `Closed`, `Forked`.
    pub fn free_slots(&self) -> Result<u64, AcquireError> {
        self.inner.free()
    }
}
