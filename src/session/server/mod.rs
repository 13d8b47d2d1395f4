//! The producer's side of the control sockets, run by the monitor thread.

use super::message::{Reply, Request, StreamInfo, Welcome};
use super::obituary;
use super::rendezvous::Claim;
use crate::signaler::{Policy, SeatId};
use crate::step::{Step, reach};
use crate::stream::AccessRule;
use crate::sys::aside;
use crate::sys::fork::ProcessFd;
use crate::sys::monitor::{self, Interest, Verdict, Watch, Watched};
use crate::sys::socket::{self, OVERFLOW_UID, Peer, Plain};
use crate::{Error, ErrorKind, Result};
use nix::errno::Errno;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long a peer may stay connected without saying what it wants.
const PATIENCE: Duration = Duration::from_secs(2);

/// Most connections at a time: every seat, and as many that are only asking.
const MAX_CONNECTIONS: usize = 128;

/// How many more are taken at a time to be told so.
const MAX_REFUSED: usize = 32;

/// How soon to look again whether a connection that is over has been left alone: at first, and at most.
const UNREAD: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// How long to leave connections in the queue when there are as many as that.
const CROWDED: Duration = Duration::from_millis(100);

/// How long to leave something alone for which descriptors or memory are missing.
const SHORTAGE: Duration = Duration::from_millis(10);

/// Something that may take long.
pub(crate) type Cleanup = Box<dyn FnOnce() + Send>;

/// What the server needs of its producer.
pub(crate) trait Host: Send + Sync {
    /// Seats a consumer. The descriptors are those of the welcome: board, seat, bell, memory objects.
    fn admit(self: Arc<Self>, policy: Policy, port: Contact) -> Result<(SeatId, Welcome, Vec<OwnedFd>)>;
    /// The consumer is gone, or broke the protocol. What is to be done about it where that holds nobody up.
    fn leave(&self, seat: SeatId) -> Option<Cleanup>;
    /// The public facts.
    fn info(&self) -> StreamInfo;
    /// Who may come in.
    fn rule(&self) -> AccessRule;
}

/// Who a consumer is, and its control socket.
#[derive(Debug, Clone)]
pub(crate) struct Contact {
    pub(crate) peer: Peer,
    control: Arc<ProcessFd>,
}

impl Contact {
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
        let connections = Arc::new(Connections { host, open: Mutex::default() });
        let listener = Arc::new(Listener { socket, connections: connections.clone() });
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
        let open = {
            let mut open = self.connections.lock();
            open.closed = true;
            std::mem::take(&mut open.by_id)
        };
        for (connection, _watched) in open.into_values() {
            connection.end();
        }
    }
}

/// Everyone connected, by a number of their own.
struct Connections {
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
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether not even another refusal can be afforded.
    fn is_crowded(&self) -> bool {
        self.lock().by_id.len() >= MAX_CONNECTIONS + MAX_REFUSED
    }

    fn add(self: &Arc<Self>, socket: OwnedFd) -> Result<()> {
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
        let connection = Arc::new(Connection {
            id,
            socket: socket.clone(),
            peer,
            phase: Mutex::new(Phase::Silent(Instant::now() + PATIENCE)),
            busy: Arc::new(AtomicBool::new(false)),
            obituary: OnceLock::new(),
            welcomed: AtomicBool::new(false),
            all: Arc::downgrade(self),
        });
        if open.by_id.len() >= MAX_CONNECTIONS {
            tracing::warn!("too many connections at a time; one was refused");
            let text = "the producer has as many connections as it allows; end a consumer, or try again";
            connection.reply(&Reply::Refused(ErrorKind::Timeout, text.into()), &[]);
            connection.set_phase(Phase::Over(Instant::now(), UNREAD.0));
            socket::hang_up(socket.as_fd());
        }
        let watched = monitor::watch(connection.clone(), Interest::Input)?;
        open.by_id.insert(id, (connection, watched));
        Ok(())
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

impl Listener {
    /// Nobody can connect any more; who has done so and was not yet accepted is hung up on.
    fn close(self: &Arc<Self>) {
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

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Connected, nothing said; until then.
    Silent(Instant),
    Seated(SeatId),
    /// Hung up on; looked at then whether it costs us something still, and again so much later.
    Over(Instant, Duration),
}

#[derive(Debug)]
struct Connection {
    id: u64,
    socket: Arc<ProcessFd>,
    peer: Peer,
    phase: Mutex<Phase>,
    /// Whether a thread cleans up behind it.
    busy: Arc<AtomicBool>,
    /// Tells that the peer's process has ended, from when it has a seat.
    obituary: OnceLock<Watched>,
    /// Whether descriptors were sent on it, which count against our user until they are taken. Orders nothing.
    welcomed: AtomicBool,
    all: Weak<Connections>,
}

impl Watch for Connection {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn ready(&self) -> Verdict {
        if let Phase::Over(..) = self.phase() {
            return Verdict::Deafen;
        }
        let heard = match socket::receive_plain(self.socket.as_fd()) {
            // A shortage of ours. A seat ends with its peer or by a violation, never so: its leases would come free
            // while they are read.
            Err(error) if error.kind() != ErrorKind::Protocol && self.is_seated() => {
                tracing::warn!(%error, pid = self.peer.pid, "can't hear a consumer now");
                return Verdict::Pause(SHORTAGE);
            }
            heard => heard,
        };
        let keep = match heard {
            Ok(Plain::Message(message)) => self.message(&message),
            Ok(Plain::Descriptors) => Err(Error::protocol("a consumer has no descriptors to send")),
            Ok(Plain::Empty) => Ok(true),
            Ok(Plain::Gone) => Ok(false),
            Err(error) => Err(error),
        };
        match keep {
            Ok(true) => return Verdict::Keep,
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(%error, pid = self.peer.pid, "refused");
                self.reply(&Reply::Refused(error.kind(), error.to_string()), &[]);
            }
        }
        if self.end() { Verdict::End } else { Verdict::Deafen }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.phase() {
            Phase::Silent(until) | Phase::Over(until, _) => Some(until),
            Phase::Seated(_) => None,
        }
    }

    fn late(&self) -> bool {
        match self.phase() {
            Phase::Silent(_) => !self.end(),
            Phase::Over(..) => !self.settle(),
            Phase::Seated(_) => true,
        }
    }
}

impl Connection {
    fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_phase(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
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
                let contact = Contact { peer: self.peer, control: self.socket.clone() };
                let (seat, welcome, fds) = host.admit(policy, contact)?;
                self.set_phase(Phase::Seated(seat));
                let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                if !self.reply(&Reply::Welcome(welcome), &fds) {
                    // More of our user's descriptors are on their way than the kernel allows. This fits.
                    let text = "the producer can't pass its memory on just now; try again";
                    return Err(Error::new(ErrorKind::Timeout, text));
                }
                self.welcomed.store(true, Relaxed);
                reach(Step::WelcomeSent);
                self.await_obituary();
                Ok(true)
            }
            _ => Err(Error::protocol("a request at the wrong time")),
        }
    }

