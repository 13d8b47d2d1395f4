//! A device that the program opened itself, as engines and other libraries do.

use crate::adapter::Adapter;
use crate::device::Device;
use crate::instance::Instance;
use ash::{ext, khr, vk};
use bips::{Error, ErrorKind, Result};
use std::ffi::{CStr, CString};
use std::fmt;
use std::sync::Arc;

/// What bips must know of a device that it did not open.
#[derive(Clone)]
pub struct Given {
    /// The instance that the device is of.
    pub instance: ash::Instance,
    /// `apiVersion` of the application's information when the instance was made; at least 1.1.
    pub instance_version: u32,
    /// Which device it is.
    pub physical_device: vk::PhysicalDevice,
    /// The device.
    pub device: ash::Device,
    /// Extensions enabled on it: of those named in [`Given::EXTENSIONS`] the first must be. `VK_KHR_timeline_semaphore` is only
    /// to be named with its feature enabled too.
    pub extensions: Vec<CString>,
    /// Family of the queue; for computing or drawing.
    pub queue_family: u32,
    /// A queue for what bips submits ([`Device::submit`]). Whoever else submits to it holds [`Device::queue`] meanwhile.
    pub queue: vk::Queue,
}

impl Given {
    /// What bips uses: the first in any case, the others where they are enabled.
    pub const EXTENSIONS: [&CStr; 3] =
        [khr::external_memory_fd::NAME, khr::timeline_semaphore::NAME, ext::external_memory_host::NAME];

    fn has(&self, name: &CStr) -> bool {
        self.extensions.iter().any(|enabled| enabled.as_c_str() == name)
    }
}

impl Device {
    /// Uses a device that the program opened: see [`Vulkan::on`](crate::Vulkan::on). It is not destroyed by bips.
    ///
    /// # Errors
    /// `Unsupported` where the instance is of version 1.0, or the device lacks what it takes to share memory.
    ///
    /// # Safety
    /// All of `given` is true and belongs together, and device and instance live until the last of what bips made of them is
    /// gone: this device, streams and frames over it, work, views and semaphores.
    pub unsafe fn given(given: Given) -> Result<Arc<Self>> {
        let no = |text: String| Error::new(ErrorKind::Unsupported, text);
        if given.instance_version < vk::API_VERSION_1_1 {
            return Err(no(
                "the Vulkan instance is of version 1.0, which shares no memory; make it for 1.1".into()
            ));
        }
        // SAFETY: the instance lives (the caller's part).
        let listed = unsafe { given.instance.enumerate_physical_devices() }.unwrap_or_default();
        let index = listed.iter().position(|raw| *raw == given.physical_device).unwrap_or_default();
        let mut adapter = Adapter::look(&given.instance, index, given.physical_device);
        adapter.can_share()?;
        let [needed, timelines, host] = Given::EXTENSIONS;
        if !given.has(needed) {
            return Err(no(format!("the device was opened without {}; enable it", needed.to_string_lossy())));
        }
        adapter.timelines &= given.has(timelines);
        if !given.has(host) {
            adapter.host_alignment = None;
        }
        adapter.family = Some(given.queue_family);
        let instance = Arc::new(Instance::given(given.instance));
        Ok(Arc::new(Self::over(instance, adapter, given.device, given.queue, false)))
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given")
            .field("physical_device", &self.physical_device)
            .field("extensions", &self.extensions)
            .field("queue_family", &self.queue_family)
            .finish_non_exhaustive()
    }
}
