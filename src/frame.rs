//! A leased frame, as a consumer holds it.

use crate::backend::{Allocation, BackendInfo};
use crate::describe::{DType, Described, Fourcc, Plane};
use crate::fence::{Fence, Timeline};
use crate::handle::Access;
use crate::session::Attachment;
use crate::signaler::{Readiness, Taken};
use crate::sys::fork;
use crate::wait::Wait;
use crate::{Content, Error, ErrorKind, Result};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// How long a wait for a device goes on before it looks for itself: nobody need wake it.
pub(crate) const DEVICE_RECHECK: Duration = Duration::from_millis(50);

/// A frame another process published, readable in place. The slot goes back when this is dropped.
///
/// It borrows nothing: it may outlive its [`Consumer`](crate::Consumer) and move between threads.
pub struct Frame {
    slot: Arc<SlotInfo>,
    taken: Taken,
    /// The process that leases it.
    process: u32,
    /// Whether the CPU's access has begun and must end with the lease.
    announced: bool,
}

/// Whether a frame is whole that was received before it was: 1 once it is.
#[derive(Debug)]
struct Ready {
    attachment: Arc<Attachment>,
    slot: u32,
    sequence: u64,
}

impl Timeline for Ready {
    fn value(&self) -> Result<u64> {
        self.wait(1, Some(Duration::ZERO)).map(|()| 1).or_else(|error| match error.kind() {
            ErrorKind::Timeout => Ok(0),
            _ => Err(error),
        })
    }

    fn wait(&self, value: u64, timeout: Option<Duration>) -> Result<()> {
        let late = |text| Err(Error::new(ErrorKind::Timeout, text));
        if value == 0 {
            return Ok(());
        }
        let deadline = timeout.map_or(Wait::Forever, Wait::For).deadline();
        loop {
            let left = deadline.left_at_most(DEVICE_RECHECK);
            match self.attachment.await_readiness(self.slot, self.sequence, left.unwrap_or_default()) {
                Readiness::Whole if value == 1 => return Ok(()),
                Readiness::Whole => return late("the frame is whole at 1, and nothing comes after"),
                Readiness::Lost => {
                    return Err(Error::new(
                        ErrorKind::Lost,
                        "the producer or its device ended before the frame was written; drop it and receive the next",
                    ));
                }
                Readiness::Open if left.is_none() => {
                    return late("the producer's device still writes the frame");
                }
                Readiness::Open => {}
            }
        }
    }
}

/// What a slot's frames have in common until its description changes. One reference count per frame, not two.
#[derive(Debug)]
pub(crate) struct SlotInfo {
    pub(crate) attachment: Arc<Attachment>,
    pub(crate) described: Described,
}

impl Frame {
    #[inline]
    pub(crate) fn new(slot: Arc<SlotInfo>, taken: Taken) -> Self {
        Self { slot, taken, process: fork::process_number(), announced: false }
    }

    /// Whether a device wrote it when it was published, as far as was seen.
    pub(crate) fn is_open(&self) -> bool {
        self.taken.open
    }

    /// Whether a device writes it no more, or never will.
    pub(crate) fn is_settled(&self) -> bool {
        self.slot.attachment.readiness(self.taken.slot, self.taken.sequence) != Readiness::Open
    }

    /// Waits at most `timeout` until it is whole, or lost.
    pub(crate) fn wait_ready(&mut self, timeout: Duration) -> Readiness {
        let found = self.slot.attachment.await_readiness(self.taken.slot, self.taken.sequence, timeout);
        self.taken.open = found == Readiness::Open;
        found
    }

    /// When it is whole. Signaled, unless its consumer has [`explicit_sync`](crate::ConsumerBuilder::explicit_sync): then,
    /// while the producer's device still writes it, 1 on a timeline of its own. Waiting for that says `Lost` if the
    /// device failed, or its process died before: then it never will be whole.
    pub fn ready(&self) -> Fence {
        if !self.taken.open {
            return Fence::Signaled;
        }
        let attachment = self.slot.attachment.clone();
        let ready = Ready { attachment, slot: self.taken.slot, sequence: self.taken.sequence };
        Fence::Timeline(Arc::new(ready), 1)
    }

