//! A device that some driver offers, before it is opened.

use ash::vk;
use bips::{DeviceId, Error, ErrorKind, Result};
use std::ffi::CStr;
use std::fmt;

/// What a buffer over a slot can be used for. The same on both sides, as the import demands.
pub(crate) const USAGE: vk::BufferUsageFlags = vk::BufferUsageFlags::from_raw(
    vk::BufferUsageFlags::TRANSFER_SRC.as_raw()
        | vk::BufferUsageFlags::TRANSFER_DST.as_raw()
        | vk::BufferUsageFlags::UNIFORM_BUFFER.as_raw()
        | vk::BufferUsageFlags::STORAGE_BUFFER.as_raw(),
);

/// How memory leaves the process.
pub(crate) const HANDLE: vk::ExternalMemoryHandleTypeFlags = vk::ExternalMemoryHandleTypeFlags::OPAQUE_FD;

/// How host memory enters the device.
pub(crate) const HOST: vk::ExternalMemoryHandleTypeFlags =
    vk::ExternalMemoryHandleTypeFlags::HOST_ALLOCATION_EXT;

/// A device, with what its driver says of it.
#[derive(Debug, Clone)]
pub struct Adapter {
    pub(crate) raw: vk::PhysicalDevice,
    /// Its place in the list, from 0: `vulkan:N`.
    pub index: usize,
    /// As the driver calls it.
    pub name: String,
    /// `deviceUUID`.
    pub device: DeviceId,
    /// `driverUUID`: of the driver and its version.
    pub driver: DeviceId,
    kind: vk::PhysicalDeviceType,
    /// Bytes of the largest allocation.
    pub(crate) largest: u64,
    /// Memory objects that it allows at a time.
    pub(crate) allocations: u32,
    pub(crate) family: Option<u32>,
    /// Whether it can wait for values that the host signals.
    pub(crate) timelines: bool,
    /// What host memory must begin and end at to be used in place, where the driver can that.
    pub(crate) host_alignment: Option<u64>,
    /// Why it can't share memory.
    unfit: Option<String>,
}

impl Adapter {
    pub(crate) fn look(instance: &ash::Instance, index: usize, raw: vk::PhysicalDevice) -> Self {
        let mut ids = vk::PhysicalDeviceIDProperties::default();
        let mut limits = vk::PhysicalDeviceMaintenance3Properties::default();
        let mut host = vk::PhysicalDeviceExternalMemoryHostPropertiesEXT::default();
        let mut all = vk::PhysicalDeviceProperties2::default();
        // SAFETY: the instance is of version 1.1, where this is no extension.
        unsafe { instance.get_physical_device_properties(raw) }.clone_into(&mut all.properties);
        let version = all.properties.api_version;
        let importable = vk::ExternalMemoryFeatureFlags::IMPORTABLE;
        let takes_host_memory = version >= vk::API_VERSION_1_1
            && has(instance, raw, ash::ext::external_memory_host::NAME)
            && features(instance, raw, HOST).contains(importable);
        if version >= vk::API_VERSION_1_1 {
            all = all.push_next(&mut ids).push_next(&mut limits);
            if takes_host_memory {
                all = all.push_next(&mut host);
            }
            // SAFETY: the device is of that version too; the chain lives as long as the call.
            unsafe { instance.get_physical_device_properties2(raw, &mut all) };
        }
        let properties = all.properties;
        // SAFETY: a device of this instance.
        let families = unsafe { instance.get_physical_device_queue_family_properties(raw) };
        // Whoever computes or draws can copy too.
        let works = vk::QueueFlags::COMPUTE | vk::QueueFlags::GRAPHICS;
        let family = families.iter().position(|family| family.queue_flags.intersects(works));
        let name = properties.device_name_as_c_str().unwrap_or_default().to_string_lossy().into_owned();
        let unfit = if version < vk::API_VERSION_1_1 {
            Some("it is of Vulkan 1.0, which shares no memory".into())
        } else if family.is_none() {
            Some("it has no queue for computing or drawing".into())
        } else {
            cannot_share(instance, raw)
        };
        Self {
            raw,
            index,
            name,
            device: DeviceId(ids.device_uuid),
            driver: DeviceId(ids.driver_uuid),
            kind: properties.device_type,
            largest: limits.max_memory_allocation_size,
            allocations: properties.limits.max_memory_allocation_count,
            host_alignment: takes_host_memory.then_some(host.min_imported_host_pointer_alignment.max(1)),
            family: family.map(|at| at as u32),
            timelines: version >= vk::API_VERSION_1_1 && has_timelines(instance, raw),
            unfit,
        }
    }

