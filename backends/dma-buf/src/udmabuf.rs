//! Kind `udmabuf`: one sealed memfd for the CPUs, and over each slot of it a dma-buf for devices.

use crate::{DmaBuf, device, ioctl};
use bips::sys::{PAGE, Pages, Segment, SegmentMemory, Sharing, check_unswappable};
use bips::{
    Access, Allocation, Backend, BackendInfo, Capabilities, CpuAccess, DeviceId, Error, ErrorKind,
    ExternalHandle, Layout, Mapped, Memory, Party, PrivateMapping, Requirements, Result, Served,
};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const DEVICE: &str = "/dev/udmabuf";
const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage";
const LIMIT: &str = "/sys/module/udmabuf/parameters/size_limit_mb";

/// Provider of memfd memory that devices can use.
#[derive(Debug)]
pub struct Udmabuf {
    info: BackendInfo,
    capabilities: OnceLock<Capabilities>,
}

impl Udmabuf {
    /// The kind of memory it provides.
    pub const KIND: &str = "udmabuf";

    /// Needs `/dev/udmabuf` where a pool is made; consumers need nothing.
    pub fn new() -> Self {
        Self {
            info: BackendInfo {
                kind: Self::KIND.into(),
                device: DeviceId::default(),
                description: "sealed memfd with dma-bufs over it".into(),
            },
            capabilities: OnceLock::new(),
        }
    }

    /// Makes a pool of a huge page and tries what can be tried in one process.
    fn try_out(&self) -> Capabilities {
        const LEN: u64 = 2 << 20;
        let Ok(slot) = Allocation::for_trial(self, LEN) else { return Capabilities::default() };
        let huge_pages = slot.memory.small_pages() == 0;
        Capabilities { huge_pages, ..Capabilities::of_trial(self, &slot) }
    }
}

impl Default for Udmabuf {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for Udmabuf {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn capabilities(&self) -> Capabilities {
        *self.capabilities.get_or_init(|| self.try_out())
    }

    fn serves(&self, party: &Party) -> Result<Served> {
        party.by_dma_buf("udmabufs")
    }

    fn plan(&self, requirements: &Requirements) -> Result<Layout> {
        open()?;
        not_huge_for_all()?;
        let layout = Layout::in_pages(requirements);
        fits(layout.slot_bytes)?;
        Ok(layout)
    }

    fn allocate(&self, layout: &Layout, slots: u32) -> Result<Vec<Allocation>> {
        pool(layout, slots, |memfd| cover_all(memfd, slots, layout.slot_bytes))
    }

    /// Consumers get the memfd: by the dma-buf they could write.
    fn import(&self, handle: ExternalHandle, access: Access) -> Result<Arc<dyn Memory>> {
        Ok(Arc::new(SegmentMemory::import(handle, access)?))
    }
}

/// A pool in a memfd, whose dma-bufs `cover` makes.
pub(crate) fn pool(
    layout: &Layout,
    slots: u32,
    cover: impl FnOnce(BorrowedFd<'_>) -> Result<Vec<DmaBuf>>,
) -> Result<Vec<Allocation>> {
    let len = layout.pool_bytes(slots)?;
    not_huge_for_all()?;
    check_unswappable(len)?; // its pages are pinned
    let (segment, buffers) = Segment::create_then("pool", len, Sharing::of(layout.writable), pages(), cover)?;
    let memory = SegmentMemory::new(segment, Access::Write);
    let memory: Arc<dyn Memory> = Arc::new(Covered { memory, buffers, slot_bytes: layout.slot_bytes });
    Ok(Allocation::one_after_another(&memory, layout, slots))
}

/// A dma-buf over each part of so many bytes.
pub(crate) fn cover_all(memfd: BorrowedFd<'_>, slots: u32, slot_bytes: u64) -> Result<Vec<DmaBuf>> {
    fits(slot_bytes)?;
    let device = open()?;
    let offsets = (0..u64::from(slots)).map(|slot| slot * slot_bytes);
    offsets.map(|offset| cover(&device, memfd, offset, slot_bytes)).collect()
}

/// Whether this process may make any.
pub(crate) fn may_open() -> Result<()> {
    open().map(drop)
}

/// The producer's side: the memfd, and a dma-buf over each slot.
#[derive(Debug)]
struct Covered {
    memory: SegmentMemory,
    buffers: Vec<DmaBuf>,
    slot_bytes: u64,
}

impl Covered {
    fn buffer(&self, offset: u64) -> Result<&DmaBuf> {
        let buffer = self.buffers.get((offset / self.slot_bytes) as usize);
        buffer.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, format!("no slot begins at {offset}")))
    }
}

