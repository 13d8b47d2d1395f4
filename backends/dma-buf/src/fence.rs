//! Work of a device, as the kernel hands it from process to process: sync files.

use crate::buffer::{check, flags, wait_for};
use crate::ioctl;
use bips::sys::Descriptor;
use bips::{Access, Error, ErrorKind, Fence, Result, Timeline};
use nix::errno::Errno;
use nix::poll::PollFlags;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// As the kernel calls such files.
const KERNELS_NAME: &str = "anon_inode:sync_file";

/// Work of a device that is done once: a sync file.
#[derive(Debug)]
pub struct SyncFile(OwnedFd);

impl SyncFile {
    /// The work that a driver gave a sync file for.
    ///
    /// # Errors
    /// `InvalidArgument` for a descriptor of something else.
    pub fn new(fd: OwnedFd) -> Result<Self> {
        let no = |why: &str| {
            Error::new(ErrorKind::InvalidArgument, format!("this descriptor is no sync file: {why}"))
        };
        // Another file's own program would be asked below, and may never answer.
        match Descriptor::look(fd.as_fd())? {
            Descriptor::Other(name) if name == KERNELS_NAME => {}
            _ => return Err(no("it is some other file")),
        }
        let file = Self(fd);
        match file.status() {
            Ok(_) => Ok(file),
            Err(errno) => Err(no(&errno.to_string())),
        }
    }

    /// What is to be waited for before `access` to a dma-buf: for reading, devices that write to it, and for writing those
    /// that read it too. Work that begins later is not in it.
    ///
    /// # Errors
    /// `Unsupported` before Linux 6.0; `InvalidArgument` for what is no dma-buf.
    pub fn of(dma_buf: impl AsFd, access: Access) -> Result<Self> {
        check(dma_buf.as_fd())?;
        let mut call = ioctl::SyncFileOf { flags: flags(access), fd: -1 };
        // SAFETY: the kernel reads and writes eight bytes, which live as long as the call.
        unsafe { ioctl::dma_buf_export_sync_file(dma_buf.as_fd().as_raw_fd(), &raw mut call) }
            .map_err(|errno| unsuitable("DMA_BUF_IOCTL_EXPORT_SYNC_FILE", errno))?;
        // SAFETY: the call succeeded, so it is a new descriptor, and ours.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(call.fd) }))
    }

    /// Makes all who look at the dma-buf wait for this work: as work that reads it (`Access::Read`), or that writes it.
    ///
    /// # Errors
    /// As [`SyncFile::of`].
    pub fn attach(&self, dma_buf: impl AsFd, access: Access) -> Result<()> {
        check(dma_buf.as_fd())?;
        let call = ioctl::SyncFileOf { flags: flags(access), fd: self.0.as_raw_fd() };
        // SAFETY: the kernel reads eight bytes, which live as long as the call.
        unsafe { ioctl::dma_buf_import_sync_file(dma_buf.as_fd().as_raw_fd(), &raw const call) }
            .map(drop)
            .map_err(|errno| unsuitable("DMA_BUF_IOCTL_IMPORT_SYNC_FILE", errno))
    }

    /// Whether it is done.
    ///
    /// # Errors
    /// `Lost` if the device failed.
    pub fn is_done(&self) -> Result<bool> {
        match self.status().map_err(|errno| Error::system("SYNC_IOC_FILE_INFO", errno))? {
            0 => Ok(false),
            status if status > 0 => Ok(true),
            status => Err(Error::new(
                ErrorKind::Lost,
                format!(
                    "the device did not finish its work on a buffer ({}); what it holds is not whole",
                    Errno::from_raw(status.saturating_neg())
                ),
            )),
        }
    }

    fn status(&self) -> nix::Result<i32> {
        let mut info = ioctl::SyncFileInfo::default();
        // SAFETY: the kernel writes this structure, which lives as long as the call, and no list: none is asked for.
        unsafe { ioctl::sync_file_info(self.0.as_raw_fd(), &raw mut info) }?;
        Ok(info.status)
    }
}

fn unsuitable(call: &str, errno: Errno) -> Error {
    match errno {
        Errno::ENOTTY => Error::new(
            ErrorKind::Unsupported,
            format!("{call}: this kernel can't (Linux 6.0 or newer can), or the descriptor is no dma-buf"),
        ),
        errno => Error::system(call, errno),
    }
}

impl AsFd for SyncFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// It stands at 0 until the work is done, then at 1.
impl Timeline for SyncFile {
    fn value(&self) -> Result<u64> {
        self.is_done().map(u64::from)
    }

    fn wait(&self, value: u64, timeout: Option<Duration>) -> Result<()> {
        match value {
            0 => Ok(()),
            1 if wait_for(self.as_fd(), PollFlags::POLLIN, timeout)? => self.is_done().map(drop),
            1 => Err(Error::new(
                ErrorKind::Timeout,
                "the device was not done in the time allowed; wait longer",
            )),
            value => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("a sync file ends at 1 and never gets to {value}"),
            )),
        }
    }
}

impl From<SyncFile> for Fence {
    fn from(file: SyncFile) -> Self {
        Self::Timeline(Arc::new(file), 1)
    }
}
