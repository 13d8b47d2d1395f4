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
