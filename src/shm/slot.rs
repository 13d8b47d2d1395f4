//! The memory of a slot, as the CPU sees it.

use crate::backend::Allocation;
use crate::frame::{Frame, PrivateView};
use crate::handle::Access;
use crate::{Error, Result};
use std::ptr::{self, NonNull};
use std::slice;

/// A mapped slot. Cheap to clone; keeps its memory alive.
#[derive(Debug, Clone)]
pub(crate) struct SlotMemory {
    start: NonNull<u8>,
    allocation: Allocation,
}

// SAFETY: a range of shared memory; all access goes through the methods below, which say what they rely on.
unsafe impl Send for SlotMemory {}
// SAFETY: as above.
unsafe impl Sync for SlotMemory {}

impl SlotMemory {
    pub(crate) fn new(allocation: Allocation, access: Access) -> Result<Self> {
        let mapped = allocation.memory.map(access)?;
        let offset = usize::try_from(allocation.offset).ok();
        let end = allocation.offset.checked_add(allocation.len);
        match (offset, end) {
            (Some(offset), Some(end)) if end <= mapped.len as u64 => {
                let start = mapped.start.map_addr(|addr| addr.saturating_add(offset));
                Ok(Self { start, allocation })
            }
            _ => Err(Error::protocol("a slot lies outside its memory")),
        }
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.allocation.len as usize
    }

    pub(crate) fn allocation(&self) -> &Allocation {
        &self.allocation
    }

    /// Copies a part of the slot out.
    ///
    /// # Panics
    /// When `offset + to.len()` lies beyond the slot.
    pub(crate) fn copy_to(&self, offset: usize, to: &mut [u8]) {
        assert!(
            offset.checked_add(to.len()).is_some_and(|end| end <= self.len()),
            "bytes {offset}..+{} lie outside a slot of {} bytes",
            to.len(),
            self.len()
        );
        let from = self.start.map_addr(|addr| addr.saturating_add(offset));
        // SAFETY: the range is inside the slot (asserted), which `allocation.memory` keeps mapped (contract of
        // `Memory`). `to` is ours alone. A peer that writes meanwhile garbles the bytes copied, nothing else.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to.as_mut_ptr(), to.len()) };
    }
}

/// A slot that this process alone may write: the signaler gives each out to one writer at a time.
///
/// Lives in a `FrameMut`, next to the `Arc` that keeps the pool; it has no reference of its own, because taking
/// one is an atomic operation per frame.
#[derive(Debug)]
pub(crate) struct WritableSlot {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: exclusive access to a range of memory, which may move between threads like a `&mut [u8]`.
unsafe impl Send for WritableSlot {}
// SAFETY: a shared reference gives out the address only.
unsafe impl Sync for WritableSlot {}

impl WritableSlot {
    /// Only for a slot that `Publisher::acquire` has just given out, and only to be kept beside what keeps
    /// `slot`'s memory mapped.
    pub(crate) fn acquired(slot: &SlotMemory) -> Self {
        Self { start: slot.start, len: slot.len() }
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Only in the process that acquired the slot: a forked child's copy of `self` is not exclusive.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: mapped for writing for as long as the pool lives (contract of `Memory`, mapped with
        // Access::Write), which the owner of `self` keeps. Exclusive: the slot was acquired, so no consumer
        // leases it and no other `WritableSlot` exists for it in this process, the only one that may call this.
        // Consumers' mappings are read-only and sealed. On a stream made writable they are not: there whoever
        // called `ProducerBuilder::writable` vouches that consumers write to slots they lease only. Nor are they sealed in
        // dma-buf memory: whoever chose that vouches that consumers don't map it anew (docs/threat-model.md).
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

// SAFETY: the address of a private mapping, which any thread may use; `F` decides about itself.
unsafe impl<F: AsRef<Frame> + Send> Send for PrivateView<F> {}
// SAFETY: a shared reference gives out the address only.
unsafe impl<F: AsRef<Frame> + Sync> Sync for PrivateView<F> {}

impl Frame {
    /// The frame's bytes in place, from the start of the slot to its last used byte.
    ///
    /// # Safety
    /// Nobody may write to the slot while the slice lives. Producers made with bips don't write to leased slots;
    /// on a stream that is not `writable`, no consumer can. So this is sound where the producer is trusted, in
    /// the process that received the frame (a forked child has no lease). Elsewhere use [`Frame::copy_to`].
    pub unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for as long as `self`, at least `nbytes` long (checked when received); the caller
        // vouches that nobody writes.
        unsafe { slice::from_raw_parts(self.as_ptr(), self.nbytes()) }
    }
}
