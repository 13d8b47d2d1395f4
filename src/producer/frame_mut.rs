//! A slot being written.

use super::inner::Inner;
use crate::backend::Allocation;
use crate::fence::Fence;
use crate::handle::{Access, ExternalHandle};
use crate::shm::{Bell, WritableSlot};
use crate::wait::Wait;
use crate::{Content, Description, Error, Result};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// A slot to write the next frame into. Dropping it without publishing gives the slot back unseen.
///
/// It borrows nothing: it may move between threads and outlive a borrow of its producer.
pub struct FrameMut {
    inner: Arc<Inner>,
    memory: WritableSlot,
    slot: u32,
    /// Whether this lease still holds the slot.
    holds: bool,
    /// Whether the CPU's access has begun and must end before the lease does.
    announced: bool,
}

impl FrameMut {
    /// For a slot that `look` has just given out.
    pub(super) fn new(inner: Arc<Inner>, slot: u32) -> Self {
        let memory = WritableSlot::acquired(inner.pool.slot(slot));
        Self { inner, memory, slot, holds: true, announced: false }
    }

    /// Begins the CPU's access, where that must be announced. `Ok(false)` if a device still uses it after `timeout`.
    pub(super) fn begin(&mut self, timeout: Duration) -> Result<bool> {
        self.announced = self.inner.pool.begin(self.slot, Access::Write, Some(timeout))?;
        Ok(self.announced)
    }

    fn end(&mut self) -> Result<()> {
        if self.announced {
            self.inner.pool.end(self.slot, Access::Write)?;
            self.announced = false; // only now: what did not end must not be published
        }
        Ok(())
    }

    /// Index of the slot in its pool.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Bytes of the slot.
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Never: a slot has at least a page.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the frame will hold unless its description says otherwise.
    pub fn content(&self) -> &Content {
        &self.inner.content
    }

