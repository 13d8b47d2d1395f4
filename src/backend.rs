//! The contract of a memory provider. `tests/conformance` is the same contract as cases.

use crate::describe::Content;
use crate::handle::{Access, ExternalHandle, ForeignKind};
use crate::plan::{Constraints, Party, Served};
use crate::{Error, ErrorKind, Result};
use std::any::Any;
use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

/// Identity of the device behind a backend: its UUID, or zeros for plain host memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DeviceId(pub [u8; 16]);

/// What a backend is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendInfo {
    /// Kind as users write it: `memfd`, `dma-heap`, ...; 1 to 32 characters.
    pub kind: String,
    /// The device its memory belongs to.
    pub device: DeviceId,
    /// One line for people.
    pub description: String,
}

/// What a trial on this machine showed the backend to be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Buffers can be made here.
    pub allocate: bool,
    /// Another process can open them.
    pub share: bool,
    /// The CPU can map them.
    pub cpu_map: bool,
    /// Consumers can't write to read-only streams, whatever they try.
    pub read_only_enforced: bool,
    /// Large pools come in huge pages.
    pub huge_pages: bool,
    /// In one piece also where devices see it.
    pub contiguous: bool,
    /// What slots begin at a multiple of, in bytes; 0 where nothing was tried.
    pub alignment: u64,
    /// What becomes of a device's work that is not done when a frame is published.
    pub fences: FenceKind,
}

/// How a device's work that is under way is waited for across processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FenceKind {
    /// Publishing waits for it.
    #[default]
    Host,
    /// By the buffer itself (dma-bufs): the kernel's drivers wait for each other.
    Implicit,
    /// Publishing does not wait: a word in shared memory says when it is done.
    Board,
}

impl fmt::Display for FenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Implicit => "implicit",
            Self::Board => "board",
        })
    }
}

bitset! {
    /// What buffers will be used for; the plan looks for memory that serves all of it.
    pub struct Usage {
        /// Read or written by the processor.
        CPU = 1, "cpu";
        /// Filled by a camera (V4L2).
        CAMERA = 2, "camera";
        /// Used by CUDA.
        CUDA = 4, "cuda";
        /// Used by Vulkan.
        VULKAN = 8, "vulkan";
        /// Scanned out by a display.
        DISPLAY = 16, "display";
        /// Read by a hardware encoder.
        ENCODER = 32, "encoder";
        /// Written by consumers' processors too: makes the stream writable.
        CPU_WRITE = 64, "cpu-write";
    }
}

/// What a pool must be good for.
#[derive(Debug, Clone, PartialEq)]
pub struct Requirements {
    /// What each slot holds.
    pub content: Content,
    /// Whether it has to lie exactly so, because a device that does not ask writes or reads it that way. Else the rows of
    /// an image may come to lie further apart.
    pub exact: bool,
    /// Slots of the pool, 1 to 64.
    pub slots: u32,
    /// What it will be used for.
    pub usage: Usage,
    /// By whom, where a device is named. Their usage counts too.
    pub parties: Vec<Party>,
    /// What they demand of how it lies.
    pub constraints: Constraints,
    /// Whether consumers may write.
    pub writable: bool,
}

/// How a pool lies: the backend's answer to requirements.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// What each slot holds: what was asked for, the rows of an image perhaps further apart
    /// ([`Content::with_row_stride`]) unless it has to be exact.
    pub content: Content,
    /// Bytes of a slot from its start to its end, padding included. A multiple of the page size.
    pub slot_bytes: u64,
    /// Whether consumers may write.
    pub writable: bool,
}

impl Requirements {
    /// Four slots of this for the CPU, which demand nothing else.
    pub fn of(content: Content) -> Self {
        Self {
            content,
            exact: false,
            slots: 4,
            usage: Usage::CPU,
            parties: Vec::new(),
            constraints: Constraints::default(),
            writable: false,
        }
    }

