//! The producer's side of the control sockets, run by the monitor thread.

use super::message::{Reply, Request, StreamInfo, Welcome};
use super::rendezvous::Claim;
use crate::signaler::{Policy, Port, SeatId};
use crate::step::{Step, reach};
use crate::stream::AccessRule;
use crate::sys::fork::ProcessFd;
use crate::sys::monitor::{self, Interest, Watch, Watched};
use crate::sys::socket::{self, OVERFLOW_UID, Peer, Plain};
use crate::{Error, ErrorKind, Result};
use nix::errno::Errno;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long a peer may stay connected without saying what it wants.
const PATIENCE: Duration = Duration::from_secs(2);

/// Most connections at a time: every seat, and as many that are only asking.
const MAX_CONNECTIONS: usize = 128;

/// What the server needs of its producer.
pub(crate) trait Host: Send + Sync {
    /// Seats a consumer. The descriptors are those of the welcome: board, seat, bell, memory objects.
    fn admit(&self, policy: Policy, port: PollPort) -> Result<(SeatId, Welcome, Vec<OwnedFd>)>;
    /// The consumer is gone, or broke the protocol.
    fn leave(&self, seat: SeatId);
    /// From now on signal the consumer on this socket when it polls. False if there is one already.
    fn set_poll(&self, seat: SeatId, socket: ProcessFd) -> bool;
    /// The public facts.
    fn info(&self) -> StreamInfo;
    /// Who may come in.
    fn rule(&self) -> AccessRule;
}

/// The way back to a consumer: who it is, its control socket, and its poll socket if it asked for one.
#[derive(Debug)]
pub(crate) struct PollPort {
    pub(crate) peer: Peer,
    control: Arc<ProcessFd>,
    poll: Option<ProcessFd>,
}

impl PollPort {
    /// Whether it was the first.
    pub(crate) fn set_poll(&mut self, socket: ProcessFd) -> bool {
        if self.poll.is_some() {
            return false;
        }
        // Frames published before this moment did not know the socket.
        let _ = socket::send(socket.as_fd(), &[1], &[]);
        self.poll = Some(socket);
        true
    }

    /// Ends the connection; the consumer learns it at once.
    pub(crate) fn hang_up(&self) {
        socket::hang_up(self.control.as_fd());
        if let Some(poll) = &self.poll {
            socket::hang_up(poll.as_fd());
        }
    }
}

impl Port for PollPort {
    fn signal(&self) {
        if let Some(poll) = &self.poll {
            // Full means already signalled; any other failure is the consumer's own doing.
            let _ = socket::send(poll.as_fd(), &[1], &[]);
        }
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
        let connections = Arc::new(Connections { host, open: Mutex::default(), stuck: AtomicUsize::new(0) });
        let listener = Arc::new(Listener { socket, connections: connections.clone() });
        let watched = monitor::watch(listener.clone(), Interest::Input)?;
        Ok(Self { listening: Some((listener, watched)), connections, claim: Some(claim) })
    }

    /// Closes the door and gives the name back. Consumers keep what they have; they hear that we are gone.
    pub(crate) fn stop(&mut self) {
        // In this order: nobody new comes in, the name is free, and only then consumers look for a successor.
        if let Some((listener, _watched)) = self.listening.take() {
            socket::hang_up(listener.socket.as_fd());
            reach(Step::CloseUnheard);
            while let Ok(socket) = socket::accept(listener.socket.as_fd()) {
                if let Ok(socket) = ProcessFd::new(socket) {
                    self.connections.retire(Arc::new(socket));
                }
            }
        }
        self.claim = None;
        reach(Step::CloseUnlocked);
        let open = std::mem::take(&mut self.connections.lock().by_id);
        for (connection, _watched) in open.into_values() {
            self.connections.retire(connection.socket.clone());
        }
    }
}

/// Everyone connected, by a number of their own.
struct Connections {
    host: Weak<dyn Host>,
    open: Mutex<Open>,
    /// Connections that have ended but whose closing hangs on what their peer left in them.
    stuck: AtomicUsize,
}

#[derive(Default)]
struct Open {
    by_id: HashMap<u64, (Arc<Connection>, Watched)>,
    next: u64,
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(self: &Arc<Self>, socket: OwnedFd) -> Result<()> {
        let socket = Arc::new(ProcessFd::new(socket)?);
        let peer = socket::peer(socket.as_fd())?;
        let mut open = self.lock();
        if open.by_id.len() + self.stuck.load(Relaxed) >= MAX_CONNECTIONS {
            let text = "the producer has as many connections as it allows; end a consumer, or try again";
            let refused = Reply::Refused(ErrorKind::Timeout, text.into());
            let _ = socket::send(socket.as_fd(), &refused.encode(), &[]);
            drop(open);
            self.retire(socket);
            return Err(Error::protocol("too many connections at a time"));
        }
        open.next += 1;
        let id = open.next;
        let deadline = Instant::now() + PATIENCE;
        let connection = Arc::new(Connection {
            id,
            socket,
            peer,
            phase: Mutex::new(Phase::Silent(deadline)),
            all: Arc::downgrade(self),
        });
        let watched = monitor::watch(connection.clone(), Interest::Input)?;
        open.by_id.insert(id, (connection, watched));
        Ok(())
    }

