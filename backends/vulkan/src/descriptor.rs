//! What a driver's opaque descriptors are. Drivers believe what they are given (one takes any file, and dies later of its
//! size), so a peer's descriptor is compared with one that this process's driver made itself.

use bips::sys::Descriptor;
use bips::{Error, ErrorKind, Result};
use nix::sys::stat::fstat;
use nix::unistd::{Whence, lseek};
use std::os::fd::AsFd;

/// The kind of a driver's descriptors: memfds of drivers that play a device, dma-bufs of most of Linux, a device's node or a
/// file without a place of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signature {
    class: Descriptor,
    /// Bytes that the file has beyond the memory, where files have a size.
    overhead: Option<u64>,
}

impl Signature {
    /// That of a descriptor of so many bytes of memory.
    pub(crate) fn of(fd: impl AsFd, bytes: u64) -> Result<Self> {
        let class = Descriptor::look(fd.as_fd())?;
        let overhead = size(&fd, &class)?.map(|size| size.saturating_sub(bytes));
        Ok(Self { class, overhead })
    }

    /// Refuses what the driver would not have made for so many bytes.
    pub(crate) fn check(&self, fd: impl AsFd, bytes: u64) -> Result<()> {
        let no = |what: String| Err(Error::new(ErrorKind::Protocol, format!("the producer sent {what}")));
        let class = Descriptor::look(fd.as_fd())?;
        if class != self.class {
            return no(format!("{class:?} where this driver's memory is {:?}", self.class));
        }
        let needed = bytes.saturating_add(self.overhead.unwrap_or_default());
        match size(&fd, &class)? {
            Some(size) if size < needed => no(format!(
                "a descriptor of {size} bytes, where {bytes} of this driver's memory take {needed}"
            )),
            _ => Ok(()),
        }
    }
}

/// Where the kernel itself knows it.
fn size(fd: &impl AsFd, class: &Descriptor) -> Result<Option<u64>> {
    match class {
        Descriptor::Memory => {
            let stat = fstat(fd.as_fd()).map_err(|errno| Error::system("fstat of a memfd", errno))?;
            Ok(Some(stat.st_size.cast_unsigned()))
        }
        Descriptor::DmaBuf => {
            let end = lseek(fd.as_fd(), 0, Whence::SeekEnd);
            Ok(end.ok().map(i64::cast_unsigned))
        }
        Descriptor::Other(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::fs::File;

    fn memfd(bytes: i64) -> std::os::fd::OwnedFd {
        let fd = memfd_create("t", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        nix::unistd::ftruncate(&fd, bytes).unwrap();
        fd
    }

    #[test]
    fn only_what_the_driver_itself_makes() {
        let driver = Signature::of(memfd(4096 + 40), 4096).unwrap();
        driver.check(memfd(8192 + 40), 8192).unwrap();
        for (size, bytes) in [(8192, 8192), (8192 + 39, 8192), (0, 4096), (4096, u64::MAX)] {
            let error = driver.check(memfd(size), bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert!(error.to_string().contains("a descriptor of"), "{error}");
        }
        let null = || File::open("/dev/null").unwrap();
        let error = driver.check(null(), 4096).unwrap_err();
        assert!(error.to_string().contains("/dev/null"), "{error}");
        // A driver whose memory is a device's file.
        let device = Signature::of(null(), 4096).unwrap();
        device.check(null(), 1 << 40).unwrap();
        assert!(device.check(memfd(8192), 4096).is_err());
        assert!(device.check(File::open("/dev/zero").unwrap(), 4096).is_err());
    }
}