    /// Whether consumers may write, as was asked for or since one of the parties does.
    pub fn lets_consumers_write(&self) -> bool {
        self.writable || self.everybody().iter().any(|party| party.usage() == Usage::CPU_WRITE)
    }

    /// Everybody who will use it: the named, and of other usages one each.
    pub fn everybody(&self) -> Vec<Party> {
        let named = self.parties.iter().fold(Usage::empty(), |all, party| all | party.usage());
        let others = Party::all_of(self.usage.without(named));
        others.chain(self.parties.iter().cloned()).collect()
    }
}

impl Party {
    /// For memory that devices take as a dma-buf, which is called `what`.
    ///
    /// # Errors
    /// `Unsupported` for CUDA, which takes none.
    pub fn by_dma_buf(&self, what: &str) -> Result<Served> {
        match self.usage() {
            Usage::CPU | Usage::CPU_WRITE => Ok(Served::by("mapped")),
            Usage::CUDA => {
                let instead = "use memory it allocates itself, or host memory";
                Err(Error::new(ErrorKind::Unsupported, format!("CUDA imports no {what}; {instead}")))
            }
            _ => Ok(Served::by("dma-buf")),
        }
    }
}

impl Layout {
    /// As it was asked for, each slot in whole pages: for memory that has no wishes of its own.
    #[cfg(not(any(bips_loom, bips_shuttle)))]
    pub fn in_pages(requirements: &Requirements) -> Self {
        let Requirements { content, writable, .. } = *requirements;
        Self { content, slot_bytes: content.nbytes().max(1).next_multiple_of(crate::sys::PAGE), writable }
    }

    /// Bytes of a pool of so many slots.
    ///
    /// # Errors
    /// `InvalidArgument` for more than can be counted.
    pub fn pool_bytes(&self, slots: u32) -> Result<u64> {
        self.slot_bytes.checked_mul(u64::from(slots)).ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument, "the pool is larger than any machine; use smaller frames")
        })
    }
}

/// One slot's memory.
#[derive(Debug, Clone)]
pub struct Allocation {
    /// The memory; several slots may share one.
    pub memory: Arc<dyn Memory>,
    /// Where the slot begins in it, in bytes.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

impl Allocation {
    /// The slots of a pool that lie one after the other in one memory object.
    pub fn one_after_another(memory: &Arc<dyn Memory>, layout: &Layout, slots: u32) -> Vec<Self> {
        let len = layout.slot_bytes;
        (0..u64::from(slots)).map(|slot| Self { memory: memory.clone(), offset: slot * len, len }).collect()
    }

    /// A slot of so many bytes, made to see what it can do.
    ///
    /// # Errors
    /// Why there is none: those of [`Backend::plan`] and [`Backend::allocate`].
    pub fn for_trial(backend: &dyn Backend, bytes: u64) -> Result<Self> {
        let layout = backend.plan(&Requirements { slots: 1, ..Requirements::of(Content::bytes(bytes)?) })?;
        backend.allocate(&layout, 1)?.pop().ok_or_else(|| Error::protocol("a pool of no slots"))
    }
}

#[cfg(not(any(bips_loom, bips_shuttle)))]
impl Capabilities {
    /// What a slot that `backend` has just made shows in one process. Of huge pages it says nothing.
    pub fn of_trial(backend: &dyn Backend, slot: &Allocation) -> Self {
        let import = |access| slot.memory.export().and_then(|handle| backend.import(handle, access));
        Self {
            allocate: true,
            share: import(Access::Read).is_ok(),
            cpu_map: true,
            read_only_enforced: import(Access::Write).is_err(),
            huge_pages: false,
            contiguous: false,
            alignment: crate::sys::PAGE,
            fences: match slot.memory.export_to_device(slot.offset) {
                Ok((ExternalHandle::DmaBuf { .. }, _)) => FenceKind::Implicit,
                // What must be told of the CPU's access must be told after the device wrote.
                _ if slot.memory.cpu_access().is_some() => FenceKind::Host,
                _ => FenceKind::Board,
            },
        }
    }
}

/// A provider of memory, bound to one device. Control plane: rarely called, rich errors.
pub trait Backend: Send + Sync + fmt::Debug {
    /// What it is.
    fn info(&self) -> &BackendInfo;

