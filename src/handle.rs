//! Handles with which one process lets another reach its memory.

use crate::backend::DeviceId;
use crate::{Error, ErrorKind, Result};
use std::os::fd::OwnedFd;

/// A way to a memory object that another process can open. Each kind names what the descriptor is.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExternalHandle {
    /// A sealed memfd.
    Memfd {
        /// The memfd.
        fd: OwnedFd,
        /// Its size in bytes.
        len: u64,
    },
    /// A dma-buf, of any driver.
    DmaBuf {
        /// The dma-buf.
        fd: OwnedFd,
        /// Its size in bytes.
        len: u64,
    },
    /// Memory of a GPU driver, which only that driver knows how to open.
    OpaqueFd {
        /// What the driver gave.
        fd: OwnedFd,
        /// Bytes of the memory.
        len: u64,
        /// Where it can be opened.
        origin: Origin,
    },
}

/// Where opaque memory is from. Only the same driver of the same device can open it, and it must be told the memory's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The device, as Vulkan's `deviceUUID`.
    pub device: DeviceId,
    /// The driver and its version, as Vulkan's `driverUUID`.
    pub driver: DeviceId,
    /// Index of the memory's type in the driver's list.
    pub memory_type: u32,
}

/// A handle on its way: all of it but the descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WireHandle {
    pub(crate) tag: u32,
    pub(crate) len: u64,
    /// Of opaque memory.
    pub(crate) origin: Option<Origin>,
}

/// What a holder of memory may do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Read only, enforced by the MMU where the backend says so.
    Read,
    /// Read and write.
    Write,
}

impl ExternalHandle {
    const MEMFD: u32 = 1;
    const DMA_BUF: u32 = 2;
    /// Its [`Origin`] follows at the end of the message.
    pub(crate) const OPAQUE_FD: u32 = 3;

    /// The handle that arrived in a message; the tag says what the descriptor is.
    pub(crate) fn from_wire(wire: &WireHandle, fd: OwnedFd) -> Result<Self> {
        let WireHandle { tag, len, origin } = *wire;
        match (tag, origin) {
            (Self::MEMFD, None) => Ok(Self::Memfd { fd, len }),
            (Self::DMA_BUF, None) => Ok(Self::DmaBuf { fd, len }),
            (Self::OPAQUE_FD, Some(origin)) => Ok(Self::OpaqueFd { fd, len, origin }),
            _ => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the producer sent a handle of kind {tag}, which this version does not know; update this side"
                ),
            )),
        }
    }

    /// What a message carries, and its descriptor.
    pub(crate) fn into_wire(self) -> (WireHandle, OwnedFd) {
        let (tag, fd, len, origin) = match self {
            Self::Memfd { fd, len } => (Self::MEMFD, fd, len, None),
            Self::DmaBuf { fd, len } => (Self::DMA_BUF, fd, len, None),
            Self::OpaqueFd { fd, len, origin } => (Self::OPAQUE_FD, fd, len, Some(origin)),
        };
        (WireHandle { tag, len, origin }, fd)
    }

    /// The descriptor alone.
    pub fn into_fd(self) -> OwnedFd {
        self.into_wire().1
    }
}

/// What a descriptor is that somebody else made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForeignKind {
    /// A memfd.
    Memfd,
    /// A dma-buf, of any driver.
    DmaBuf,
}

impl std::fmt::Display for ForeignKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Memfd => "a memfd",
            Self::DmaBuf => "a dma-buf",
        })
    }
}

/// A slot's memory that somebody else made: a camera's driver, a decoder, a compositor. See
/// [`Producer::adopt`](crate::Producer::adopt).
#[derive(Debug)]
pub struct ForeignBuffer {
    pub(crate) kind: ForeignKind,
    pub(crate) fd: OwnedFd,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl ForeignBuffer {
    /// The `len` bytes from `offset` of a dma-buf, which are whole pages. One slot for each dma-buf.
    pub fn dma_buf(fd: OwnedFd, offset: u64, len: u64) -> Self {
        Self { kind: ForeignKind::DmaBuf, fd, offset, len }
    }

    /// The `len` bytes from `offset` of a memfd, which are whole pages. It must have pages behind all of its bytes and be
    /// sealed with `F_SEAL_SHRINK` and `F_SEAL_GROW`. Here it is sealed against further seals and, unless consumers may
    /// write, against new writers; mappings made before survive that. So it can be adopted once.
    pub fn memfd(fd: OwnedFd, offset: u64, len: u64) -> Self {
        Self { kind: ForeignKind::Memfd, fd, offset, len }
    }
}
