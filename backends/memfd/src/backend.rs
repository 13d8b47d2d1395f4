use bips::sys::{PAGE, Segment, SegmentMemory, Sharing};
use bips::{
    Access, Allocation, Backend, BackendInfo, Capabilities, DeviceId, Error, ErrorKind, ExternalHandle,
    Layout, Memory, Requirements, Result, Usage,
};
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
        let devices = requirements.usage.without(Usage::CPU);
        if !devices.is_empty() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("memfd is host memory, and usage {devices} needs memory a device can reach"),
            ));
        }
        let slot_bytes = requirements.content.nbytes().max(1).next_multiple_of(PAGE);
        Ok(Layout { content: requirements.content, slot_bytes, writable: requirements.writable })
    }

    fn allocate(&self, layout: &Layout, slots: u32) -> Result<Vec<Allocation>> {
        let len = layout.slot_bytes.checked_mul(u64::from(slots)).ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument, "the pool is larger than any machine; use smaller frames")
        })?;
        let segment = Segment::create("pool", len, Sharing::of(layout.writable))?;
        let memory: Arc<dyn Memory> = Arc::new(SegmentMemory::new(segment, Access::Write));
        let slot = |i| Allocation {
            memory: memory.clone(),
            offset: u64::from(i) * layout.slot_bytes,
            len: layout.slot_bytes,
        };
        Ok((0..slots).map(slot).collect())
    }

    fn import(&self, handle: ExternalHandle, access: Access) -> Result<Arc<dyn Memory>> {
        match handle {
            ExternalHandle::Memfd { fd, len } => {
                let segment = Segment::open(fd, len, Sharing::of(access == Access::Write), true)?;
                Ok(Arc::new(SegmentMemory::new(segment, access)))
            }
            other => {
                Err(Error::new(ErrorKind::Protocol, format!("the producer sent {other:?} for memfd memory")))
            }
        }
    }
}
