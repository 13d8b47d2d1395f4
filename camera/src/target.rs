//! What a driver can be given to write to.

use crate::Layout;
use bips::{Error, ExternalHandle, FrameMut, Result};
use nix::sys::stat::fstat;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

/// How memory is handed to a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By its address (`V4L2_MEMORY_USERPTR`).
    UserPtr,
    /// As a dma-buf (`V4L2_MEMORY_DMABUF`).
    DmaBuf,
    /// Not at all: the slots are the driver's own buffers (`V4L2_MEMORY_MMAP`), which it lends as dma-bufs.
    Own,
}

/// A piece of memory for a plane of a frame.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// Memory of this process.
    Memory {
        /// First byte.
        start: NonNull<u8>,
        /// Bytes.
        len: u32,
    },
    /// A dma-buf, from its beginning: V4L2 has no way to say "from here".
    DmaBuf {
        /// Its descriptor.
        fd: BorrowedFd<'a>,
        /// Bytes.
        len: u32,
    },
    /// The driver's own buffer of the index under which this is queued.
    Own {
        /// The inode of that buffer, as it was lent.
        inode: u64,
    },
}

/// Memory that a [`Queue`](crate::Queue) lets a driver write to, while it owns the value.
///
/// # Safety
/// As long as the value lives, nothing else reads or writes the memory of its places, and it stays mapped where it is.
#[allow(unsafe_code, reason = "declares a contract")]
pub unsafe trait Target {
    /// The memory of each plane; none for planes it hasn't.
    fn place(&self, plane: usize) -> Option<Place<'_>>;
}

/// A leased slot that a driver writes a frame to.
#[derive(Debug)]
pub struct Slot {
    frame: FrameMut,
    /// The camera's planes of memory, as in [`Layout::memory`].
    planes: Arc<[(u64, u32)]>,
    dma_buf: Option<Arc<OwnedFd>>,
    /// Its inode, where it is the driver's own.
    own: Option<u64>,
}

// SAFETY: a `FrameMut` is the only lease of its slot, and keeps it mapped.
#[allow(unsafe_code, reason = "keeps the contract above")]
unsafe impl Target for Slot {
    fn place(&self, plane: usize) -> Option<Place<'_>> {
        let (offset, len) = *self.planes.get(plane)?;
        if let Some(inode) = self.own {
            return Some(Place::Own { inode });
        }
        if let Some(fd) = &self.dma_buf {
            return Some(Place::DmaBuf { fd: fd.as_fd(), len });
        }
        let start = NonNull::new(self.frame.as_mut_ptr())?;
        let start = start.map_addr(|addr| addr.saturating_add(offset as usize));
        Some(Place::Memory { start, len })
    }
}

impl Slot {
    /// The lease again, once the driver is done with it.
    pub fn into_frame(self) -> FrameMut {
        self.frame
    }

    /// Index of the slot in its pool; the buffer of the driver has the same, so that it meets known memory again.
    pub fn index(&self) -> u32 {
        self.frame.slot()
    }
}

/// Makes targets of the slots of one pool.
#[derive(Debug)]
pub struct Slots {
    planes: Arc<[(u64, u32)]>,
    way: Way,
    dma_bufs: Vec<Option<Arc<OwnedFd>>>,
}

impl Slots {
    /// For a pool, one of whose slots is `frame`, that was made for `layout`.
    ///
    /// # Errors
    /// `Unsupported` where the slots can't be given to a driver as this layout needs it, with the reason.
    pub fn new(frame: &FrameMut, slots: u32, layout: &Layout) -> Result<Self> {
        let way = if dma_buf(frame)?.is_some() { Way::DmaBuf } else { Way::UserPtr };
        if way == Way::DmaBuf && layout.memory.len() > 1 {
            return Err(Error::new(
                bips::ErrorKind::Unsupported,
                "the camera wants each plane of a frame in a dma-buf of its own, and a slot is one dma-buf; use the format \
                 that has them in one piece (NV12 for NM12, YU12 for YM12), or --memory memfd",
            ));
        }
        let dma_bufs = (0..slots).map(|_| None).collect();
        Ok(Self { planes: layout.memory.as_slice().into(), way, dma_bufs })
    }

    /// For a pool that was made of a driver's own buffers.
    pub(crate) fn own(slots: u32, layout: &Layout) -> Self {
        let dma_bufs = (0..slots).map(|_| None).collect();
        Self { planes: layout.memory.as_slice().into(), way: Way::Own, dma_bufs }
    }

    /// How they are given to a driver.
    pub fn way(&self) -> Way {
        self.way
    }

    /// The target that a lease is.
    ///
    /// # Errors
    /// `Unsupported` where the slot is not what the first one was, or too small.
    pub fn target(&mut self, frame: FrameMut) -> Result<Slot> {
        let strange = |what: &str| {
            Error::new(bips::ErrorKind::Unsupported, format!("slot {} of the pool {what}", frame.slot()))
        };
        let end = self.planes.iter().map(|(offset, len)| offset + u64::from(*len)).max().unwrap_or(0);
        if end > frame.len() as u64 {
            return Err(strange(&format!("has {} bytes, and a frame takes {end}", frame.len())));
        }
        let dma_buf = match self.way {
            Way::UserPtr => None,
            Way::DmaBuf | Way::Own => {
                let known =
                    self.dma_bufs.get_mut(frame.slot() as usize).ok_or_else(|| strange("is none of it"))?;
                if known.is_none() {
                    *known = dma_buf(&frame)?.map(Arc::new);
                }
                Some(known.clone().ok_or_else(|| strange("is no dma-buf of its own"))?)
            }
        };
        let own = match (&dma_buf, self.way) {
            (Some(fd), Way::Own) => Some(inode(fd)?),
            _ => None,
        };
        Ok(Slot { frame, planes: self.planes.clone(), dma_buf, own })
    }
}

/// Which file it is: descriptors' numbers are no identity.
pub(crate) fn inode(fd: impl AsFd) -> Result<u64> {
    let stat = fstat(fd).map_err(|errno| Error::system("looking at a camera's buffer", errno))?;
    Ok(stat.st_ino)
}

/// The dma-buf that a slot is, from its beginning; none for memory that is handed over by its address.
fn dma_buf(frame: &FrameMut) -> Result<Option<OwnedFd>> {
    match frame.handle()? {
        (ExternalHandle::Memfd { .. }, _) => Ok(None),
        (ExternalHandle::DmaBuf { fd, .. }, 0) => Ok(Some(fd)),
        (ExternalHandle::DmaBuf { .. }, offset) => Err(Error::new(
            bips::ErrorKind::Unsupported,
            format!(
                "the slot begins {offset} bytes into a dma-buf, and a camera writes from the beginning of one; use --memory memfd"
            ),
        )),
        (other, _) => Err(Error::new(
            bips::ErrorKind::Unsupported,
            format!("a camera can't be given {other:?}; use --memory memfd"),
        )),
    }
}