// SAFETY: all that is mapped is the segment's.
unsafe impl Memory for Covered {
    fn export(&self) -> Result<ExternalHandle> {
        self.memory.export()
    }

    fn map(&self, access: Access) -> Result<Mapped> {
        self.memory.map(access)
    }

    fn small_pages(&self) -> u64 {
        self.memory.small_pages()
    }

    fn map_private(&self) -> Result<Box<dyn PrivateMapping>> {
        self.memory.map_private()
    }

    fn cpu_access(&self) -> Option<&dyn CpuAccess> {
        Some(self)
    }

    fn export_to_device(&self, offset: u64) -> Result<(ExternalHandle, u64)> {
        let buffer = self.buffer(offset)?;
        Ok((ExternalHandle::DmaBuf { fd: buffer.duplicate()?, len: buffer.len() }, 0))
    }
}

impl CpuAccess for Covered {
    fn begin(&self, offset: u64, access: Access, timeout: Option<Duration>) -> Result<()> {
        self.buffer(offset)?.begin(access, timeout)
    }

    fn end(&self, offset: u64, access: Access) -> Result<()> {
        self.buffer(offset)?.end(access)
    }

    fn is_idle(&self, offset: u64, access: Access) -> Result<bool> {
        self.buffer(offset)?.wait_idle(access, Some(Duration::ZERO))
    }

    /// Consumers have no dma-buf to ask. So what a device still writes is waited for here, and seen by all CPUs then.
    fn settle(&self, offset: u64, timeout: Duration) -> Result<()> {
        let buffer = self.buffer(offset)?;
        buffer.begin(Access::Read, Some(timeout))?;
        buffer.end(Access::Read)
    }
}

/// Makes a dma-buf of a part of a memfd, for devices. The memfd stays what it is; whoever has the dma-buf can write to
/// that part, whatever seals are added later.
///
/// # Errors
/// `InvalidArgument`, saying which of the kernel's rules the memfd or the part breaks; `Unsupported` and `AccessDenied`
/// about `/dev/udmabuf`.
pub fn dma_buf_of(memfd: impl AsFd, offset: u64, len: u64) -> Result<DmaBuf> {
    fits(len)?;
    cover(&open()?, memfd.as_fd(), offset, len)
}

