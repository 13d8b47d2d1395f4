//! A device that the program opened itself: it makes pools and opens streams, and its own queue reads what another wrote.

use crate::at_work::{fill, own, place_word, read_into};
use crate::fences::without_validation_of_order;
use crate::{SOON, consumer, here, in_role, producer, said};
use bips::{Allocation, Backend, Consumer, Description, ErrorKind, Fence, Registry, Timeline};
use bips_vulkan::ash::{self, vk};
use bips_vulkan::{Device, Given, Slot, Vulkan, VulkanFrame};
use std::ffi::CStr;
use std::path::Path;
use std::sync::Arc;

/// As a program does it that knows nothing of bips: an instance, a device with two queues where there are, its extensions.
struct Theirs {
    given: Given,
    /// Not given to bips.
    own_queue: Option<vk::Queue>,
    _entry: ash::Entry,
}

impl Theirs {
    fn open(version: u32, wanted: &[&CStr]) -> Self {
        // SAFETY: the system's own loader.
        let entry = unsafe { ash::Entry::load() }.unwrap();
        let application = vk::ApplicationInfo::default().api_version(version);
        let info = vk::InstanceCreateInfo::default().application_info(&application);
        // SAFETY: the structures live as long as the call.
        let instance = unsafe { entry.create_instance(&info, None) }.unwrap();
        // SAFETY: the instance lives.
        let physical_device = unsafe { instance.enumerate_physical_devices() }.unwrap()[0];
        // SAFETY: its device.
        let families = unsafe { instance.get_physical_device_queue_family_properties(physical_device) };
        let priorities = vec![1.0; families[0].queue_count.min(2) as usize];
        let queues =
            [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&priorities)];
        // SAFETY: its device.
        let there = unsafe { instance.enumerate_device_extension_properties(physical_device) }.unwrap();
        let has = |name: &CStr| there.iter().any(|extension| extension.extension_name_as_c_str() == Ok(name));
        let extensions: Vec<_> = wanted.iter().filter(|name| has(name)).copied().collect();
        let names: Vec<_> = extensions.iter().map(|name| name.as_ptr()).collect();
        let mut timelines = vk::PhysicalDeviceTimelineSemaphoreFeatures::default().timeline_semaphore(true);
        let mut info =
            vk::DeviceCreateInfo::default().queue_create_infos(&queues).enabled_extension_names(&names);
        if extensions.contains(&ash::khr::timeline_semaphore::NAME) {
            info = info.push_next(&mut timelines);
        }
        // SAFETY: the device has the family and the extensions; the structures live as long as the call.
        let device = unsafe { instance.create_device(physical_device, &info, None) }.unwrap();
        // SAFETY: a queue asked for above.
        let queue = unsafe { device.get_device_queue(0, 0) };
        // SAFETY: likewise.
        let own_queue = (priorities.len() > 1).then(|| unsafe { device.get_device_queue(0, 1) });
        let given = Given {
            instance,
            instance_version: version,
            physical_device,
            device,
            extensions: extensions.into_iter().map(CStr::to_owned).collect(),
            queue_family: 0,
            queue,
        };
        Self { given, own_queue, _entry: entry }
    }

    /// A submission of the program's own, to a queue of its own if there is one, after a frame is ready.
    fn copy(&self, device: &Arc<Device>, slot: Slot<'_>, to: &Allocation, ready: Fence) {
        let raw = &self.given.device;
        let semaphore = device.wait_semaphore(ready).unwrap();
        let info = vk::CommandPoolCreateInfo::default().queue_family_index(0);
        // SAFETY: a family that the device was opened with.
        let pool = unsafe { raw.create_command_pool(&info, None) }.unwrap();
        let info = vk::CommandBufferAllocateInfo::default().command_pool(pool).command_buffer_count(1);
        // SAFETY: the pool is new.
        let commands = unsafe { raw.allocate_command_buffers(&info) }.unwrap();
        // SAFETY: a new command buffer.
        unsafe { raw.begin_command_buffer(commands[0], &vk::CommandBufferBeginInfo::default()) }.unwrap();
        let all = [vk::BufferCopy::default().size(slot.len())];
        let target = to.vulkan().unwrap().buffer();
        // SAFETY: these commands.
        unsafe { slot.acquire(commands[0]) };
        // SAFETY: both buffers are so long, and live until the fence below is done.
        unsafe { raw.cmd_copy_buffer(commands[0], slot.buffer(), target, &all) };
        // SAFETY: begun above.
        unsafe { raw.end_command_buffer(commands[0]) }.unwrap();
        // SAFETY: no chain.
        let done = unsafe { raw.create_fence(&vk::FenceCreateInfo::default(), None) }.unwrap();
        let (semaphores, values) = ([semaphore.semaphore()], [semaphore.value()]);
        let mut at = vk::TimelineSemaphoreSubmitInfo::default().wait_semaphore_values(&values);
        let submit = vk::SubmitInfo::default()
            .command_buffers(&commands)
            .wait_semaphores(&semaphores)
            .wait_dst_stage_mask(&[vk::PipelineStageFlags::TRANSFER])
            .push_next(&mut at);
        let shared = device.queue();
        // SAFETY: the queue is this program's alone, or locked; all lives until the fence is done.
        unsafe { raw.queue_submit(self.own_queue.unwrap_or(*shared), &[submit], done) }.unwrap();
        drop(shared);
        // SAFETY: a fence of this device.
        unsafe { raw.wait_for_fences(&[done], true, u64::MAX) }.unwrap();
        semaphore.check().unwrap();
        // SAFETY: the work is over.
        unsafe { raw.destroy_fence(done, None) };
        // SAFETY: likewise.
        unsafe { raw.destroy_command_pool(pool, None) };
    }

    fn device(&self) -> bips::Result<Arc<Device>> {
        // SAFETY: all of it is true, and it lives longer: see `drop`.
        unsafe { Device::given(self.given.clone()) }
    }
}

