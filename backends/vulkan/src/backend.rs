//! Kind `vulkan[:N]`.

use crate::adapter::Adapter;
use crate::device::Device;
use crate::instance::Instance;
use crate::memory::VulkanMemory;
use bips::sys::{PAGE, check_unswappable};
use bips::{
    Access, Allocation, Backend, BackendInfo, Capabilities, DeviceId, Error, ErrorKind, ExternalHandle,
    Layout, Memory, Origin, Party, Requirements, Result, Served, Usage,
};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Provider of a Vulkan device's memory.
#[derive(Debug)]
pub struct Vulkan {
    info: BackendInfo,
    /// With the device, once it is open.
    opened: OnceLock<BackendInfo>,
    /// The device the user named.
    named: Option<usize>,
    /// The device the program gave.
    given: Option<Arc<Device>>,
    /// Kept, so that a plan and the pool that follows open it once.
    open: Mutex<Option<Arc<Device>>>,
    capabilities: OnceLock<Capabilities>,
}

/// The devices of this machine, as its drivers list them: whether each can share memory, [`Adapter::can_share`] says.
///
/// # Errors
/// `Unsupported` where there is no loader or no driver.
pub fn adapters() -> Result<Vec<Adapter>> {
    Instance::get()?.adapters()
}

impl Vulkan {
    /// The kind of memory it provides; a device's number may follow after a colon.
    pub const KIND: &str = "vulkan";

    /// Of the device that suits most: one of its own memory before one that shares the machine's, and a program that plays
    /// a device last.
    pub fn new() -> Self {
        Self::over(None)
    }

    /// Of the device of this number in [`adapters`].
    pub fn numbered(index: usize) -> Self {
        Self::over(Some(index))
    }

    /// Of a device that the program opened ([`Device::given`]): pools are made there, and streams opened that lie in memory
    /// of the same device and driver.
    pub fn on(device: Arc<Device>) -> Self {
        let mut this = Self::over(None);
        this.info.device = device.adapter().device;
        this.info.description = format!("memory of {}", device.adapter());
        Self { given: Some(device), ..this }
    }

    fn over(named: Option<usize>) -> Self {
        let kind = named.map_or(Self::KIND.into(), |index| format!("{}:{index}", Self::KIND));
        let description = "memory of a Vulkan device".into();
        let info = BackendInfo { kind, device: DeviceId::default(), description };
        let (opened, open, capabilities) = (OnceLock::new(), Mutex::default(), OnceLock::new());
        Self { info, opened, named, given: None, open, capabilities }
    }

    /// The device that makes its memory.
    ///
    /// # Errors
    /// `Unsupported` where there is none, or it can't share memory.
    pub fn device(&self) -> Result<Arc<Device>> {
        if let Some(device) = &self.given {
            return device.check().map(|()| device.clone());
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = open.as_ref().filter(|device| device.is_ours()) {
            return Ok(device.clone());
        }
        let instance = Instance::get()?;
        let adapter = self.choose(instance.adapters()?)?;
        let device = Device::of(&instance, &adapter)?;
        self.opened.get_or_init(|| BackendInfo {
            device: adapter.device,
            description: format!("memory of {adapter}"),
            ..self.info.clone()
        });
        *open = Some(device.clone());
        Ok(device)
    }

    fn choose(&self, adapters: Vec<Adapter>) -> Result<Adapter> {
        let there = || adapters.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let no = |text: String| Error::new(ErrorKind::Unsupported, text);
        if let Some(index) = self.named {
            return adapters
                .get(index)
                .cloned()
                .ok_or_else(|| no(format!("there is no Vulkan device {index}; there are: {}", there())));
        }
        // Of equals the first, as the drivers sort them.
        let able = adapters.iter().rev().filter(|adapter| adapter.can_share().is_ok());
        match able.max_by_key(|adapter| adapter.rank()) {
            Some(adapter) => Ok(adapter.clone()),
            None => Err(match adapters.first().map(Adapter::can_share) {
                Some(Err(error)) => error,
                _ => no("the Vulkan drivers here have no device; see `vulkaninfo --summary`".into()),
            }),
        }
    }

    /// The device, of this machine's, on which another process's memory can be opened.
    fn device_of(&self, origin: &Origin) -> Result<Arc<Device>> {
        let Some(given) = &self.given else { return device_of(origin) };
        let adapter = given.adapter();
        if (adapter.device, adapter.driver) == (origin.device, origin.driver) {
            return Ok(given.clone());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the stream lies in memory of another device or driver than {adapter}, which the program gave"
            ),
        ))
    }

    /// What works in one process.
    fn try_out(&self) -> Capabilities {
        let slot = Allocation::for_trial(self, PAGE);
        slot.map_or_else(|_| Capabilities::default(), |slot| Capabilities::of_trial(self, &slot))
    }
}

