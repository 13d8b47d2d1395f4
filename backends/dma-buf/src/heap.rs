//! Kind `dma-heap[:NAME]`: every slot a dma-buf from a heap of the kernel's.

use crate::memory::DmaBufMemory;
use crate::{DmaBuf, device, ioctl};
use bips::sys::{PAGE, check_uncharged};
use bips::{
    Access, Allocation, Backend, BackendInfo, Capabilities, DeviceId, Error, ErrorKind, ExternalHandle,
    Layout, Memory, Party, Requirements, Result, Served,
};
use nix::errno::Errno;
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

const DIRECTORY: &str = "/dev/dma_heap";

/// The heap of ordinary pages, wherever they lie. The kernel gives them zeroed.
const SYSTEM: &str = "system";

/// Provider of dma-bufs from the kernel's heaps.
#[derive(Debug)]
pub struct DmaHeap {
    info: BackendInfo,
    directory: PathBuf,
    /// The heap the user named.
    named: Option<String>,
    capabilities: OnceLock<Capabilities>,
}

impl DmaHeap {
    /// The kind of memory it provides; a heap's name may follow after a colon.
    pub const KIND: &str = "dma-heap";

    /// From the heap that suits most: `system` where there is one.
    pub fn new() -> Self {
        Self::over(DIRECTORY.into(), None)
    }

    /// From the heap of this name, as in `/dev/dma_heap`. Whether it exists shows when a pool is planned.
    ///
    /// # Errors
    /// `InvalidArgument` for what no heap can be called.
    pub fn named(heap: &str) -> Result<Self> {
        // With the kind before it, it must fit the 32 characters of a kind.
        let fits = (1..=23).contains(&heap.len()) && !heap.starts_with('.');
        if !(fits && heap.chars().all(|c| c.is_ascii_graphic() && c != '/')) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("{heap:?} is no name of a heap; see /dev/dma_heap for those there are"),
            ));
        }
        Ok(Self::over(DIRECTORY.into(), Some(heap.into())))
    }

    fn over(directory: PathBuf, named: Option<String>) -> Self {
        let kind = named.as_ref().map_or(Self::KIND.into(), |name| format!("{}:{name}", Self::KIND));
        let heaps = heaps_in(&directory);
        let description = match named.as_deref().or_else(|| choose(&heaps)) {
            Some(heap) => format!("dma-bufs of heap {heap} (heaps here: {})", list(&heaps)),
            None => "dma-bufs of a kernel's heap; there is none here".into(),
        };
        Self {
            info: BackendInfo { kind, device: DeviceId::default(), description },
            directory,
            named,
            capabilities: OnceLock::new(),
        }
    }

    /// The heaps of this machine, sorted by name.
    pub fn heaps() -> Vec<String> {
        heaps_in(Path::new(DIRECTORY))
    }

    /// Opens the heap to allocate from.
    fn open(&self) -> Result<(String, OwnedFd)> {
        let heaps = heaps_in(&self.directory);
        if heaps.is_empty() {
            return Err(Error::new(ErrorKind::Unsupported, no_heaps(&self.directory)));
        }
        let heap = match &self.named {
            Some(name) if heaps.contains(name) => name.as_str(),
            Some(name) => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("there is no heap {name:?} here; use one of: {}", list(&heaps)),
                ));
            }
            None => choose(&heaps).ok_or_else(|| {
                Error::new(
                    ErrorKind::Unsupported,
                    format!(
                        "none of the heaps here serves everybody; name one, as in dma-heap:{} (there are: {})",
                        heaps[0],
                        list(&heaps)
                    ),
                )
            })?,
        };
        let fd = device::open(&self.directory.join(heap), false, || {
            format!("heap {heap:?} has just gone, or has no driver; there are: {}", list(&heaps))
        })?;
        Ok((heap.into(), fd))
    }

    /// Whether there is a heap for this, and this process may use it.
    pub(crate) fn may_open(&self) -> Result<()> {
        self.open().map(drop)
    }

    /// Buffers of zeros.
    pub(crate) fn buffers(&self, len: u64, count: u32) -> Result<Vec<DmaBuf>> {
        let total = len.saturating_mul(count.into());
        let (heap, device) = self.open()?;
        // Most take any page of the machine and have no limit of their own: for too much the kernel kills. Those with
        // memory of their own say what it has.
        if !is_contiguous(&heap) {
            check_uncharged(total)?;
        }
        let buffer = |_| -> Result<DmaBuf> {
            let buffer = allocate(&device, len).map_err(|errno| refused(&heap, total, errno))?;
            let buffer = DmaBuf::new(buffer)?;
            buffer.label();
            if buffer.len() != len {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("heap {heap} gave {} bytes for {len}; use another heap", buffer.len()),
                ));
            }
            if heap == SYSTEM {
                return Ok(buffer);
            }
            // Other heaps are other people's drivers, and what lay there is other people's too.
            Ok(DmaBufMemory::new(buffer, Access::Write)?.cleared()?.into_buffer())
        };
        (0..count).map(buffer).collect()
    }

    /// What works in one process.
    fn try_out(&self) -> Capabilities {
        let slot = Allocation::for_trial(self, PAGE);
        let Ok(slot) = slot else { return Capabilities::default() };
        let contiguous = self.open().is_ok_and(|(heap, _)| is_contiguous(&heap));
        Capabilities { contiguous, ..Capabilities::of_trial(self, &slot) }
    }
}

impl Default for DmaHeap {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for DmaHeap {
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
        self.open()?;
        Ok(Layout::in_pages(requirements))
    }

