//! A descriptor that is known to be a dma-buf.

use crate::ioctl;
use bips::sys::Descriptor;
use bips::{Access, Error, ErrorKind, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Whence, lseek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The file system that dma-bufs are files of, and nothing else.
const DMA_BUF_MAGIC: FsType = FsType(0x444d_4142);

/// A dma-buf. Its size never changes.
#[derive(Debug)]
pub struct DmaBuf {
    fd: OwnedFd,
    len: u64,
}

impl DmaBuf {
    /// Takes a descriptor for a dma-buf, after looking whether it is one.
    ///
    /// # Errors
    /// `InvalidArgument` for any other file; `Unsupported` where `/proc` does not say what it is; what the system reports.
    pub fn new(fd: OwnedFd) -> Result<Self> {
        check(fd.as_fd())?;
        // What `fstat` says was 0 before Linux 5.3; this is always right.
        let len =
            lseek(&fd, 0, Whence::SeekEnd).map_err(|errno| not_one(&format!("it has no size: {errno}")))?;
        Ok(Self { fd, len: len.cast_unsigned() })
    }

    /// The same for what another process sent.
    pub(crate) fn sent(fd: OwnedFd, by: &str) -> Result<Self> {
        Self::new(fd).map_err(|error| match error.kind() {
            ErrorKind::InvalidArgument => Error::new(ErrorKind::Protocol, format!("what {by} sent: {error}")),
            // Nothing that the other did.
            _ => error,
        })
    }

    /// Which dma-buf a descriptor stands for, as device and inode.
    ///
    /// # Errors
    /// As [`DmaBuf::new`].
    pub fn identify(fd: BorrowedFd<'_>) -> Result<(u64, u64)> {
        check(fd)?;
        let stat = fstat(fd).map_err(|errno| Error::system("fstat of a dma-buf", errno))?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it holds nothing; the kernel makes none such.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Which buffer it is: the same number for every descriptor of it in every process, and another for every other one
    /// that lives at the same time. Descriptors' numbers are no identity.
    ///
    /// # Errors
    /// What the system reports.
    pub fn id(&self) -> Result<u64> {
        fstat(&self.fd).map(|stat| stat.st_ino).map_err(|errno| Error::system("fstat of a dma-buf", errno))
    }

    /// A further descriptor of it.
    ///
    /// # Errors
    /// What the system reports.
    pub fn duplicate(&self) -> Result<OwnedFd> {
        self.fd.try_clone().map_err(|error| Error::system("duplicating a descriptor", error))
    }

    /// Names it for whoever looks at `/proc/PID/maps` or the kernel's list of buffers. For people only.
    pub fn label(&self) {
        // SAFETY: the kernel reads a string that ends with 0 and is static, at most 32 bytes of it.
        let named = unsafe { ioctl::dma_buf_set_name(self.fd.as_raw_fd(), c"bips".as_ptr().cast()) };
        if let Err(errno) = named {
            tracing::debug!(%errno, "a dma-buf stays without a name");
        }
    }

    /// Waits until no device uses it in a way that forbids the CPU this access; whether that is so at the end.
    ///
    /// # Errors
    /// What the system reports.
    pub fn wait_idle(&self, access: Access, timeout: Option<Duration>) -> Result<bool> {
        // Readable once nobody writes, writable once nobody reads either.
        let event = match access {
            Access::Read => PollFlags::POLLIN,
            Access::Write => PollFlags::POLLOUT,
        };
        wait_for(self.fd.as_fd(), event, timeout)
    }

    /// Begins the CPU's access, when no device stands against it any more.
    pub(crate) fn begin(&self, access: Access, timeout: Option<Duration>) -> Result<()> {
        // The call below waits too, but not for a time; and its driver may look after the caches before it waits, so that
        // they hold what was there before the device wrote.
        if !self.wait_idle(access, timeout)? {
            return Err(Error::new(ErrorKind::Timeout, "a device still uses the buffer"));
        }
        self.sync(access, 0)
    }

    pub(crate) fn end(&self, access: Access) -> Result<()> {
        self.sync(access, ioctl::SYNC_END)
    }

    fn sync(&self, access: Access, end: u32) -> Result<()> {
        let call = ioctl::Sync { flags: u64::from(flags(access) | end) };
        loop {
            // SAFETY: the kernel reads eight bytes, which live as long as the call.
            match unsafe { ioctl::dma_buf_sync(self.fd.as_raw_fd(), &raw const call) } {
                Ok(_) => return Ok(()),
                // The documentation's own advice.
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(errno) => return Err(Error::system("DMA_BUF_IOCTL_SYNC", errno)),
            }
        }
    }
}

fn not_one(why: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("this descriptor is no dma-buf: {why}"))
}

/// Refuses whatever is no dma-buf, and asks no stranger's file system what it is.
pub(crate) fn check(fd: BorrowedFd<'_>) -> Result<()> {
    if Descriptor::look(fd)? != Descriptor::DmaBuf {
        return Err(not_one("it is some other file"));
    }
    match fstatfs(fd) {
        Ok(fs) if fs.filesystem_type() == DMA_BUF_MAGIC => Ok(()),
        Ok(fs) => Err(not_one(&format!("it is a file of file system {:#x}", fs.filesystem_type().0))),
        Err(errno) => Err(not_one(&errno.to_string())),
    }
}

impl AsFd for DmaBuf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<DmaBuf> for OwnedFd {
    fn from(buffer: DmaBuf) -> Self {
        buffer.fd
    }
}

/// As the kernel says it. Who may write may read too.
pub(crate) fn flags(access: Access) -> u32 {
    match access {
        Access::Read => ioctl::SYNC_READ,
        Access::Write => ioctl::SYNC_READ | ioctl::SYNC_WRITE,
    }
}

/// Waits for an event of a descriptor; whether it came.
pub(crate) fn wait_for(fd: BorrowedFd<'_>, event: PollFlags, timeout: Option<Duration>) -> Result<bool> {
    // What no clock can say is for ever.
    let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let time = left.map_or(PollTimeout::NONE, |left| {
            // Rounded up: to wake a moment early would be to wait again.
            let milliseconds = left.as_nanos().div_ceil(1_000_000);
            PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [PollFd::new(fd, event)];
        match poll(&mut fds, time) {
            Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(Error::system("waiting for a device", errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    /// That this process can't look is not what a peer did wrong.
    #[test]
    fn a_process_without_room_for_files_blames_nobody() {
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        // SAFETY: the child makes a few calls and ends; glibc makes malloc usable after fork.
        let child = match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
                setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
                let error = DmaBuf::sent(file, "the producer").unwrap_err();
                let told = error.kind() == ErrorKind::System && error.to_string().contains("ulimit -n");
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(i32::from(!told)) }
            }
        };
        assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
        let other = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(DmaBuf::sent(other.into(), "it").unwrap_err().kind(), ErrorKind::Protocol);
    }
}
