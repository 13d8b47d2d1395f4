//! Where a broker has its buffers from.

use crate::{DmaHeap, Udmabuf, udmabuf};
use bips::{Error, ErrorKind, Result};
use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Makes buffers for others. They must be files that can be polled, as all dma-bufs are: that is how it is seen that they are
/// in use.
pub trait Source: Send + Sync + fmt::Debug {
    /// Memory kinds it has at this moment, as users write them.
    fn kinds(&self) -> Vec<String>;

    /// So many buffers of a heap, of zeros.
    ///
    /// # Errors
    /// What the device reports; that there is no such heap.
    fn of_heap(&self, heap: Option<&str>, slots: u32, slot_bytes: u64) -> Result<Vec<OwnedFd>>;

    /// A buffer over each part of a memfd, which was checked: it can't shrink, and has memory behind all of it.
    ///
    /// # Errors
    /// What the device reports.
    fn cover(&self, memfd: BorrowedFd<'_>, slots: u32, slot_bytes: u64) -> Result<Vec<OwnedFd>>;
}

/// This machine's devices.
#[derive(Debug, Default)]
pub struct Devices;

impl Source for Devices {
    fn kinds(&self) -> Vec<String> {
        let heaps = DmaHeap::heaps().into_iter().filter(|heap| {
            let heap = DmaHeap::named(heap);
            heap.is_ok_and(|heap| heap.may_open().is_ok())
        });
        let mut kinds: Vec<_> = heaps.map(|heap| format!("{}:{heap}", DmaHeap::KIND)).collect();
        if DmaHeap::new().may_open().is_ok() {
            kinds.insert(0, DmaHeap::KIND.into());
        }
        if udmabuf::may_open().is_ok() {
            kinds.push(Udmabuf::KIND.into());
        }
        kinds
    }

    fn of_heap(&self, heap: Option<&str>, slots: u32, slot_bytes: u64) -> Result<Vec<OwnedFd>> {
        let heap = match heap {
            Some(name) => DmaHeap::named(name)?,
            None => DmaHeap::new(),
        };
        Ok(heap.buffers(slot_bytes, slots)?.into_iter().map(OwnedFd::from).collect())
    }

    fn cover(&self, memfd: BorrowedFd<'_>, slots: u32, slot_bytes: u64) -> Result<Vec<OwnedFd>> {
        Ok(udmabuf::cover_all(memfd, slots, slot_bytes)?.into_iter().map(OwnedFd::from).collect())
    }
}

/// Whether there is anything to broker.
pub(super) fn check(source: &dyn Source) -> Result<Vec<String>> {
    let kinds = source.kinds();
    if !kinds.is_empty() {
        return Ok(kinds);
    }
    let heap = DmaHeap::new().may_open().err().map_or_else(String::new, |error| error.to_string());
    let udmabuf = udmabuf::may_open().err().map_or_else(String::new, |error| error.to_string());
    Err(Error::new(ErrorKind::Unsupported, format!("there is nothing to broker here: {heap}; {udmabuf}")))
}