    /// What a trial showed it to be able to do; asked once, remembered.
    fn capabilities(&self) -> Capabilities;

    /// How this party would use its memory, as far as the kind itself knows: see [`DeviceTrial`](crate::DeviceTrial).
    /// The CPU alone, unless said otherwise.
    ///
    /// # Errors
    /// `Unsupported` with the reason, which the plan shows to the user.
    fn serves(&self, party: &Party) -> Result<Served> {
        match party.usage() {
            Usage::CPU | Usage::CPU_WRITE => Ok(Served::by("mapped")),
            _ => Err(Error::new(
                ErrorKind::Unsupported,
                format!("{} is host memory, and {party} needs memory a device can reach", self.info().kind),
            )),
        }
    }

    /// Whether it could make such a pool, and how that would lie. Whom it is for, [`serves`](Backend::serves) is asked.
    ///
    /// # Errors
    /// `Unsupported` with the reason, which the plan shows to the user.
    fn plan(&self, requirements: &Requirements) -> Result<Layout>;

    /// Makes `slots` buffers of zeros, all backed by memory now.
    ///
    /// # Errors
    /// `OutOfMemory` instead of trouble later.
    fn allocate(&self, layout: &Layout, slots: u32) -> Result<Vec<Allocation>>;

    /// Opens one memory object that another process's backend of this kind exported. Untrusted: descriptor,
    /// size and seals are checked before anything is touched. One mapping per object, however many slots.
    ///
    /// # Errors
    /// `Protocol` when the handle isn't what it should be.
    fn import(&self, handle: ExternalHandle, access: Access) -> Result<Arc<dyn Memory>>;

    /// Whether it can publish from memory of this kind that somebody else made. If so, it has
    /// [`identify`](Backend::identify) and [`adopt`](Backend::adopt) of its own.
    fn adopts(&self, _kind: ForeignKind) -> bool {
        false
    }

    /// Which file a descriptor stands for, as device and inode, once it is known to be of a kind that
    /// [`adopts`](Backend::adopts) says yes to. Until then nothing may ask the file's own file system: that can be a
    /// program which never answers.
    ///
    /// # Errors
    /// As [`adopt`](Backend::adopt).
    fn identify(&self, _fd: BorrowedFd<'_>) -> Result<(u64, u64)> {
        Err(adopts_none(self.info()))
    }

    /// Opens one memory object that somebody else made, for this process to publish from. Untrusted like an import, but a
    /// mistake in it is the caller's, who is told the next step. With `writable` false consumers must not be able to
    /// write where this kind can prevent that.
    ///
    /// # Errors
    /// `InvalidArgument` when it isn't what [`adopts`](Backend::adopts) stands for, or consumers would refuse it.
    fn adopt(&self, _fd: OwnedFd, _writable: bool) -> Result<Arc<dyn Memory>> {
        Err(adopts_none(self.info()))
    }

    /// The same kind of memory from a source that the user names after a colon, as in `dma-heap:linux,cma`. `None` by
    /// kinds that have no such choice, and for names no source can have. That it isn't there is for
    /// [`plan`](Backend::plan) to say: a consumer needs no source.
    fn with_source(&self, _name: &str) -> Option<Arc<dyn Backend>> {
        None
    }
}

fn adopts_none(info: &BackendInfo) -> Error {
    let text = format!("{} publishes only from memory of its own", info.kind);
    Error::new(ErrorKind::Unsupported, text)
}

/// Memory that some backend provided.
///
/// # Safety
/// `map` must return memory that stays mapped, with at least that access, for as long as the object lives, and
/// whose length is the object's whole length.
#[allow(unsafe_code, reason = "declares a contract; implementations are elsewhere")]
pub unsafe trait Memory: Any + Send + Sync + fmt::Debug {
    /// A handle to all of it for another process.
    ///
    /// # Errors
    /// `Unsupported` where the memory can't be shared (any more).
    fn export(&self) -> Result<ExternalHandle>;

