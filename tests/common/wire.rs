//! The control socket spoken by hand, as a broken or hostile peer would.

use super::PATIENCE;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    accept4, bind, connect, listen, recvmsg, sendmsg, socket,
};
use nix::{cmsg_space, errno::Errno};
use std::io::{IoSlice, IoSliceMut};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

pub(crate) const JOIN: u16 = 1;
pub(crate) const QUERY: u16 = 2;
pub(crate) const WELCOME: u16 = 16;
pub(crate) const REFUSED: u16 = 18;

/// Where a seat's words lie, as indices of 64-bit words; `docs/protocol.md` has them in bytes.
pub(crate) mod seat {
    pub(crate) const CURSOR: usize = 0;
    pub(crate) const HELD: usize = 1;
    /// 32 bits: odd while the consumer sleeps on this word.
    pub(crate) const PARKED: usize = 128 / 8;
    pub(crate) const RECEIVED: usize = 256 / 8;
    pub(crate) const MISSED: usize = 264 / 8;
    /// 32 bits: the thread that stands for the consumer's life, and whether it has died.
    pub(crate) const ALIVE: usize = 384 / 8;
    /// All that mean something.
    pub(crate) const ALL: [usize; 6] = [CURSOR, HELD, PARKED, RECEIVED, MISSED, ALIVE];
}

/// Where a board's words lie, in bytes.
pub(crate) mod board {
    pub(crate) const TAIL: i64 = 256;
}

/// The board's count of frames published, as any consumer may read it.
pub(crate) fn tail(board: &OwnedFd) -> u64 {
    let mut word = [0; 8];
    assert_eq!(nix::sys::uio::pread(board, &mut word, board::TAIL).expect("readable"), 8);
    u64::from_le_bytes(word)
}

/// A message's head, of this major version, and its body.
pub(crate) fn message(major: u16, tag: u16, body: &[u8]) -> Vec<u8> {
    let mut message = b"bips".to_vec();
    for field in [major, 0, tag, 0] {
        message.extend(field.to_le_bytes());
    }
    message.extend(body);
    message
}

/// The request to join as a reliable consumer, or to keep the last `depth` frames.
pub(crate) fn join(depth: Option<u32>) -> Vec<u8> {
    let mut body = u32::from(depth.is_some()).to_le_bytes().to_vec();
    body.extend(depth.unwrap_or(0).to_le_bytes());
    message(bips::PROTOCOL.0, JOIN, &body)
}

/// One end of a control socket.
#[derive(Debug)]
pub(crate) struct Raw(OwnedFd);

/// What came: `None` for the end of the connection.
pub(crate) type Heard = Option<(Vec<u8>, Vec<OwnedFd>)>;

fn new() -> OwnedFd {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
        .expect("sockets can be made")
}

impl Raw {
    /// Connects to the stream's socket.
    #[track_caller]
    pub(crate) fn connect(directory: &Path, name: &str) -> Self {
        Self::try_connect(directory, name).expect("the producer listens, and its queue is not full")
    }