    /// Whether it can share memory with other processes.
    ///
    /// # Errors
    /// `Unsupported`, saying what its driver lacks.
    pub fn can_share(&self) -> Result<()> {
        self.unfit.as_ref().map_or(Ok(()), |why| {
            Err(Error::new(
                ErrorKind::Unsupported,
                format!("{self} can't share memory: {why}; update its driver, or name another device"),
            ))
        })
    }

    /// Whether its memory is the machine's own.
    pub(crate) fn is_of_the_machine(&self) -> bool {
        matches!(self.kind, vk::PhysicalDeviceType::CPU | vk::PhysicalDeviceType::INTEGRATED_GPU)
    }

    /// The higher, the better for whoever named none.
    pub(crate) fn rank(&self) -> u32 {
        match self.kind {
            vk::PhysicalDeviceType::DISCRETE_GPU => 4,
            vk::PhysicalDeviceType::INTEGRATED_GPU => 3,
            vk::PhysicalDeviceType::VIRTUAL_GPU => 2,
            vk::PhysicalDeviceType::CPU => 1,
            _ => 0,
        }
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vulkan:{} ({})", self.index, self.name)
    }
}

/// What the driver says that it can do with buffers over such memory.
fn features(
    instance: &ash::Instance,
    device: vk::PhysicalDevice,
    handle: vk::ExternalMemoryHandleTypeFlags,
) -> vk::ExternalMemoryFeatureFlags {
    let info = vk::PhysicalDeviceExternalBufferInfo::default().usage(USAGE).handle_type(handle);
    let mut found = vk::ExternalBufferProperties::default();
    // SAFETY: both are of version 1.1 (callers look), where this is no extension; the structures live as long as the call.
    unsafe { instance.get_physical_device_external_buffer_properties(device, &info, &mut found) };
    found.external_memory_properties.external_memory_features
}

fn has(instance: &ash::Instance, device: vk::PhysicalDevice, name: &CStr) -> bool {
    // SAFETY: a device of this instance.
    let extensions = unsafe { instance.enumerate_device_extension_properties(device) }.unwrap_or_default();
    extensions.iter().any(|extension| extension.extension_name_as_c_str() == Ok(name))
}

/// By the extension: the instance is of version 1.1, whatever the device is.
fn has_timelines(instance: &ash::Instance, device: vk::PhysicalDevice) -> bool {
    let mut timelines = vk::PhysicalDeviceTimelineSemaphoreFeatures::default();
    let mut features = vk::PhysicalDeviceFeatures2::default().push_next(&mut timelines);
    if !has(instance, device, ash::khr::timeline_semaphore::NAME) {
        return false;
    }
    // SAFETY: both are of version 1.1, where this is no extension; the device has the structure's extension.
    unsafe { instance.get_physical_device_features2(device, &mut features) };
    timelines.timeline_semaphore != 0
}

/// What the driver lacks for memory that other processes open. It is asked for the extension and for what it can do by it:
/// some list the one and not the other.
fn cannot_share(instance: &ash::Instance, device: vk::PhysicalDevice) -> Option<String> {
    let name = ash::khr::external_memory_fd::NAME;
    if !has(instance, device, name) {
        return Some(format!("its driver has no {}", name.to_string_lossy()));
    }
    let needed = vk::ExternalMemoryFeatureFlags::EXPORTABLE | vk::ExternalMemoryFeatureFlags::IMPORTABLE;
    (!features(instance, device, HANDLE).contains(needed))
        .then(|| "its driver exports or imports no opaque descriptors of buffers".into())
}