    /// The CPU's view. A raw range, never a slice: peers may write to it at any time.
    ///
    /// # Errors
    /// `Unsupported` where the CPU can't see it, `AccessDenied` for writing to a read-only import.
    fn map(&self, access: Access) -> Result<Mapped>;

    /// How many pages of it a consumer's process gives back one by one when it ends, where consumers reach it by the CPU
    /// alone. The more there are, the later its connection says that it is dead; above some 2000 bips watches it by
    /// other means as well.
    fn small_pages(&self) -> u64 {
        0
    }

    /// A copy-on-write view of all of it, for callers who must write but may not.
    ///
    /// # Errors
    /// `Unsupported` where there is no such thing.
    fn map_private(&self) -> Result<Box<dyn PrivateMapping>> {
        Err(Error::new(ErrorKind::Unsupported, "this memory has no private view; copy the frame instead"))
    }

    /// What must be told when the CPU begins and ends to touch it, or nothing, for memory that the CPU sees as everybody
    /// does. Asked once per pool: memory without it pays nothing per frame.
    fn cpu_access(&self) -> Option<&dyn CpuAccess> {
        None
    }

    /// What devices use the slot that begins at `offset` by, and where the slot begins in that. The same as for other
    /// processes, unless they get less.
    ///
    /// # Errors
    /// As [`Memory::export`].
    fn export_to_device(&self, offset: u64) -> Result<(ExternalHandle, u64)> {
        Ok((self.export()?, offset))
    }
}

/// Memory that must be told when the CPU begins and ends to touch a slot: its caches may differ from what devices see,
/// or devices may still be at work there. Called around every lease, and nothing may be left behind by a process that
/// dies in between.
pub trait CpuAccess: Send + Sync + fmt::Debug {
    /// The CPU is about to read, or to read and write, the slot that begins at `offset`. Waits for devices that still
    /// use it in a way that forbids this, at most `timeout` (`None`: without limit).
    ///
    /// # Errors
    /// `Timeout` while a device still uses it; else what the system reports. Then nothing has begun.
    fn begin(&self, offset: u64, access: Access, timeout: Option<Duration>) -> Result<()>;

    /// The opposite of [`CpuAccess::begin`], with the same access.
    ///
    /// # Errors
    /// What the system reports: others may not see what was written.
    fn end(&self, offset: u64, access: Access) -> Result<()>;

    /// Whether a device stands against such an access now. For explanations: nothing begins by asking.
    ///
    /// # Errors
    /// What the system reports.
    fn is_idle(&self, offset: u64, access: Access) -> Result<bool> {
        let _ = (offset, access);
        Ok(true)
    }

    /// Makes what a device wrote to the slot at `offset` seen by those who can't begin an access of their own, once it is
    /// written: waits for that at most `timeout`. Before a publication, after [`CpuAccess::end`]. Nothing, where consumers
    /// begin theirs.
    ///
    /// # Errors
    /// `Timeout` while a device still writes it; what the system reports: others may not see what was written.
    fn settle(&self, offset: u64, timeout: Duration) -> Result<()> {
        let _ = (offset, timeout);
        Ok(())
    }
}

/// A range of mapped memory; valid as long as the [`Memory`] it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    /// First byte.
    pub start: NonNull<u8>,
    /// Bytes.
    pub len: usize,
}

/// A copy-on-write mapping.
///
/// # Safety
/// `mapped` must stay writable and mapped for as long as the object lives.
#[allow(unsafe_code, reason = "declares a contract; implementations are elsewhere")]
pub unsafe trait PrivateMapping: Send + Sync + fmt::Debug {
    /// Where it lies.
    fn mapped(&self) -> Mapped;

    /// Forgets what was written to the range, so that it shows the shared memory again.
    ///
    /// # Errors
    /// `System` when the kernel refuses; the mapping must then not be used again.
    fn forget(&self, offset: usize, len: usize) -> Result<()>;
}
