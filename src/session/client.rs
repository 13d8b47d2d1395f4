//! The consumer's side of the control socket: join, ask, list.

use super::message::{Reply, Request, StreamInfo, Welcome};
use super::rendezvous;
use crate::handle::Access;
use crate::plan::Registry;
use crate::pool::Pool;
use crate::shm::{Bell, Board, Seat, Shared};
use crate::signaler::{Policy, Subscriber};
use crate::stream::{StreamName, runtime_dir};
use crate::sys::fork::ProcessFd;
use crate::sys::monitor::{self, Interest, Watch, Watched};
use crate::sys::socket::{self, Received};
use crate::sys::{PAGE, Segment, Sharing};
use crate::wait::Deadline;
use crate::{Error, ErrorKind, ExternalHandle, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How long a producer that accepted the connection may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to leave a producer alone that has no place just now.
const RETRY: Duration = Duration::from_millis(2);

/// Bytes of the board's, each seat's and the bell's segment.
pub(crate) const BOARD_BYTES: u64 = size_of::<Board>() as u64;
pub(crate) const SEAT_BYTES: u64 = PAGE;
pub(crate) const BELL_BYTES: u64 = PAGE;

/// A consumer's place at one pool of a stream.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) subscriber: Subscriber,
    pub(crate) pool: Pool,
    pub(crate) welcome: Welcome,
    link: Arc<Link>,
    /// Ends before the link's socket closes.
    _watched: Watched,
}

/// The connection to the producer, as the monitor watches it.
#[derive(Debug)]
struct Link {
    socket: ProcessFd,
    subscriber: Subscriber,
    gone: AtomicBool,
    /// The poll socket, if there is one.
    poll: OnceLock<PollPair>,
}

impl Watch for Link {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Watched for its end only: the producer is gone, or has expelled us.
    fn ready(&self) -> bool {
        self.gone.store(true, Release); // ORDERING: pairs with the load in `Attachment::is_gone`
        self.subscriber.wake_self();
        if let Some(poll) = self.poll.get() {
            socket::hang_up(poll.ours.as_fd());
        }
        false
    }
}

impl Attachment {
    /// Whether the producer's process is gone or hung up. Frames it published before are still there.
    pub(crate) fn is_gone(&self) -> bool {
        self.link.gone.load(Acquire) // ORDERING: pairs with the store in `Link::ready`
    }

    /// Whether no more frames will be published here.
    pub(crate) fn has_ended(&self) -> bool {
        self.subscriber.is_closed() || self.is_gone()
    }

    /// A descriptor that becomes readable when the producer signals; made on first use.
    pub(crate) fn poll_fd(&self) -> Result<RawFd> {
        if let Some(poll) = self.link.poll.get() {
            return Ok(poll.ours.as_raw_fd());
        }
        let (ours, theirs) = socket::pair()?;
        let sent = socket::send(self.link.socket.as_fd(), &Request::Poll.encode(), &[theirs.as_fd()]);
        // A producer that is gone hung up; its descriptor is then readable for good, which is the truth.
        if sent == Ok(false) {
            return Err(Error::new(
                ErrorKind::System,
                "the producer does not take the poll socket; is it stopped? Try again later",
            ));
        }
        let pair = PollPair { ours: ProcessFd::new(ours)?, theirs: ProcessFd::new(theirs)? };
        Ok(self.link.poll.get_or_init(|| pair).ours.as_raw_fd())
    }

    /// The poll descriptor, if it was ever asked for.
    pub(crate) fn poll(&self) -> Option<&PollPair> {
        self.link.poll.get()
    }

    /// Bytes mapped to talk with the producer, the frames aside.
    pub(crate) fn control_bytes(&self) -> u64 {
        BOARD_BYTES + SEAT_BYTES + BELL_BYTES
    }
}

