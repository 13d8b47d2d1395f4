//! A memory object of the device with one buffer over all of it, mapped for the CPU.

use crate::adapter::{Adapter, HANDLE, USAGE};
use crate::allowance::Ticket;
use crate::device::Device;
use crate::failure::failed;
use ash::vk;
use bips::sys::PAGE;
use bips::{Access, CpuAccess, Error, ErrorKind, ExternalHandle, Mapped, Memory, Origin, Result};
use std::fmt;
use std::ops::Deref;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

/// Memory of a Vulkan device that processes share.
pub struct VulkanMemory {
    made: Pair<Arc<Device>>,
    start: NonNull<u8>,
    len: usize,
    memory_type: u32,
    /// Bytes that the driver took for it.
    taken: u64,
    access: Access,
    /// For other processes.
    fd: OwnedFd,
    _ticket: Ticket,
}

impl Pair<&Device> {
    /// For good.
    fn kept(self, device: &Arc<Device>) -> Pair<Arc<Device>> {
        let kept = Pair { device: device.clone(), buffer: self.buffer, memory: self.memory };
        std::mem::forget(self);
        kept
    }
}

// SAFETY: the pointer is to memory that lives as long as this; Vulkan's handles may be used by any thread.
unsafe impl Send for VulkanMemory {}
// SAFETY: as above; no call that needs a handle for itself alone is made but in `drop`.
unsafe impl Sync for VulkanMemory {}

/// A buffer and the memory below it, which end together.
pub(crate) struct Pair<D: Deref<Target = Device>> {
    pub(crate) device: D,
    pub(crate) buffer: vk::Buffer,
    pub(crate) memory: vk::DeviceMemory,
}

impl<D: Deref<Target = Device>> Drop for Pair<D> {
    fn drop(&mut self) {
        // In a forked child they are the parent's, whose driver has its threads there.
        if !self.device.is_ours() {
            return;
        }
        // SAFETY: nobody else has the buffer, and users wait for the work that uses it. Null is nothing.
        unsafe { self.device.raw.destroy_buffer(self.buffer, None) };
        // SAFETY: likewise; this also ends the mapping.
        unsafe { self.device.raw.free_memory(self.memory, None) };
    }
}

