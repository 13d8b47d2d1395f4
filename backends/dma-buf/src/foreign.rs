//! Kind `dma-buf`: dma-bufs that somebody else made.

use crate::DmaBuf;
use crate::memory::DmaBufMemory;
use bips::{
    Access, Allocation, Backend, BackendInfo, Capabilities, DeviceId, Error, ErrorKind, ExternalHandle,
    FenceKind, ForeignKind, Layout, Memory, Party, Requirements, Result, Served,
};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Publishes from dma-bufs of any origin, and makes none.
#[derive(Debug)]
pub struct Foreign(BackendInfo);

impl Foreign {
    /// The kind of memory it provides.
    pub const KIND: &str = "dma-buf";

    /// Needs nothing but the buffers.
    pub fn new() -> Self {
        Self(BackendInfo {
            kind: Self::KIND.into(),
            device: DeviceId::default(),
            description: "dma-bufs that a device's driver made".into(),
        })
    }
}

impl Default for Foreign {
    fn default() -> Self {
        Self::new()
    }
}

fn makes_none() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "nothing is made of this kind: a producer adopts dma-bufs that a camera, a decoder or the like has made \
         (`Producer::adopt`), and whoever consumes them needs nothing; for new ones use dma-heap",
    )
}

fn hint_descriptor(error: Error) -> Error {
    match error.kind() {
        ErrorKind::InvalidArgument => error.hint(
            "give the descriptor that VIDIOC_EXPBUF, DRM_IOCTL_PRIME_HANDLE_TO_FD or the like returned",
        ),
        _ => error,
    }
}

impl Backend for Foreign {
    fn info(&self) -> &BackendInfo {
        &self.0
    }

    /// None but those of the buffers, which differ.
    fn capabilities(&self) -> Capabilities {
        Capabilities { share: true, fences: FenceKind::Implicit, ..Capabilities::default() }
    }

    fn serves(&self, party: &Party) -> Result<Served> {
        party.by_dma_buf("dma-bufs")
    }

    fn plan(&self, _requirements: &Requirements) -> Result<Layout> {
        Err(makes_none())
    }

    fn allocate(&self, _layout: &Layout, _slots: u32) -> Result<Vec<Allocation>> {
        Err(makes_none())
    }

    fn import(&self, handle: ExternalHandle, access: Access) -> Result<Arc<dyn Memory>> {
        Ok(Arc::new(DmaBufMemory::import(handle, access)?))
    }

    fn adopts(&self, kind: ForeignKind) -> bool {
        kind == ForeignKind::DmaBuf
    }

    fn identify(&self, fd: BorrowedFd<'_>) -> Result<(u64, u64)> {
        DmaBuf::identify(fd).map_err(hint_descriptor)
    }

    /// A dma-buf has no seals: that consumers map it read-only is all there is to `writable`.
    fn adopt(&self, fd: OwnedFd, _writable: bool) -> Result<Arc<dyn Memory>> {
        let buffer = DmaBuf::new(fd).map_err(hint_descriptor)?;
        let memory = DmaBufMemory::new(buffer, Access::Write).map_err(|error| {
            error.hint("have it exported for reading and writing (O_RDWR), from memory that the CPU can see")
        })?;
        Ok(Arc::new(memory))
    }
}