    /// First byte of the slot, writable for [`FrameMut::len`] bytes until published. In a forked child it still
    /// points into the parent's slot: nobody may write there.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.memory.start().as_ptr()
    }

    /// The whole slot in place. It may hold an older frame: write all that you publish. Exclusive, unless the
    /// stream is [`writable`](super::ProducerBuilder::writable) and its consumers don't keep to their leases.
    ///
    /// # Panics
    /// In a forked child: the slot is the parent's, which writes to it too.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        assert!(!self.inner.is_forked(), "{}", Error::forked());
        self.memory.bytes_mut()
    }

    /// A handle to the memory by which devices use the slot, and where the slot begins in it: a dma-buf where the memory
    /// has one. Ours, not the consumers': of some kinds it allows more than they get.
    ///
    /// # Errors
    /// `Unsupported` where the memory has none to give; `Forked`.
    pub fn handle(&self) -> Result<(ExternalHandle, u64)> {
        let allocation = self.allocation()?;
        allocation.memory.export_to_device(allocation.offset)
    }

    /// The memory that the slot is a part of, for those who know its kind: see the backends.
    ///
    /// # Errors
    /// `Forked`.
    pub fn allocation(&self) -> Result<&Allocation> {
        if self.inner.is_forked() {
            return Err(Error::forked());
        }
        Ok(self.inner.pool.slot(self.slot).allocation())
    }

    /// The descriptor of that handle.
    ///
    /// # Errors
    /// As [`FrameMut::handle`].
    pub fn fd(&self) -> Result<(OwnedFd, u64)> {
        let (handle, offset) = self.handle()?;
        Ok((handle.into_fd(), offset))
    }

    /// Gives the slot to a device, which writes the frame instead of the CPU: from here until it is published
    /// [`FrameMut::bytes_mut`] is not to be used. Where devices and CPUs must be told of each other, they are told now
    /// and not at the end, when the CPU's caches would come after what the device wrote. For other memory it is nothing.
    ///
    /// # Errors
    /// What the system reports; `Forked`.
    pub fn for_device(&mut self) -> Result<()> {
        if self.inner.is_forked() {
            return Err(Error::forked());
        }
        self.end()
    }

    /// Ends the CPU's part, as [`FrameMut::for_device`] does, and waits at most `timeout` until publishing waits for nothing:
    /// for what devices still write, where consumers can't wait for that themselves. Whether it is so then.
    /// [`FrameMut::publish`] does it too, for whom has nothing else to do meanwhile. For other memory it is nothing.
    ///
    /// # Errors
    /// `Closed` while there is still something to wait for; what the system reports; `Forked`.
    pub fn settle(&mut self, timeout: Duration) -> Result<bool> {
        if self.inner.is_forked() {
            return Err(Error::forked());
        }
        self.end()?;
        // Mostly there is nothing to wait for, and no clock to look at.
        if self.inner.pool.settle(self.slot, Duration::ZERO)? {
            return Ok(true);
        }
        let deadline = Wait::For(timeout).deadline();
        loop {
            let left = deadline.left_at_most(Bell::RECHECK);
            if self.inner.pool.settle(self.slot, left.unwrap_or_default())? {
                return Ok(true);
            }
            self.inner.refuse_closed()?;
            if left.is_none() {
                return Ok(false);
            }
        }
    }

    /// A further hold on the slot: while it lives, the slot is not taken again, published or not.
    pub fn hold(&self) -> SlotHold {
        if !self.inner.is_forked() {
            self.inner.hold(self.slot);
        }
        SlotHold { inner: self.inner.clone(), slot: self.slot }
    }

    /// Hands the frame to every consumer. Returns its sequence number, from 0. Waits for no consumer, and for no device: while
    /// `ready` is open consumers wait for it, and nobody gets the slot for another frame. If the device fails then,
    /// the frame is lost to them. Only of memory that must be told of the CPU's access (dma-bufs) `ready` is waited
    /// for here, and what devices still write (see [`FrameMut::settle`]), until the producer is closed.
    ///
    /// # Errors
    /// `InvalidArgument` for a shape that doesn't fit or too much metadata; `Closed`; `Forked`; what the fence has to
    /// report by now. The slot is given back and nothing is published.
    pub fn publish(mut self, description: Description<'_>, ready: Fence) -> Result<u64> {
        if self.inner.is_forked() {
            return Err(Error::forked());
        }
        if !self.inner.pool.is_announced() && !ready.wait_for(Duration::ZERO)? {
            self.holds = false;
            return self.inner.publish_open(self.slot, &description, ready);
        }
        // What was written must be told of after it was written: the host waits (ADR 20).
        while !ready.wait_for(Bell::RECHECK)? {
            self.inner.refuse_closed()?;
        }
        while !self.settle(Duration::MAX)? {}
        self.holds = false;
        self.inner.publish(self.slot, &description, false)
    }

    /// Whether it was acquired in the process that this one was forked from, whose slot it is.
    pub fn is_forked(&self) -> bool {
        self.inner.is_forked()
    }

    /// Gives the slot back unseen.
    pub fn cancel(self) {
        drop(self);
    }
}

impl Drop for FrameMut {
    fn drop(&mut self) {
        if self.holds && !self.inner.is_forked() {
            if let Err(error) = self.end() {
                tracing::warn!(%error, slot = self.slot, "the CPU's access to a slot did not end as it should");
            }
            self.inner.unhold(self.slot);
        }
    }
}

impl fmt::Debug for FrameMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameMut {{ stream: {}, slot: {} }}", self.inner.name, self.slot)
    }
}

/// Keeps a slot from being taken for the next frame, for views that may outlive [`FrameMut::publish`].
pub struct SlotHold {
    inner: Arc<Inner>,
    slot: u32,
}

impl SlotHold {
    /// First byte of the slot. Writing through it after the frame was published breaks what consumers were
    /// promised.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.inner.pool.slot(self.slot).start().as_ptr()
    }

    /// Bytes of the slot.
    pub fn len(&self) -> usize {
        self.inner.pool.slot(self.slot).len()
    }

    /// Never: a slot has at least a page.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Clone for SlotHold {
    fn clone(&self) -> Self {
        if !self.inner.is_forked() {
            self.inner.hold(self.slot);
        }
        Self { inner: self.inner.clone(), slot: self.slot }
    }
}

impl Drop for SlotHold {
    fn drop(&mut self) {
        if !self.inner.is_forked() {
            self.inner.unhold(self.slot);
        }
    }
}

impl fmt::Debug for SlotHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotHold {{ stream: {}, slot: {} }}", self.inner.name, self.slot)
    }
}
