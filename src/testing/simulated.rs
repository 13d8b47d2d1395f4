//! Host memory that behaves, until told not to.

use crate::backend::{
    Allocation, Backend, BackendInfo, Capabilities, CpuAccess, DeviceId, FenceKind, Layout, Mapped, Memory,
    Requirements,
};
use crate::handle::{Access, ExternalHandle};
use crate::sys::{PAGE, Segment, SegmentMemory, Sharing};
use crate::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A call that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// [`Backend::plan`].
    Plan,
    /// [`Backend::allocate`].
    Allocate,
    /// [`Backend::import`].
    Import,
    /// [`CpuAccess::begin`], of memory that is [`announced`](Simulated::announced).
    Begin,
    /// [`CpuAccess::end`].
    End,
    /// [`CpuAccess::settle`].
    Settle,
}

/// What can be wrong with a handle on its way between processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// It claims a page more than there is.
    Length,
    /// Its descriptor is of another file altogether.
    Descriptor,
}

/// A fault and when it strikes.
#[derive(Debug, Clone, Copy)]
struct Fault {
    operation: Operation,
    /// On this call, from 1.
    call: u32,
    kind: ErrorKind,
}

/// The simulated backend, kind `simulated`.
///
/// ```
/// use bips::testing::{Operation, Simulated};
/// use bips::{ErrorKind, Producer};
///
/// let backend = Simulated::new().fail(Operation::Allocate, 1, ErrorKind::OutOfMemory);
/// let error = Producer::builder("camera").backend(backend.shared()).bytes(100).create().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::OutOfMemory);
/// ```
#[derive(Debug)]
pub struct Simulated {
    info: BackendInfo,
    damage: Mutex<Option<Damage>>,
    calls: Arc<Calls>,
    /// Whether the CPU's access must be announced.
    announced: bool,
    /// What the distance between rows of an image is a multiple of.
    rows: u64,
}

/// What was called, and what shall fail.
#[derive(Debug, Default)]
struct Calls {
    counts: [AtomicU32; 6],
    faults: Mutex<Vec<Fault>>,
    /// Slots made so far that a device uses, as bits.
    busy: AtomicU64,
    /// Slots whose access by the CPU has begun and not ended.
    begun: AtomicU64,
}

impl Calls {
    fn enter(&self, operation: Operation) -> Result<()> {
        let call = self.counts[operation as usize].fetch_add(1, Relaxed) + 1;
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        match faults.iter().find(|fault| fault.operation == operation && fault.call == call) {
            Some(fault) => {
                Err(Error::new(fault.kind, format!("planned fault: call {call} of {operation:?}")))
            }
            None => Ok(()),
        }
    }
}

impl Simulated {
    /// One that behaves.
    pub fn new() -> Self {
        Self {
            info: BackendInfo {
                kind: "simulated".into(),
                device: DeviceId::default(),
                description: "host memory with planned faults".into(),
            },
            damage: Mutex::new(None),
            calls: Arc::default(),
            announced: false,
            rows: 1,
        }
    }

    /// Lays the rows of images so far apart, or a multiple of it.
    #[must_use]
    pub fn rows_of(mut self, bytes: u64) -> Self {
        self.rows = bytes;
        self
    }

    /// Makes the `call`-th call (from 1) of `operation` fail with an error of `kind`.
    #[must_use]
    pub fn fail(self, operation: Operation, call: u32, kind: ErrorKind) -> Self {
        let fault = Fault { operation, call, kind };
        self.calls.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
        self
    }

    /// Makes memory that must be told of the CPU's access.
    #[must_use]
    pub fn announced(mut self) -> Self {
        self.announced = true;
        self
    }

    /// From now on a device uses these slots, as bits, of the pool that was made.
    pub fn busy(&self, slots: u64) {
        self.calls.busy.store(slots, Relaxed);
    }

    /// Slots, as bits, that the CPU has begun to use and not ended, in the process that made the pool.
    pub fn begun(&self) -> u64 {
        self.calls.begun.load(Relaxed)
    }

    /// Damages every handle before it is imported.
    #[must_use]
    pub fn damage(self, damage: Damage) -> Self {
        *self.damage.lock().unwrap_or_else(PoisonError::into_inner) = Some(damage);
        self
    }

    /// As the registry and the builders take it.
    pub fn shared(self) -> Arc<dyn Backend> {
        Arc::new(self)
    }

    /// How often `operation` was called.
    pub fn calls(&self, operation: Operation) -> u32 {
        self.calls.counts[operation as usize].load(Relaxed)
    }

    fn enter(&self, operation: Operation) -> Result<()> {
        self.calls.enter(operation)
    }