impl VulkanMemory {
    /// New memory of so many bytes, which are zeros.
    pub(crate) fn new(device: &Arc<Device>, len: u64) -> Result<Self> {
        let (mut made, needed) = buffer(device, len)?;
        let memory_type = best(&device.memory, needed.memory_type_bits).ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                format!("{} has no memory for buffers that the CPU sees too", device.adapter),
            )
        })?;
        let ticket = device.allowance.take()?;
        let mut export = vk::ExportMemoryAllocateInfo::default().handle_types(HANDLE);
        let mut dedicated = vk::MemoryDedicatedAllocateInfo::default().buffer(made.buffer);
        let wanted = vk::MemoryAllocateInfo::default()
            .allocation_size(needed.size)
            .memory_type_index(memory_type)
            .push_next(&mut dedicated)
            .push_next(&mut export);
        // SAFETY: size and type are those the driver named for this buffer; the chain lives as long as the call.
        made.memory = unsafe { device.raw.allocate_memory(&wanted, None) }.map_err(|result| {
            failed("vkAllocateMemory", result).with("device", device.adapter.to_string())
        })?;
        let info = vk::MemoryGetFdInfoKHR::default().memory(made.memory).handle_type(HANDLE);
        // SAFETY: the extension is enabled, and the memory was allocated to be exported so.
        let fd = unsafe { device.memory_fd.get_memory_fd(&info) }
            .map_err(|result| failed("vkGetMemoryFdKHR", result))?;
        // SAFETY: the call succeeded, so it is a new descriptor, and ours.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let this = Self::finish(device, made, ticket, needed.size, memory_type, len, Access::Write, fd)?;
        // SAFETY: the whole mapping, of which nobody has a view yet.
        unsafe { this.start.as_ptr().write_bytes(0, this.len) };
        if !this.is_coherent() {
            this.end(0, Access::Write)?;
        }
        Ok(this)
    }

    /// What another process's memory is here.
    pub(crate) fn import(
        device: &Arc<Device>,
        fd: OwnedFd,
        len: u64,
        origin: Origin,
        access: Access,
    ) -> Result<Self> {
        let bad = |what: String| Err(Error::new(ErrorKind::Protocol, format!("the producer sent {what}")));
        if len == 0 || !len.is_multiple_of(PAGE) || len > device.adapter.largest {
            return bad(format!("{len} bytes of opaque memory, which no pool has"));
        }
        let (mut made, needed) = buffer(device, len)?;
        let fits = 1u32.checked_shl(origin.memory_type).is_some_and(|bit| needed.memory_type_bits & bit != 0);
        if !fits || rank(&device.memory, origin.memory_type).is_none() {
            return bad(format!(
                "memory of type {}, which this driver does not use for it",
                origin.memory_type
            ));
        }
        device.signature()?.check(&fd, needed.size)?;
        let ticket = device.allowance.take()?;
        let kept = fd.try_clone().map_err(|error| Error::system("duplicating a descriptor", error))?;
        let number = fd.into_raw_fd();
        let mut import = vk::ImportMemoryFdInfoKHR::default().handle_type(HANDLE).fd(number);
        let mut dedicated = vk::MemoryDedicatedAllocateInfo::default().buffer(made.buffer);
        let wanted = vk::MemoryAllocateInfo::default()
            .allocation_size(needed.size)
            .memory_type_index(origin.memory_type)
            .push_next(&mut dedicated)
            .push_next(&mut import);
        // SAFETY: the descriptor is one such as this driver makes, of at least this size (checked); size and type fit the
        // buffer, and the chain lives as long as the call.
        let imported = unsafe { device.raw.allocate_memory(&wanted, None) };
        made.memory = imported.map_err(|result| {
            // SAFETY: a driver that refuses leaves the descriptor to the caller.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
            let error = failed("vkAllocateMemory of the producer's memory", result);
            match result {
                // As drivers say that it is not theirs, or of another size.
                vk::Result::ERROR_INVALID_EXTERNAL_HANDLE => error,
                _ => error.with("device", device.adapter.to_string()),
            }
        })?;
        Self::finish(device, made, ticket, needed.size, origin.memory_type, len, access, kept)
    }

    #[allow(clippy::too_many_arguments, reason = "its two callers' ends, put together")]
    fn finish(
        device: &Arc<Device>,
        made: Pair<&Device>,
        ticket: Ticket,
        taken: u64,
        memory_type: u32,
        len: u64,
        access: Access,
        fd: OwnedFd,
    ) -> Result<Self> {
        // SAFETY: both are new; the memory's size and type are right for the buffer.
        unsafe { device.raw.bind_buffer_memory(made.buffer, made.memory, 0) }
            .map_err(|result| failed("vkBindBufferMemory", result))?;
        // SAFETY: its type is one the CPU sees, and it is not mapped yet.
        let start =
            unsafe { device.raw.map_memory(made.memory, 0, vk::WHOLE_SIZE, vk::MemoryMapFlags::empty()) }
                .map_err(|result| failed("vkMapMemory", result))?;
        let start =
            NonNull::new(start.cast::<u8>()).filter(|start| (start.addr().get() as u64).is_multiple_of(PAGE));
        let (Some(start), Ok(len)) = (start, usize::try_from(len)) else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{} maps memory between pages, where bips shows none", device.adapter),
            ));
        };
        let this =
            Self { made: made.kept(device), start, len, memory_type, taken, access, fd, _ticket: ticket };
        if access == Access::Read {
            this.protect(libc::PROT_READ);
        }
        Ok(this)
    }

    /// Against mistakes of this process's CPU, as far as the driver's mapping can be protected.
    fn protect(&self, protection: i32) {
        // SAFETY: whole pages of the driver's mapping, which ends only with this.
        if unsafe { libc::mprotect(self.start.as_ptr().cast(), self.len, protection) } != 0 {
            let error = std::io::Error::last_os_error();
            tracing::debug!(%error, "a Vulkan driver's mapping can't be protected");
        }
    }

    /// The device that has it.
    pub fn device(&self) -> &Arc<Device> {
        &self.made.device
    }

    /// Over all of it; may be copied from and to, and used as a uniform and storage buffer.
    pub fn buffer(&self) -> vk::Buffer {
        self.made.buffer
    }

    /// The memory object.
    pub fn memory(&self) -> vk::DeviceMemory {
        self.made.memory
    }

    /// A descriptor, and the bytes that the driver took for it.
    pub(crate) fn sample(&self) -> Result<(OwnedFd, u64)> {
        Ok((self.duplicate()?, self.taken))
    }

    fn duplicate(&self) -> Result<OwnedFd> {
        self.fd.try_clone().map_err(|error| Error::system("duplicating a descriptor", error))
    }

    fn is_coherent(&self) -> bool {
        flags_of(&self.made.device.memory, self.memory_type).contains(vk::MemoryPropertyFlags::HOST_COHERENT)
    }

    fn range(&self) -> [vk::MappedMemoryRange<'static>; 1] {
        [vk::MappedMemoryRange::default().memory(self.made.memory).offset(0).size(vk::WHOLE_SIZE)]
    }
}

