//! A driver's own buffers, lent to be published from.

use crate::abi::{self, Zeros};
use crate::target::inode;
use crate::{Device, Layout, Slots, sys};
use bips::sys::check_uncharged;
use bips::{Error, ErrorKind, ForeignBuffer, Result};
use nix::errno::Errno;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::{FromRawFd, OwnedFd};

/// Buffers that a driver made, in the order of their index.
#[derive(Debug)]
pub struct Lent {
    /// What to make the pool of ([`Producer::adopt`](bips::Producer::adopt)): slot by slot, all of them.
    pub buffers: Vec<ForeignBuffer>,
    /// Makes targets of that pool's slots.
    pub slots: Slots,
}

impl Device {
    /// Has the driver make `count` buffers for this layout, and lend them as dma-bufs (`VIDIOC_EXPBUF`). Then comes a
    /// [`Queue`](crate::Queue) of so many, [`Way::Own`](crate::Way::Own). They live on while anybody has one of them open.
    ///
    /// # Errors
    /// `Unsupported` where the driver makes none, or not so many, or can't lend them; `System` (busy).
    pub fn lend(&self, layout: &Layout, count: u32) -> Result<Lent> {
        if layout.memory.len() > 1 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the driver makes a buffer of its own for each plane of a frame, and a slot is one buffer; use the format \
                 that has them in one piece (NV12 for NM12, YU12 for YM12), or --memory memfd",
            ));
        }
        // Most drivers take the machine's memory, and the kernel kills for what it has not, not always this process.
        let bytes: u64 = layout.memory.iter().map(|(_, bytes)| u64::from(*bytes)).sum();
        check_uncharged(bytes.saturating_mul(count.into()))?;
        let (granted, _) = self.request(abi::MEMORY_MMAP, count).map_err(|errno| match errno {
            Errno::EINVAL => Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the driver of {} makes no buffers of its own (V4L2_MEMORY_MMAP); use --memory memfd or dma-heap",
                    self.path.display()
                ),
            ),
            other => self.failed("asking for buffers", other),
        })?;
        let lent = match granted == count {
            true => self.export_all(count),
            false => Err(self.another_number(granted, count)),
        };
        match lent {
            Ok((buffers, inodes)) => {
                *self.lent() = inodes;
                Ok(Lent { buffers, slots: Slots::own(count, layout) })
            }
            Err(error) => {
                let _ = self.request(abi::MEMORY_MMAP, 0); // it may keep them: the next request ends them
                Err(error)
            }
        }
    }

    fn export_all(&self, count: u32) -> Result<(Vec<ForeignBuffer>, Vec<u64>)> {
        let (mut buffers, mut inodes) = (Vec::new(), Vec::new());
        for index in 0..count {
            let mut file = File::from(self.export(index)?);
            // What `fstat` says of a dma-buf's size was 0 before Linux 5.3.
            let len = file
                .seek(SeekFrom::End(0))
                .map_err(|error| Error::system("looking at a camera's buffer", error))?;
            inodes.push(inode(&file)?);
            buffers.push(ForeignBuffer::dma_buf(file.into(), 0, len));
        }
        Ok((buffers, inodes))
    }

    fn export(&self, index: u32) -> Result<OwnedFd> {
        // A producer maps its slots for writing.
        let flags = (libc::O_RDWR | libc::O_CLOEXEC).cast_unsigned();
        let mut wanted =
            abi::ExportBuffer { kind: self.kind, index, flags, fd: -1, ..abi::ExportBuffer::zeros() };
        sys::export_buffer(&self.file, &mut wanted).map_err(|errno| match errno {
            Errno::ENOTTY | Errno::EINVAL | Errno::EACCES => Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the driver of {} can't lend its buffers (VIDIOC_EXPBUF: {errno}); use --memory memfd or dma-heap",
                    self.path.display()
                ),
            ),
            other => self.failed("borrowing a buffer", other),
        })?;
        // SAFETY: the call succeeded, so it is a new descriptor, and ours.
        #[allow(unsafe_code, reason = "takes what the kernel made")]
        let fd = unsafe { OwnedFd::from_raw_fd(wanted.fd) };
        Ok(fd)
    }

    pub(crate) fn another_number(&self, granted: u32, wanted: u32) -> Error {
        Error::new(
            ErrorKind::Unsupported,
            format!(
                "the driver of {} works with {granted} buffers, not with {wanted}; use --slots {}",
                self.path.display(),
                if granted > wanted { granted + 2 } else { granted }
            ),
        )
    }
}
