//! Memory of a GPU's Vulkan driver (kind `vulkan[:N]`), exported as `OPAQUE_FD` and imported by the same driver of the same
//! device in another process.
//!
//! Vulkan's loader is looked for when it is first used, so a program built with this runs where there is none. A slot is a
//! memory object of its own with one buffer over it; [`VulkanFrame::vulkan`] gives both for a frame:
//!
//! ```no_run
//! use bips_vulkan::VulkanFrame;
//! # fn main() -> bips::Result<()> {
//! # let registry = bips::Registry::new().with(std::sync::Arc::new(bips_vulkan::Vulkan::new()));
//! let producer = bips::Producer::builder("gpu").registry(registry).memory("vulkan").bytes(1 << 20).create()?;
//! let frame = producer.acquire(bips::Wait::Forever).map_err(|error| producer.explain(error))?;
//! let (slot, device) = (frame.vulkan()?, frame.vulkan()?.device().clone());
//! let work = device.submit(|device, commands| {
//!     // SAFETY: the buffer is as long, and bips keeps it until the work is done.
//!     unsafe { device.cmd_fill_buffer(commands, slot.buffer(), 0, slot.len(), 0x0101_0101) };
//!     // SAFETY: these commands, which are being recorded.
//!     unsafe { slot.release(commands) };
//! })?;
//! frame.publish(bips::Description::new(), work.into())?;
//! # Ok(())
//! # }
//! ```
//!
//! Publishing waits for no device. A consumer's device can wait in its turn, where the consumer takes frames with
//! [`explicit_sync`](bips::ConsumerBuilder::explicit_sync): by [`Device::submit_after`], or by a semaphore for submissions of
//! your own ([`Device::wait_semaphore`]).
//!
//! A slot in host memory a device uses in place by [`Device::view`], where its driver can.
//!
//! Calls of an extension that a driver lacks abort the process in `ash`, so none is made before the driver has said that it
//! has it *and* can do what it is for.

mod adapter;
mod allowance;
mod backend;
mod descriptor;
mod device;
mod failure;
mod given;
mod host;
mod instance;
mod memory;
mod slot;
mod trial;
mod wait;
mod work;

pub use adapter::Adapter;
pub use backend::{Vulkan, adapters};
pub use device::Device;
pub use given::Given;
pub use host::HostView;
pub use memory::VulkanMemory;
pub use slot::{Slot, VulkanFrame};
pub use trial::VulkanTrial;
pub use wait::WaitSemaphore;
pub use work::Work;

pub use ash;
