//! A segment as backend memory, for every kind whose CPU side is a memfd.

use super::{Mapping, PAGE, Segment, Sharing};
use crate::backend::{Mapped, Memory, PrivateMapping};
use crate::handle::{Access, ExternalHandle};
use crate::{Error, ErrorKind, Result};

/// One sealed memfd, mapped once.
#[derive(Debug)]
pub struct SegmentMemory {
    segment: Segment,
    access: Access,
}

impl SegmentMemory {
    /// `access` is what the segment was made or opened with.
    pub fn new(segment: Segment, access: Access) -> Self {
        Self { segment, access }
    }

    /// What another process sent: a memfd, checked as [`Segment::open`] does.
    ///
    /// # Errors
    /// `Protocol` for another handle; those of [`Segment::open`].
    pub fn import(handle: ExternalHandle, access: Access) -> Result<Self> {
        let ExternalHandle::Memfd { fd, len } = handle else {
            return Err(Error::new(ErrorKind::Protocol, format!("the producer sent {handle:?} for a memfd")));
        };
        let segment = Segment::open(fd, len, Sharing::of(access == Access::Write), true)?;
        Ok(Self::new(segment, access))
    }
}

// SAFETY: `map` gives the segment's one mapping, which lives as long as `self`, was made with `access`, and is
// as long as the segment.
unsafe impl Memory for SegmentMemory {
    fn export(&self) -> Result<ExternalHandle> {
        let fd = self.segment.fd().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "this memory's descriptor was closed; export it before that")
        })?;
        let fd = fd.try_clone_to_owned().map_err(|error| Error::system("duplicating a descriptor", error))?;
        Ok(ExternalHandle::Memfd { fd, len: self.segment.len() as u64 })
    }

    fn map(&self, access: Access) -> Result<Mapped> {
        if access == Access::Write && self.access == Access::Read {
            return Err(Error::new(
                ErrorKind::AccessDenied,
                "this memory is mapped read-only; ask the producer for a writable stream, or write to a private view",
            ));
        }
        Ok(Mapped { start: self.segment.start(), len: self.segment.len() })
    }

    fn small_pages(&self) -> u64 {
        if self.segment.huge_pages() { 0 } else { self.segment.len() as u64 / PAGE }
    }

    fn map_private(&self) -> Result<Box<dyn PrivateMapping>> {
        Ok(Box::new(CopyOnWrite(self.segment.private_view()?)))
    }
}

#[derive(Debug)]
struct CopyOnWrite(Mapping);

// SAFETY: a private mapping is writable, and lives as long as `self`.
unsafe impl PrivateMapping for CopyOnWrite {
    fn mapped(&self) -> Mapped {
        Mapped { start: self.0.start(), len: self.0.len() }
    }

    fn forget(&self, offset: usize, len: usize) -> Result<()> {
        self.0.forget_copies(offset, len)
    }
}