    /// The same, unless the producer's queue of connections is full.
    #[track_caller]
    pub(crate) fn try_connect(directory: &Path, name: &str) -> Option<Self> {
        let socket = new();
        let path = directory.join(format!("{name}.sock"));
        let address = UnixAddr::new(&path).expect("a short path");
        let pause = nix::sys::time::TimeVal::new(1, 0);
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::SendTimeout, &pause)
            .expect("a time");
        match connect(socket.as_raw_fd(), &address) {
            Ok(()) => Some(Self(socket)),
            Err(Errno::EAGAIN) => None,
            Err(errno) => panic!("connecting: {errno}"),
        }
    }

    /// Sends it; whether the peer took it.
    pub(crate) fn send(&self, message: &[u8], fds: &[RawFd]) -> bool {
        let rights = [ControlMessage::ScmRights(fds)];
        let rights = if fds.is_empty() { &rights[..0] } else { &rights[..] };
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(message)], rights, flags, None).is_ok()
    }

    /// The next message with its descriptors.
    #[track_caller]
    pub(crate) fn hear(&self) -> Heard {
        let until = Instant::now() + PATIENCE;
        let mut buffer = vec![0; 16 << 10];
        let mut space = cmsg_space!([RawFd; 253]);
        loop {
            let mut slices = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
            let (len, fds) = match recvmsg::<()>(self.0.as_raw_fd(), &mut slices, Some(&mut space), flags) {
                Ok(message) => {
                    let mut fds = Vec::new();
                    for control in message.cmsgs().expect("whole") {
                        if let ControlMessageOwned::ScmRights(raw) = control {
                            // SAFETY: the kernel just installed these descriptors for us.
                            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                        }
                    }
                    (message.bytes, fds)
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {
                    assert!(Instant::now() < until, "the peer neither answers nor hangs up");
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    continue;
                }
                Err(Errno::ECONNRESET | Errno::EPIPE) => return None,
                Err(errno) => panic!("receiving: {errno}"),
            };
            buffer.truncate(len);
            return (len > 0).then_some((buffer, fds));
        }
    }

    /// Whether something came, or the end.
    pub(crate) fn is_readable(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, poll};
        poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], 0u16).expect("a socket") > 0
    }

    /// Whether the other side has hung up; nothing that came before is taken.
    pub(crate) fn has_ended(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, poll};
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        poll(&mut fds, 0u16).expect("a socket") > 0
    }

    /// Joins, and gives what the welcome brought: board, seat, bell, and the memory objects.
    #[track_caller]
    pub(crate) fn seated(&self, depth: Option<u32>) -> Vec<OwnedFd> {
        assert!(self.send(&join(depth), &[]));
        let (message, fds) = self.hear().expect("an answer");
        assert_eq!(tag(&message), WELCOME, "{}", refusal(&message));
        fds
    }
}

/// The message's tag.
pub(crate) fn tag(message: &[u8]) -> u16 {
    u16::from_le_bytes([message[8], message[9]])
}

/// The tag of what may be no message at all.
pub(crate) fn tag_of(bytes: &[u8]) -> Option<u16> {
    (bytes.len() >= 12 && bytes.starts_with(b"bips")).then(|| tag(bytes))
}

/// The text of a refusal.
pub(crate) fn refusal(message: &[u8]) -> String {
    String::from_utf8_lossy(message.get(18..).unwrap_or_default()).into_owned()
}

/// The error code of a refusal.
pub(crate) fn code(message: &[u8]) -> u32 {
    u32::from_le_bytes(message[12..16].try_into().expect("four bytes"))
}

/// A socket that listens where a producer of `name` would.
pub(crate) struct Fake(OwnedFd);

impl Fake {
    pub(crate) fn listen(directory: &Path, name: &str) -> Self {
        let socket = new();
        let path = directory.join(format!("{name}.sock"));
        bind(socket.as_raw_fd(), &UnixAddr::new(&path).expect("a short path")).expect("a fresh name");
        listen(&socket, Backlog::new(8).expect("a small number")).expect("listening");
        Self(socket)
    }

    /// Whether a connection waits to be accepted.
    pub(crate) fn has_more(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, poll};
        poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], 0u16).expect("a listening socket") > 0
    }

    pub(crate) fn accept(&self) -> Raw {
        let fd = accept4(self.0.as_raw_fd(), SockFlag::SOCK_CLOEXEC).expect("a connection");
        // SAFETY: accept4 just made this descriptor.
        Raw(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// A page or more of a peer's memory, written to at will.
#[derive(Debug)]
pub(crate) struct Scribble(&'static [AtomicU64]);

impl Scribble {
    /// Maps what the descriptor is of for writing.
    pub(crate) fn over(fd: &OwnedFd) -> Self {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap};
        let len = nix::sys::stat::fstat(fd).expect("a descriptor").st_size as usize;
        let size = NonZeroUsize::new(len).expect("not empty");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start =
            unsafe { mmap(None, size, protection, MapFlags::MAP_SHARED, fd, 0) }.expect("writable memory");
        // SAFETY: page-aligned, `len` bytes, mapped until dropped; others may write to it, which atomics allow.
        Self(unsafe { std::slice::from_raw_parts(start.as_ptr().cast(), len / 8) })
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        self.0
    }
}

impl Drop for Scribble {
    fn drop(&mut self) {
        let start = std::ptr::NonNull::from(self.0).cast();
        // SAFETY: the mapping made in `over`; `words` lends it for no longer than this lives.
        unsafe { nix::sys::mman::munmap(start, size_of_val(self.0)) }.expect("our own mapping");
    }
}

/// Random enough, the same in each run.
#[derive(Debug)]
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Less than `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.word() % end
    }

    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.word() as u8).collect()
    }
}
