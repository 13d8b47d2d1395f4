//! A device whose work begins and ends when a test says so: vgem's fences.

use bips::Access;
use bips_dma_buf::SyncFile;
use nix::{ioctl_readwrite, ioctl_write_ptr};
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

#[repr(C)]
#[derive(Default)]
struct Dumb {
    height: u32,
    width: u32,
    bits: u32,
    flags: u32,
    handle: u32,
    pitch: u32,
    size: u64,
}

#[repr(C)]
struct Prime {
    handle: u32,
    flags: u32,
    fd: i32,
}

#[repr(C)]
struct Attach {
    handle: u32,
    flags: u32,
    fence: u32,
    pad: u32,
}

#[repr(C)]
struct Signal {
    fence: u32,
    flags: u32,
}

ioctl_readwrite!(create_dumb, b'd', 0xb2, Dumb);
ioctl_readwrite!(handle_to_fd, b'd', 0x2d, Prime);
ioctl_readwrite!(vgem_attach, b'd', 0x41, Attach);
ioctl_write_ptr!(vgem_signal, b'd', 0x42, Signal);

const FENCE_WRITE: u32 = 1;

/// Work under way. It ends by itself after 10 s.
pub(crate) struct Work {
    card: File,
    fence: u32,
    pub(crate) file: SyncFile,
}

impl Work {
    /// Begins some; `None` where there is no such device, which is said.
    #[track_caller]
    pub(crate) fn begin() -> Option<Self> {
        let Some(card) = card() else {
            bips_conformance::left_out(
                &["dma-buf", "vgem"],
                "there is no vgem device to begin work (modprobe vgem)",
            );
            return None;
        };
        let mut dumb = Dumb { height: 64, width: 64, bits: 32, ..Dumb::default() };
        // SAFETY: the kernel reads and writes the structure, here and below.
        unsafe { create_dumb(card.as_raw_fd(), &raw mut dumb) }.unwrap();
        let mut attach = Attach { handle: dumb.handle, flags: FENCE_WRITE, fence: 0, pad: 0 };
        // SAFETY: as above.
        unsafe { vgem_attach(card.as_raw_fd(), &raw mut attach) }.unwrap();
        let mut prime = Prime { handle: dumb.handle, flags: libc::O_CLOEXEC.cast_unsigned(), fd: -1 };
        // SAFETY: as above.
        unsafe { handle_to_fd(card.as_raw_fd(), &raw mut prime) }.unwrap();
        // SAFETY: a new descriptor, and ours.
        let buffer = unsafe { OwnedFd::from_raw_fd(prime.fd) };
        let file = SyncFile::of(&buffer, Access::Read).unwrap();
        assert!(!file.is_done().unwrap(), "work has begun");
        Some(Self { card, fence: attach.fence, file })
    }

    pub(crate) fn finish(&self) {
        let signal = Signal { fence: self.fence, flags: 0 };
        // SAFETY: the kernel reads the structure.
        unsafe { vgem_signal(self.card.as_raw_fd(), &raw const signal) }.unwrap();
    }
}

fn card() -> Option<File> {
    let cards = fs::read_dir("/sys/class/drm").into_iter().flatten().flatten();
    let card = cards.map(|entry| entry.path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let device = fs::canonicalize(path).unwrap_or_default();
        name.starts_with("card") && device.to_string_lossy().contains("/vgem/")
    })?;
    let node = std::path::Path::new("/dev/dri").join(card.file_name()?);
    OpenOptions::new().read(true).write(true).open(node).ok()
}