    fn allocate(&self, layout: &Layout, slots: u32) -> Result<Vec<Allocation>> {
        layout.pool_bytes(slots)?;
        DmaBufMemory::slots(self.buffers(layout.slot_bytes, slots)?, layout.slot_bytes)
    }

    fn import(&self, handle: ExternalHandle, access: Access) -> Result<Arc<dyn Memory>> {
        Ok(Arc::new(DmaBufMemory::import(handle, access)?))
    }

    fn with_source(&self, name: &str) -> Option<Arc<dyn Backend>> {
        Some(Arc::new(Self::named(name).ok()?))
    }
}

fn allocate(heap: &OwnedFd, len: u64) -> nix::Result<OwnedFd> {
    let flags = (libc::O_RDWR | libc::O_CLOEXEC).cast_unsigned();
    let mut call = ioctl::HeapAllocation { len, fd_flags: flags, ..Default::default() };
    // SAFETY: the kernel reads and writes this structure, which lives as long as the call.
    unsafe { ioctl::dma_heap_alloc(heap.as_raw_fd(), &raw mut call) }?;
    // SAFETY: the call succeeded, so it is a new descriptor, and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(call.fd.cast_signed()) })
}

fn refused(heap: &str, total: u64, errno: Errno) -> Error {
    match errno {
        Errno::ENOMEM => {
            let mib = total.div_ceil(1 << 20);
            let error = Error::new(
                ErrorKind::OutOfMemory,
                format!("heap {heap} has not {mib} MiB left for the pool; use fewer slots or smaller frames"),
            );
            match heap {
                SYSTEM => error,
                _ => error.hint(
                    "or reserve more for it (`cma=` on the kernel's command line, `reserved-memory` in the \
                                 device tree), or use dma-heap:system where devices take scattered pages",
                ),
            }
        }
        errno => Error::system("allocating from a heap", errno).with("heap", heap),
    }
}

fn no_heaps(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "no {directory}: a kernel without CONFIG_DMABUF_HEAPS and CONFIG_DMABUF_HEAPS_SYSTEM (Linux 5.6 or newer has \
         them), or a container that was not given one: `--device {directory}/system`, or run `bips broker` outside and use kind broker"
    )
}

fn heaps_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The heap for whom no heap was named: ordinary pages, else the one for contiguous memory, under any of its names, else
/// one that the CPU and its caches can use.
fn choose(heaps: &[String]) -> Option<&str> {
    let names = || heaps.iter().map(String::as_str);
    // Uncached: every read by the CPU is slow. The others the CPU may not see at all.
    let special = ["uncached", "secure", "protected", "restricted"];
    let usual = |name: &str| !special.iter().any(|word| name.contains(word));
    names()
        .find(|name| *name == SYSTEM)
        .or_else(|| names().find(|name| is_contiguous(name) && usual(name)))
        .or_else(|| names().find(|name| usual(name)))
}

/// Whether its memory was set apart when the machine started.
fn is_contiguous(name: &str) -> bool {
    name.contains("cma") || name == "reserved"
}

fn list(heaps: &[String]) -> String {
    if heaps.is_empty() { "none".into() } else { heaps.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str]) -> Option<String> {
        choose(&names.iter().map(ToString::to_string).collect::<Vec<_>>()).map(Into::into)
    }

    #[test]
    fn chooses_what_serves_most() {
        assert_eq!(chosen(&["linux,cma", "system", "system-uncached"]).unwrap(), "system");
        assert_eq!(chosen(&["linux,cma", "system-uncached"]).unwrap(), "linux,cma");
        assert_eq!(chosen(&["default_cma_region"]).unwrap(), "default_cma_region");
        assert_eq!(chosen(&["aaa", "reserved", "secure-cma"]).unwrap(), "reserved");
        assert_eq!(chosen(&["vendor", "system-uncached"]).unwrap(), "vendor");
        assert_eq!(chosen(&["system-uncached", "protected"]), None);
        assert_eq!(chosen(&[]), None);
    }

    #[test]
    fn a_name_is_a_name() {
        for bad in ["", "../system", "a/b", ".hidden", "has space", "very-long-name-of-some-heap"] {
            assert_eq!(DmaHeap::named(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
            assert!(DmaHeap::new().with_source(bad).is_none(), "{bad}");
        }
        assert_eq!(DmaHeap::named("linux,cma").unwrap().info().kind, "dma-heap:linux,cma");
        assert_eq!(DmaHeap::new().with_source("system").unwrap().info().kind, "dma-heap:system");
    }

    /// Plain files stand for heaps: enough to see which is opened, and what is said.
    #[test]
    fn says_which_heaps_there_are() {
        let directory = std::env::temp_dir().join(format!("bips-heaps-{}", std::process::id()));
        let plan = |named: Option<&str>| {
            let backend = DmaHeap::over(directory.clone(), named.map(Into::into));
            let content = bips::Content::bytes(100).unwrap();
            backend.plan(&Requirements { slots: 2, ..Requirements::of(content) })
        };
        let error = plan(None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("CONFIG_DMABUF_HEAPS"), "{error}");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("linux,cma"), "").unwrap();
        fs::write(directory.join("uncached"), "").unwrap();
        assert_eq!(plan(None).unwrap().slot_bytes, 4096);
        let error = plan(Some("system")).unwrap_err();
        assert!(error.to_string().contains("use one of: linux,cma, uncached"), "{error}");
        fs::remove_file(directory.join("linux,cma")).unwrap();
        let error = plan(None).unwrap_err();
        assert!(error.to_string().contains("dma-heap:uncached"), "{error}");
        fs::remove_dir_all(&directory).unwrap();
    }
}
