//! A producer: owns a pool and publishes frames.

mod adopt;
mod announced;
mod builder;
mod by_index;
mod explain;
mod frame_mut;
mod host;
mod inner;
mod publishing;
mod stall;
mod vigil;

pub use builder::ProducerBuilder;
pub use frame_mut::{FrameMut, SlotHold};
pub use stall::OnStall;

use crate::backend::BackendInfo;
use crate::error::AcquireError;
use crate::plan::Party;
use crate::session::{ConsumerInfo, Server};
use crate::shm::Bell;
use crate::sys::fork;
use crate::wait::Deadline;
use crate::{Content, Error, ForeignBuffer, Result, Wait};
use inner::Inner;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Owns the pool of one stream and publishes frames from it. All methods take `&self`; threads may share it.
///
/// Dropping it ends the stream: consumers keep what they hold and drain what was published.
#[derive(Debug)]
pub struct Producer {
    inner: Arc<Inner>,
    server: Mutex<Server>,
    spin: Duration,
}

/// What a producer has done and who consumes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerStats {
    /// Frames published.
    pub published: u64,
    /// Frames taken from keep-last consumers before they read them, summed over consumers.
    pub evicted: u64,
    /// Consumers put out because they held it up; see [`OnStall`].
    pub expelled: u64,
    /// For how long it has had no slot to write to, if it asked for one in vain and none has come free since.
    /// [`ConsumerInfo::in_the_way`] says because of whom; nobody: the producer itself has them all.
    pub stalled_for: Option<Duration>,
    /// Bytes of the pool.
    pub pool_bytes: u64,
    /// Who consumes it now.
    pub consumers: Vec<ConsumerInfo>,
}

impl Producer {
    /// Begins to describe a producer of the stream `name`: 1 to 100 of `[A-Za-z0-9._-]`, `/` for nesting.
    pub fn builder(name: impl Into<String>) -> ProducerBuilder {
        ProducerBuilder::new(name.into())
    }

    /// Begins to describe a producer whose slots are buffers that somebody else made, one each, in this order: a camera's
    /// (`VIDIOC_EXPBUF`), a decoder's, a compositor's. Nothing is copied. Say what they hold, with
    /// [`Content::image_in_planes`] for strides and offsets and [`Content::with_modifier`] for tiling, and use
    /// [`Producer::acquire_slot`] to publish the one that was filled.
    ///
    /// Whoever made a buffer can write to it at any time. The caller vouches that it does so only to slots that this
    /// process has acquired: [`FrameMut::bytes_mut`] and [`Frame::bytes`](crate::Frame::bytes) rely on it.
    ///
    /// [`create`](ProducerBuilder::create) refuses, with `InvalidArgument`: buffers that are not what they were said to be,
    /// too small, of no whole pages, or the same as another; parts of one dma-buf, too, since the CPU's access is announced for
    /// all of it. See also [`ForeignBuffer::memfd`].
    pub fn adopt(name: impl Into<String>, buffers: Vec<ForeignBuffer>) -> ProducerBuilder {
        ProducerBuilder::new(name.into()).adopted(buffers)
    }

    /// Takes a free slot for writing, waiting for one as long as `wait` says.
    ///
    /// Never waits for keep-last consumers: their oldest unread frames are given up. Without a wait it makes no
    /// system call.
    ///
    /// # Errors
    /// See [`AcquireError`]; [`Producer::explain`] says who holds what.
    #[inline]
    pub fn acquire(&self, wait: Wait) -> Result<FrameMut, AcquireError> {
        if self.inner.pool.is_announced() {
            return self.acquire_announced(wait.deadline());
        }
        match self.inner.look()? {
            Some(slot) => Ok(FrameMut::new(self.inner.clone(), slot)),
            None => self.acquire_slowly(wait.deadline()),
        }
    }