    /// Begins the CPU's access, where that must be announced. `Ok(false)` if a device still writes after `timeout`.
    pub(crate) fn begin(&mut self, timeout: Option<Duration>) -> Result<bool> {
        self.announced = self.slot.attachment.pool.begin(self.taken.slot, self.access(), timeout)?;
        Ok(self.announced)
    }

    fn access(&self) -> Access {
        if self.readonly() { Access::Read } else { Access::Write }
    }

    /// Which publication of its producer this is, from 0. Another producer counts anew: see [`Frame::generation`].
    pub fn sequence(&self) -> u64 {
        self.taken.sequence
    }

    /// How often its consumer had joined anew before it came. With another producer sequences start again, and size,
    /// format and memory may be others; with the same one, which had put the consumer out, sequences go on, and what was
    /// missed is counted ([`Consumer::stream_id`](crate::Consumer::stream_id) tells which).
    pub fn generation(&self) -> u32 {
        self.slot.attachment.generation
    }

    /// When it was published, in ns of `CLOCK_MONOTONIC`.
    pub fn published(&self) -> u64 {
        self.taken.published
    }

    /// When its content was captured, in ns of `CLOCK_MONOTONIC`; the time of publication if nobody said.
    pub fn timestamp(&self) -> u64 {
        self.taken.captured
    }

    /// How the frame lies in its slot.
    pub fn content(&self) -> &Content {
        &self.slot.described.content
    }

    /// Lengths of the dimensions, in elements.
    pub fn shape(&self) -> &[u64] {
        self.content().shape()
    }

    /// From one element to the next along each dimension, in bytes.
    pub fn strides(&self) -> &[i64] {
        self.content().strides()
    }

    /// Type of an element.
    pub fn dtype(&self) -> DType {
        self.content().dtype()
    }

    /// Pixel format, for images.
    pub fn fourcc(&self) -> Option<Fourcc> {
        self.content().fourcc()
    }

    /// The planes; tensors have one that is all of it.
    pub fn planes(&self) -> &[Plane] {
        self.content().planes()
    }

    /// What the producer attached to the frame; at most 256 bytes.
    pub fn metadata(&self) -> &[u8] {
        self.slot.described.metadata()
    }

    /// Bytes the frame occupies from the start of its slot.
    pub fn nbytes(&self) -> usize {
        self.content().nbytes() as usize
    }

    /// First byte of the slot. Valid for [`Frame::slot_bytes`] bytes while the frame lives; readable, and
    /// writable too unless [`Frame::readonly`]. In a forked child it stays readable, but the lease is the
    /// parent's: once that has ended, another frame lies there.
    pub fn as_ptr(&self) -> *const u8 {
        self.slot.attachment.pool.slot(self.taken.slot).start().as_ptr()
    }

    /// Bytes of the slot, at least [`Frame::nbytes`].
    pub fn slot_bytes(&self) -> usize {
        self.slot.attachment.pool.slot(self.taken.slot).len()
    }

    /// Index of the slot in its pool.
    pub fn slot(&self) -> u32 {
        self.taken.slot
    }

    /// Whether the memory is mapped read-only, which the MMU enforces: writing is SIGSEGV.
    pub fn readonly(&self) -> bool {
        !self.slot.attachment.welcome.writable
    }

    /// The memory it lies in.
    pub fn memory(&self) -> &BackendInfo {
        &self.slot.attachment.pool.info
    }

    /// Copies a part of the slot out, safe whatever the producer does.
    ///
    /// # Panics
    /// When `offset + to.len()` is beyond [`Frame::slot_bytes`]; in a forked child, which has no lease.
    pub fn copy_to(&self, offset: usize, to: &mut [u8]) {
        assert!(self.is_ours(), "{}", Error::forked());
        self.slot.attachment.pool.slot(self.taken.slot).copy_to(offset, to);
    }

