//! The door: the socket at which connections arrive.

use super::SHORTAGE;
use super::connections::Connections;
use crate::sys::aside;
use crate::sys::fork::ProcessFd;
use crate::sys::monitor::{Verdict, Watch};
use crate::sys::socket;
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// How long to leave connections in the queue when there are as many as that.
const CROWDED: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Listener {
    socket: ProcessFd,
    connections: Arc<Connections>,
}

impl Listener {
    pub(super) fn new(socket: ProcessFd, connections: Arc<Connections>) -> Self {
        Self { socket, connections }
    }

    /// Nobody can connect any more; who has done so and was not yet accepted is hung up on.
    pub(super) fn close(self: &Arc<Self>) {
        socket::hang_up(self.socket.as_fd());
        let listener = self.clone();
        let empty = move || {
            while let Ok(socket) = socket::accept(listener.socket.as_fd()) {
                socket::hang_up(socket.as_fd());
                socket::discard(socket.as_fd());
            }
        };
        if !socket::may_hold_descriptors(self.socket.as_fd()) {
            empty();
        } else if let Err(error) = aside::quiet_thread("bips-close", empty) {
            tracing::warn!(%error, "the socket stays open: no thread to close it in");
            std::mem::forget(self.clone());
        }
    }
}

impl Watch for Listener {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn ready(&self) -> Verdict {
        if self.connections.is_crowded() {
            return Verdict::Pause(CROWDED);
        }
        match socket::accept(self.socket.as_fd()) {
            Ok(socket) => {
                if let Err(error) = self.connections.add(socket) {
                    tracing::warn!(%error, "connection dropped");
                }
                Verdict::Keep
            }
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => Verdict::Keep,
            Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS)) => {
                // The connection stays queued and would be reported at once.
                tracing::warn!(%errno, "can't accept a consumer now; raise `ulimit -n`");
                Verdict::Pause(SHORTAGE)
            }
            Err(errno) => {
                tracing::error!(%errno, "no consumer can join any more; make the producer anew");
                Verdict::End
            }
        }
    }
}