/// A buffer for so many bytes, and what it needs.
fn buffer(device: &Device, len: u64) -> Result<(Pair<&Device>, vk::MemoryRequirements)> {
    device.check()?;
    let mut external = vk::ExternalMemoryBufferCreateInfo::default().handle_types(HANDLE);
    let wanted = vk::BufferCreateInfo::default().size(len).usage(USAGE).push_next(&mut external);
    // SAFETY: the driver can have such buffers (asked for when it was opened); the chain lives as long as the call.
    let buffer = unsafe { device.raw.create_buffer(&wanted, None) }
        .map_err(|result| failed("vkCreateBuffer", result).with("device", device.adapter.to_string()))?;
    let made = Pair { device, buffer, memory: vk::DeviceMemory::null() };
    // SAFETY: the buffer was just made.
    let needed = unsafe { device.raw.get_buffer_memory_requirements(buffer) };
    Ok((made, needed))
}

pub(crate) fn flags_of(memory: &vk::PhysicalDeviceMemoryProperties, at: u32) -> vk::MemoryPropertyFlags {
    let types = memory.memory_types_as_slice();
    types.get(at as usize).map_or(vk::MemoryPropertyFlags::empty(), |it| it.property_flags)
}

/// How well a type of memory serves: the CPU must see it. That it is cached counts most, or every read of a consumer's
/// processor is slow; then that nothing must be told of its access; then that the device has it near.
fn rank(memory: &vk::PhysicalDeviceMemoryProperties, at: u32) -> Option<u32> {
    let flags = flags_of(memory, at);
    let has = |flag| flags.contains(flag);
    let known = vk::MemoryPropertyFlags::DEVICE_LOCAL
        | vk::MemoryPropertyFlags::HOST_VISIBLE
        | vk::MemoryPropertyFlags::HOST_COHERENT
        | vk::MemoryPropertyFlags::HOST_CACHED;
    // Others are protected, or must be enabled first.
    if !has(vk::MemoryPropertyFlags::HOST_VISIBLE) || !known.contains(flags) {
        return None;
    }
    Some(
        u32::from(has(vk::MemoryPropertyFlags::HOST_CACHED)) * 4
            + u32::from(has(vk::MemoryPropertyFlags::HOST_COHERENT)) * 2
            + u32::from(has(vk::MemoryPropertyFlags::DEVICE_LOCAL)),
    )
}

/// Of the types that will do, the best; of equals the first, as drivers sort them.
pub(crate) fn best(memory: &vk::PhysicalDeviceMemoryProperties, bits: u32) -> Option<u32> {
    let usable = (0..memory.memory_type_count.min(32)).filter(|at| bits & (1 << at) != 0);
    let ranked = usable.filter_map(|at| Some((rank(memory, at)?, at)));
    ranked.max_by_key(|(rank, at)| (*rank, std::cmp::Reverse(*at))).map(|(_, at)| at)
}

