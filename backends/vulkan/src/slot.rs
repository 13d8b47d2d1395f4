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

    /// Records that the device takes the slot over from wherever it was, another process's device included: before the first
    /// command that reads it.
    ///
    /// # Safety
    /// The commands are of the slot's device and being recorded, and no other thread records them.
    pub unsafe fn acquire(&self, commands: vk::CommandBuffer) {
        // SAFETY: the caller's.
        unsafe { self.hand_over(commands, vk::QUEUE_FAMILY_EXTERNAL, self.device().queue_family()) };
    }

    /// The opposite, after the last command that writes it: other processes' devices see what is in it.
    ///
    /// # Safety
    /// As for [`Slot::acquire`].
    pub unsafe fn release(&self, commands: vk::CommandBuffer) {
        // SAFETY: the caller's.
        unsafe { self.hand_over(commands, self.device().queue_family(), vk::QUEUE_FAMILY_EXTERNAL) };
    }

    /// # Safety
    /// As for [`Slot::acquire`].
    unsafe fn hand_over(&self, commands: vk::CommandBuffer, from: u32, to: u32) {
        let all = vk::AccessFlags::MEMORY_READ | vk::AccessFlags::MEMORY_WRITE;
        let slot = [vk::BufferMemoryBarrier::default()
            .buffer(self.buffer())
            .size(vk::WHOLE_SIZE)
            .src_access_mask(all)
            .dst_access_mask(all)
            .src_queue_family_index(from)
            .dst_queue_family_index(to)];
        let (stages, none) = (vk::PipelineStageFlags::ALL_COMMANDS, vk::DependencyFlags::empty());
        let device = self.device().ash();
        // SAFETY: commands that are being recorded (the caller's part), and a buffer that lives.
        unsafe { device.cmd_pipeline_barrier(commands, stages, stages, none, &[], &slot, &[]) };
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