/// Objects of bips that outlive their device are the layer's to find.
impl Drop for Theirs {
    fn drop(&mut self) {
        // SAFETY: the tests drop all else before.
        unsafe { self.given.device.destroy_device(None) };
        // SAFETY: likewise.
        unsafe { self.given.instance.destroy_instance(None) };
    }
}

#[test]
fn streams_of_bips_on_a_device_of_the_programs_own() {
    if here().is_none() {
        return;
    }
    let mut child = in_role("given", Path::new("/"));
    let output = without_validation_of_order(&mut child).output().unwrap();
    assert!(output.status.success() && said(&output).contains("as its own"), "{}", said(&output));
}

/// The child's part.
pub(crate) fn both_ways() {
    let backend = here().unwrap();
    let theirs = Theirs::open(vk::API_VERSION_1_2, &Given::EXTENSIONS);
    let scratch = tempfile::tempdir().unwrap();
    let device = theirs.device().unwrap();
    let mine: Arc<dyn Backend> = Arc::new(Vulkan::on(device.clone()));
    assert!(mine.capabilities().allocate && mine.capabilities().share);
    // Both ways: written on bips' device and read on theirs, and the other way round.
    for [from, to] in [[&backend, &mine], [&mine, &backend]] {
        let producer = producer(from, scratch.path()).create().unwrap();
        let registry = Registry::new().with(to.clone());
        let consumer = Consumer::builder("gpu").registry(registry).directory(scratch.path());
        let mut consumer = consumer.explicit_sync(true).connect().unwrap();
        for word in [21, 22, 23] {
            let frame = producer.acquire(SOON).unwrap();
            let work = fill(frame.vulkan().unwrap(), word);
            frame.publish(Description::new(), work.into()).unwrap();
            let frame = consumer.receive(SOON).unwrap();
            let slot = frame.vulkan().unwrap();
            assert_eq!(slot.device().ash().handle() == device.ash().handle(), Arc::ptr_eq(to, &mine));
            let place = own(slot.device(), slot.len());
            match Arc::ptr_eq(to, &mine) {
                true => theirs.copy(&device, slot, &place, frame.ready()),
                false => read_into(slot, &place, Some(frame.ready())).wait(1, None).unwrap(),
            }
            assert_eq!(place_word(&place), word);
        }
    }
    println!("as its own");
}

#[test]
fn a_device_that_lacks_something_is_refused_with_what_to_enable() {
    if here().is_none() {
        return;
    }
    let theirs = Theirs::open(vk::API_VERSION_1_2, &[]);
    let error = theirs.device().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("opened without VK_KHR_external_memory_fd; enable it"), "{error}");
    let mut old = theirs.given.clone();
    old.instance_version = vk::API_VERSION_1_0;
    // SAFETY: refused for its version.
    let error = unsafe { Device::given(old) }.unwrap_err();
    assert!(error.to_string().contains("version 1.0"), "{error}");
    // With less it does less, and never calls what is not enabled.
    let plain = Theirs::open(vk::API_VERSION_1_2, &Given::EXTENSIONS[..1]);
    let device = plain.device().unwrap();
    assert!(!device.has_timelines());
    let scratch = tempfile::tempdir().unwrap();
    let mine: Arc<dyn Backend> = Arc::new(Vulkan::on(device.clone()));
    let producer = producer(&mine, scratch.path()).create().unwrap();
    let mut consumer = consumer(scratch.path()).explicit_sync(true).connect().unwrap();
    let frame = producer.acquire(SOON).unwrap();
    let work = fill(frame.vulkan().unwrap(), 5);
    assert!(device.view(frame.allocation().unwrap()).unwrap_err().to_string().contains("host memory"));
    frame.publish(Description::new(), work.into()).unwrap();
    let frame = consumer.receive(SOON).unwrap();
    let error = device.wait_semaphore(frame.ready()).map(drop);
    assert!(error.is_err_and(|error| error.to_string().contains("no timeline semaphores")));
    frame.ready().wait().unwrap();
}
