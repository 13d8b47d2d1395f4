//! The slots of one stream, mapped.

use crate::backend::{Allocation, BackendInfo, Memory, PrivateMapping};
use crate::handle::{Access, WireHandle};
use crate::session::{SlotEntry, Welcome};
use crate::shm::SlotMemory;
use crate::{Error, ErrorKind, Result};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// A fixed set of slots in the memory of one backend.
#[derive(Debug)]
pub(crate) struct Pool {
    slots: Vec<SlotMemory>,
    pub(crate) info: BackendInfo,
    pub(crate) slot_bytes: u64,
    objects: Vec<Object>,
    /// Bit i: slot i has a private view.
    private_slots: AtomicU64,
    /// Whether the CPU's access must be announced: see [`Pool::begin`].
    announced: bool,
    /// Why that failed last.
    trouble: Mutex<Option<(ErrorKind, String)>>,
}

/// A memory object that slots lie in.
#[derive(Debug)]
struct Object {
    memory: Arc<dyn Memory>,
    /// Its copy-on-write view, made on first use.
    private: OnceLock<Box<dyn PrivateMapping>>,
}

impl Pool {
    pub(crate) fn new(
        allocations: Vec<Allocation>,
        info: &BackendInfo,
        slot_bytes: u64,
        access: Access,
    ) -> Result<Self> {
        let mut objects: Vec<Object> = Vec::new();
        for allocation in &allocations {
            if !objects.iter().any(|object| Arc::ptr_eq(&object.memory, &allocation.memory)) {
                objects.push(Object { memory: allocation.memory.clone(), private: OnceLock::new() });
            }
        }
        let slots =
            allocations.into_iter().map(|slot| SlotMemory::new(slot, access)).collect::<Result<_>>()?;
        Ok(Self {
            slots,
            info: info.clone(),
            slot_bytes,
            announced: objects.iter().any(|object| object.memory.cpu_access().is_some()),
            objects,
            private_slots: AtomicU64::new(0),
            trouble: Mutex::new(None),
        })
    }

    /// The pool a welcome describes, over memory objects already opened.
    pub(crate) fn import(
        memories: &[Arc<dyn Memory>],
        welcome: &Welcome,
        info: &BackendInfo,
        access: Access,
    ) -> Result<Self> {
        let allocations = welcome
            .slots
            .iter()
            .map(|slot| {
                let memory = memories.get(slot.memory as usize).cloned();
                let memory =
                    memory.ok_or_else(|| Error::protocol("a slot in a memory object that was not sent"))?;
                Ok(Allocation { memory, offset: slot.offset, len: welcome.slot_bytes })
            })
            .collect::<Result<_>>()?;
        Self::new(allocations, info, welcome.slot_bytes, access)
    }

    /// What a consumer must be sent: the memory objects, and where each slot lies in them.
    pub(crate) fn export(&self) -> Result<(Vec<WireHandle>, Vec<SlotEntry>, Vec<OwnedFd>)> {
        let mut memories = Vec::new();
        let mut fds = Vec::new();
        for object in &self.objects {
            let (memory, fd) = object.memory.export()?.into_wire();
            memories.push(memory);
            fds.push(fd);
        }
        let slots = (0..self.slots.len())
            .map(|slot| SlotEntry {
                memory: self.memory_of(slot) as u32,
                offset: self.slots[slot].allocation().offset,
            })
            .collect();
        Ok((memories, slots, fds))
    }

    /// Pages that a process gives back one by one when it ends.
    pub(crate) fn small_pages(&self) -> u64 {
        self.objects.iter().map(|object| object.memory.small_pages()).sum()
    }

    fn memory_of(&self, slot: usize) -> usize {
        let memory = &self.slots[slot].allocation().memory;
        self.objects
            .iter()
            .position(|object| Arc::ptr_eq(&object.memory, memory))
            .expect("collected in `new`")
    }

    pub(crate) fn slot(&self, slot: u32) -> &SlotMemory {
        &self.slots[slot as usize]
    }