    #[cold]
    fn acquire_slowly(&self, deadline: Deadline) -> Result<FrameMut, AcquireError> {
        let frame = |slot| FrameMut::new(self.inner.clone(), slot);
        if let Some(limit) = deadline.left_at_most(self.spin) {
            let begin = Instant::now();
            while begin.elapsed() < limit {
                if let Some(slot) = self.inner.look()? {
                    return Ok(frame(slot));
                }
                std::hint::spin_loop();
            }
        }
        while let Some(left) = deadline.left_at_most(Bell::RECHECK) {
            let hunger = self.inner.hunger();
            if let Some(slot) = self.inner.look()? {
                return Ok(frame(slot));
            }
            hunger.wait(left);
            // What was freed at the last moment is not a time-out.
            if let Some(slot) = self.inner.look()? {
                return Ok(frame(slot));
            }
        }
        Err(AcquireError::Timeout)
    }

    /// Puts an acquire's error into words: who holds which slots, and what to do.
    pub fn explain(&self, error: AcquireError) -> Error {
        if self.inner.is_forked() {
            return Error::forked();
        }
        match error {
            AcquireError::Timeout => Error::new(error.kind(), self.explain_timeout()),
            AcquireError::Memory => self.inner.pool.explain_trouble(self.inner.name.as_str()),
            AcquireError::Closed => Error::new(
                error.kind(),
                format!("the producer of {} is closed; make a new one", self.inner.name),
            ),
            AcquireError::Forked => Error::forked(),
            AcquireError::NoSuchSlot => Error::new(
                error.kind(),
                format!(
                    "the pool of {} has slots 0 to {}; use one of those",
                    self.inner.name,
                    self.inner.pool.len() - 1
                ),
            ),
        }
    }

    /// Waits until at least `n` consumers have joined.
    ///
    /// # Errors
    /// `Timeout`, saying how many there are; `Closed`.
    pub fn wait_for_consumers(&self, n: u32, wait: Wait) -> Result<()> {
        self.inner.wait_for_consumers(n, wait.deadline())
    }

    /// Ends the stream and gives the name back. Doing it again is nothing. Where devices are still at work on what was
    /// published it waits for them, at most 5 s: after that these frames are lost to consumers.
    pub fn close(&self) {
        if self.inner.is_forked() {
            return; // the stream is the parent's
        }
        self.inner.close();
        self.inner.await_devices(DEVICES);
        self.server.lock().unwrap_or_else(PoisonError::into_inner).stop();
    }

    /// Name of the stream.
    pub fn name(&self) -> &str {
        self.inner.name.as_str()
    }

    /// Slots of the pool.
    pub fn slots(&self) -> u32 {
        self.inner.pool.len()
    }

    /// What a slot holds unless a frame says otherwise.
    pub fn content(&self) -> &Content {
        &self.inner.content
    }

    /// Bytes of a slot.
    pub fn slot_bytes(&self) -> u64 {
        self.inner.pool.slot_bytes
    }

    /// The memory the pool lies in.
    pub fn backend(&self) -> &BackendInfo {
        &self.inner.pool.info
    }

    /// Whether consumers may write.
    pub fn writable(&self) -> bool {
        self.inner.writable
    }

    /// Most frames one consumer may lease at a time.
    pub fn max_held(&self) -> u32 {
        self.inner.max_held
    }

    /// What it does about consumers that hold it up.
    pub fn on_stall(&self) -> OnStall {
        self.inner.on_stall
    }

    /// For whom consumers said that they want the memory ([`ConsumerBuilder::wanted`](crate::ConsumerBuilder::wanted)), those
    /// too that went away since it does not serve them: what to make the stream's next producer for
    /// ([`ProducerBuilder::parties`]). At most 64.
    pub fn announced(&self) -> Vec<Party> {
        if self.inner.is_forked() { Vec::new() } else { self.inner.lock().announced.clone() }
    }

    /// What it has done and who consumes it.
    ///
    /// # Errors
    /// `Forked` in a child of the process that made it.
    pub fn stats(&self) -> Result<ProducerStats> {
        if self.inner.is_forked() {
            return Err(Error::forked());
        }
        Ok(self.inner.stats())
    }

    /// Whether this handle belongs to the parent of this process.
    pub fn is_forked(&self) -> bool {
        self.inner.is_forked()
    }
}

/// How long a producer's end waits for its devices: longer than a driver takes to find that its device hangs.
const DEVICES: Duration = Duration::from_secs(5);

impl Drop for Producer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    fn is_forked(&self) -> bool {
        self.process != fork::process_number()
    }
}
