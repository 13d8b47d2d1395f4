//! A dma-buf, mapped.

use crate::DmaBuf;
use bips::sys::Mapping;
use bips::{Access, Allocation, CpuAccess, Error, ErrorKind, ExternalHandle, Mapped, Memory, Result};
use std::sync::Arc;
use std::time::Duration;

/// A dma-buf of one slot or more, mapped once. For backends of any driver's dma-bufs.
#[derive(Debug)]
pub struct DmaBufMemory {
    // First, so that it ends first.
    mapping: Mapping,
    buffer: DmaBuf,
    access: Access,
}

impl DmaBufMemory {
    /// Maps it.
    ///
    /// # Errors
    /// `Unsupported` where the CPU can't have that access.
    pub fn new(buffer: DmaBuf, access: Access) -> Result<Self> {
        let len = usize::try_from(buffer.len())
            .map_err(|_| Error::new(ErrorKind::Unsupported, "a dma-buf larger than the address space"))?;
        // A dma-buf keeps its size, and the kernel refuses to map beyond it.
        let mapping = Mapping::new(&buffer, len, access == Access::Write, false).map_err(|error| match error.kind() {
            // This process's trouble, not the buffer's.
            ErrorKind::OutOfMemory => error,
            _ => Error::new(
                ErrorKind::Unsupported,
                format!("the CPU can't map this dma-buf: {error}; only a device can use it, or it is to be read only"),
            ),
        })?;
        Ok(Self { mapping, buffer, access })
    }

    /// The one that arrived from another process: it must be what it is said to be.
    ///
    /// # Errors
    /// `Protocol` when it isn't; as [`DmaBufMemory::new`].
    pub fn import(handle: ExternalHandle, access: Access) -> Result<Self> {
        let ExternalHandle::DmaBuf { fd, len } = handle else {
            return Err(Error::new(
                ErrorKind::Protocol,
                format!("the producer sent {handle:?} for a dma-buf"),
            ));
        };
        let buffer = DmaBuf::sent(fd, "the producer")?;
        if buffer.len() != len || buffer.is_empty() {
            return Err(Error::new(
                ErrorKind::Protocol,
                format!("the producer sent a dma-buf of {} bytes and says that it has {len}", buffer.len()),
            ));
        }
        Self::new(buffer, access)
    }

    /// A slot in each buffer, of so many bytes.
    pub(crate) fn slots(buffers: Vec<DmaBuf>, len: u64) -> Result<Vec<Allocation>> {
        let slot = |buffer| {
            let memory = Arc::new(Self::new(buffer, Access::Write)?);
            Ok(Allocation { memory, offset: 0, len })
        };
        buffers.into_iter().map(slot).collect()
    }

    /// The buffer alone, no longer mapped.
    pub(crate) fn into_buffer(self) -> DmaBuf {
        self.buffer
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.buffer.len()
    }

    /// Whether it holds nothing; the kernel makes none such.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// New memory for others to see, with zeros in all of it: so it is backed, and holds nobody's old data. Consumes it
    /// meanwhile, so that nobody has a view of it yet.
    ///
    /// # Errors
    /// `AccessDenied` where it is mapped read-only; what the system reports.
    pub fn cleared(self) -> Result<Self> {
        self.map(Access::Write)?;
        self.buffer.begin(Access::Write, None)?;
        // SAFETY: the whole mapping, made for writing (asked above), of which no view can have outlived the move.
        unsafe { self.mapping.start().as_ptr().write_bytes(0, self.mapping.len()) };
        self.buffer.end(Access::Write)?;
        Ok(self)
    }
}

// SAFETY: `map` gives the one mapping, which lives as long as `self`, was made with `access`, and is as long as the
// dma-buf.
unsafe impl Memory for DmaBufMemory {
    fn export(&self) -> Result<ExternalHandle> {
        Ok(ExternalHandle::DmaBuf { fd: self.buffer.duplicate()?, len: self.buffer.len() })
    }

    fn map(&self, access: Access) -> Result<Mapped> {
        if access == Access::Write && self.access == Access::Read {
            return Err(Error::new(
                ErrorKind::AccessDenied,
                "this memory is mapped read-only; ask the producer for a writable stream, or copy the frame",
            ));
        }
        Ok(Mapped { start: self.mapping.start(), len: self.mapping.len() })
    }

    // No `small_pages`: a consumer's device may go on after its process, so nothing may say early that it is dead.

    fn cpu_access(&self) -> Option<&dyn CpuAccess> {
        Some(self)
    }
}

// The kernel keeps no count of begun accesses: a process that dies in between leaves nothing to undo.
impl CpuAccess for DmaBufMemory {
    fn begin(&self, _offset: u64, access: Access, timeout: Option<Duration>) -> Result<()> {
        self.buffer.begin(access, timeout)
    }

    fn end(&self, _offset: u64, access: Access) -> Result<()> {
        self.buffer.end(access)
    }

    fn is_idle(&self, _offset: u64, access: Access) -> Result<bool> {
        self.buffer.wait_idle(access, Some(Duration::ZERO))
    }
}