/// A socket on which the producer signals a consumer that waits in `poll`.
#[derive(Debug)]
pub(crate) struct PollPair {
    ours: ProcessFd,
    /// A copy of the producer's end, so that the consumer can signal itself.
    theirs: ProcessFd,
}

impl PollPair {
    /// Sleeps until it is readable, a signal comes, or `timeout` is over. It stays readable.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        // Whatever ends it, the caller looks again.
        let _ = poll(&mut [PollFd::new(self.ours.as_fd(), PollFlags::POLLIN)], poll_timeout(timeout));
    }

    /// Empties it, so that it is readable only for what comes next.
    pub(crate) fn drain(&self) {
        socket::drain(self.ours.as_fd());
    }

    /// Makes it readable.
    pub(crate) fn ring(&self) {
        // Full is readable already; hung up is readable for good.
        let _ = socket::send(self.theirs.as_fd(), &[1], &[]);
    }
}

/// A time for `poll`, rounded up: waking a moment early would only mean to wait again.
pub(super) fn poll_timeout(timeout: Option<Duration>) -> PollTimeout {
    timeout.map_or(PollTimeout::NONE, |timeout| {
        PollTimeout::try_from(timeout.saturating_add(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX)
    })
}

/// Joins a stream: waits for its name, is seated, maps the pool.
pub(crate) fn attach(
    root: Option<&Path>,
    name: &StreamName,
    policy: Policy,
    registry: &Registry,
    deadline: Deadline,
) -> Result<Attachment> {
    let (socket, reply, fds) = converse(root, name, Request::Join(policy), deadline)?;
    let Reply::Welcome(welcome) = reply else {
        return Err(
            Error::protocol("the producer answered something else than was asked").with("stream", name)
        );
    };
    seat(socket, welcome, fds, policy, registry).map_err(|error| error.with("stream", name))
}

fn seat(
    socket: ProcessFd,
    welcome: Welcome,
    fds: Vec<OwnedFd>,
    policy: Policy,
    registry: &Registry,
) -> Result<Attachment> {
    let backend = registry.get(&welcome.kind).ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            format!(
                "the stream lies in {} memory, which this program was built without; add that backend to its registry",
                welcome.kind
            ),
        )
    })?;
    if fds.len() != 3 + welcome.memories.len() {
        return Err(Error::protocol(format!(
            "the producer sent {} descriptors where {} belong",
            fds.len(),
            3 + welcome.memories.len()
        )));
    }
    let mut fds = fds.into_iter();
    let mut segment =
        |len, sharing| Segment::open(fds.next().expect("counted above"), len, sharing, false).map(Arc::new);
    let board = Shared::<Board>::over(segment(BOARD_BYTES, Sharing::ReadOnly)?);
    let seat = Shared::<Seat>::over(segment(SEAT_BYTES, Sharing::ReadWrite)?);
    let bell = Shared::<Bell>::over(segment(BELL_BYTES, Sharing::ReadWrite)?);
    if !board.matches(welcome.slots.len() as u32, welcome.stream_id) {
        return Err(Error::protocol("the board is not the one the handshake speaks of"));
    }
    let access = if welcome.writable { Access::Write } else { Access::Read };
    let memories = fds
        .zip(&welcome.memories)
        .map(|(fd, memory)| backend.import(ExternalHandle::from_wire(memory.tag, fd, memory.len)?, access))
        .collect::<Result<Vec<_>>>()?;
    let pool = Pool::import(&memories, &welcome, backend.info(), access)?;
    let slots = welcome.slots.len() as u32;
    let subscriber = Subscriber::new(board, seat, bell, policy, slots, welcome.max_held);
    let link = Arc::new(Link {
        socket,
        subscriber: subscriber.clone(),
        gone: AtomicBool::new(false),
        poll: OnceLock::new(),
    });
    let watched = monitor::watch(link.clone(), Interest::End)?;
    Ok(Attachment { subscriber, pool, welcome, link, _watched: watched })
}

