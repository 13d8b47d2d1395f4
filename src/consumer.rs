//! A consumer: takes frames from a stream.

use crate::backend::BackendInfo;
use crate::describe::Described;
use crate::error::ReceiveError;
use crate::frame::{Frame, SlotInfo};
use crate::plan::Registry;
use crate::session::{Attachment, attach};
use crate::shm::Seat;
use crate::signaler::{Policy, TakeError, Taken};
use crate::stream::StreamName;
use crate::sys::{current_cpu, fork};
use crate::wait::Deadline;
use crate::{Content, Error, ErrorKind, Result, Wait};
use std::hint;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a receive looks before it sleeps, unless told otherwise. A wake-up costs about this much, so at
/// worst the wait costs twice what the better choice would have.
pub(crate) const DEFAULT_SPIN: Duration = Duration::from_micros(5);

/// Says how to join a stream; [`ConsumerBuilder::connect`] does it.
#[derive(Debug, Clone)]
pub struct ConsumerBuilder {
    name: String,
    registry: Registry,
    policy: Policy,
    reconnect: bool,
    directory: Option<PathBuf>,
    wait: Wait,
    spin: Duration,
}

impl ConsumerBuilder {
    /// The memory kinds this program can receive.
    #[must_use]
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// How unread frames are treated; reliable by default.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Goes on with the next producer of this name when one ends.
    #[must_use]
    pub fn reconnect(mut self, reconnect: bool) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// The runtime directory; see [`runtime_dir`](crate::runtime_dir) for the default.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// How long to wait for the stream to appear; not at all by default.
    #[must_use]
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// How long a receive looks for a frame before it sleeps; zero for not at all.
    #[must_use]
    pub fn spin(mut self, spin: Duration) -> Self {
        self.spin = spin;
        self
    }

    /// Joins. Frames published from now on are this consumer's (and as many before as the producer keeps for
    /// late joiners).
    ///
    /// # Errors
    /// `NotFound`, `AccessDenied`, `InvalidArgument` (name, policy), `Protocol` (versions), `Unsupported`
    /// (memory kind unknown here), `Timeout` (the producer is stopped).
    pub fn connect(self) -> Result<Consumer> {
        let name = StreamName::new(self.name)?;
        let policy = self.policy.checked()?;
        let root = self.directory.as_deref();
        let attachment = Arc::new(attach(root, &name, policy, &self.registry, self.wait.deadline())?);
        Ok(Consumer {
            cache: vec![None; attachment.pool.len() as usize],
            attachment,
            name,
            policy,
            registry: self.registry,
            directory: self.directory,
            reconnect: self.reconnect,
            upkeep: self.reconnect,
            spin: if single_cpu() { Duration::ZERO } else { self.spin },
            expected: None,
            published_on: u32::MAX,
            stats: ConsumerStats::default(),
            refusal: None,
            generation: fork::generation(),
        })
    }
}

/// Whether this process may run on one processor only: then spinning keeps the producer from publishing.
pub(crate) fn single_cpu() -> bool {
    std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1)
}

impl From<TakeError> for ReceiveError {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::TooManyHeld => Self::TooManyHeld,
            TakeError::Protocol => Self::Protocol,
        }
    }
}

/// What a consumer has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConsumerStats {
    /// Frames received.
    pub received: u64,
    /// Frames it never saw because newer ones took their place (keep-last).
    pub missed: u64,
    /// Frames leased right now.
    pub held: u32,
    /// Producers it has gone on with after the first.
    pub reconnects: u64,
    /// Bytes of control memory mapped for it, the pool aside.
    pub control_bytes: u64,
}

/// Takes frames from one stream. One thread receives at a time; frames may be released anywhere.
#[derive(Debug)]
pub struct Consumer {
    attachment: Arc<Attachment>,
    name: StreamName,
    policy: Policy,
    registry: Registry,
    directory: Option<PathBuf>,
    reconnect: bool,
    spin: Duration,
    /// Last known description of each slot, with its version.
    cache: Vec<Option<(u32, Arc<SlotInfo>)>>,
    /// Whether an empty look has more to do: signal a poll descriptor's wishes, or look for a new producer.
    upkeep: bool,
    /// The sequence that comes next if none is missed.
    expected: Option<u64>,
    /// Processor of the producer at its last publication.
    published_on: u32,
    stats: ConsumerStats,
    /// Why the last attempt to go on with a new producer failed.
    refusal: Option<Error>,
    generation: u32,
}

impl Consumer {
    /// Begins to describe a consumer of the stream `name`.
    pub fn builder(name: impl Into<String>) -> ConsumerBuilder {
        ConsumerBuilder {
            name: name.into(),
            registry: Registry::new(),
            policy: Policy::Reliable,
            reconnect: false,
            directory: None,
            wait: Wait::Now,
            spin: DEFAULT_SPIN,
        }
    }

