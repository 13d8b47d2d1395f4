//! Vulkan's loader and its instance: one for a process, as long as somebody uses it.

use crate::adapter::Adapter;
use crate::failure::failed;
use ash::vk;
use bips::sys::PerProcess;
use bips::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

/// Of it and of what it makes nothing may be used in a forked child: the driver's threads are not there.
pub(crate) struct Instance {
    raw: ash::Instance,
    process: u32,
    /// Whether it ends with this.
    owned: bool,
}

impl Instance {
    /// The process's.
    pub(crate) fn get() -> Result<Arc<Self>> {
        static CURRENT: PerProcess<Mutex<Weak<Instance>>> = PerProcess::new();
        let mut current = CURRENT.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        match current.upgrade() {
            Some(instance) if instance.is_ours() => Ok(instance),
            other => {
                std::mem::forget(other); // a parent's, if any
                let instance = Arc::new(Self::make()?);
                *current = Arc::downgrade(&instance);
                Ok(instance)
            }
        }
    }

    fn make() -> Result<Self> {
        let entry = entry()?;
        let no = |text: String| Error::new(ErrorKind::Unsupported, text);
        // SAFETY: the loader was found and has its first function.
        let version = unsafe { entry.try_enumerate_instance_version() };
        let version = version.map_err(|result| failed("vkEnumerateInstanceVersion", result))?;
        if version.is_none_or(|version| version < vk::API_VERSION_1_1) {
            return Err(no("Vulkan's loader is of version 1.0, which shares no memory; update it".into()));
        }
        let application =
            vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_1).engine_name(c"bips");
        let wanted = vk::InstanceCreateInfo::default().application_info(&application);
        // SAFETY: the structures live as long as the call; the instance ends in `drop`.
        let raw = unsafe { entry.create_instance(&wanted, None) }.map_err(|result| match result {
            vk::Result::ERROR_INCOMPATIBLE_DRIVER => no(
                "there is a Vulkan loader and no driver that it can use; install one (mesa-vulkan-drivers, NVIDIA's), or \
                 give the container the host's"
                    .into(),
            ),
            result => failed("vkCreateInstance", result),
        })?;
        Ok(Self { raw, process: std::process::id(), owned: true })
    }

    /// The program's own.
    pub(crate) fn given(raw: ash::Instance) -> Self {
        Self { raw, process: std::process::id(), owned: false }
    }

    pub(crate) fn raw(&self) -> &ash::Instance {
        &self.raw
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }

    /// The devices of this machine, in the order in which the drivers list them.
    pub(crate) fn adapters(&self) -> Result<Vec<Adapter>> {
        // SAFETY: the instance lives.
        let found = unsafe { self.raw.enumerate_physical_devices() };
        let found = found.map_err(|result| failed("vkEnumeratePhysicalDevices", result))?;
        let numbered = found.into_iter().enumerate();
        Ok(numbered.map(|(index, device)| Adapter::look(&self.raw, index, device)).collect())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.owned && self.is_ours() {
            // SAFETY: devices hold an `Arc` of this, so all have ended.
            unsafe { self.raw.destroy_instance(None) };
        }
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Instance")
    }
}

/// Never unloaded: drivers leave threads and thread-local values behind.
fn entry() -> Result<&'static ash::Entry> {
    static ENTRY: OnceLock<std::result::Result<ash::Entry, String>> = OnceLock::new();
    let entry = ENTRY.get_or_init(|| {
        // SAFETY: loads the library that the system calls Vulkan's; its initialisers run, as for every program that links it.
        unsafe { ash::Entry::load() }.map_err(|error| error.to_string())
    });
    entry.as_ref().map_err(|why| {
        Error::new(
            ErrorKind::Unsupported,
            format!(
                "there is no Vulkan loader here ({why}); install libvulkan.so.1 (libvulkan1) and a driver"
            ),
        )
    })
}