// SAFETY: `map` gives the one mapping of `len` bytes, made for the CPU to read and write, which lives as long as `self`; for
// reading alone it may be protected, and is not given out for writing.
unsafe impl Memory for VulkanMemory {
    fn export(&self) -> Result<ExternalHandle> {
        let Adapter { device, driver, .. } = self.made.device.adapter;
        let origin = Origin { device, driver, memory_type: self.memory_type };
        Ok(ExternalHandle::OpaqueFd { fd: self.duplicate()?, len: self.len as u64, origin })
    }

    fn map(&self, access: Access) -> Result<Mapped> {
        if access == Access::Write && self.access == Access::Read {
            return Err(Error::new(
                ErrorKind::AccessDenied,
                "this memory is mapped read-only; ask the producer for a writable stream, or copy the frame",
            ));
        }
        Ok(Mapped { start: self.start, len: self.len })
    }

    fn cpu_access(&self) -> Option<&dyn CpuAccess> {
        (!self.is_coherent()).then_some(self)
    }
}

/// Of memory in which the CPU's caches must be looked after by hand. Each slot is a memory object, so all of it is meant.
impl CpuAccess for VulkanMemory {
    /// Waits for nothing: Vulkan's work is waited for by fences.
    fn begin(&self, _offset: u64, _access: Access, _timeout: Option<Duration>) -> Result<()> {
        self.made.device.check()?;
        // SAFETY: the memory is mapped, and the range is all of it.
        unsafe { self.made.device.raw.invalidate_mapped_memory_ranges(&self.range()) }
            .map_err(|result| failed("vkInvalidateMappedMemoryRanges", result))
    }

    fn end(&self, _offset: u64, access: Access) -> Result<()> {
        if access == Access::Read {
            return Ok(());
        }
        self.made.device.check()?;
        // SAFETY: as above.
        unsafe { self.made.device.raw.flush_mapped_memory_ranges(&self.range()) }
            .map_err(|result| failed("vkFlushMappedMemoryRanges", result))
    }
}

impl fmt::Debug for VulkanMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VulkanMemory({:?}, {} bytes)", self.made.device, self.len)
    }
}

impl Drop for VulkanMemory {
    fn drop(&mut self) {
        if self.access == Access::Read && self.made.device.is_ours() {
            // The driver may use its mapping's place again.
            self.protect(libc::PROT_READ | libc::PROT_WRITE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_memory_that_serves_the_cpu_best() {
        use vk::MemoryPropertyFlags as F;
        let of = |types: &[F]| {
            let memory_type_count = types.len() as u32;
            let mut memory = vk::PhysicalDeviceMemoryProperties { memory_type_count, ..Default::default() };
            for (to, flags) in memory.memory_types.iter_mut().zip(types) {
                to.property_flags = *flags;
            }
            memory
        };
        let (local, seen) = (F::DEVICE_LOCAL, F::HOST_VISIBLE);
        let (coherent, cached) = (seen | F::HOST_COHERENT, seen | F::HOST_CACHED);
        // As a desktop's card has them.
        let card = of(&[local, coherent, cached | coherent, local | coherent, local | F::PROTECTED]);
        assert_eq!(best(&card, u32::MAX), Some(2));
        assert_eq!(best(&card, 0b11), Some(1));
        assert_eq!(best(&card, 0b1010), Some(3), "near the device");
        assert_eq!(best(&card, 0b10001), None);
        // As a board's: cached only without coherence.
        let board = of(&[local | coherent, local | cached, local | cached | F::LAZILY_ALLOCATED]);
        assert_eq!(best(&board, u32::MAX), Some(1));
        assert_eq!(best(&of(&[local | cached | coherent; 3]), u32::MAX), Some(0));
        for nonsense in [3, 31, 32, u32::MAX] {
            assert_eq!(rank(&board, nonsense), None);
        }
    }
}