    /// `slot`: its number, if it was made here.
    fn memory(&self, segment: Segment, access: Access, slot: Option<u32>) -> Arc<dyn Memory> {
        let memory = SegmentMemory::new(segment, access);
        match self.announced {
            true => Arc::new(Announced { memory, calls: self.calls.clone(), slot }),
            false => Arc::new(memory),
        }
    }
}

/// Memory that must be told of the CPU's access.
#[derive(Debug)]
struct Announced {
    memory: SegmentMemory,
    calls: Arc<Calls>,
    slot: Option<u32>,
}

// SAFETY: all is the segment's.
#[allow(unsafe_code, reason = "passes a contract on")]
unsafe impl Memory for Announced {
    fn export(&self) -> Result<ExternalHandle> {
        self.memory.export()
    }

    fn map(&self, access: Access) -> Result<Mapped> {
        self.memory.map(access)
    }

    fn cpu_access(&self) -> Option<&dyn CpuAccess> {
        Some(self)
    }
}

impl CpuAccess for Announced {
    fn begin(&self, _offset: u64, access: Access, timeout: Option<Duration>) -> Result<()> {
        self.calls.enter(Operation::Begin)?;
        self.wait_idle(timeout)?;
        if access == Access::Write {
            self.calls.begun.fetch_or(self.slot.map_or(0, |slot| 1 << slot), Relaxed);
        }
        Ok(())
    }

    fn end(&self, _offset: u64, access: Access) -> Result<()> {
        if access == Access::Write {
            self.calls.begun.fetch_and(!self.slot.map_or(0, |slot| 1 << slot), Relaxed);
        }
        self.calls.enter(Operation::End)
    }

    fn is_idle(&self, _offset: u64, _access: Access) -> Result<bool> {
        Ok(self.calls.busy.load(Relaxed) & self.bits() == 0)
    }

    fn settle(&self, _offset: u64, timeout: Duration) -> Result<()> {
        self.calls.enter(Operation::Settle)?;
        self.wait_idle(Some(timeout))
    }
}

impl Announced {
    fn bits(&self) -> u64 {
        self.slot.map_or(u64::MAX, |slot| 1 << slot)
    }

    /// Devices write here: they keep everybody off, at both ends of the stream.
    fn wait_idle(&self, timeout: Option<Duration>) -> Result<()> {
        let until = timeout.map(|timeout| Instant::now() + timeout);
        while self.calls.busy.load(Relaxed) & self.bits() != 0 {
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(Error::new(ErrorKind::Timeout, "a device uses the slot"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Default for Simulated {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for Simulated {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            alignment: PAGE,
            contiguous: false,
            fences: if self.announced { FenceKind::Host } else { FenceKind::Board },
            allocate: true,
            share: true,
            cpu_map: true,
            read_only_enforced: true,
            huge_pages: false,
        }
    }

    fn plan(&self, requirements: &Requirements) -> Result<Layout> {
        self.enter(Operation::Plan)?;
        let mut content = requirements.content;
        if content.fourcc().is_some() && !requirements.exact {
            content = content.with_row_stride(content.planes()[0].stride.next_multiple_of(self.rows))?;
        }
        let slot_bytes = content.nbytes().max(1).next_multiple_of(PAGE);
        Ok(Layout { content, slot_bytes, writable: requirements.writable })
    }

    /// Unlike memfd it gives each slot a memory object of its own, as device backends do.
    fn allocate(&self, layout: &Layout, slots: u32) -> Result<Vec<Allocation>> {
        self.enter(Operation::Allocate)?;
        (0..slots)
            .map(|slot| {
                let segment = Segment::create("simulated", layout.slot_bytes, Sharing::of(layout.writable))?;
                let memory = self.memory(segment, Access::Write, Some(slot));
                Ok(Allocation { memory, offset: 0, len: layout.slot_bytes })
            })
            .collect()
    }

    fn import(&self, handle: ExternalHandle, access: Access) -> Result<Arc<dyn Memory>> {
        self.enter(Operation::Import)?;
        let ExternalHandle::Memfd { mut fd, mut len } = handle else {
            return Err(Error::protocol("the peer sent no memfd"));
        };
        match *self.damage.lock().unwrap_or_else(PoisonError::into_inner) {
            None => {}
            Some(Damage::Length) => len += PAGE,
            Some(Damage::Descriptor) => {
                let other = std::fs::File::open("/dev/null");
                fd = other.map_err(|error| Error::system("opening /dev/null", error))?.into();
            }
        }
        let segment = Segment::open(fd, len, Sharing::of(access == Access::Write), true)?;
        Ok(self.memory(segment, access, None))
    }
}
