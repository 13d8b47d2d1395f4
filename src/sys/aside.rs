//! Threads of our own, and closing what may take long where nobody waits for it.

use super::fork::ProcessFd;
use super::socket;
use crate::{Error, Result};
use nix::sys::signal::{SigSet, SigmaskHow};
use std::os::fd::AsFd;
use std::sync::Arc;

/// Starts a thread that takes no signals from those that expect them, such as Ctrl-C in Python's main thread.
pub(crate) fn quiet_thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    // A new thread inherits its maker's mask.
    let all = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let spawned = std::thread::Builder::new().name(name.into()).spawn(run);
    if let Ok(before) = all {
        let _ = before.thread_set_mask();
    }
    spawned.map(drop).map_err(|error| Error::system("starting a thread", error).with("thread", name))
}

/// Hangs up, so that closing the socket afterwards keeps nobody waiting: its peer may have left a descriptor in it whose
/// last user we are, and closing a file can block (FUSE, a socket that lingers). Where that may be, a thread empties
/// the socket.
pub(crate) fn put_down(socket: &Arc<ProcessFd>) {
    socket::hang_up(socket.as_fd());
    if !socket::may_hold_descriptors(socket.as_fd()) {
        return;
    }
    if let Err(error) = empty(socket, || {}) {
        tracing::warn!(%error, "a connection stays open: no thread to close it in");
        std::mem::forget(socket.clone());
    }
}

/// Throws away what is queued at a socket that was hung up, in a thread, which then calls `after`.
pub(crate) fn empty(socket: &Arc<ProcessFd>, after: impl FnOnce() + Send + 'static) -> Result<()> {
    let theirs = socket.clone();
    quiet_thread("bips-close", move || {
        socket::discard(theirs.as_fd());
        drop(theirs);
        after();
    })
}
