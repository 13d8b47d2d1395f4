//! Handles with which one process lets another reach its memory.

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

    /// The handle that arrived in a message; the tag says what the descriptor is.
    pub(crate) fn from_wire(tag: u32, fd: OwnedFd, len: u64) -> Result<Self> {
        match tag {
            Self::MEMFD => Ok(Self::Memfd { fd, len }),
            Self::DMA_BUF => Ok(Self::DmaBuf { fd, len }),
            _ => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the producer sent a handle of kind {tag}, which this version does not know; update this side"
                ),
            )),
        }
    }

    /// Tag, descriptor and length, as a message carries them.
    pub(crate) fn into_wire(self) -> (u32, OwnedFd, u64) {
        match self {
            Self::Memfd { fd, len } => (Self::MEMFD, fd, len),
            Self::DmaBuf { fd, len } => (Self::DMA_BUF, fd, len),
        }
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