/// Sends one request and takes its one reply.
fn converse(
    root: Option<&Path>,
    name: &StreamName,
    request: Request,
    deadline: Deadline,
) -> Result<(ProcessFd, Reply, Vec<OwnedFd>)> {
    loop {
        let socket = ProcessFd::new(rendezvous::connect(root, name, deadline)?)?;
        let until = Instant::now() + PATIENCE;
        let ended = || Error::new(ErrorKind::NotFound, "the producer ended while it was asked; try again");
        let sent = socket::send(socket.as_fd(), &request.encode(), &[]).unwrap_or(false);
        let answer = if sent { answer(socket.as_fd(), until)? } else { None };
        match answer {
            // It is just closing, and a successor may take the name; or it is full, and somebody may leave.
            Some((Reply::Refused(ErrorKind::Closed | ErrorKind::Timeout, _), _)) | None
                if deadline.left().is_some() =>
            {
                std::thread::sleep(RETRY);
            }
            Some((Reply::Refused(ErrorKind::Closed, _), _)) | None => {
                return Err(ended().with("stream", name));
            }
            Some((Reply::Refused(kind, text), _)) => return Err(Error::new(kind, text).with("stream", name)),
            Some((reply, fds)) => return Ok((socket, reply, fds)),
        }
    }
}

/// The reply; `None` when the producer hung up instead.
fn answer(socket: BorrowedFd<'_>, until: Instant) -> Result<Option<(Reply, Vec<OwnedFd>)>> {
    loop {
        match socket::receive(socket)? {
            Received::Message(message, fds) => return Ok(Some((Reply::decode(&message)?, fds))),
            Received::Gone => return Ok(None),
            Received::Empty => {}
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::new(
                ErrorKind::Timeout,
                "the producer is there but does not answer; is it stopped (SIGSTOP, a paused container)?",
            ));
        }
        match poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], poll_timeout(Some(left))) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(Error::system("waiting for the producer's answer", errno)),
        }
    }
}

/// The public facts of a stream.
///
/// # Errors
/// `NotFound`, with what is published instead; `AccessDenied`; `Timeout` from a stopped producer.
pub fn query(name: &str, directory: Option<&Path>) -> Result<StreamInfo> {
    let name = StreamName::new(name)?;
    match converse(directory, &name, Request::Query, Deadline::Passed)? {
        (_, Reply::Info(info), _) => Ok(info),
        _ => Err(Error::protocol("the producer answered something else than was asked").with("stream", name)),
    }
}

/// The names of all streams whose producer lives, sorted.
///
/// # Errors
/// `NotFound` or `AccessDenied` for the runtime directory itself.
pub fn streams(directory: Option<&Path>) -> Result<Vec<String>> {
    names_in(&runtime_dir(directory)?)
}

pub(super) fn names_in(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    collect(root, "", &mut names, 0)?;
    names.retain(|name| {
        // A leftover socket refuses; one we may not use is alive all the same.
        StreamName::new(name.as_str()).is_ok_and(|name| match rendezvous::try_connect(root, &name) {
            Ok(found) => found.is_some(),
            Err(error) => matches!(error.kind(), ErrorKind::AccessDenied | ErrorKind::Timeout),
        })
    });
    names.sort();
    Ok(names)
}

fn collect(directory: &Path, prefix: &str, names: &mut Vec<String>, depth: u32) -> Result<()> {
    let entries = fs::read_dir(directory).map_err(|error| {
        Error::system("listing the runtime directory", error).with("directory", directory.display())
    })?;
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        if let Some(leaf) = name.strip_suffix(".sock") {
            names.push(format!("{prefix}{leaf}"));
        } else if depth < 50 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // A nested directory may vanish or be closed to us; the others still count.
            let _ = collect(&entry.path(), &format!("{prefix}{name}/"), names, depth + 1);
        }
    }
    Ok(())
}
