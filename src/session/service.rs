//! A name of the runtime directory that is no stream: a process that answers requests there, one or more to a connection.
//! Who may connect is said as for streams.

use super::asking::poll_timeout;
use super::rendezvous::{self, Claim};
use crate::stream::{AccessRule, StreamName, runtime_dir};
use crate::sys::socket::{self, Received};
use crate::{Error, ErrorKind, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// The socket of a service, under a name that no stream can have. Its files go when it is dropped.
#[derive(Debug)]
pub struct Service {
    socket: OwnedFd,
    rule: AccessRule,
    // Last: the name is given back when nobody can connect any more.
    _claim: Claim,
}

impl Service {
    /// Takes the name of a service, from a dead one too, and listens.
    ///
    /// # Errors
    /// `NameTaken` while another process serves it; as [`ProducerBuilder::create`](crate::ProducerBuilder::create) about
    /// the runtime directory.
    pub fn open(directory: Option<&Path>, name: &str, rule: AccessRule) -> Result<Self> {
        let claim = Claim::take(directory, &StreamName::of_service(name)?)?;
        let socket = claim.listen(&rule)?;
        Ok(Self { socket, rule, _claim: claim })
    }

    /// The next who has connected, within `timeout`. Nothing of it was looked at: neither what it sent, nor who it is.
    ///
    /// # Errors
    /// What the system reports, a shortage of descriptors for instance; it may pass.
    pub fn next(&self, timeout: Duration) -> Result<Option<Line>> {
        wait(self.socket.as_fd(), timeout)?;
        match socket::accept(self.socket.as_fd()) {
            Ok(socket) => Ok(Some(Line { socket })),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => Ok(None),
            Err(errno) => Err(Error::system("accepting a connection", errno)),
        }
    }

    /// Refuses whom the access rule does not let in.
    ///
    /// # Errors
    /// `AccessDenied`, in words for that party.
    pub fn check(&self, line: &Line) -> Result<()> {
        let peer = socket::peer(line.socket.as_fd())?;
        if self.rule.admits(&peer) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::AccessDenied,
            format!(
                "user {} may not use this service of another user; start it with access \"group:NAME\" or, between \
                 containers, \"directory\"",
                peer.uid
            ),
        ))
    }
}

/// A connection of a service or to one. Messages of at most 16 KiB, with descriptors.
#[derive(Debug)]
pub struct Line {
    socket: OwnedFd,
}

impl Line {
    /// Connects to a service; `None` if there is none.
    ///
    /// # Errors
    /// `AccessDenied`, `Timeout` (it does not accept), and those of [`runtime_dir`].
    pub fn call(directory: Option<&Path>, name: &str) -> Result<Option<Self>> {
        let socket = rendezvous::try_connect(&runtime_dir(directory)?, &StreamName::of_service(name)?)?;
        Ok(socket.map(|socket| Self { socket }))
    }

    /// Process and user at the other end when it connected, as the kernel says; 0 and 65534 for those it can't number here.
    ///
    /// # Errors
    /// What the system reports.
    pub fn peer(&self) -> Result<(u32, u32)> {
        socket::peer(self.socket.as_fd()).map(|peer| (peer.pid, peer.uid))
    }

    /// Sends a message, without waiting.
    ///
    /// # Errors
    /// `Closed` when the other side is gone or does not read; what the system reports.
    pub fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        match socket::send(self.socket.as_fd(), message, fds) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::new(ErrorKind::Closed, "the other side does not read")),
            Err(Errno::EPIPE | Errno::ECONNRESET) => Err(gone()),
            Err(errno) => Err(Error::system("sending a message", errno)),
        }
    }

    /// Takes a message. Descriptors that it does not want the caller closes, which may take long for some files.
    ///
    /// # Errors
    /// `Timeout`; `Closed`; `Protocol` for what is too large.
    pub fn receive(&self, timeout: Duration) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
        let until = Instant::now() + timeout;
        loop {
            match socket::receive(self.socket.as_fd())? {
                Received::Message(message, fds) => return Ok((message, fds)),
                Received::Gone => return Err(gone()),
                Received::Empty => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    format!("nothing was heard for {} s", timeout.as_secs_f64()),
                ));
            }
            wait(self.socket.as_fd(), left)?;
        }
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Closed, "the other side has hung up")
}

fn wait(socket: BorrowedFd<'_>, timeout: Duration) -> Result<()> {
    match poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], poll_timeout(Some(timeout))) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(Error::system("waiting for a connection", errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    const SOON: Duration = Duration::from_secs(30);

    #[test]
    fn passes_messages_and_descriptors_both_ways_and_leaves_nothing() {
        let dir = std::env::temp_dir().join(format!("bips-service-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        assert!(Line::call(Some(&dir), "help").unwrap().is_none());
        let service = Service::open(Some(&dir), "help", AccessRule::Owner).unwrap();
        let taken = Service::open(Some(&dir), "help", AccessRule::Owner).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::NameTaken);
        assert!(crate::streams(Some(&dir)).unwrap().is_empty(), "it is no stream");
        assert!(service.next(Duration::ZERO).unwrap().is_none());
        let ours = Line::call(Some(&dir), "help").unwrap().unwrap();
        let theirs = service.next(SOON).unwrap().unwrap();
        service.check(&theirs).unwrap();
        assert_eq!(theirs.peer().unwrap().0, std::process::id());
        let null = File::open("/dev/null").unwrap();
        ours.send(b"question", &[null.as_fd()]).unwrap();
        let (message, fds) = theirs.receive(SOON).unwrap();
        assert_eq!((message.as_slice(), fds.len()), (&b"question"[..], 1));
        assert_eq!(ours.receive(Duration::from_millis(1)).unwrap_err().kind(), ErrorKind::Timeout);
        theirs.send(b"answer", &[]).unwrap();
        drop(theirs);
        assert_eq!(ours.receive(SOON).unwrap().0, b"answer", "though it has hung up");
        assert_eq!(ours.receive(SOON).unwrap_err().kind(), ErrorKind::Closed);
        drop(service);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
        std::fs::remove_dir(&dir).unwrap();
    }
}