    /// Leases the next frame, waiting for one as long as `wait` says.
    ///
    /// Without a wait it makes no system call, unless a poll descriptor was asked for. Every frame published before the producer ended is received
    /// before `Closed`.
    ///
    /// # Errors
    /// See [`ReceiveError`]; [`Consumer::explain`] makes words of it.
    #[inline]
    pub fn receive(&mut self, wait: Wait) -> Result<Frame, ReceiveError> {
        match self.look()? {
            Some(taken) => self.lease(taken),
            None if wait == Wait::Now && !self.upkeep => Err(ReceiveError::Timeout),
            None => self.receive_slowly(wait),
        }
    }

    /// One look; `Err(Closed)` only once everything has been received.
    #[inline]
    fn look(&self) -> Result<Option<Taken>, ReceiveError> {
        if self.generation != fork::generation() {
            return Err(ReceiveError::Forked);
        }
        match self.attachment.subscriber.take() {
            Ok(Some(taken)) => Ok(Some(taken)),
            Ok(None) if !self.attachment.has_ended() => Ok(None),
            Ok(None) => self.look_last(),
            Err(error) => Err(error.into()),
        }
    }

    /// The producer has ended. What it published before can have come after the look that found nothing.
    #[cold]
    fn look_last(&self) -> Result<Option<Taken>, ReceiveError> {
        match self.attachment.subscriber.take()? {
            None if !self.reconnect => Err(ReceiveError::Closed),
            taken => Ok(taken),
        }
    }

    #[cold]
    fn receive_slowly(&mut self, wait: Wait) -> Result<Frame, ReceiveError> {
        let deadline = wait.deadline();
        loop {
            if self.reconnect && self.attachment.has_ended() {
                // Nothing can come from here any more once this finds nothing.
                if let Some(taken) = self.look()? {
                    return self.lease(taken);
                }
                self.rejoin(deadline)?;
            }
            if let Some(taken) = self.spin(deadline)? {
                return self.lease(taken);
            }
            let left = deadline.left();
            let attachment = &self.attachment;
            match left {
                left if let Some(poll) = attachment.poll() => {
                    // Announce, empty, announce again. What came in between had its signal thrown away, and may
                    // be several frames of which only one is taken now: so signal ourselves.
                    let quiet = || attachment.subscriber.arm(Seat::POLLING, || attachment.is_gone());
                    if quiet() {
                        poll.drain();
                        match left {
                            _ if !quiet() => poll.ring(),
                            Some(left) => poll.wait(left),
                            None => return Err(ReceiveError::Timeout),
                        }
                    }
                }
                Some(left) => attachment.subscriber.park(left, || attachment.is_gone()),
                None => return Err(ReceiveError::Timeout),
            }
            if let Some(taken) = self.look()? {
                return self.lease(taken);
            }
        }
    }

    /// Looks for a short while before sleeping, unless the producer would need this processor.
    fn spin(&self, deadline: Deadline) -> Result<Option<Taken>, ReceiveError> {
        let Some(limit) = deadline.left_at_most(self.spin) else {
            return Ok(None);
        };
        if limit.is_zero() || current_cpu() == self.published_on {
            return Ok(None);
        }
        let begin = Instant::now();
        while begin.elapsed() < limit {
            for _ in 0..16 {
                if let Some(taken) = self.look()? {
                    return Ok(Some(taken));
                }
                hint::spin_loop();
            }
        }
        Ok(None)
    }

    /// Makes a frame of what was taken.
    #[inline]
    fn lease(&mut self, taken: Taken) -> Result<Frame, ReceiveError> {
        let slot = match &self.cache[taken.slot as usize] {
            Some((version, slot)) if *version == taken.version => slot.clone(),
            _ => self.describe(taken)?,
        };
        let missed = self.expected.map_or(0, |expected| taken.sequence.saturating_sub(expected));
        self.expected = Some(taken.sequence.wrapping_add(1));
        self.published_on = taken.cpu;
        self.stats.received += 1;
        self.stats.missed += missed;
        self.attachment.subscriber.count(1, missed);
        Ok(Frame::new(slot, taken))
    }

