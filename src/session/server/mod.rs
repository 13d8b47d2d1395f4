//! The producer's side of the control sockets, run by the monitor thread.

mod connection;
mod connections;
mod listener;

use super::message::{StreamInfo, Welcome};
use super::rendezvous::Claim;
use crate::Result;
use crate::plan::Party;
use crate::signaler::{Policy, SeatId};
use crate::step::{Step, reach};
use crate::stream::AccessRule;
use crate::sys::fork::ProcessFd;
use crate::sys::monitor::{self, Interest, Watched};
use crate::sys::socket::{self, Peer};
use connections::Connections;
use listener::Listener;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long to leave something alone for which descriptors or memory are missing.
const SHORTAGE: Duration = Duration::from_millis(10);

/// Something that may take long.
pub(crate) type Cleanup = Box<dyn FnOnce() + Send>;

/// What the server needs of its producer.
pub(crate) trait Host: Send + Sync {
    /// Seats a consumer. The descriptors are those of the welcome: board, seat, bell, memory objects.
    fn admit(self: Arc<Self>, policy: Policy, port: Contact) -> Result<(SeatId, Welcome, Vec<OwnedFd>)>;
    /// A consumer has been told all that it needs ([`Contact::is_welcomed`]).
    fn welcomed(&self);
    /// The consumer is gone, or broke the protocol. What is to be done about it where that holds nobody up.
    fn leave(&self, seat: SeatId) -> Option<Cleanup>;
    /// The public facts.
    fn info(&self) -> StreamInfo;
    /// Who may come in.
    fn rule(&self) -> AccessRule;
}

/// Who a consumer is, what it calls itself, and its control socket.
#[derive(Debug, Clone)]
pub(crate) struct Contact {
    pub(crate) peer: Peer,
    pub(crate) label: String,
    /// For whom it wants the memory.
    pub(crate) wanted: Vec<Party>,
    control: Arc<ProcessFd>,
    /// The connection's own.
    welcomed: Arc<AtomicBool>,
}

impl Contact {
    /// Whether it was told all that it needs: only then it finds its place, even if the producer closes at once.
    pub(crate) fn is_welcomed(&self) -> bool {
        self.welcomed.load(Relaxed) // orders nothing: what matters lies in the consumer's socket by then
    }

    /// Ends the connection; the consumer learns it at once.
    pub(crate) fn hang_up(&self) {
        socket::hang_up(self.control.as_fd());
    }
}

/// A name, its socket, and everyone connected to it.
#[derive(Debug)]
pub(crate) struct Server {
    listening: Option<(Arc<Listener>, Watched)>,
    connections: Arc<Connections>,
    claim: Option<Claim>,
}

impl Server {
    /// Opens the door under a name that is already taken.
    pub(crate) fn start(claim: Claim, host: &Arc<impl Host + 'static>) -> Result<Self> {
        let socket = ProcessFd::new(claim.listen(&host.rule())?)?;
        let host: Weak<dyn Host> = Arc::downgrade(&(host.clone() as Arc<dyn Host>));
        let connections = Arc::new(Connections::new(host));
        let listener = Arc::new(Listener::new(socket, connections.clone()));
        let watched = monitor::watch(listener.clone(), Interest::Input)?;
        Ok(Self { listening: Some((listener, watched)), connections, claim: Some(claim) })
    }

    /// Closes the door and gives the name back. Consumers keep what they have; they hear that we are gone.
    pub(crate) fn stop(&mut self) {
        // In this order: nobody new comes in, the name is free, and only then consumers look for a successor.
        if let Some((listener, _watched)) = self.listening.take() {
            listener.close();
            reach(Step::CloseUnheard);
        }
        self.claim = None;
        reach(Step::CloseUnlocked);
        self.connections.end();
    }
}
