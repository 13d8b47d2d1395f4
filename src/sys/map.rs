//! Shared mappings at huge-page boundaries.
//!
//! `memmap2` can't choose where a mapping lies, and a mapping off the 2 MiB boundary never gets huge pages
//! (ADR 3); so this is our own, over `nix`.

use crate::{Error, ErrorKind, Result};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, mmap, mmap_anonymous, munmap};
use nix::unistd::{SysconfVar, sysconf};
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// Bytes of a huge page on x86-64 and on ARM with 4 KiB pages.
pub(super) const HUGE: usize = 2 << 20;

const MADV_POPULATE_WRITE: i32 = 23;
const MADV_COLLAPSE: i32 = 25;

/// A mapping of a file descriptor. Unmapped on drop.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: an address range; what may be done with it from which thread is up to the users of the pointer.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes from the start of `fd`, shared or (`private`) copy-on-write. What lies beyond the end of the file
    /// faults: know its size, and that it stays so.
    ///
    /// # Errors
    /// `InvalidArgument` for no length; what `mmap` reports.
    pub fn new(fd: impl AsFd, len: usize, writable: bool, private: bool) -> Result<Self> {
        // Here, since no byte is shared before it is mapped.
        four_kib_pages(sysconf(SysconfVar::PAGE_SIZE).ok().flatten())?;
        let size = NonZeroUsize::new(len).ok_or_else(|| Error::invalid("nothing to map: the length is 0"))?;
        let mut protection = ProtFlags::PROT_READ;
        protection.set(ProtFlags::PROT_WRITE, writable || private);
        let sharing = if private { MapFlags::MAP_PRIVATE } else { MapFlags::MAP_SHARED };
        let failed = |errno| Error::system("mmap", errno).with("bytes", len);
        if len < HUGE {
            // SAFETY: a new mapping at an address of the kernel's choice; nothing existing is touched.
            let start = unsafe { mmap(None, size, protection, sharing, fd, 0) }.map_err(failed)?;
            return Ok(Self { start: start.cast(), len });
        }
        // Reserve a huge page more than needed, then map over the aligned part of the reservation.
        let reserved = NonZeroUsize::new(len.next_multiple_of(HUGE) + HUGE).expect("not zero");
        let none = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let reservation =
            unsafe { mmap_anonymous(None, reserved, ProtFlags::PROT_NONE, none) }.map_err(failed)?;
        let aligned = NonZeroUsize::new(reservation.addr().get().next_multiple_of(HUGE)).expect("not zero");
        // SAFETY: MAP_FIXED replaces only pages of the reservation just made: it starts at or after its start
        // (rounded up by less than HUGE) and ends at most `len` later, inside the HUGE of slack.
        let mapped = unsafe { mmap(Some(aligned), size, protection, sharing | MapFlags::MAP_FIXED, fd, 0) };
        let start = match mapped {
            Ok(start) => start.cast(),
            Err(errno) => {
                release(reservation, reserved.get());
                return Err(failed(errno));
            }
        };
        let before = aligned.get() - reservation.addr().get();
        let end = (before + len).next_multiple_of(crate::sys::PAGE as usize);
        release(reservation, before);
        release(reservation.map_addr(|addr| addr.saturating_add(end)), reserved.get() - end);
        Ok(Self { start, len })
    }

    /// First byte.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Bytes mapped.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: nothing is mapped with length 0.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Enters all pages into the page table, then turns what can be into huge pages, if wanted. Both are only faster
    /// later; where the kernel can't, nothing is lost. Returns whether huge pages came of it.
    pub(crate) fn settle(&self, huge: bool) -> bool {
        self.advise(MADV_POPULATE_WRITE, self.len);
        let whole = self.len / HUGE * HUGE;
        huge && whole > 0 && self.advise(MADV_COLLAPSE, whole)
    }

    /// Gives the memory of a shared mapping back to the system: zeros from now on, for everybody who maps it.
    pub(super) fn discard(&self) {
        self.advise(libc::MADV_REMOVE, self.len);
    }

    fn advise(&self, advice: i32, len: usize) -> bool {
        // SAFETY: the range is ours, and no advice used here changes its protection. MADV_REMOVE zeroes its content,
        // which is memory that peers write to anyway: it is only reached through atomics.
        unsafe { libc::madvise(self.start.as_ptr().cast(), len, advice) == 0 }
    }

    /// Drops the private copies of a copy-on-write mapping: the next read sees the file again.
    ///
    /// # Errors
    /// `InvalidArgument` outside the mapping; `System` when the kernel refuses.
    pub fn forget_copies(&self, offset: usize, len: usize) -> Result<()> {
        let end = offset.checked_add(len).filter(|end| *end <= self.len);
        end.ok_or_else(|| Error::invalid("range outside the mapping"))?;
        let start = self.start.cast().map_addr(|addr| addr.saturating_add(offset));
        // SAFETY: inside our mapping (checked above); callers hold no reference into a private view any more.
        unsafe { nix::sys::mman::madvise(start, len, MmapAdvise::MADV_DONTNEED) }
            .map_err(|errno| Error::system("madvise", errno))
    }
}

/// Slots, planes and control memory lie at multiples of this on every machine, so that one file fits all.
fn four_kib_pages(size: Option<libc::c_long>) -> Result<()> {
    match size {
        Some(size) if size as u64 != crate::sys::PAGE => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "this kernel has pages of {} KiB and bips shares memory in pages of 4 KiB; boot a kernel with those",
                size >> 10
            ),
        )),
        _ => Ok(()),
    }
}

/// Unmaps a part of a reservation; length 0 is nothing.
fn release(start: NonNull<std::ffi::c_void>, len: usize) {
    if len > 0 {
        // SAFETY: only called on ranges of a reservation this file made and that nothing points into.
        let _ = unsafe { munmap(start, len) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        release(self.start.cast(), self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_pages_are_refused_by_name() {
        assert!(four_kib_pages(Some(4096)).is_ok());
        let error = four_kib_pages(Some(65_536)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("pages of 64 KiB"), "{error}");
    }
}