    /// A descriptor of the memory, and where the slot begins in it.
    ///
    /// # Errors
    /// `Unsupported` where the memory has none to give; `Forked`.
    pub fn fd(&self) -> Result<(OwnedFd, u64)> {
        let allocation = self.allocation()?;
        Ok((allocation.memory.export()?.into_fd(), allocation.offset))
    }

    /// The memory that the slot is a part of, for those who know its kind: see the backends.
    ///
    /// # Errors
    /// `Forked`.
    pub fn allocation(&self) -> Result<&Allocation> {
        if !self.is_ours() {
            return Err(Error::forked());
        }
        Ok(self.slot.attachment.pool.slot(self.taken.slot).allocation())
    }

    /// Gives the slot back once `done`, however long that takes: until then it is not the producer's. Does not wait for
    /// that; a thread of bips does. Dropping the frame does the same for work that is done already.
    ///
    /// # Errors
    /// What the fence's timeline has to report by now; the slot goes back all the same.
    pub fn release(self, done: Fence) -> Result<()> {
        done.keep(self)
    }

    /// Turns the frame into a view that may be written: a copy-on-write mapping, so that only pages written to
    /// are copied, and nobody else sees it.
    ///
    /// # Errors
    /// `Unsupported` by memory that has no such view; `InvalidArgument` while another view of the frame lives.
    pub fn private(self) -> Result<PrivateView<Self>> {
        PrivateView::of(self)
    }

    /// Whether it was received in the process that this one was forked from, which has the lease.
    pub fn is_forked(&self) -> bool {
        !self.is_ours()
    }

    fn is_ours(&self) -> bool {
        self.process == fork::process_number()
    }
}

impl AsRef<Frame> for Frame {
    fn as_ref(&self) -> &Frame {
        self
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("sequence", &self.taken.sequence)
            .field("slot", &self.taken.slot)
            .field("shape", &self.shape())
            .field("dtype", &self.dtype())
            .finish()
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // In a forked child the lease is the parent's.
        if self.is_ours() {
            if self.announced
                && let Err(error) = self.slot.attachment.pool.end(self.taken.slot, self.access())
            {
                tracing::warn!(%error, slot = self.taken.slot, "the CPU's access to a frame did not end as it should");
            }
            self.slot.attachment.subscriber.release(self.taken.slot);
        }
    }
}

/// A writable, private view of a frame. What is written is forgotten when it is dropped.
///
/// `F` keeps the lease: a [`Frame`], or an `Arc` of one.
pub struct PrivateView<F: AsRef<Frame>> {
    start: std::ptr::NonNull<u8>,
    frame: F,
}

impl<F: AsRef<Frame>> PrivateView<F> {
    /// The private view of a frame held in any way.
    ///
    /// # Errors
    /// As [`Frame::private`].
    pub fn of(frame: F) -> Result<Self> {
        let inner = frame.as_ref();
        if !inner.is_ours() {
            return Err(Error::forked());
        }
        let (mapping, offset) = inner.slot.attachment.pool.claim_private(inner.taken.slot)?;
        let start = mapping.mapped().start.map_addr(|addr| addr.saturating_add(offset));
        Ok(Self { start, frame })
    }

    /// First byte; writable for [`PrivateView::len`] bytes while the view lives. Pages not written to show the
    /// frame, so in a forked child they last as long as the parent's lease.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Bytes: those of the slot.
    pub fn len(&self) -> usize {
        self.frame.as_ref().slot_bytes()
    }

    /// Never: a slot has at least a page.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The frame behind it.
    pub fn frame(&self) -> &Frame {
        self.frame.as_ref()
    }
}

impl<F: AsRef<Frame>> Drop for PrivateView<F> {
    fn drop(&mut self) {
        let frame = self.frame.as_ref();
        if frame.is_ours() {
            frame.slot.attachment.pool.unclaim_private(frame.taken.slot);
        }
    }
}

impl<F: AsRef<Frame>> fmt::Debug for PrivateView<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PrivateView").field(self.frame.as_ref()).finish()
    }
}