    /// Reads and checks the description of a slot just leased.
    #[cold]
    fn describe(&mut self, taken: Taken) -> Result<Arc<SlotInfo>, ReceiveError> {
        let words = self.attachment.subscriber.read_cold(taken.slot);
        let described = Described::decode(&words, self.attachment.pool.slot_bytes).map_err(|_| {
            self.attachment.subscriber.release(taken.slot);
            ReceiveError::Protocol
        })?;
        let cached = &mut self.cache[taken.slot as usize];
        // The slot's last frame is gone, so usually nobody else has its description: no allocation then.
        match cached.as_mut().and_then(|(version, shared)| Some((version, Arc::get_mut(shared)?))) {
            Some((version, place)) => {
                *version = taken.version;
                place.described = described;
            }
            None => {
                let attachment = self.attachment.clone();
                *cached = Some((taken.version, Arc::new(SlotInfo { attachment, described })));
            }
        }
        Ok(cached.as_ref().expect("set above").1.clone())
    }

    /// Goes on with the next producer of the name. Frames of the old pool stay valid.
    fn rejoin(&mut self, deadline: Deadline) -> Result<(), ReceiveError> {
        let root = self.directory.as_deref();
        let attachment =
            attach(root, &self.name, self.policy, &self.registry, deadline).map_err(|error| {
                match error.kind() {
                    ErrorKind::NotFound | ErrorKind::Timeout => ReceiveError::Timeout,
                    _ => {
                        self.refusal = Some(error);
                        ReceiveError::Refused
                    }
                }
            })?;
        self.attachment.subscriber.resign();
        self.cache = vec![None; attachment.pool.len() as usize];
        self.attachment = Arc::new(attachment);
        self.expected = None;
        self.stats.reconnects += 1;
        Ok(())
    }

    /// A descriptor for `poll`, `epoll` or an event loop: readable when it is worth calling
    /// [`Consumer::receive`] with [`Wait::Now`]. That call, when it says `Timeout`, makes it unreadable again.
    ///
    /// # Errors
    /// `Unsupported` on a consumer that reconnects: the descriptor would change under the loop.
    pub fn poll_fd(&mut self) -> Result<RawFd> {
        self.check_fork()?;
        if self.reconnect {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a reconnecting consumer has no descriptor that stays; receive in a thread, or reconnect by hand",
            ));
        }
        self.upkeep = true;
        self.attachment.poll_fd()
    }

    /// Puts a receive's error into words.
    pub fn explain(&self, error: ReceiveError) -> Error {
        let message = match error {
            ReceiveError::Timeout => {
                format!("no frame of {} came in the time allowed; wait longer", self.name)
            }
            ReceiveError::Closed => format!(
                "the producer of {} has ended and all its frames were received; connect again, or use reconnect",
                self.name
            ),
            ReceiveError::Forked => return Error::forked(),
            ReceiveError::TooManyHeld => format!(
                "this consumer leases {} frames of {}, as many as the producer allows; release one, or make the \
                 producer with more `slots` or a larger `max_held`",
                self.attachment.subscriber.held(),
                self.name
            ),
            ReceiveError::Refused => {
                let why = self.refusal.as_ref();
                let kind = why.map_or(error.kind(), Error::kind);
                let text = why.map_or_else(String::new, ToString::to_string);
                return Error::new(kind, format!("a new producer of {} can't be joined: {text}", self.name));
            }
            ReceiveError::Protocol => format!(
                "the producer of {} wrote what no bips producer writes; restart it, or update both sides",
                self.name
            ),
        };
        Error::new(error.kind(), message)
    }

    fn check_fork(&self) -> Result<()> {
        if self.generation == fork::generation() { Ok(()) } else { Err(Error::forked()) }
    }

    /// Name of the stream.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Slots of the pool.
    pub fn slots(&self) -> u32 {
        self.attachment.pool.len()
    }

    /// What a slot holds unless a frame says otherwise.
    pub fn content(&self) -> &Content {
        &self.attachment.welcome.content
    }

    /// Bytes of a slot.
    pub fn slot_bytes(&self) -> u64 {
        self.attachment.pool.slot_bytes
    }

    /// The memory the pool lies in.
    pub fn backend(&self) -> &BackendInfo {
        &self.attachment.pool.info
    }

    /// How unread frames are treated.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Most frames this consumer may lease at a time.
    pub fn max_held(&self) -> u32 {
        self.attachment.welcome.max_held
    }

    /// Whether the producer lets consumers write.
    pub fn writable(&self) -> bool {
        self.attachment.welcome.writable
    }

    /// Process id of the producer, in its own pid namespace.
    pub fn producer_pid(&self) -> u32 {
        self.attachment.welcome.pid
    }

    /// The runtime directory it was told, if any.
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// What it has seen so far.
    pub fn stats(&self) -> ConsumerStats {
        ConsumerStats {
            held: self.attachment.subscriber.held(),
            control_bytes: self.attachment.control_bytes(),
            ..self.stats
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // Frames may live on and keep the seat; without this what was never read would be kept with it.
        if self.generation == fork::generation() {
            self.attachment.subscriber.resign();
        }
    }
}
