//! Kind `broker`: memory that a broker makes because this process may not.

use super::SERVICE;
use super::message::{Answer, Request};
use crate::memory::DmaBufMemory;
use crate::{DmaBuf, DmaHeap, Udmabuf, udmabuf};
use bips::sys::{PAGE, SegmentMemory};
use bips::{
    Access, Allocation, Backend, BackendInfo, Capabilities, DeviceId, Error, ErrorKind, ExternalHandle,
    Layout, Line, Memory, Party, Requirements, Result, Served, runtime_dir,
};
use std::collections::HashSet;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long a broker may take: for a large pool the kernel has to find the pages.
const PATIENCE: Duration = Duration::from_secs(30);

/// Provider of what a broker makes.
#[derive(Debug)]
pub struct Brokered {
    info: BackendInfo,
    directory: Option<PathBuf>,
    wanted: Wanted,
    capabilities: OnceLock<Capabilities>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// Whatever the broker has, a heap's before a udmabuf.
    Any,
    Heap(Option<String>),
    Udmabuf,
}

impl Brokered {
    /// The kind of memory it provides; what is wanted of the broker may follow after a colon.
    pub const KIND: &str = "broker";

    /// Asks the broker of this runtime directory, by default of [`runtime_dir`].
    pub fn new(directory: Option<&Path>) -> Self {
        Self::over(directory.map(Path::to_path_buf), Wanted::Any)
    }

    fn over(directory: Option<PathBuf>, wanted: Wanted) -> Self {
        // What a named source gives is what it would be without a broker, and consumers need not know of one.
        let kind = match &wanted {
            Wanted::Any => Self::KIND.into(),
            Wanted::Heap(None) => DmaHeap::KIND.into(),
            Wanted::Heap(Some(name)) => format!("{}:{name}", DmaHeap::KIND),
            Wanted::Udmabuf => Udmabuf::KIND.into(),
        };
        let description = "dma-bufs that a broker makes (`bips broker`)".into();
        let info = BackendInfo { kind, device: DeviceId::default(), description };
        Self { info, directory, wanted, capabilities: OnceLock::new() }
    }

    /// What the broker has to give, as users write it.
    ///
    /// # Errors
    /// `Unsupported` where there is none.
    pub fn ask(&self) -> Result<Vec<String>> {
        match self.call(&Request::Ask, None)? {
            (Answer::Kinds(kinds), fds) if fds.is_empty() => Ok(kinds),
            _ => Err(strange("answered something else than was asked")),
        }
    }

    fn call(&self, request: &Request, memfd: Option<BorrowedFd<'_>>) -> Result<(Answer, Vec<OwnedFd>)> {
        let line = Line::call(self.directory.as_deref(), SERVICE).map_err(|error| match error.kind() {
            ErrorKind::AccessDenied => Error::new(
                ErrorKind::AccessDenied,
                "a broker is here, and this user may not ask it; start it with `bips broker --access directory`, or \
                 group:NAME",
            ),
            _ => error,
        })?;
        let line = line.ok_or_else(|| self.none())?;
        line.send(&request.encode(), memfd.as_slice())?;
        let (message, fds) = line.receive(PATIENCE).map_err(|error| {
            let hint = "the broker did not answer; look at what it says, or start it anew";
            Error::new(error.kind(), format!("{error}; {hint}"))
        })?;
        match Answer::decode(&message)? {
            Answer::Refused(kind, text) => Err(Error::new(kind, text).with("said by", "the broker")),
            answer => Ok((answer, fds)),
        }
    }

    fn none(&self) -> Error {
        let place = runtime_dir(self.directory.as_deref())
            .map_or_else(|_| String::from("the runtime directory"), |dir| dir.display().to_string());
        Error::new(
            ErrorKind::Unsupported,
            format!(
                "no broker answers in {place}: start `bips broker` with the same directory, where /dev/dma_heap or \
                 /dev/udmabuf may be opened, or give this process the device"
            ),
        )
    }

