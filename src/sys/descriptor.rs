//! What a descriptor is that somebody sent, before anything is asked of the file itself: its file system can be a program of
//! the sender's, which never answers.

use crate::{Error, ErrorKind, Result};
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::File;
use std::io::{ErrorKind as Io, Read};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Enough of what the kernel says of a descriptor: of some it lists all that they watch.
const MOST: u64 = 4096;

/// What the kernel itself knows of a descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Descriptor {
    /// A memfd, or another file of the kernel's own memory: it answers at once.
    Memory,
    /// A dma-buf.
    DmaBuf,
    /// Any other file, by the name under which the kernel knows it: a path, or `anon_inode:` and what it is.
    Other(String),
}

impl Descriptor {
    /// Looks.
    ///
    /// # Errors
    /// `Unsupported` where `/proc` does not say it; what the system reports.
    pub fn look(fd: BorrowedFd<'_>) -> Result<Self> {
        // Only such files have seals, and any other is refused by the kernel.
        if fcntl(fd, FcntlArg::F_GET_SEALS).is_ok() {
            return Ok(Self::Memory);
        }
        let number = fd.as_raw_fd();
        let mut info = String::new();
        let read = File::open(format!("/proc/self/fdinfo/{number}"))
            .map(|file| file.take(MOST).read_to_string(&mut info));
        read.flatten().map_err(unseen)?;
        // From Linux 5.3, where the file system of dma-bufs came too.
        if info.lines().any(|line| line.starts_with("exp_name:")) {
            return Ok(Self::DmaBuf);
        }
        let name = std::fs::read_link(format!("/proc/self/fd/{number}")).map_err(unseen)?;
        Ok(Self::Other(name.to_string_lossy().into_owned()))
    }
}

fn unseen(error: std::io::Error) -> Error {
    match error.kind() {
        Io::NotFound | Io::PermissionDenied => Error::new(
            ErrorKind::Unsupported,
            format!(
                "/proc/self/fdinfo, which would say what a descriptor is, can't be read ({error}); mount /proc here, and \
                 let the process be dumpable"
            ),
        ),
        _ => Error::system("looking in /proc/self what a descriptor is", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn tells_one_from_another() {
        let of = |fd: BorrowedFd<'_>| Descriptor::look(fd).unwrap();
        let memfd = nix::sys::memfd::memfd_create(c"t", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
        assert_eq!(of(memfd.as_fd()), Descriptor::Memory);
        let null = File::open("/dev/null").unwrap();
        assert_eq!(of(null.as_fd()), Descriptor::Other("/dev/null".into()));
        let epoll = nix::sys::epoll::Epoll::new(nix::sys::epoll::EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        assert_eq!(of(epoll.0.as_fd()), Descriptor::Other("anon_inode:[eventpoll]".into()));
    }
}
