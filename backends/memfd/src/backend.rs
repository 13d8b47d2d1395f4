use bips::sys::{Segment, SegmentMemory, Sharing};
use bips::{
    Access, Allocation, Backend, BackendInfo, Capabilities, DeviceId, ExternalHandle, FenceKind, ForeignKind,
    Layout, Memory, Requirements, Result,
};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

/// Provider of sealed memfd memory.
#[derive(Debug)]
pub struct Memfd {
    info: BackendInfo,
    capabilities: OnceLock<Capabilities>,
}

impl Memfd {
    /// The kind of memory it provides.
    pub const KIND: &str = "memfd";

    /// Needs nothing: every Linux has it.
    pub fn new() -> Self {
        Self {
            info: BackendInfo {
                kind: Self::KIND.into(),
                device: DeviceId::default(),
                description: "sealed memfd, host memory".into(),
            },
            capabilities: OnceLock::new(),
        }
    }

    /// Makes a pool of a huge page and tries what can be tried in one process.
    fn try_out() -> Capabilities {
        let Ok(segment) = Segment::create("trial", 2 << 20, Sharing::ReadOnly) else {
            return Capabilities::default();
        };
        let huge_pages = segment.huge_pages();
        let copy = segment.fd().and_then(|fd| fd.try_clone_to_owned().ok());
        let opened = |sharing| {
            copy.as_ref()
                .and_then(|fd| fd.try_clone().ok())
                .is_some_and(|fd| Segment::open(fd, 2 << 20, sharing, false).is_ok())
        };
        Capabilities {
            allocate: true,
            share: opened(Sharing::ReadOnly),
            cpu_map: true,
            read_only_enforced: !opened(Sharing::ReadWrite),
            huge_pages,
            contiguous: false,
            alignment: bips::sys::PAGE,
            fences: FenceKind::Board,
        }
    }
}

impl Default for Memfd {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for Memfd {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn capabilities(&self) -> Capabilities {
        *self.capabilities.get_or_init(Self::try_out)
    }

    fn plan(&self, requirements: &Requirements) -> Result<Layout> {
        Ok(Layout::in_pages(requirements))
    }

    fn allocate(&self, layout: &Layout, slots: u32) -> Result<Vec<Allocation>> {
        let segment = Segment::create("pool", layout.pool_bytes(slots)?, Sharing::of(layout.writable))?;
        let memory: Arc<dyn Memory> = Arc::new(SegmentMemory::new(segment, Access::Write));
        Ok(Allocation::one_after_another(&memory, layout, slots))
    }

    fn adopts(&self, kind: ForeignKind) -> bool {
        kind == ForeignKind::Memfd
    }

    fn identify(&self, fd: BorrowedFd<'_>) -> Result<(u64, u64)> {
        Segment::identify(fd)
    }

    fn adopt(&self, fd: OwnedFd, writable: bool) -> Result<Arc<dyn Memory>> {
        let segment = Segment::adopt(fd, Sharing::of(writable))?;
        Ok(Arc::new(SegmentMemory::new(segment, Access::Write)))
    }

    fn import(&self, handle: ExternalHandle, access: Access) -> Result<Arc<dyn Memory>> {
        Ok(Arc::new(SegmentMemory::import(handle, access)?))
    }
}