    /// What to ask for, of what there is.
    fn choose(&self) -> Result<Wanted> {
        let kinds = self.ask()?;
        let has = |kind: &str| kinds.iter().any(|there| there == kind);
        let missing = |what: &str| {
            let there = if kinds.is_empty() { "nothing".into() } else { kinds.join(", ") };
            Err(Error::new(
                ErrorKind::Unsupported,
                format!("the broker has no {what}; it has {there}: ask for one of those"),
            ))
        };
        match &self.wanted {
            Wanted::Any if has(DmaHeap::KIND) => Ok(Wanted::Heap(None)),
            Wanted::Any if has(Udmabuf::KIND) => Ok(Wanted::Udmabuf),
            Wanted::Any => missing("memory for everybody"),
            wanted if has(&self.info.kind) => Ok(wanted.clone()),
            _ => missing(&self.info.kind),
        }
    }

    /// Asks for buffers, and believes nothing of what comes.
    fn buffers(&self, request: &Request, memfd: Option<BorrowedFd<'_>>) -> Result<Vec<DmaBuf>> {
        let (Request::Heap { slots, slot_bytes, .. } | Request::Cover { slots, slot_bytes }) = request else {
            return Err(strange("was asked for no buffers"));
        };
        let (answer, fds) = self.call(request, memfd)?;
        if answer != Answer::Buffers(*slots) || fds.len() != *slots as usize {
            return Err(strange("sent another number of buffers than was asked for"));
        }
        let (mut buffers, mut seen) = (Vec::with_capacity(fds.len()), HashSet::new());
        for fd in fds {
            let buffer = DmaBuf::sent(fd, "the broker")?;
            if buffer.len() != *slot_bytes {
                return Err(strange(&format!("sent {} bytes for {slot_bytes}", buffer.len())));
            }
            if !seen.insert(buffer.id()?) {
                return Err(strange("sent the same buffer twice"));
            }
            buffers.push(buffer);
        }
        Ok(buffers)
    }

    /// Makes a pool and tries what can be tried in one process.
    fn try_out(&self) -> Capabilities {
        let slot = Allocation::for_trial(self, PAGE);
        slot.map_or_else(|_| Capabilities::default(), |slot| Capabilities::of_trial(self, &slot))
    }
}

fn strange(what: &str) -> Error {
    Error::new(
        ErrorKind::Protocol,
        format!("what answers as the broker {what}; look at who can write to the directory"),
    )
}

impl Backend for Brokered {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn capabilities(&self) -> Capabilities {
        *self.capabilities.get_or_init(|| self.try_out())
    }

    fn serves(&self, party: &Party) -> Result<Served> {
        party.by_dma_buf("dma-bufs of a heap")
    }

    fn plan(&self, requirements: &Requirements) -> Result<Layout> {
        self.choose()?;
        Ok(Layout::in_pages(requirements))
    }

    fn allocate(&self, layout: &Layout, slots: u32) -> Result<Vec<Allocation>> {
        let slot_bytes = layout.slot_bytes;
        layout.pool_bytes(slots)?;
        match self.choose()? {
            // Whether there is so much, the broker sees: its heap's memory is nobody's control group's.
            Wanted::Heap(name) => {
                let buffers = self.buffers(&Request::Heap { name, slots, slot_bytes }, None)?;
                DmaBufMemory::slots(buffers, slot_bytes)
            }
            _ => udmabuf::pool(layout, slots, |memfd| {
                self.buffers(&Request::Cover { slots, slot_bytes }, Some(memfd))
            }),
        }
    }

    /// A heap's dma-buf, or the memfd below a udmabuf.
    fn import(&self, handle: ExternalHandle, access: Access) -> Result<Arc<dyn Memory>> {
        match handle {
            ExternalHandle::Memfd { .. } => Ok(Arc::new(SegmentMemory::import(handle, access)?)),
            other => Ok(Arc::new(DmaBufMemory::import(other, access)?)),
        }
    }

    fn with_source(&self, name: &str) -> Option<Arc<dyn Backend>> {
        let wanted = match name.split_once(':') {
            None if name == DmaHeap::KIND => Wanted::Heap(None),
            None if name == Udmabuf::KIND => Wanted::Udmabuf,
            Some((DmaHeap::KIND, heap)) if DmaHeap::named(heap).is_ok() => Wanted::Heap(Some(heap.into())),
            _ => return None,
        };
        Some(Arc::new(Self::over(self.directory.clone(), wanted)))
    }
}
