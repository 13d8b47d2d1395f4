//! Who is connected, and how many at most.

use super::Host;
use super::connection::Connection;
use crate::sys::aside;
use crate::sys::fork::ProcessFd;
use crate::sys::monitor::{self, Interest, Watched};
use crate::sys::socket;
use crate::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Most connections at a time: every seat, and as many that are only asking.
const MAX_CONNECTIONS: usize = 128;

/// How many more are taken at a time to be told so.
const MAX_REFUSED: usize = 32;

/// Everyone connected, by a number of their own.
pub(super) struct Connections {
    host: Weak<dyn Host>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    by_id: HashMap<u64, (Arc<Connection>, Watched)>,
    next: u64,
    /// The stream has ended: nobody is let in any more.
    closed: bool,
}

impl Connections {
    pub(super) fn new(host: Weak<dyn Host>) -> Self {
        Self { host, open: Mutex::default() }
    }

    /// The producer, while it is there.
    pub(super) fn host(&self) -> Option<Arc<dyn Host>> {
        self.host.upgrade()
    }

    /// The connection of this number, while it is there.
    pub(super) fn get(&self, id: u64) -> Option<Arc<Connection>> {
        self.lock().by_id.get(&id).map(|open| open.0.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether not even another refusal can be afforded.
    pub(super) fn is_crowded(&self) -> bool {
        self.lock().by_id.len() >= MAX_CONNECTIONS + MAX_REFUSED
    }

    pub(super) fn add(self: &Arc<Self>, socket: OwnedFd) -> Result<()> {
        let socket = Arc::new(ProcessFd::new(socket)?);
        let added = self.open(&socket);
        if added.is_err() {
            aside::put_down(&socket);
        }
        added
    }

    fn open(self: &Arc<Self>, socket: &Arc<ProcessFd>) -> Result<()> {
        let peer = socket::peer(socket.as_fd())?;
        let mut open = self.lock();
        if open.closed {
            return Err(Error::new(ErrorKind::Closed, "the producer is closing"));
        }
        open.next += 1;
        let id = open.next;
        let connection = Arc::new(Connection::new(id, socket.clone(), peer, Arc::downgrade(self)));
        if open.by_id.len() >= MAX_CONNECTIONS {
            tracing::warn!("too many connections at a time; one was refused");
            let text = "the producer has as many connections as it allows; end a consumer, or try again";
            connection.turn_away(ErrorKind::Timeout, text);
        }
        let watched = monitor::watch(connection.clone(), Interest::Input)?;
        open.by_id.insert(id, (connection, watched));
        Ok(())
    }

    pub(super) fn remove(&self, id: u64) {
        let removed = self.lock().by_id.remove(&id);
        drop(removed); // outside the lock
    }

    /// Nobody is let in any more, and everybody is hung up on.
    pub(super) fn end(&self) {
        let open = {
            let mut open = self.lock();
            open.closed = true;
            std::mem::take(&mut open.by_id)
        };
        for (connection, _watched) in open.into_values() {
            connection.end();
        }
    }
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connections({})", self.lock().by_id.len())
    }
}
