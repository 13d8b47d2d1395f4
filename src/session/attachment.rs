//! A consumer's place at a producer: joining, the connection that holds it, and the poll descriptor.

use super::asking::{ANSWER, Asking, Patience, poll_timeout};
use super::message::{Reply, Request, Welcome};
use crate::handle::Access;
use crate::plan::Registry;
use crate::pool::Pool;
use crate::shm::{Bell, Board, Seat, Shared};
use crate::signaler::{Policy, Subscriber};
use crate::step::{Step, reach};
use crate::stream::StreamName;
use crate::sys::fork::ProcessFd;
use crate::sys::monitor::{self, Interest, Watch, Watched};
use crate::sys::socket::{self, Received};
use crate::sys::{PAGE, Segment, Sharing};
use crate::{Error, ErrorKind, ExternalHandle, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::*, fence};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Bytes of the board's, each seat's and the bell's segment.
pub(crate) const BOARD_BYTES: u64 = size_of::<Board>() as u64;
pub(crate) const SEAT_BYTES: u64 = PAGE;
pub(crate) const BELL_BYTES: u64 = PAGE;

/// On the way to an [`Attachment`]; can be left and taken up again.
#[derive(Debug)]
pub(crate) struct Joining {
    asking: Asking,
    name: StreamName,
    policy: Policy,
}

impl Joining {
    pub(crate) fn new(root: Option<&Path>, name: &StreamName, policy: Policy) -> Self {
        Self { asking: Asking::new(root, name, Request::Join(policy)), name: name.clone(), policy }
    }

    /// Waits for the name, asks for a seat, maps the pool. `None` when time is up or the caller interrupted.
    pub(crate) fn advance(
        &mut self,
        registry: &Registry,
        patience: &Patience<'_>,
    ) -> Result<Option<Attachment>> {
        let seated = self.asking.advance(patience).and_then(|answer| match answer {
            None => Ok(None),
            Some((socket, Reply::Welcome(welcome), fds)) => {
                seat(socket, welcome, fds, self.policy, registry).map(Some)
            }
            Some(_) => Err(Error::protocol("the producer answered something else than was asked")),
        });
        seated.map_err(|error| error.with("stream", &self.name))
    }

    /// What it still waited for when time was up.
    pub(crate) fn why_not(&mut self) -> Error {
        self.asking.why_not()
    }
}

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
    /// Whether a poll socket was asked for: its answer may come later than we cared to wait.
    asked: AtomicBool,
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
        fence(SeqCst); // ORDERING: pairs with the fence in `Link::install`
        if let Some(poll) = self.poll.get() {
            poll.hang_up();
        }
        false
    }
}

impl Link {
    /// Asks the producer for a poll socket.
    fn ask_for_poll(&self) -> Result<PollPair> {
        if !self.asked.load(Relaxed) {
            match socket::send(self.socket.as_fd(), &Request::Poll.encode(), &[]) {
                Ok(true) => {
                    reach(Step::PollAsked);
                    self.asked.store(true, Relaxed);
                }
                Ok(false) => return Err(stopped()),
                Err(_) => return PollPair::ended(), // hung up
            }
        }
        let until = Instant::now() + ANSWER;
        loop {
            match socket::receive(self.socket.as_fd())? {
                Received::Gone => return PollPair::ended(),
                Received::Message(message, fds) => match Reply::decode(&message)? {
                    Reply::PollSocket => return PollPair::of(fds),
                    Reply::Refused(kind, text) => return Err(Error::new(kind, text)),
                    _ => return Err(Error::protocol("the producer answered something else than was asked")),
                },
                Received::Empty => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(stopped());
            }
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, poll_timeout(Some(left))) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::system("waiting for the poll socket", errno)),
            }
        }
    }

    fn install(&self, pair: PollPair) -> &PollPair {
        let poll = self.poll.get_or_init(|| pair);
        reach(Step::PollKept);
        fence(SeqCst); // ORDERING: pairs with the fence in `Link::ready`; one of the two sees what the other wrote
        if self.gone.load(Relaxed) {
            poll.hang_up();
        }
        poll
    }
}

fn stopped() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "the producer does not answer the wish for a poll descriptor; is it stopped? Try again later",
    )
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

    /// A descriptor that is readable when the producer has signalled, and for good after its end; made on first use.
    pub(crate) fn poll_fd(&self) -> Result<RawFd> {
        let poll = match self.link.poll.get() {
            Some(poll) => poll,
            None => self.link.install(self.link.ask_for_poll()?),
        };
        Ok(poll.wait.as_raw_fd())
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
    wait: ProcessFd,
    /// The producer's end too, so that the consumer can signal itself.
    signal: ProcessFd,
}

impl PollPair {
    fn of(fds: Vec<OwnedFd>) -> Result<Self> {
        let [wait, signal] = <[OwnedFd; 2]>::try_from(fds)
            .map_err(|_| Error::protocol("the producer sent no pair of poll sockets"))?;
        Ok(Self { wait: ProcessFd::new(wait)?, signal: ProcessFd::new(signal)? })
    }

    /// Of a producer that is gone: readable for good, which is the truth.
    fn ended() -> Result<Self> {
        let (wait, signal) = socket::pair()?;
        let pair = Self { wait: ProcessFd::new(wait)?, signal: ProcessFd::new(signal)? };
        pair.hang_up();
        Ok(pair)
    }

    fn hang_up(&self) {
        socket::hang_up(self.wait.as_fd());
    }

    /// Sleeps until it is readable, a signal comes, or `timeout` is over. It stays readable.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        // Whatever ends it, the caller looks again.
        let _ = poll(&mut [PollFd::new(self.wait.as_fd(), PollFlags::POLLIN)], poll_timeout(timeout));
    }

    /// Empties it, so that it is readable only for what comes next.
    pub(crate) fn drain(&self) {
        socket::drain(self.wait.as_fd());
    }

    /// Makes it readable.
    pub(crate) fn ring(&self) {
        // Full is readable already; hung up is readable for good.
        let _ = socket::send(self.signal.as_fd(), &[1], &[]);
    }
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
        asked: AtomicBool::new(false),
        poll: OnceLock::new(),
    });
    reach(Step::JoinMapped);
    let watched = monitor::watch(link.clone(), Interest::End)?;
    reach(Step::JoinDone);
    Ok(Attachment { subscriber, pool, welcome, link, _watched: watched })
}
