//! A frame as Vulkan sees it.

use crate::device::Device;
use crate::memory::VulkanMemory;
use ash::vk;
use bips::{Allocation, Error, ErrorKind, Frame, FrameMut, Result};
use std::any::Any;
use std::sync::Arc;

/// Frames whose slots lie in memory of a Vulkan device.
pub trait VulkanFrame {
    /// The slot's buffer and memory.
    ///
    /// # Errors
    /// `Unsupported` where it lies in other memory; `Forked`.
    fn vulkan(&self) -> Result<Slot<'_>>;
}

impl VulkanFrame for Frame {
    fn vulkan(&self) -> Result<Slot<'_>> {
        self.allocation()?.vulkan()
    }
}

impl VulkanFrame for FrameMut {
    fn vulkan(&self) -> Result<Slot<'_>> {
        self.allocation()?.vulkan()
    }
}

impl VulkanFrame for Allocation {
    fn vulkan(&self) -> Result<Slot<'_>> {
        let memory: &dyn Any = &*self.memory;
        let memory = memory.downcast_ref::<VulkanMemory>().ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "this frame lies in memory that is not Vulkan's; make its stream with memory \"vulkan\"",
            )
        })?;
        memory.device().check()?;
        Ok(Slot { memory, len: self.len })
    }
}

/// A slot as Vulkan sees it, while its frame lives. Work that uses it must be over before the frame is: give its fence to
/// `publish` or `release`.
#[derive(Debug, Clone, Copy)]
pub struct Slot<'a> {
    memory: &'a VulkanMemory,
    len: u64,
}

impl<'a> Slot<'a> {
    /// The device to which all of it belongs.
    pub fn device(&self) -> &'a Arc<Device> {
        self.memory.device()
    }

    /// A buffer that begins where the slot does; may be copied from and to, and used as a uniform and storage buffer.
    /// Of consumers of a stream that is not writable it is to be read only: a driver that plays its device on the CPU
    /// may end the process that writes.
    pub fn buffer(&self) -> vk::Buffer {
        self.memory.buffer()
    }

    /// The memory below it, in which the slot begins at 0. For other buffers over it, of the same size and usage.
    pub fn memory(&self) -> vk::DeviceMemory {
        self.memory.memory()
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
