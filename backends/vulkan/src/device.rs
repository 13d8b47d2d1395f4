//! An opened device, with one queue.

use crate::adapter::Adapter;
use crate::allowance::Allowance;
use crate::descriptor::Signature;
use crate::failure::failed;
use crate::instance::Instance;
use crate::memory::VulkanMemory;
use crate::wait::Point;
use ash::{ext, khr, vk};
use bips::sys::{PAGE, PerProcess};
use bips::{Error, ErrorKind, Result};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// A device that bips has opened, or was [given](Device::given). All streams of a process on one that bips opened share it.
pub struct Device {
    pub(crate) raw: ash::Device,
    pub(crate) memory_fd: khr::external_memory_fd::Device,
    /// Where the driver takes host memory.
    pub(crate) host: Option<ext::external_memory_host::Device>,
    /// Where it can wait for values that the host signals.
    pub(crate) timelines: Option<khr::timeline_semaphore::Device>,
    pub(crate) memory: vk::PhysicalDeviceMemoryProperties,
    pub(crate) adapter: Adapter,
    pub(crate) allowance: Arc<Allowance>,
    queue: Mutex<vk::Queue>,
    /// Timeline semaphores for its next waits.
    pub(crate) points: Mutex<Vec<Point>>,
    signature: OnceLock<Signature>,
    /// Whether it ends with this.
    owned: bool,
    // Last: it ends after the device.
    instance: Arc<Instance>,
}

impl Device {
    /// The process's, of this adapter.
    pub(crate) fn of(instance: &Arc<Instance>, adapter: &Adapter) -> Result<Arc<Self>> {
        static OPEN: PerProcess<Mutex<Vec<Weak<Device>>>> = PerProcess::new();
        adapter.can_share()?;
        let mut open = OPEN.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|device| device.strong_count() > 0);
        let same =
            |device: &Arc<Self>| Arc::ptr_eq(&device.instance, instance) && device.adapter.raw == adapter.raw;
        if let Some(device) = open.iter().filter_map(Weak::upgrade).find(same) {
            return Ok(device);
        }
        let device = Arc::new(Self::open(instance.clone(), adapter.clone())?);
        open.push(Arc::downgrade(&device));
        Ok(device)
    }

    fn open(instance: Arc<Instance>, adapter: Adapter) -> Result<Self> {
        let family = adapter.family.unwrap_or_default(); // asked for by `can_share`
        let priorities = [1.0];
        let queues =
            [vk::DeviceQueueCreateInfo::default().queue_family_index(family).queue_priorities(&priorities)];
        let mut extensions = vec![khr::external_memory_fd::NAME.as_ptr()];
        if adapter.host_alignment.is_some() {
            extensions.push(ext::external_memory_host::NAME.as_ptr());
        }
        let mut timelines = vk::PhysicalDeviceTimelineSemaphoreFeatures::default().timeline_semaphore(true);
        if adapter.timelines {
            extensions.push(khr::timeline_semaphore::NAME.as_ptr());
        }
        let mut wanted =
            vk::DeviceCreateInfo::default().queue_create_infos(&queues).enabled_extension_names(&extensions);
        if adapter.timelines {
            wanted = wanted.push_next(&mut timelines);
        }
        // SAFETY: the device has this queue family and extension (looked up); the structures live as long as the call.
        let raw = unsafe { instance.raw().create_device(adapter.raw, &wanted, None) }
            .map_err(|result| failed("vkCreateDevice", result).with("device", adapter.to_string()))?;
        // SAFETY: the queue that was asked for above.
        let queue = unsafe { raw.get_device_queue(family, 0) };
        Ok(Self::over(instance, adapter, raw, queue, true))
    }

    /// Of a device with the extensions that its adapter tells of.
    pub(crate) fn over(
        instance: Arc<Instance>,
        adapter: Adapter,
        raw: ash::Device,
        queue: vk::Queue,
        owned: bool,
    ) -> Self {
        let memory_fd = khr::external_memory_fd::Device::new(instance.raw(), &raw);
        let host = adapter.host_alignment;
        let host = host.map(|_| ext::external_memory_host::Device::new(instance.raw(), &raw));
        let timelines = adapter.timelines.then(|| khr::timeline_semaphore::Device::new(instance.raw(), &raw));
        // SAFETY: a device of this instance.
        let memory = unsafe { instance.raw().get_physical_device_memory_properties(adapter.raw) };
        let (queue, points, signature) = (Mutex::new(queue), Mutex::default(), OnceLock::new());
        let allowance = Allowance::of(adapter.allocations);
        Self {
            raw,
            memory_fd,
            host,
            timelines,
            memory,
            adapter,
            allowance,
            queue,
            points,
            signature,
            owned,
            instance,
        }
    }

    /// The device's functions.
    pub fn ash(&self) -> &ash::Device {
        &self.raw
    }

    /// The instance it belongs to.
    pub fn ash_instance(&self) -> &ash::Instance {
        self.instance.raw()
    }

    /// Which device it is.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// The handle by which Vulkan knows the adapter.
    pub fn physical_device(&self) -> vk::PhysicalDevice {
        self.adapter.raw
    }

    /// The family of its queue, for command pools.
    pub fn queue_family(&self) -> u32 {
        self.adapter.family.unwrap_or_default()
    }

    /// Its queue, while nobody else submits.
    pub fn queue(&self) -> MutexGuard<'_, vk::Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses in a forked child, where the driver's threads are missing.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_ours() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Forked,
            "this Vulkan device was opened by the process this one was forked from; open the stream here",
        ))
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.instance.is_ours()
    }

    /// What descriptors of this driver are, as one that it made shows.
    pub(crate) fn signature(self: &Arc<Self>) -> Result<Signature> {
        if let Some(signature) = self.signature.get() {
            return Ok(signature.clone());
        }
        let (fd, bytes) = VulkanMemory::new(self, PAGE)?.sample()?;
        let signature = Signature::of(&fd, bytes)?;
        Ok(self.signature.get_or_init(|| signature).clone())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.is_ours() {
            for point in self.points().drain(..) {
                // SAFETY: nobody waits for it, else it would not be here.
                unsafe { self.raw.destroy_semaphore(point.semaphore, None) };
            }
            if !self.owned {
                return;
            }
            // SAFETY: memory and work hold an `Arc` of this, so all have ended; users' own objects are theirs to end before.
            unsafe { self.raw.destroy_device(None) };
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.adapter)
    }
}
