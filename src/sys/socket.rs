//! Sequenced-packet Unix sockets that carry descriptors. Nothing here blocks but [`discard`].

use crate::{Error, ErrorKind, Result};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr, accept4, bind,
    connect, getsockopt, listen, recvmsg, sendmsg, shutdown, socket, sockopt,
};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// Largest message either side sends.
pub(crate) const MAX_MESSAGE: usize = 16 << 10;

/// Most descriptors the kernel lets a message carry (SCM_MAX_FD).
const KERNEL_MAX_FDS: usize = 253;

/// Most descriptors in a message of the protocol.
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

/// The peer's credentials at the time it connected.
pub(crate) fn peer(socket: BorrowedFd<'_>) -> Result<Peer> {
    let credentials = getsockopt(&socket, sockopt::PeerCredentials)
        .map_err(|errno| Error::system("asking who the peer is", errno))?;
    Ok(Peer { pid: u32::try_from(credentials.pid()).unwrap_or(0), uid: credentials.uid() })
}

/// A descriptor of the peer's process, readable once that has ended. Linux 6.5 and newer.
pub(crate) fn peer_process(socket: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let mut fd: RawFd = -1;
    let mut len = size_of::<RawFd>() as libc::socklen_t;
    // SAFETY: the option is an int; `fd` and `len` say where it goes and how long that is.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut len,
        )
    };
    Errno::result(status)?;
    // SAFETY: the kernel just made this descriptor for us; close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
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

/// Takes one message with its descriptors, which arrive close-on-exec. All of them are closed again if the message
/// or their number is not what the protocol allows.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> Result<Received> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let arrived = match arrive(socket, &mut buffer) {
        // An end with something of ours unread is told first, and once; what was sent before it is still there.
        Err(Errno::ECONNRESET) => arrive(socket, &mut buffer),
        arrived => arrived,
    };
    let (len, fds, flags) = match arrived {
        Ok(arrived) => arrived,
        Err(Errno::EAGAIN) => return Ok(Received::Empty),
        Err(Errno::ECONNRESET | Errno::EPIPE) => return Ok(Received::Gone),
        Err(errno) => return Err(Error::system("receiving a message", errno)),
    };
    if flags.contains(MsgFlags::MSG_CTRUNC) && fds.len() < KERNEL_MAX_FDS {
        // There was room for as many as a message can carry, so it was our table that was full.
        return Err(Error::system("taking the descriptors the peer sent", Errno::EMFILE));
    }
    if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) || fds.len() > MAX_FDS {
        return Err(Error::protocol("the peer sent a message larger than the protocol allows"));
    }
    if len == 0 {
        return Ok(Received::Gone);
    }
    buffer.truncate(len);
    Ok(Received::Message(buffer, fds))
}

