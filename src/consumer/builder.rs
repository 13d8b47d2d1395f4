//! From wishes to a seat at a stream.

use super::closer::Closing;
use super::{Consumer, ConsumerStats, label};
use crate::plan::{Party, Registry};
use crate::session::{ANSWER, Joining, MAX_WANTED, Patience};
use crate::signaler::Policy;
use crate::stream::StreamName;
use crate::sys::fork;
use crate::{Error, Result, Wait};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a receive looks before it sleeps, unless told otherwise. A wake-up costs about this much, so at
/// worst the wait costs twice what the better choice would have.
pub(crate) const DEFAULT_SPIN: Duration = Duration::from_micros(5);

/// Says how to join a stream; [`ConsumerBuilder::connect`] does it.
#[derive(Clone)]
pub struct ConsumerBuilder {
    name: String,
    label: Option<String>,
    registry: Registry,
    policy: Policy,
    reconnect: bool,
    directory: Option<PathBuf>,
    wait: Wait,
    spin: Duration,
    explicit_sync: bool,
    wanted: Vec<Party>,
    interrupt: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

impl ConsumerBuilder {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            label: None,
            registry: Registry::new(),
            policy: Policy::Reliable,
            reconnect: false,
            directory: None,
            wait: Wait::Now,
            spin: DEFAULT_SPIN,
            explicit_sync: false,
            wanted: Vec::new(),
            interrupt: None,
        }
    }

    /// What the producer and `bips info` call this consumer, at most 64 bytes without control characters; by default the
    /// program's name and the host's, as in `detector@3f9a`. It tells consumers in other containers apart, whose
    /// process ids the producer can't see. Everybody who may ask about the stream can read it.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

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

    /// Receives frames before the producer's device is done with them; [`Frame::ready`](crate::Frame::ready) says when
    /// they are whole. For devices that wait for each other; whoever reads with the CPU waits for that first.
    #[must_use]
    pub fn explicit_sync(mut self, explicit_sync: bool) -> Self {
        self.explicit_sync = explicit_sync;
        self
    }

    /// For whom the memory is wanted, beside this process's CPU: joining fails where it does not serve them, as tried with the
    /// stream's own memory, rather than later or by a copy. The producer is told
    /// ([`Producer::announced`](crate::Producer::announced)).
    #[must_use]
    pub fn wanted(mut self, parties: impl IntoIterator<Item = Party>) -> Self {
        self.wanted.extend(parties);
        self
    }

    /// Asked about every 50 ms while [`ConsumerBuilder::connect`] waits; true makes it give up as if time were over.
    /// For callers that have to look after something else meanwhile, such as Ctrl-C.
    #[must_use]
    pub fn interrupt(mut self, interrupt: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.interrupt = Some(Arc::new(interrupt));
        self
    }

    /// Joins. Frames published from now on are this consumer's (and as many before as the producer keeps for
    /// late joiners).
    ///
    /// # Errors
    /// `NotFound`, `AccessDenied`, `InvalidArgument` (name, policy, label), `Protocol` (versions), `Unsupported`
    /// (memory kind unknown here), `Timeout` (the producer is stopped or full). A producer that is there gets 2 s to
    /// answer, however short the wait.
    pub fn connect(self) -> Result<Consumer> {
        let name = StreamName::new(self.name)?;
        let policy = self.policy.checked()?;
        let words: usize = self.wanted.iter().map(|party| party.to_string().len() + 1).sum();
        if words > MAX_WANTED {
            return Err(Error::invalid(format!(
                "{} parties are more than a consumer can want; name those whose devices differ",
                self.wanted.len()
            )));
        }
        let label = self.label.map_or_else(|| Ok(label::usual()), label::checked)?;
        let mut joining = Joining::new(self.directory.as_deref(), &name, policy, &label, &self.wanted);
        let patience = Patience {
            deadline: self.wait.deadline(),
            answer: ANSWER,
            interrupt: self.interrupt.as_deref().map(|interrupt| interrupt as &dyn Fn() -> bool),
        };
        let attachment = match joining.advance(&self.registry, &patience)? {
            Some(attachment) => Arc::new(attachment),
            None => return Err(joining.why_not()),
        };
        Ok(Consumer {
            closing: Closing::of(&attachment),
            cache: vec![None; attachment.pool.len() as usize],
            attachment,
            name,
            label,
            policy,
            registry: self.registry,
            directory: self.directory,
            reconnect: self.reconnect,
            joining: None,
            upkeep: self.reconnect,
            explicit_sync: self.explicit_sync,
            wanted: self.wanted,
            spin: if single_cpu() { Duration::ZERO } else { self.spin },
            expected: None,
            published_on: u32::MAX,
            stats: ConsumerStats::default(),
            unfinished: None,
            refusal: None,
            process: fork::process_number(),
        })
    }
}

impl fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("name", &self.name)
            .field("label", &self.label)
            .field("policy", &self.policy)
            .field("reconnect", &self.reconnect)
            .field("directory", &self.directory)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}

/// Whether this process may run on one processor only: then spinning keeps the producer from publishing.
pub(crate) fn single_cpu() -> bool {
    std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1)
}
