//! The kernel's structures and calls, as its documentation of dma-bufs, heaps and sync files gives them.

use nix::{ioctl_readwrite, ioctl_write_ptr};

/// `struct dma_heap_allocation_data`.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct HeapAllocation {
    pub(crate) len: u64,
    /// Written by the kernel.
    pub(crate) fd: u32,
    pub(crate) fd_flags: u32,
    /// None exist.
    pub(crate) heap_flags: u64,
}

/// `struct udmabuf_create`.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct UdmabufCreate {
    pub(crate) memfd: u32,
    pub(crate) flags: u32,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

pub(crate) const UDMABUF_FLAGS_CLOEXEC: u32 = 1;

/// `struct dma_buf_sync`.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Sync {
    pub(crate) flags: u64,
}

pub(crate) const SYNC_READ: u32 = 1;
pub(crate) const SYNC_WRITE: u32 = 2;
pub(crate) const SYNC_END: u32 = 4;

/// `struct dma_buf_export_sync_file` and `struct dma_buf_import_sync_file`.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct SyncFileOf {
    pub(crate) flags: u32,
    pub(crate) fd: i32,
}

/// `struct sync_file_info`.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct SyncFileInfo {
    pub(crate) name: [u8; 32],
    /// 1 done, 0 not yet, below 0 an error.
    pub(crate) status: i32,
    pub(crate) flags: u32,
    /// 0: the list of its fences is not asked for.
    pub(crate) num_fences: u32,
    pub(crate) pad: u32,
    pub(crate) sync_fence_info: u64,
}

ioctl_readwrite!(dma_heap_alloc, b'H', 0, HeapAllocation);
ioctl_write_ptr!(udmabuf_create, b'u', 0x42, UdmabufCreate);
ioctl_write_ptr!(dma_buf_sync, b'b', 0, Sync);
// The argument is the name itself; its number is that of a pointer of 64 bits.
ioctl_write_ptr!(dma_buf_set_name, b'b', 1, u64);
ioctl_readwrite!(dma_buf_export_sync_file, b'b', 2, SyncFileOf);
ioctl_write_ptr!(dma_buf_import_sync_file, b'b', 3, SyncFileOf);
ioctl_readwrite!(sync_file_info, b'>', 4, SyncFileInfo);

const _: () = {
    assert!(size_of::<HeapAllocation>() == 24);
    assert!(size_of::<UdmabufCreate>() == 24);
    assert!(size_of::<Sync>() == 8);
    assert!(size_of::<SyncFileOf>() == 8);
    assert!(size_of::<SyncFileInfo>() == 56);
};
