//! A consumer's place at a producer: joining, and the connection that holds it.

use super::asking::{Asking, Patience};
use super::message::{Reply, Request, Welcome};
use super::pollable::Pollable;
use crate::handle::Access;
use crate::plan::{Party, Registry};
use crate::pool::Pool;
use crate::shm::{Alive, Bell, Board, Seat, Shared};
use crate::signaler::{Policy, Readiness, Subscriber};
use crate::step::{Step, reach};
use crate::stream::StreamName;
use crate::sys::fork::ProcessFd;
use crate::sys::monitor::{self, Interest, Verdict, Watch, Watched};
use crate::sys::{PAGE, Segment, Sharing, aside};
use crate::{Error, ErrorKind, ExternalHandle, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

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
    wanted: Vec<Party>,
}

impl Joining {
    pub(crate) fn new(
        root: Option<&Path>,
        name: &StreamName,
        policy: Policy,
        label: &str,
        wanted: &[Party],
    ) -> Self {
        let wanted = wanted.to_vec();
        let asking = Asking::new(root, name, Request::Join(policy, label.into(), wanted.clone()));
        Self { asking, name: name.clone(), policy, wanted }
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
                seat(socket, welcome, fds, self.policy, &self.wanted, registry).map(Some)
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
    /// How many the consumer had before.
    pub(crate) generation: u32,
    link: Arc<Link>,
    /// Ends before the link's socket closes.
    _watched: Watched,
}

/// The connection to the producer, as the monitor watches it.
#[derive(Debug)]
struct Link {
    socket: Arc<ProcessFd>,
    subscriber: Subscriber,
    gone: AtomicBool,
    poll: OnceLock<Arc<Pollable>>,
    /// Says in the seat that this process lives; ends after the connection.
    _alive: Option<Alive>,
}

impl Watch for Link {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Watched for its end only: the producer is gone, or found that we broke the protocol.
    fn ready(&self) -> Verdict {
        self.gone.store(true, Release); // ORDERING: pairs with the load in `Attachment::is_gone`
        self.wake_self();
        self.subscriber.wake_readiness();
        Verdict::End
    }
}

impl Link {
    fn wake_self(&self) {
        self.subscriber.wake_self();
        // Itself too: a producer that puts us out may have wiped the word, and with it the number of our wait.
        if let Some(poll) = self.poll.get() {
            poll.ring();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if !self.socket.is_ours() {
            return; // in a forked child the seat is the parent's, and so is the thread
        }
        if let Some(poll) = self.poll.get() {
            poll.stop();
            self.subscriber.wake_self();
        }
        // Explicitly: a forked child may share this connection. And never waiting for what a producer left in it.
        aside::put_down(&self.socket);
    }
}

impl Attachment {
    /// Whether the producer's process is gone or hung up. Frames it published before are still there.
    pub(crate) fn is_gone(&self) -> bool {
        self.link.gone.load(Acquire) // ORDERING: pairs with the store in `Link::ready`
    }

    /// How far a frame is that was taken open. Of a producer that is gone it is settled.
    pub(crate) fn readiness(&self, slot: u32, sequence: u64) -> Readiness {
        match self.subscriber.readiness(slot, sequence) {
            // Gone before a second look: then its last word has been read.
            Readiness::Open if self.is_gone() => match self.subscriber.readiness(slot, sequence) {
                Readiness::Open => Readiness::Lost,
                settled => settled,
            },
            found => found,
        }
    }

    /// The same, waiting at most so long while it is open.
    pub(crate) fn await_readiness(&self, slot: u32, sequence: u64, limit: Duration) -> Readiness {
        let found = self.readiness(slot, sequence);
        if found != Readiness::Open || limit.is_zero() {
            return found;
        }
        self.subscriber.await_readiness(slot, sequence, limit);
        self.readiness(slot, sequence)
    }

    /// Wakes this consumer's own sleeper, and makes its poll descriptor readable. Call after writing the reason.
    pub(crate) fn wake_self(&self) {
        self.link.wake_self();
    }

    /// Whether no more frames will come here.
    pub(crate) fn has_ended(&self) -> bool {
        self.subscriber.is_closed() || self.is_gone() || self.subscriber.is_expelled()
    }

    /// A descriptor that is readable when there may be something to receive, and for good after the producer's end;
    /// made on first use.
    pub(crate) fn poll_fd(&self) -> Result<RawFd> {
        let poll = match self.link.poll.get() {
            Some(poll) => poll,
            None => {
                let poll = Pollable::start(&self.subscriber)?;
                self.link.poll.get_or_init(|| poll)
            }
        };
        Ok(poll.number())
    }

    /// The poll descriptor, if it was ever asked for.
    pub(crate) fn poll(&self) -> Option<&Pollable> {
        self.link.poll.get().map(Arc::as_ref)
    }

    /// Bytes mapped to talk with the producer, the frames aside.
    pub(crate) fn control_bytes(&self) -> u64 {
        BOARD_BYTES + SEAT_BYTES + BELL_BYTES
    }
}

fn seat(
    socket: ProcessFd,
    welcome: Welcome,
    fds: Vec<OwnedFd>,
    policy: Policy,
    wanted: &[Party],
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
        .map(|(fd, memory)| backend.import(ExternalHandle::from_wire(memory, fd)?, access))
        .collect::<Result<Vec<_>>>()?;
    let pool = Pool::import(&memories, &welcome, backend.info(), access)?;
    for party in wanted {
        registry.served(party, &*backend, Some(pool.slot(0).allocation())).map_err(|error| {
            let text = format!(
                "the stream lies in {} memory, which does not serve {party}: {error}",
                welcome.kind
            );
            Error::new(ErrorKind::Unsupported, text)
                .hint("make the producer for that party too (`usage`, `bips doctor --plan` shows the choice), or copy")
        })?;
    }
    let slots = welcome.slots.len() as u32;
    let alive = welcome.watches.then(|| Alive::begin(seat.clone()));
    let alive = alive.transpose().unwrap_or_else(|error| {
        tracing::warn!(%error, "the producer will see this process's death late");
        None
    });
    let subscriber = Subscriber::new(board, seat, bell, policy, welcome.expels, slots, welcome.max_held);
    let link = Arc::new(Link {
        socket: Arc::new(socket),
        subscriber: subscriber.clone(),
        gone: AtomicBool::new(false),
        poll: OnceLock::new(),
        _alive: alive,
    });
    reach(Step::JoinMapped);
    let watched = monitor::watch(link.clone(), Interest::End)?;
    reach(Step::JoinDone);
    Ok(Attachment { subscriber, pool, welcome, generation: 0, link, _watched: watched })
}