impl Default for Vulkan {
    fn default() -> Self {
        Self::new()
    }
}

/// The device, of this machine's, on which another process's memory can be opened.
fn device_of(origin: &Origin) -> Result<Arc<Device>> {
    let instance = Instance::get()?;
    let adapters = instance.adapters()?;
    let same = |adapter: &&Adapter| (adapter.device, adapter.driver) == (origin.device, origin.driver);
    if let Some(adapter) = adapters.iter().find(same) {
        return Device::of(&instance, adapter);
    }
    let why = match adapters.iter().find(|adapter| adapter.device == origin.device) {
        Some(adapter) => format!("another version of the driver of {adapter}; let both have the same"),
        None => {
            let there: Vec<_> = adapters.iter().map(ToString::to_string).collect();
            format!("a device that this process does not see; it sees: {}", there.join(", "))
        }
    };
    Err(Error::new(ErrorKind::Unsupported, format!("the stream lies in memory of {why}")))
}

impl Backend for Vulkan {
    fn info(&self) -> &BackendInfo {
        self.opened.get().unwrap_or(&self.info)
    }

    fn capabilities(&self) -> Capabilities {
        *self.capabilities.get_or_init(|| self.try_out())
    }

    fn serves(&self, party: &Party) -> Result<Served> {
        match party.usage() {
            Usage::CPU | Usage::CPU_WRITE => Ok(Served::by("mapped")),
            // Of which device it is, a trial sees.
            Usage::VULKAN => Ok(Served::by("opaque memory of its driver")),
            _ => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "opaque memory of a Vulkan driver is for Vulkan and the CPU, not for {party}; use a dma-buf"
                ),
            )),
        }
    }

    fn plan(&self, requirements: &Requirements) -> Result<Layout> {
        let device = self.device()?;
        let layout = Layout::in_pages(requirements);
        fits(&device, &layout, requirements.slots)?;
        Ok(layout)
    }

    fn allocate(&self, layout: &Layout, slots: u32) -> Result<Vec<Allocation>> {
        let device = self.device()?;
        fits(&device, layout, slots)?;
        let slot = |_| {
            let memory = Arc::new(VulkanMemory::new(&device, layout.slot_bytes)?);
            Ok(Allocation { memory, offset: 0, len: layout.slot_bytes })
        };
        (0..slots).map(slot).collect()
    }

    fn import(&self, handle: ExternalHandle, access: Access) -> Result<Arc<dyn Memory>> {
        let ExternalHandle::OpaqueFd { fd, len, origin } = handle else {
            return Err(Error::new(
                ErrorKind::Protocol,
                format!("the producer sent {handle:?} for memory of a Vulkan driver"),
            ));
        };
        Ok(Arc::new(VulkanMemory::import(&self.device_of(&origin)?, fd, len, origin, access)?))
    }

    fn with_source(&self, name: &str) -> Option<Arc<dyn Backend>> {
        let index = name.parse().ok().filter(|index: &usize| *index < 100)?;
        Some(Arc::new(Self::numbered(index)))
    }
}

/// Whether the driver allows so much at a time, and the machine has it where the memory is its own.
fn fits(device: &Device, layout: &Layout, slots: u32) -> Result<()> {
    let total = layout.pool_bytes(slots)?;
    let adapter = device.adapter();
    if layout.slot_bytes > adapter.largest {
        return Err(Error::new(
            ErrorKind::OutOfMemory,
            format!(
                "a slot of {} MiB is more than {adapter} has in one piece, {} MiB; use smaller frames",
                layout.slot_bytes.div_ceil(1 << 20),
                adapter.largest >> 20
            ),
        ));
    }
    if adapter.is_of_the_machine() { check_unswappable(total) } else { Ok(()) }
}