fn cover(device: &OwnedFd, memfd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<DmaBuf> {
    let call = ioctl::UdmabufCreate {
        memfd: memfd.as_raw_fd().cast_unsigned(),
        flags: ioctl::UDMABUF_FLAGS_CLOEXEC,
        offset,
        size: len,
    };
    // SAFETY: the kernel reads this structure, which lives as long as the call.
    let fd =
        unsafe { ioctl::udmabuf_create(device.as_raw_fd(), &raw const call) }.map_err(
            |errno| match errno {
                Errno::EINVAL | Errno::EBADFD | Errno::EBADF => Error::new(
                    ErrorKind::InvalidArgument,
                    format!("the kernel makes no udmabuf of it: {}", rule(memfd, offset, len)),
                ),
                errno => Error::system("UDMABUF_CREATE", errno),
            },
        )?;
    // SAFETY: the call succeeded, so it is a new descriptor, and ours.
    let buffer = DmaBuf::new(unsafe { OwnedFd::from_raw_fd(fd) })?;
    buffer.label();
    Ok(buffer)
}

/// Which rule a memfd breaks; the kernel says EINVAL to all of it.
fn rule(memfd: BorrowedFd<'_>, offset: u64, len: u64) -> String {
    let Ok(seals) = fcntl(memfd, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_retain) else {
        return "it is no memfd".into();
    };
    let size = nix::sys::stat::fstat(memfd).map_or(0, |stat| stat.st_size.cast_unsigned());
    if !seals.contains(SealFlag::F_SEAL_SHRINK) {
        "it can still shrink; seal it with F_SEAL_SHRINK".into()
    } else if seals.intersects(SealFlag::F_SEAL_WRITE | SealFlag::from_bits_retain(libc::F_SEAL_FUTURE_WRITE))
    {
        "it is sealed against writers; make the udmabuf before F_SEAL_WRITE or F_SEAL_FUTURE_WRITE".into()
    } else if !offset.is_multiple_of(PAGE) || !len.is_multiple_of(PAGE) || len == 0 {
        format!("bytes {offset}..+{len} are no whole pages")
    } else if offset.checked_add(len).is_none_or(|end| end > size) {
        format!("bytes {offset}..+{len} lie beyond its {size} bytes")
    } else {
        match fits(len) {
            Err(error) => error.to_string(),
            Ok(()) => "of an unknown reason (EINVAL)".into(),
        }
    }
}

/// What a udmabuf may lie in. Drivers whose devices don't fetch by themselves (virtual cameras, displays at a USB port) use it
/// through a mapping of the kernel's, and in that of these versions all pages of a huge page are its first.
fn pages() -> Pages {
    pages_of(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default())
}

/// Refuses where a pool can't have small pages that needs them: a setting gives large ones to every memfd.
fn not_huge_for_all() -> Result<()> {
    if pages() != Pages::Small {
        return Ok(());
    }
    let setting = |dir: &Path| {
        let path = dir.join("shmem_enabled");
        let text = fs::read_to_string(&path).ok()?;
        is_for_all(&text).then_some(path)
    };
    let root = Path::new(HUGE_PAGES);
    let sizes = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    match setting(root).or_else(|| sizes.into_iter().find_map(|size| setting(&size))) {
        None => Ok(()),
        Some(path) => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "this kernel (Linux 6.11 and 6.12) shows devices the wrong pages of a udmabuf in large pages, and {} \
                 gives them to every memfd; `echo advise` into it as root, or use dma-heap",
                path.display()
            ),
        )),
    }
}

/// Whether this `shmem_enabled` gives large pages unasked.
fn is_for_all(text: &str) -> bool {
    ["[always]", "[within_size]", "[force]"].iter().any(|chosen| text.contains(chosen))
}

fn pages_of(release: &str) -> Pages {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(6), Some(11 | 12)) => Pages::Small,
        _ => Pages::HugeIfPossible,
    }
}

fn open() -> Result<OwnedFd> {
    device::open(Path::new(DEVICE), true, || {
        format!(
            "no {DEVICE}: the module is not loaded (`modprobe udmabuf`), the kernel is without CONFIG_UDMABUF, or the \
             container was not given it: `--device {DEVICE}`, or run `bips broker` outside and use kind broker"
        )
    })
}

/// Refuses what the kernel would refuse without a reason.
fn fits(len: u64) -> Result<()> {
    let limit = fs::read_to_string(LIMIT).ok().and_then(|text| text.trim().parse::<u64>().ok());
    match limit {
        Some(limit) if len > limit << 20 => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "a slot of {} MiB is more than a udmabuf may have here, {limit} MiB; raise it as root: \
                 `echo {} > {LIMIT}`, or use dma-heap",
                len.div_ceil(1 << 20),
                len.div_ceil(1 << 20)
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pages_for_everybody_are_seen() {
        for chosen in ["always", "within_size", "force"] {
            let text = "always within_size advise never deny force\n".replace(chosen, &format!("[{chosen}]"));
            assert!(is_for_all(&text), "{text}");
        }
        for text in [
            "always within_size advise [never] deny force\n",
            "always [inherit] within_size advise never\n",
            "",
        ] {
            assert!(!is_for_all(text), "{text}");
        }
    }

    #[test]
    fn huge_pages_are_kept_from_kernels_that_show_them_wrong() {
        for release in ["6.11.0", "6.12.95+deb12-amd64", "6.12-rc1"] {
            assert_eq!(pages_of(release), Pages::Small, "{release}");
        }
        for release in ["6.1.192", "6.10.4", "6.13.0", "6.120.1", "7.12", "5.15.0-rt", ""] {
            assert_eq!(pages_of(release), Pages::HugeIfPossible, "{release}");
        }
    }
}
