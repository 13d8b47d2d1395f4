//! Being told that the peer's process has ended, whoever else keeps the connection open.
//!
//! A net below the end of the connection: a child that the peer made without the C library's `fork` inherits the peer's
//! end, and with it the connection would outlive the peer.

use crate::sys::monitor::{self, Interest, Verdict, Watch, Watched};
use crate::sys::socket;
use crate::{Error, Result};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

struct Obituary {
    process: OwnedFd,
    tell: Box<dyn Fn() + Send + Sync>,
}

impl Watch for Obituary {
    fn fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    fn ready(&self) -> Verdict {
        (self.tell)();
        Verdict::End
    }
}

/// Calls `tell` when the process that made the other end of the socket has ended, unless the result is dropped before.
/// `None` where the kernel can't say (before 6.5): the end of the connection has to do.
pub(super) fn watch(
    connection: BorrowedFd<'_>,
    tell: impl Fn() + Send + Sync + 'static,
) -> Result<Option<Watched>> {
    let process = match socket::peer_process(connection) {
        Ok(process) => process,
        // Unknown to the kernel; or the process has ended already, as the connection will say.
        Err(Errno::ENOPROTOOPT | Errno::ESRCH | Errno::EINVAL) => return Ok(None),
        Err(errno) => return Err(Error::system("asking for the peer's process", errno)),
    };
    let obituary = Obituary { process, tell: Box::new(tell) };
    monitor::watch(std::sync::Arc::new(obituary), Interest::Input).map(Some)
}
