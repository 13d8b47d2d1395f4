//! Which memory a Vulkan device uses, found by having it read a little.

use crate::backend::Vulkan;
use crate::device::Device;
use crate::memory::VulkanMemory;
use crate::slot::VulkanFrame;
use ash::vk;
use bips::sys::PAGE;
use bips::{
    Access, Allocation, BackendInfo, DeviceTrial, Error, ErrorKind, Party, Result, Served, Timeline, Usage,
};
use std::any::Any;
use std::sync::Arc;

/// Vulkan's devices, for a registry: parties as `vulkan:0`, or `vulkan` for the one that suits most.
#[derive(Debug, Default)]
pub struct VulkanTrial;

impl VulkanTrial {
    /// Opens nothing yet.
    pub fn new() -> Self {
        Self
    }
}

impl DeviceTrial for VulkanTrial {
    fn usage(&self) -> Usage {
        Usage::VULKAN
    }

    /// It imports host memory.
    fn overrules(&self) -> bool {
        true
    }

    fn try_out(&self, party: &Party, memory: &BackendInfo, slot: &Allocation) -> Result<Served> {
        let named = party.device().is_some();
        let device =
            if named { Vulkan::numbered(party.number()?).device()? } else { Vulkan::new().device()? };
        let adapter = device.adapter();
        let any: &dyn Any = &*slot.memory;
        if let Some(theirs) = any.downcast_ref::<VulkanMemory>() {
            let other = theirs.device().adapter();
            if (other.device, other.driver) != (adapter.device, adapter.driver) {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("{party} is {adapter}, and {} lies in memory of {other}", memory.kind),
                ));
            }
            read(theirs.device(), slot.vulkan()?.buffer(), slot)?;
            return Ok(Served::by(format!("its own memory, of {adapter}")));
        }
        let view = device.view(slot)?;
        read(&device, view.buffer(), slot)?;
        let by = format!("host memory imported by {adapter} (VK_EXT_external_memory_host)");
        // What has memory of its own reads the machine's over the bus, each time.
        Ok(Served { by, far: !adapter.is_of_the_machine() })
    }
}

/// Has the device read the slot's first page, and compares that with what the CPU sees there.
fn read(device: &Arc<Device>, from: vk::Buffer, slot: &Allocation) -> Result<()> {
    let place = VulkanMemory::new(device, PAGE)?;
    let work = device.submit(|raw, commands| {
        let page = [vk::BufferCopy::default().size(PAGE)];
        // SAFETY: the commands are being recorded; both buffers are at least a page, and live until the work is waited for.
        unsafe { raw.cmd_copy_buffer(commands, from, place.buffer(), &page) };
    })?;
    work.wait(1, None)?;
    if let Some(cpu) = bips::Memory::cpu_access(&place) {
        cpu.begin(0, Access::Read, None)?;
    }
    let (read, there) = (bips::Memory::map(&place, Access::Read)?, slot.memory.map(Access::Read)?);
    let there = there.start.as_ptr().wrapping_add(slot.offset as usize);
    let same = (0..PAGE as usize).all(|at| {
        // SAFETY: a byte of a page that is mapped as long as `place`.
        let here = unsafe { read.start.as_ptr().wrapping_add(at).read_volatile() };
        // SAFETY: a byte of the slot, mapped as long as its memory.
        here == unsafe { there.wrapping_add(at).read_volatile() }
    });
    if same { Ok(()) } else { Err(wrong(device)) }
}

fn wrong(device: &Device) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("{} read something else there than the CPU did; update its driver", device.adapter()),
    )
}
