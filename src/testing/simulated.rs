//! Host memory that behaves, until told not to.

use crate::backend::{
    Allocation, Backend, BackendInfo, Capabilities, DeviceId, Layout, Memory, Requirements,
};
use crate::handle::{Access, ExternalHandle};
use crate::sys::{PAGE, Segment, SegmentMemory, Sharing};
use crate::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// A call that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// [`Backend::plan`].
    Plan,
    /// [`Backend::allocate`].
    Allocate,
    /// [`Backend::import`].
    Import,
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
    faults: Vec<Fault>,
    damage: Mutex<Option<Damage>>,
    calls: [AtomicU32; 3],
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
            faults: Vec::new(),
            damage: Mutex::new(None),
            calls: Default::default(),
        }
    }

    /// Makes the `call`-th call (from 1) of `operation` fail with an error of `kind`.
    #[must_use]
    pub fn fail(mut self, operation: Operation, call: u32, kind: ErrorKind) -> Self {
        self.faults.push(Fault { operation, call, kind });
        self
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
        self.calls[operation as usize].load(Relaxed)
    }

    fn enter(&self, operation: Operation) -> Result<()> {
        let call = self.calls[operation as usize].fetch_add(1, Relaxed) + 1;
        match self.faults.iter().find(|fault| fault.operation == operation && fault.call == call) {
            Some(fault) => {
                Err(Error::new(fault.kind, format!("planned fault: call {call} of {operation:?}")))
            }
            None => Ok(()),
        }
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
            allocate: true,
            share: true,
            cpu_map: true,
            read_only_enforced: true,
            huge_pages: false,
        }
    }

    fn plan(&self, requirements: &Requirements) -> Result<Layout> {
        self.enter(Operation::Plan)?;
        let slot_bytes = requirements.content.nbytes().max(1).next_multiple_of(PAGE);
        Ok(Layout { content: requirements.content, slot_bytes, writable: requirements.writable })
    }

    /// Unlike memfd it gives each slot a memory object of its own, as device backends do.
    fn allocate(&self, layout: &Layout, slots: u32) -> Result<Vec<Allocation>> {
        self.enter(Operation::Allocate)?;
        (0..slots)
            .map(|_| {
                let segment = Segment::create("simulated", layout.slot_bytes, Sharing::of(layout.writable))?;
                let memory = Arc::new(SegmentMemory::new(segment, Access::Write));
                Ok(Allocation { memory, offset: 0, len: layout.slot_bytes })
            })
            .collect()
    }

    fn import(&self, handle: ExternalHandle, access: Access) -> Result<Arc<dyn Memory>> {
        self.enter(Operation::Import)?;
        let ExternalHandle::Memfd { mut fd, mut len } = handle;
        match *self.damage.lock().unwrap_or_else(PoisonError::into_inner) {
            None => {}
            Some(Damage::Length) => len += PAGE,
            Some(Damage::Descriptor) => {
                let other = std::fs::File::open("/dev/null");
                fd = other.map_err(|error| Error::system("opening /dev/null", error))?.into();
            }
        }
        let segment = Segment::open(fd, len, Sharing::of(access == Access::Write), true)?;
        Ok(Arc::new(SegmentMemory::new(segment, access)))
    }
}