    /// Hangs up, and closes the connection where nobody has to wait for it: its peer may have left a descriptor in it
    /// whose last user we are, and closing a file can block (FUSE, a socket that lingers).
    fn retire(self: &Arc<Self>, socket: Arc<ProcessFd>) {
        socket::hang_up(socket.as_fd());
        if !socket::may_hold_descriptors(socket.as_fd()) {
            return;
        }
        self.stuck.fetch_add(1, Relaxed);
        let all = self.clone();
        let kept = socket.clone();
        let emptied = monitor::quiet_thread("bips-close", move || {
            socket::discard(socket.as_fd());
            drop(socket);
            all.stuck.fetch_sub(1, Relaxed);
        });
        if let Err(error) = emptied {
            tracing::warn!(%error, "a connection stays open: no thread to close it in");
            std::mem::forget(kept);
        }
    }

    fn remove(&self, id: u64) {
        let removed = self.lock().by_id.remove(&id);
        drop(removed); // outside the lock
    }
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connections({})", self.lock().by_id.len())
    }
}

#[derive(Debug)]
struct Listener {
    socket: ProcessFd,
    connections: Arc<Connections>,
}

impl Watch for Listener {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn ready(&self) -> bool {
        match socket::accept(self.socket.as_fd()) {
            Ok(socket) => {
                if let Err(error) = self.connections.add(socket) {
                    tracing::warn!(%error, "connection dropped");
                }
                true
            }
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => true,
            Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS)) => {
                // The connection stays queued and would be reported at once: give others a moment to close.
                tracing::warn!(%errno, "can't accept a consumer now; raise `ulimit -n`");
                std::thread::sleep(Duration::from_millis(10));
                true
            }
            Err(errno) => {
                tracing::error!(%errno, "no consumer can join any more; make the producer anew");
                false
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Connected, nothing said; until then.
    Silent(Instant),
    Seated(SeatId),
}

#[derive(Debug)]
struct Connection {
    id: u64,
    socket: Arc<ProcessFd>,
    peer: Peer,
    phase: Mutex<Phase>,
    all: Weak<Connections>,
}

impl Watch for Connection {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn ready(&self) -> bool {
        let keep = match socket::receive_plain(self.socket.as_fd()) {
            Ok(Plain::Message(message)) => self.message(&message),
            Ok(Plain::Descriptors) => Err(Error::protocol("a consumer has no descriptors to send")),
            Ok(Plain::Empty) => Ok(true),
            Ok(Plain::Gone) => Ok(false),
            Err(error) => Err(error),
        };
        match keep {
            Ok(true) => return true,
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(%error, pid = self.peer.pid, "refused");
                self.reply(&Reply::Refused(error.kind(), error.to_string()), &[]);
            }
        }
        self.end();
        false
    }

    fn deadline(&self) -> Option<Instant> {
        match self.phase() {
            Phase::Silent(until) => Some(until),
            Phase::Seated(_) => None,
        }
    }

    fn late(&self) -> bool {
        let silent = matches!(self.phase(), Phase::Silent(_));
        if silent {
            self.end();
        }
        !silent
    }
}

impl Connection {
    fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether to keep the connection.
    fn message(&self, message: &[u8]) -> Result<bool> {
        let gone = || Error::new(ErrorKind::Closed, "the producer is closing");
        let host = self.all.upgrade().and_then(|all| all.host.upgrade()).ok_or_else(gone)?;
        self.check_access(&host.rule())?;
        match (Request::decode(message)?, self.phase()) {
            (Request::Query, Phase::Silent(_)) => {
                self.reply(&Reply::Info(host.info()), &[]);
                Ok(false)
            }
            (Request::Join(policy), Phase::Silent(_)) => {
                let port = PollPort { peer: self.peer, control: self.socket.clone(), poll: None };
                let (seat, welcome, fds) = host.admit(policy, port)?;
                *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = Phase::Seated(seat);
                let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                let told = self.reply(&Reply::Welcome(welcome), &fds);
                reach(Step::WelcomeSent);
                Ok(told)
            }
            (Request::Poll, Phase::Seated(seat)) => {
                let (wait, signal) = socket::pair()?;
                let copy = signal.try_clone().map_err(|error| Error::system("dup", error))?;
                if !host.set_poll(seat, ProcessFd::new(signal)?) {
                    return Err(Error::protocol("a consumer has one poll socket"));
                }
                reach(Step::PollInstalled);
                let told = self.reply(&Reply::PollSocket, &[wait.as_fd(), copy.as_fd()]);
                reach(Step::PollSent);
                Ok(told)
            }
            _ => Err(Error::protocol("a request at the wrong time")),
        }
    }

    /// The socket's mode has kept strangers out already, where the rule is one of files.
    fn check_access(&self, rule: &AccessRule) -> Result<()> {
        let ours = nix::unistd::geteuid().as_raw();
        let uid = self.peer.uid;
        if *rule != AccessRule::Owner || uid == 0 || (uid == ours && uid != OVERFLOW_UID) {
            return Ok(());
        }
        let who = if uid == OVERFLOW_UID {
            String::from("a user of another user namespace, who has no identity here")
        } else {
            format!("user {uid}")
        };
        Err(Error::new(
            ErrorKind::AccessDenied,
            format!(
                "{who} may not consume this stream of user {ours}; make the producer with access \"group:NAME\" or, \
                 between containers, \"directory\""
            ),
        ))
    }

    /// Whether it went out. A client that doesn't read gets nothing, and holds nobody up.
    fn reply(&self, reply: &Reply, fds: &[BorrowedFd<'_>]) -> bool {
        matches!(socket::send(self.socket.as_fd(), &reply.encode(), fds), Ok(true))
    }

    fn end(&self) {
        let Some(all) = self.all.upgrade() else { return };
        if let (Phase::Seated(seat), Some(host)) = (self.phase(), all.host.upgrade()) {
            host.leave(seat);
        }
        all.retire(self.socket.clone());
        all.remove(self.id);
    }
}