    /// Ends the connection with the peer's process, though somebody else keeps the peer's end of it.
    fn await_obituary(&self) {
        let (all, id) = (self.all.clone(), self.id);
        let tell = move || {
            let connection =
                all.upgrade().and_then(|all| all.lock().by_id.get(&id).map(|open| open.0.clone()));
            // Usually the connection has ended with the process, just before this.
            if let Some(connection) = connection.filter(|connection| connection.is_seated()) {
                connection.end();
            }
        };
        match obituary::watch(self.socket.as_fd(), tell) {
            Ok(Some(watched)) => {
                let _ = self.obituary.set(watched); // a peer is seated once
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, pid = self.peer.pid, "only its connection will say when it ends")
            }
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

    fn is_seated(&self) -> bool {
        matches!(self.phase(), Phase::Seated(_))
    }

    /// Ends the connection; whether it is gone altogether.
    fn end(&self) -> bool {
        let host = self.all.upgrade().and_then(|all| all.host.upgrade());
        let cleanup = match (self.phase(), host) {
            (Phase::Seated(seat), Some(host)) => host.leave(seat),
            _ => None,
        };
        self.set_phase(Phase::Over(Instant::now(), UNREAD.0));
        socket::hang_up(self.socket.as_fd());
        self.clean_up(cleanup);
        self.settle()
    }

    /// Throws away what the peer left in the connection, and what its seat leaves, where that holds nobody up.
    fn clean_up(&self, cleanup: Option<Cleanup>) {
        if cleanup.is_none() && !socket::may_hold_descriptors(self.socket.as_fd()) {
            return;
        }
        self.busy.store(true, Relaxed); // starting the thread orders it
        let busy = self.busy.clone();
        let begun = aside::empty(&self.socket, move || {
            if let Some(cleanup) = cleanup {
                cleanup();
            }
            busy.store(false, Release); // ORDERING: all is cleaned up; pairs with the loads in `settle`
        });
        if let Err(error) = begun {
            tracing::warn!(%error, "a connection stays open until there is a thread to close it in");
            self.busy.store(false, Relaxed); // there is no thread
        }
    }

    /// Lets go of the connection if it costs nothing any more: its queue is empty, and the descriptors we sent, which
    /// count against our user, are taken. Until then it counts as one of those we allow.
    fn settle(&self) -> bool {
        // ORDERING: both loads pair with the store that ends the thread of `clean_up`
        if !self.busy.load(Acquire) {
            self.clean_up(None);
        }
        let unread = self.welcomed.load(Relaxed) && socket::is_unread(self.socket.as_fd());
        if unread || self.busy.load(Acquire) {
            if let Phase::Over(_, pause) = self.phase() {
                self.set_phase(Phase::Over(Instant::now() + pause, (pause * 2).min(UNREAD.1)));
            }
            return false;
        }
        if let Some(all) = self.all.upgrade() {
            all.remove(self.id);
        }
        true
    }
}
