//! A consumer: takes frames from a stream.

mod builder;
mod closer;
mod label;
mod receive;

pub use builder::ConsumerBuilder;
pub(crate) use builder::{DEFAULT_SPIN, single_cpu};
pub use closer::Closer;

use crate::backend::BackendInfo;
use crate::error::ReceiveError;
use crate::frame::{Frame, SlotInfo};
use crate::plan::{Party, Registry};
use crate::session::{Attachment, Joining};
use crate::signaler::Policy;
use crate::stream::StreamName;
use crate::sys::fork;
use crate::{Content, Error, ErrorKind, Result};
use closer::Closing;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What a consumer has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConsumerStats {
    /// Frames received.
    pub received: u64,
    /// Frames it never saw: newer ones took their place (keep-last), or the device that wrote them failed or died.
    pub missed: u64,
    /// Frames leased right now.
    pub held: u32,
    /// How often it has joined anew, another producer or, after being put out, the same.
    pub reconnects: u64,
    /// Bytes of control memory mapped for it, the pool aside.
    pub control_bytes: u64,
}

/// How a stream ended for a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// Its producer closed it.
    Closed,
    /// The connection broke without that: the producer died, or takes this consumer for one that broke the protocol.
    Died,
    /// Its producer goes on, but put this consumer out because it held the stream up ([`OnStall`](crate::OnStall)).
    /// Frames that it leases stay whole for as long as it leases them.
    Expelled,
}

/// Takes frames from one stream. One thread receives at a time; frames may be released anywhere.
#[derive(Debug)]
pub struct Consumer {
    attachment: Arc<Attachment>,
    name: StreamName,
    label: String,
    policy: Policy,
    registry: Registry,
    directory: Option<PathBuf>,
    reconnect: bool,
    /// A rejoin under way.
    joining: Option<Joining>,
    spin: Duration,
    /// Whether frames come before they are whole.
    explicit_sync: bool,
    wanted: Vec<Party>,
    /// Last known description of each slot, with its version.
    cache: Vec<Option<(u32, Arc<SlotInfo>)>>,
    /// Whether an empty look has more to do: signal a poll descriptor's wishes, or look for a new producer.
    upkeep: bool,
    /// The sequence that comes next if none is missed.
    expected: Option<u64>,
    /// Processor of the producer at its last publication.
    published_on: u32,
    stats: ConsumerStats,
    /// A frame taken, which a device still writes, or did when it was last looked.
    unfinished: Option<Frame>,
    /// Why the last attempt to go on with a new producer failed.
    refusal: Option<Error>,
    closing: Arc<Closing>,
    process: u32,
}

impl Consumer {
    /// Begins to describe a consumer of the stream `name`.
    pub fn builder(name: impl Into<String>) -> ConsumerBuilder {
        ConsumerBuilder::new(name.into())
    }

    /// A descriptor for `poll`, `epoll` or an event loop: readable when it is worth calling
    /// [`Consumer::receive`] with [`Wait::Now`](crate::Wait::Now). That call, when it says `Timeout`, makes it
    /// unreadable again; after the producer's end it stays readable. Made on first use, with a thread that sleeps in the
    /// caller's place.
    ///
    /// # Errors
    /// `Unsupported` on a consumer that reconnects: the descriptor would change under the loop. `System` when there is
    /// no descriptor or thread to be had for it.
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

    /// What closes this consumer from another thread: a receive that waits then ends.
    pub fn closer(&self) -> Closer {
        Closer(self.closing.clone())
    }

    /// As [`Closer::close`], and gives up at once what it has not read.
    pub fn close(&mut self) {
        self.closing.close();
        if self.check_fork().is_ok() {
            (self.joining, self.unfinished) = (None, None);
            self.closing.resign(&self.attachment);
        }
    }

    /// How the stream ended, once it has; that this consumer was closed is no end of it. Frames published before may
    /// still be there to receive.
    pub fn ending(&self) -> Option<Ending> {
        // Whoever was put out has not received what came after, however the stream ended then.
        if self.attachment.subscriber.is_expelled() || self.closing.was_expelled() {
            Some(Ending::Expelled)
        } else if self.attachment.subscriber.is_closed() {
            Some(Ending::Closed)
        } else if self.attachment.is_gone() {
            Some(Ending::Died)
        } else {
            None
        }
    }

    /// Puts a receive's error into words.
    pub fn explain(&self, error: ReceiveError) -> Error {
        let say = |message| Error::new(error.kind(), message);
        match error {
            ReceiveError::Timeout => {
                say(format!("no frame of {} came in the time allowed; wait longer", self.name))
            }
            ReceiveError::Closed => say(self.explain_end()),
            ReceiveError::Forked => Error::forked(),
            ReceiveError::TooManyHeld => say(format!(
                "this consumer leases {} frames of {}, as many as the producer allows; release one, or make the \
                 producer with more `slots` or a larger `max_held`",
                self.attachment.subscriber.held(),
                self.name
            )),
            ReceiveError::Refused => {
                let why = self.refusal.as_ref();
                let kind = why.map_or(error.kind(), Error::kind);
                let text = why.map_or_else(String::new, ToString::to_string);
                Error::new(kind, format!("a new producer of {} can't be joined: {text}", self.name))
            }
            ReceiveError::Memory => self.attachment.pool.explain_trouble(self.name.as_str()),
            ReceiveError::Protocol => say(format!(
                "the producer of {} wrote what no bips producer writes; restart it, or update both sides",
                self.name
            )),
        }
    }

    /// Why no more frames come.
    fn explain_end(&self) -> String {
        if self.closing.is_closed() {
            return format!(
                "this consumer of {} was closed by its own program; connect again to go on",
                self.name
            );
        }
        let how = match self.ending() {
            Some(Ending::Expelled) => {
                "put this consumer out because it held the stream up; release frames sooner or use keep-last, and"
            }
            Some(Ending::Died) => "died and all its frames were received;",
            _ => "has ended and all its frames were received;",
        };
        format!("the producer of {} {how} connect again, or use reconnect", self.name)
    }

    fn check_fork(&self) -> Result<()> {
        if self.process == fork::process_number() { Ok(()) } else { Err(Error::forked()) }
    }

    /// Name of the stream.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// What it calls itself to the producer.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Slots of the pool.
    pub fn slots(&self) -> u32 {
        self.attachment.pool.len()
    }

    /// How often a reconnecting consumer has joined anew; the frames say so too ([`Frame::generation`]). What the methods
    /// below say changes with it.
    ///
    /// [`Frame::generation`]: crate::Frame::generation
    pub fn generation(&self) -> u32 {
        self.attachment.generation
    }

    /// A random number that all consumers of a producer see alike. After joining anew it tells the same producer, which
    /// had put this consumer out, from another.
    pub fn stream_id(&self) -> u128 {
        let [high, low] = self.attachment.welcome.stream_id;
        u128::from(high) << 64 | u128::from(low)
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
            reconnects: self.attachment.generation.into(),
            control_bytes: self.attachment.control_bytes(),
            ..self.stats
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // Frames may live on and keep the seat; without this what was never read would be kept with it.
        if self.process == fork::process_number() {
            self.attachment.subscriber.resign();
        }
    }
}
