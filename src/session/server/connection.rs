//! One connection: a peer that says what it wants, is seated, and goes.

use super::connections::Connections;
use super::{Cleanup, Contact, SHORTAGE};
use crate::session::message::{Reply, Request};
use crate::session::obituary;
use crate::signaler::SeatId;
use crate::step::{Step, reach};
use crate::stream::AccessRule;
use crate::sys::aside;
use crate::sys::fork::ProcessFd;
use crate::sys::monitor::{Verdict, Watch, Watched};
use crate::sys::socket::{self, OVERFLOW_UID, Peer, Plain};
use crate::{Error, ErrorKind, Result};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long a peer may stay connected without saying what it wants.
const PATIENCE: Duration = Duration::from_secs(2);

/// How soon to look again whether a connection that is over has been left alone: at first, and at most.
const UNREAD: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Connected, nothing said; until then.
    Silent(Instant),
    Seated(SeatId),
    /// Hung up on; looked at then whether it costs us something still, and again so much later.
    Over(Instant, Duration),
}

#[derive(Debug)]
pub(super) struct Connection {
    id: u64,
    socket: Arc<ProcessFd>,
    peer: Peer,
    phase: Mutex<Phase>,
    /// Whether a thread cleans up behind it.
    busy: Arc<AtomicBool>,
    /// Tells that the peer's process has ended, from when it has a seat.
    obituary: OnceLock<Watched>,
    /// Whether descriptors were sent on it, which count against our user until they are taken. Orders nothing.
    welcomed: Arc<AtomicBool>,
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
    pub(super) fn new(id: u64, socket: Arc<ProcessFd>, peer: Peer, all: Weak<Connections>) -> Self {
        Self {
            id,
            socket,
            peer,
            phase: Mutex::new(Phase::Silent(Instant::now() + PATIENCE)),
            busy: Arc::new(AtomicBool::new(false)),
            obituary: OnceLock::new(),
            welcomed: Arc::default(),
            all,
        }
    }

    /// Refuses it before it has said anything.
    pub(super) fn turn_away(&self, kind: ErrorKind, text: &str) {
        self.reply(&Reply::Refused(kind, text.into()), &[]);
        self.set_phase(Phase::Over(Instant::now(), UNREAD.0));
        socket::hang_up(self.socket.as_fd());
    }

    fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_phase(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Whether to keep the connection.
    fn message(&self, message: &[u8]) -> Result<bool> {
        let gone = || Error::new(ErrorKind::Closed, "the producer is closing");
        let host = self.all.upgrade().and_then(|all| all.host()).ok_or_else(gone)?;
        self.check_access(&host.rule())?;
        match (Request::decode(message)?, self.phase()) {
            (Request::Query, Phase::Silent(_)) => {
                self.reply(&Reply::Info(host.info()), &[]);
                Ok(false)
            }
            (Request::Join(policy, label, wanted), Phase::Silent(_)) => {
                let contact = Contact {
                    peer: self.peer,
                    label,
                    wanted,
                    control: self.socket.clone(),
                    welcomed: self.welcomed.clone(),
                };
                let (seat, welcome, fds) = host.clone().admit(policy, contact)?;
                self.set_phase(Phase::Seated(seat));
                let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                if !self.reply(&Reply::Welcome(welcome), &fds) {
                    // More of our user's descriptors are on their way than the kernel allows. This fits.
                    let text = "the producer can't pass its memory on just now; try again";
                    return Err(Error::new(ErrorKind::Timeout, text));
                }
                self.welcomed.store(true, Relaxed);
                reach(Step::WelcomeSent);
                host.welcomed();
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
            let connection = all.upgrade().and_then(|all| all.get(id));
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

    fn check_access(&self, rule: &AccessRule) -> Result<()> {
        if rule.admits(&self.peer) {
            return Ok(());
        }
        let (ours, uid) = (nix::unistd::geteuid().as_raw(), self.peer.uid);
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
    pub(super) fn end(&self) -> bool {
        let host = self.all.upgrade().and_then(|all| all.host());
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
