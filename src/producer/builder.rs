//! From wishes to a living producer.

use super::inner::{Inner, Parts};
use super::{OnStall, Producer, adopt};
use crate::backend::{Backend, Requirements, Usage};
use crate::consumer::{DEFAULT_SPIN, single_cpu};
use crate::handle::Access;
use crate::plan::{Constraints, Party, Registry};
use crate::pool::Pool;
use crate::session::{Claim, Server};
use crate::stream::{AccessRule, StreamName};
use crate::{Content, DType, Error, ForeignBuffer, Fourcc, MAX_SLOTS, Result};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Says what a stream shall be; [`ProducerBuilder::create`] makes it.
#[derive(Debug)]
pub struct ProducerBuilder {
    name: String,
    registry: Registry,
    memory: String,
    usage: Usage,
    parties: Vec<Party>,
    constraints: Constraints,
    content: Option<Result<Content>>,
    exact: bool,
    slots: Option<u32>,
    adopted: Option<Vec<ForeignBuffer>>,
    access: AccessRule,
    writable: bool,
    reliable: bool,
    on_stall: OnStall,
    max_held: Option<u32>,
    history: u32,
    directory: Option<PathBuf>,
    spin: Duration,
}

impl ProducerBuilder {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            registry: Registry::new(),
            memory: "auto".into(),
            usage: Usage::CPU,
            parties: Vec::new(),
            constraints: Constraints::default(),
            content: None,
            exact: true,
            slots: None,
            adopted: None,
            access: AccessRule::Owner,
            writable: false,
            reliable: true,
            on_stall: OnStall::Wait,
            max_held: None,
            history: 0,
            directory: None,
            spin: DEFAULT_SPIN,
        }
    }

    /// See [`Producer::adopt`].
    pub(super) fn adopted(mut self, buffers: Vec<ForeignBuffer>) -> Self {
        self.adopted = Some(buffers);
        self
    }

    /// The memory kinds to choose from.
    #[must_use]
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Exactly this backend.
    #[must_use]
    pub fn backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.memory = backend.info().kind.clone();
        self.registry = Registry::new().with(backend);
        self
    }

    /// The memory kind by name; `auto`, the default, takes the first of the registry that serves the usage.
    #[must_use]
    pub fn memory(mut self, kind: impl Into<String>) -> Self {
        self.memory = kind.into();
        self
    }

    /// What the buffers will be used for; the CPU by default.
    #[must_use]
    pub fn usage(mut self, usage: Usage) -> Self {
        self.usage = usage;
        self
    }

    /// Who will use the buffers, by their devices: the own process and its consumers, as in [`Party`]. Adds to
    /// [`usage`](ProducerBuilder::usage).
    #[must_use]
    pub fn parties(mut self, parties: impl IntoIterator<Item = Party>) -> Self {
        self.parties.extend(parties);
        self
    }

    /// What they demand of how the buffers lie; more than one's are brought together by [`Constraints::and`].
    #[must_use]
    pub fn constraints(mut self, constraints: Constraints) -> Self {
        self.constraints = constraints;
        self
    }

    /// What each slot holds, and exactly how it lies there: for images that a device writes its own way
    /// ([`Content::image_in_planes`]).
    #[must_use]
    pub fn content(mut self, content: Content) -> Self {
        self.content = Some(Ok(content));
        self.exact = true;
        self
    }

    /// Each slot holds a C-contiguous tensor.
    #[must_use]
    pub fn tensor(mut self, dtype: DType, shape: &[u64]) -> Self {
        self.content = Some(Content::tensor(dtype, shape));
        self
    }

    /// Each slot holds an image of `width` x `height` pixels. Memory of displays and GPUs may want its rows apart:
    /// [`Producer::content`] says how they lie.
    #[must_use]
    pub fn image(mut self, fourcc: Fourcc, width: u32, height: u32) -> Self {
        self.content = Some(Content::image(fourcc, width, height));
        self.exact = false;
        self
    }

    /// Each slot holds `len` bytes.
    #[must_use]
    pub fn bytes(mut self, len: u64) -> Self {
        self.content = Some(Content::bytes(len));
        self
    }

    /// Slots of the pool, 1 to 64; 4 by default, and of a pool that was adopted as many as there are buffers.
    #[must_use]
    pub fn slots(mut self, slots: u32) -> Self {
        self.slots = Some(slots);
        self
    }

    /// Who may consume; the own user by default.
    #[must_use]
    pub fn access(mut self, access: AccessRule) -> Self {
        self.access = access;
        self
    }

    /// Lets consumers write into the frames they lease, for in-place pipelines. Not by default: then the MMU
    /// keeps them from it. Nothing confines their writes to what they lease, so do this only where every
    /// process that is admitted is trusted like a thread of the producer's own: [`FrameMut::bytes_mut`] and
    /// [`Frame::bytes`](crate::Frame::bytes) rely on it.
    ///
    /// [`FrameMut::bytes_mut`]: super::FrameMut::bytes_mut
    #[must_use]
    pub fn writable(mut self, writable: bool) -> Self {
        self.writable = writable;
        self
    }

    /// Whether to admit reliable consumers, the only ones that can hold the producer back; yes by default.
    #[must_use]
    pub fn reliable(mut self, reliable: bool) -> Self {
        self.reliable = reliable;
        self
    }

    /// What to do about consumers that hold the producer up; it waits for them by default.
    #[must_use]
    pub fn on_stall(mut self, on_stall: OnStall) -> Self {
        self.on_stall = on_stall;
        self
    }

    /// Most frames one consumer may lease at a time; slots - 2 by default, at least 1.
    #[must_use]
    pub fn max_held(mut self, frames: u32) -> Self {
        self.max_held = Some(frames);
        self
    }

    /// Keeps the last `frames` frames for consumers that join later; none by default. These slots are not
    /// reused before newer frames take their place.
    #[must_use]
    pub fn history(mut self, frames: u32) -> Self {
        self.history = frames;
        self
    }

    /// The runtime directory; see [`runtime_dir`](crate::runtime_dir) for the default.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// How long an acquire looks for a slot before it sleeps; zero for not at all.
    #[must_use]
    pub fn spin(mut self, spin: Duration) -> Self {
        self.spin = spin;
        self
    }

    /// Takes the name, makes the pool, and lets consumers in.
    ///
    /// # Errors
    /// `InvalidArgument`, `NameTaken`, `NotFound` or `AccessDenied` (runtime directory), `OutOfMemory`,
    /// `Unsupported` (no memory kind serves the usage).
    pub fn create(self) -> Result<Producer> {
        let name = StreamName::new(self.name.as_str())?;
        self.create_named(name.clone()).map_err(|error| error.with("stream", name))
    }

    fn create_named(self, name: StreamName) -> Result<Producer> {
        let content = self.content.unwrap_or_else(|| {
            Err(Error::invalid(
                "the stream has no content; say what a slot holds: a tensor, an image, or bytes",
            ))
        })?;
        let given = self.adopted.as_ref().map(Vec::len);
        let slots = match (given, self.slots) {
            (None, slots) => slots.unwrap_or(4),
            (Some(given), Some(slots)) if given != slots as usize => {
                return Err(Error::invalid(format!(
                    "{given} buffers are no pool of {slots} slots; leave out the number of slots"
                )));
            }
            (Some(given), _) => u32::try_from(given).unwrap_or(u32::MAX),
        };
        if !(1..=MAX_SLOTS).contains(&slots) {
            return Err(Error::invalid(format!("{slots} slots were asked for; a pool has 1 to {MAX_SLOTS}")));
        }
        let max_held = self.max_held.unwrap_or_else(|| slots.saturating_sub(2).max(1));
        if !(1..=slots).contains(&max_held) {
            return Err(Error::invalid(format!(
                "max_held is {max_held}; in a pool of this size use 1 to {slots}"
            )));
        }
        if self.history >= slots {
            let most = match slots {
                1 => String::from("a pool of one slot keeps no history, use more slots"),
                _ => format!("with {slots} slots use 0 to {}", slots - 1),
            };
            return Err(Error::invalid(format!(
                "history is {}; {most}: one slot must stay free to write to",
                self.history
            )));
        }
        let on_stall = self.on_stall.checked()?;
        let Self { exact, usage, parties, constraints, writable, .. } = self;
        let mut requirements = Requirements { content, exact, slots, usage, parties, constraints, writable };
        requirements.writable = requirements.lets_consumers_write();
        let (claim, pool, content) = match self.adopted {
            Some(buffers) => {
                let backend = adopt::backend(&self.registry, &self.memory, &buffers)?;
                // The name first: buffers are changed for good by being adopted.
                let claim = Claim::take(self.directory.as_deref(), &name)?;
                (claim, adopt::pool(&*backend, buffers, &requirements)?, content)
            }
            None => {
                let planned = self.registry.plan(&self.memory, &requirements)?;
                let slot_bytes = planned.layout.slot_bytes;
                // As the memory has it: a driver may want the rows of an image apart.
                let content = planned.layout.content;
                content.fits(slot_bytes)?;
                let claim = Claim::take(self.directory.as_deref(), &name)?;
                let allocations = planned.backend.allocate(&planned.layout, slots)?;
                (claim, Pool::new(allocations, planned.backend.info(), slot_bytes, Access::Write)?, content)
            }
        };
        let inner = Arc::new(Inner::new(Parts {
            name,
            content,
            pool,
            rule: self.access,
            writable: requirements.writable,
            reliable: self.reliable,
            on_stall,
            max_held,
            history: self.history,
        })?);
        let server = Mutex::new(Server::start(claim, &inner)?);
        let spin = if single_cpu() { Duration::ZERO } else { self.spin };
        Ok(Producer { inner, server, spin })
    }
}