    pub(crate) fn len(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Whether the CPU's access to a slot must begin and end by [`Pool::begin`] and [`Pool::end`].
    #[inline]
    pub(crate) fn is_announced(&self) -> bool {
        self.announced
    }

    /// Begins the CPU's access to a slot that is leased. `Ok(false)` if a device still uses it after `timeout`.
    pub(crate) fn begin(&self, slot: u32, access: Access, timeout: Option<Duration>) -> Result<bool> {
        let allocation = self.slots[slot as usize].allocation();
        let Some(cpu) = allocation.memory.cpu_access() else { return Ok(true) };
        match cpu.begin(allocation.offset, access, timeout) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Timeout => Ok(false),
            Err(error) => {
                let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
                *trouble = Some((error.kind(), error.to_string()));
                Err(error)
            }
        }
    }

    /// Whether a device still uses a slot, so that the CPU's access could not begin. Changes nothing.
    pub(crate) fn is_busy(&self, slot: u32) -> bool {
        let allocation = self.slots[slot as usize].allocation();
        let Some(cpu) = allocation.memory.cpu_access() else { return false };
        cpu.is_idle(allocation.offset, Access::Write).is_ok_and(|idle| !idle)
    }

    /// Ends it, before the lease does.
    pub(crate) fn end(&self, slot: u32, access: Access) -> Result<()> {
        let allocation = self.slots[slot as usize].allocation();
        allocation.memory.cpu_access().map_or(Ok(()), |cpu| cpu.end(allocation.offset, access))
    }

    /// Makes what a device wrote seen by consumers that can't ask for it themselves, before they are told of it.
    /// `Ok(false)` if it still writes after `timeout`.
    pub(crate) fn settle(&self, slot: u32, timeout: Duration) -> Result<bool> {
        if !self.announced {
            return Ok(true);
        }
        let allocation = self.slots[slot as usize].allocation();
        let Some(cpu) = allocation.memory.cpu_access() else { return Ok(true) };
        match cpu.settle(allocation.offset, timeout) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Timeout => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What the system said when the CPU's access could last not begin.
    pub(crate) fn explain_trouble(&self, stream: &str) -> Error {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let (kind, text) = trouble
            .as_ref()
            .map_or((ErrorKind::System, "no reason was given"), |(kind, text)| (*kind, text.as_str()));
        Error::new(kind, format!("the CPU can't get at a slot of {stream}, which is free again: {text}"))
    }

    /// Claims the private view of a slot: its mapping and where the slot begins in it. One at a time.
    pub(crate) fn claim_private(&self, slot: u32) -> Result<(&dyn PrivateMapping, usize)> {
        let Object { memory, private: mapping } = &self.objects[self.memory_of(slot as usize)];
        if mapping.get().is_none() {
            // Another thread may be first; then ours is dropped.
            let _ = mapping.set(memory.map_private()?);
        }
        let bit = 1 << slot;
        if self.private_slots.fetch_or(bit, Relaxed) & bit != 0 {
            return Err(Error::invalid(
                "this frame has a private view already; drop that one first, or copy the frame",
            ));
        }
        let mapping = mapping.get().expect("set above");
        Ok((&**mapping, self.slots[slot as usize].allocation().offset as usize))
    }

    /// The opposite of [`Pool::claim_private`].
    pub(crate) fn unclaim_private(&self, slot: u32) {
        let mapping = &self.objects[self.memory_of(slot as usize)].private;
        let allocation = self.slots[slot as usize].allocation();
        if let Some(mapping) = mapping.get()
            && let Err(error) = mapping.forget(allocation.offset as usize, allocation.len as usize)
        {
            // The slot would show stale bytes: better to have no private view of it any more.
            tracing::error!(%error, slot, "a private view can't be taken back; the slot gets none again");
            return;
        }
        self.private_slots.fetch_and(!(1 << slot), Relaxed);
    }
}
