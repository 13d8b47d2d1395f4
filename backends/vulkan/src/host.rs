//! Host memory as a device sees it: the pages of a memfd stream, used in place.

use crate::adapter::{HOST, USAGE};
use crate::allowance::Ticket;
use crate::device::Device;
use crate::failure::failed;
use crate::memory::{Pair, best, flags_of};
use ash::vk;
use bips::{Access, Allocation, Error, ErrorKind, Memory, Result};
use std::fmt;
use std::sync::Arc;

/// A buffer over a slot in host memory. It keeps the memory, not the lease: make one per slot and keep it for all frames that
/// come to lie there. Work that uses it must be over before the frame is, and before this is dropped.
pub struct HostView {
    made: Pair<Arc<Device>>,
    len: u64,
    _ticket: Ticket,
    // Last: the pages stay until the device has let go of them.
    _memory: Arc<dyn Memory>,
}

impl Device {
    /// Lets the device use a slot that lies in host memory (`memfd`), in place. A consumer's pages are mapped for
    /// reading alone: the device must not write to them either.
    ///
    /// # Errors
    /// `Unsupported` where the driver takes no host memory (`VK_EXT_external_memory_host`), or not this.
    pub fn view(self: &Arc<Self>, slot: &Allocation) -> Result<HostView> {
        self.check()?;
        let no = |why: &str| {
            Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{} can't use host memory in place: {why}; use a stream with memory \"vulkan\"",
                    self.adapter
                ),
            )
        };
        let (Some(host), Some(alignment)) = (&self.host, self.adapter.host_alignment) else {
            return Err(no("its driver has no VK_EXT_external_memory_host, or can't use it for buffers"));
        };
        if slot.memory.cpu_access().is_some() {
            return Err(no("this memory must be told of the CPU's access, and the driver is not"));
        }
        let mapped = slot.memory.map(Access::Read)?;
        let start = mapped.start.as_ptr().wrapping_add(slot.offset as usize);
        if !(start.addr() as u64).is_multiple_of(alignment) || !slot.len.is_multiple_of(alignment) {
            return Err(no(&format!("it takes whole pieces of {alignment} bytes alone")));
        }
        let mut external = vk::ExternalMemoryBufferCreateInfo::default().handle_types(HOST);
        let wanted = vk::BufferCreateInfo::default().size(slot.len).usage(USAGE).push_next(&mut external);
        // SAFETY: the extension is enabled, which allows such buffers; the chain lives as long as the call.
        let buffer = unsafe { self.raw.create_buffer(&wanted, None) }
            .map_err(|result| failed("vkCreateBuffer", result))?;
        let mut made = Pair { device: self.clone(), buffer, memory: vk::DeviceMemory::null() };
        // SAFETY: the buffer was just made.
        let needed = unsafe { self.raw.get_buffer_memory_requirements(buffer) };
        let mut properties = vk::MemoryHostPointerPropertiesEXT::default();
        let ask = host.fp().get_memory_host_pointer_properties_ext;
        // SAFETY: the extension is enabled, so the function is there; the pages are mapped.
        unsafe { ask(self.raw.handle(), HOST, start.cast(), &raw mut properties) }
            .result()
            .map_err(|result| no(&result.to_string()))?;
        let usable = needed.memory_type_bits & properties.memory_type_bits;
        let coherent = |at: u32| flags_of(&self.memory, at).contains(vk::MemoryPropertyFlags::HOST_COHERENT);
        let Some(memory_type) = best(&self.memory, usable).filter(|at| coherent(*at)) else {
            return Err(no("no type of its memory suits these pages"));
        };
        if needed.size > slot.len {
            return Err(no("a buffer of it needs more than the slot has"));
        }
        let ticket = self.allowance.take()?;
        let mut import =
            vk::ImportMemoryHostPointerInfoEXT::default().handle_type(HOST).host_pointer(start.cast());
        let wanted = vk::MemoryAllocateInfo::default()
            .allocation_size(slot.len)
            .memory_type_index(memory_type)
            .push_next(&mut import);
        // SAFETY: whole pieces of mapped pages, which `_memory` keeps mapped longer than the device has them; the type is one
        // that the driver named for them.
        made.memory =
            unsafe { self.raw.allocate_memory(&wanted, None) }.map_err(|result| no(&result.to_string()))?;
        // SAFETY: both are new; the memory's size and type are right for the buffer.
        unsafe { self.raw.bind_buffer_memory(made.buffer, made.memory, 0) }
            .map_err(|result| failed("vkBindBufferMemory", result))?;
        Ok(HostView { made, len: slot.len, _ticket: ticket, _memory: slot.memory.clone() })
    }
}

impl HostView {
    /// Begins where the slot does; may be copied from and to, and used as a uniform and storage buffer.
    pub fn buffer(&self) -> vk::Buffer {
        self.made.buffer
    }

    /// Bytes of the slot and of the buffer.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Never: a slot has at least a page.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Debug for HostView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostView({:?}, {} bytes)", self.made.device, self.len)
    }
}