/// One `recvmsg`. By hand: nix gives out no descriptors of a message that was cut, so they would stay open for ever.
fn arrive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<(usize, Vec<OwnedFd>, MsgFlags)> {
    // Words, so that the heads in it are aligned.
    let mut space = vec![0_u64; cmsg_space!([RawFd; KERNEL_MAX_FDS]).capacity().div_ceil(8)];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a C struct of integers and pointers, for all of which zero is a value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = space.as_mut_ptr().cast();
    header.msg_controllen = (space.len() * 8) as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header points at `part` and `space`, and `part` at `buffer`; all live, of the lengths given.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let len = usize::try_from(Errno::result(len)?).unwrap_or(0);
    let mut fds = Vec::new();
    // SAFETY: the kernel has filled `space` as the header says; CMSG_FIRSTHDR checks the length.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    // SAFETY: null or a control message inside `space`, aligned as the kernel lays them from an aligned start.
    while let Some(current) = unsafe { control.as_ref() } {
        if (current.cmsg_level, current.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: `control` is a control message inside `space`; its data follow its head.
            let data = unsafe { libc::CMSG_DATA(control) };
            // SAFETY: the same message; both point into `space`.
            let head = unsafe { data.offset_from(control.cast()) };
            #[allow(clippy::unnecessary_cast)] // narrower with some C libraries
            let bytes = (current.cmsg_len as usize).saturating_sub(usize::try_from(head).unwrap_or(0));
            for i in 0..bytes / size_of::<RawFd>() {
                // SAFETY: inside the data, which are `bytes` long.
                let place = unsafe { data.add(i * size_of::<RawFd>()) };
                // SAFETY: a descriptor the kernel wrote there; no alignment is assumed.
                let fd = unsafe { place.cast::<RawFd>().read_unaligned() };
                // SAFETY: the kernel just installed it for us; nobody else owns it.
                fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        // SAFETY: as for the first one.
        control = unsafe { libc::CMSG_NXTHDR(&raw const header, control) };
    }
    Ok((len, fds, MsgFlags::from_bits_retain(header.msg_flags)))
}

/// What [`receive_plain`] found.
pub(crate) enum Plain {
    Message(Vec<u8>),
    /// A message with descriptors, still queued: who takes it, even to throw it away, closes them, and closing
    /// somebody else's file (a FUSE file, a lingering socket) can take for ever.
    Descriptors,
    /// Nothing yet.
    Empty,
    /// The peer is gone.
    Gone,
}

/// Takes one message of a peer that has no business to send descriptors.
pub(crate) fn receive_plain(socket: BorrowedFd<'_>) -> Result<Plain> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut take = |flags| {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = flags | MsgFlags::MSG_DONTWAIT;
        recvmsg::<()>(socket.as_raw_fd(), &mut parts, None, flags)
            .map(|message| (message.bytes, message.flags))
    };
    let first = match take(MsgFlags::MSG_PEEK) {
        Err(Errno::ECONNRESET) => take(MsgFlags::MSG_PEEK), // see `receive`
        first => first,
    };
    match first {
        Ok((_, flags)) if flags.contains(MsgFlags::MSG_CTRUNC) => return Ok(Plain::Descriptors),
        Ok((0, _)) | Err(Errno::ECONNRESET | Errno::EPIPE) => return Ok(Plain::Gone),
        Err(Errno::EAGAIN) => return Ok(Plain::Empty),
        Err(errno) => return Err(Error::system("receiving a message", errno)),
        Ok(_) => {}
    }
    // The same message: nobody else receives here.
    let (len, flags) =
        take(MsgFlags::empty()).map_err(|errno| Error::system("receiving a message", errno))?;
    if flags.contains(MsgFlags::MSG_TRUNC) {
        return Err(Error::protocol("the peer sent a message larger than the protocol allows"));
    }
    buffer.truncate(len);
    Ok(Plain::Message(buffer))
}

/// Whether descriptors lie in the socket's queue; yes where the kernel (before 5.11) doesn't say.
pub(crate) fn may_hold_descriptors(socket: BorrowedFd<'_>) -> bool {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", socket.as_raw_fd()));
    !info.is_ok_and(|info| info.lines().any(|line| line == "scm_fds: 0"))
}

/// Whether something we sent was not read yet. What it carries counts against our user's descriptors in flight.
pub(crate) fn is_unread(socket: BorrowedFd<'_>) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, by its terminal's name, writes one int.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    status == 0 && bytes > 0
}

/// Throws away all messages queued at a socket that was hung up, descriptors included; may block in closing those,
/// see [`Plain::Descriptors`].
pub(crate) fn discard(socket: BorrowedFd<'_>) {
    // The end can't be told from an empty message; a queue is limited to some hundred messages by its bytes.
    for _ in 0..4096 {
        let taken = recvmsg::<()>(socket.as_raw_fd(), &mut [], None, MsgFlags::MSG_DONTWAIT);
        if taken.is_err_and(|errno| errno != Errno::ECONNRESET) {
            return;
        }
    }
}

/// Ends a connection for every process that shares it, so that a leaked copy can't keep it alive. Of a listening
/// socket: nobody can connect any more; who has is still there to be accepted.
pub(crate) fn hang_up(socket: BorrowedFd<'_>) {
    let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
}
