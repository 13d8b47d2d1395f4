//! Sequenced-packet Unix sockets that carry descriptors. Nothing here blocks.

use crate::{Error, ErrorKind, Result};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, SockFlag, SockType,
    UnixAddr, accept4, bind, connect, getsockopt, listen, recvmsg, sendmsg, shutdown, socket, socketpair,
    sockopt,
};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// Largest message either side sends.
pub(crate) const MAX_MESSAGE: usize = 16 << 10;

/// Most descriptors in a message; the kernel's limit is 253.
pub(crate) const MAX_FDS: usize = 250;

const FLAGS: SockFlag = SockFlag::SOCK_CLOEXEC.union(SockFlag::SOCK_NONBLOCK);

/// Who is at the other end, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) pid: u32,
    pub(crate) uid: u32,
}

/// The uid shown for users that have none in our user namespace.
pub(crate) const OVERFLOW_UID: u32 = 65534;

fn new_socket() -> Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::SeqPacket, FLAGS, None)
        .map_err(|errno| Error::system("socket", errno))
}

/// A short way to `leaf` in the open directory: `sun_path` holds 107 bytes, runtime directories can be longer.
fn through(directory: BorrowedFd<'_>, leaf: &str) -> PathBuf {
    Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(leaf)
}

/// A socket bound to `leaf` in `directory`; nobody can connect before [`begin_to_listen`]. `leaf` must be short.
pub(crate) fn bind_in(directory: BorrowedFd<'_>, leaf: &str) -> Result<OwnedFd> {
    let socket = new_socket()?;
    let address = UnixAddr::new(&through(directory, leaf))
        .map_err(|errno| Error::system("naming the socket", errno))?;
    bind(socket.as_raw_fd(), &address)
        .map_err(|errno| Error::system("binding the stream's socket", errno))?;
    Ok(socket)
}

/// Lets connections in.
pub(crate) fn begin_to_listen(socket: &OwnedFd) -> Result<()> {
    listen(socket, Backlog::MAXCONN).map_err(|errno| Error::system("listen", errno))
}

/// Whether a descriptor a peer sent is a socket as [`pair`] makes them: nothing else can be trusted not to
/// block when written or closed.
pub(crate) fn is_pair_end(fd: BorrowedFd<'_>) -> bool {
    let kind = getsockopt(&fd, sockopt::SockType);
    let family = nix::sys::socket::getsockname::<UnixAddr>(fd.as_raw_fd());
    kind == Ok(SockType::SeqPacket) && family.is_ok()
}

/// Throws away what is queued; not for ever, whoever sends.
pub(crate) fn drain(socket: BorrowedFd<'_>) {
    let mut signal = [0; 8];
    for _ in 0..1024 {
        if !nix::sys::socket::recv(socket.as_raw_fd(), &mut signal, MsgFlags::MSG_DONTWAIT)
            .is_ok_and(|len| len > 0)
        {
            return;
        }
    }
}

/// Outcome of [`connect_in`].
pub(crate) enum Connected {
    Yes(OwnedFd),
    /// No socket, or one nobody listens at any more.
    Nobody,
}

/// Connects to `leaf` in `directory`, however long its name: the socket's inode is addressed by a descriptor.
pub(crate) fn connect_in(directory: BorrowedFd<'_>, leaf: &str) -> Result<Connected> {
    use nix::fcntl::{OFlag, openat};
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let inode = match openat(directory, leaf, flags, nix::sys::stat::Mode::empty()) {
        Ok(inode) => inode,
        Err(Errno::ENOENT) => return Ok(Connected::Nobody),
        Err(errno) => return Err(Error::system("opening the stream's socket", errno)),
    };
    let socket = new_socket()?;
    let address = UnixAddr::new(&through(inode.as_fd(), "").components().as_path().to_path_buf())
        .map_err(|errno| Error::system("naming the socket", errno))?;
    match connect(socket.as_raw_fd(), &address) {
        Ok(()) => Ok(Connected::Yes(socket)),
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(Connected::Nobody),
        Err(Errno::EAGAIN) => Err(Error::new(
            ErrorKind::Timeout,
            "the producer is alive but does not accept connections: its queue is full or it is stopped; try again",
        )),
        Err(Errno::EACCES | Errno::EPERM) => Err(Error::new(
            ErrorKind::AccessDenied,
            "the stream exists but this user may not connect; run as the producer's user, or make the producer with \
             access \"group:NAME\" or \"directory\" (with SELinux: see ausearch -m avc)",
        )),
        Err(errno) => Err(Error::system("connecting to the stream", errno)),
    }
}

/// The next connection waiting, if any.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let fd = accept4(listener.as_raw_fd(), FLAGS)?;
    // SAFETY: accept4 just made this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Two connected sockets, for poll signals.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, FLAGS)
        .map_err(|errno| Error::system("socketpair", errno))
}

/// The peer's credentials at the time it connected.
pub(crate) fn peer(socket: BorrowedFd<'_>) -> Result<Peer> {
    let credentials = getsockopt(&socket, sockopt::PeerCredentials)
        .map_err(|errno| Error::system("asking who the peer is", errno))?;
    Ok(Peer { pid: u32::try_from(credentials.pid()).unwrap_or(0), uid: credentials.uid() })
}

/// Sends one message; `Ok(false)` when the peer does not read what it was sent before.
pub(crate) fn send(socket: BorrowedFd<'_>, message: &[u8], fds: &[BorrowedFd<'_>]) -> nix::Result<bool> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &control[..0] } else { &control[..] };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(message)], control, flags, None) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// What [`receive`] found.
pub(crate) enum Received {
    Message(Vec<u8>, Vec<OwnedFd>),
    /// Nothing yet.
    Empty,
    /// The peer is gone.
    Gone,
}

/// Takes one message. Descriptors arrive close-on-exec, and are closed if the message is not well-formed.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> Result<Received> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut space = cmsg_space!([RawFd; MAX_FDS]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let (len, fds, cut) = {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let message = match recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags) {
            Ok(message) => message,
            Err(Errno::EAGAIN) => return Ok(Received::Empty),
            Err(Errno::ECONNRESET | Errno::EPIPE) => return Ok(Received::Gone),
            Err(errno) => return Err(Error::system("receiving a message", errno)),
        };
        let mut fds = Vec::new();
        if let Ok(controls) = message.cmsgs() {
            for control in controls {
                if let ControlMessageOwned::ScmRights(raw) = control {
                    // SAFETY: the kernel just installed these descriptors for us; nobody else owns them.
                    fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                }
            }
        }
        let cut = message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
        (message.bytes, fds, cut)
    };
    if cut {
        return Err(Error::protocol("the peer sent a message larger than the protocol allows"));
    }
    if len == 0 {
        return Ok(Received::Gone);
    }
    buffer.truncate(len);
    Ok(Received::Message(buffer, fds))
}

/// Ends a connection for every process that shares it, so that a leaked copy can't keep it alive.
pub(crate) fn hang_up(socket: BorrowedFd<'_>) {
    let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
}
