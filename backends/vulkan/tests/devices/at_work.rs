//! A device writes at one end and another process's device reads at the other.

use crate::{SOON, consumer, here, in_role, producer, said};
use bips::{Allocation, Backend, Description, ErrorKind, Fence, Timeline};
use bips_vulkan::ash::vk;
use bips_vulkan::{Device, Slot, VulkanFrame, Work};
use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

const FRAMES: u32 = 20;

/// The device fills the slot with a word.
pub(crate) fn fill(slot: Slot<'_>, word: u32) -> Work {
    fill_after(slot, None, word)
}

/// The same, perhaps after other work.
pub(crate) fn fill_after(slot: Slot<'_>, after: Option<Fence>, word: u32) -> Work {
    let record = |device: &bips_vulkan::ash::Device, commands| {
        // SAFETY: the commands are being recorded; the buffer can be written, and lives until the work is waited for.
        unsafe { device.cmd_fill_buffer(commands, slot.buffer(), 0, slot.len(), word) };
        // SAFETY: these commands.
        unsafe { slot.release(commands) };
    };
    slot.device().submit_after(after, record).unwrap()
}

/// Memory of the device's own, as a second place.
pub(crate) fn own(device: &Arc<Device>, bytes: u64) -> Allocation {
    let backend = bips_vulkan::Vulkan::on(device.clone());
    Allocation::for_trial(&backend, bytes).unwrap()
}

/// The device copies the slot to that place, perhaps after other work.
pub(crate) fn read_into(slot: Slot<'_>, to: &Allocation, after: Option<Fence>) -> Work {
    let target = to.vulkan().unwrap();
    let record = |device: &bips_vulkan::ash::Device, commands| {
        let all = [vk::BufferCopy::default().size(slot.len())];
        // SAFETY: these commands.
        unsafe { slot.acquire(commands) };
        // SAFETY: the commands are being recorded; both buffers are so long, and live until the work is waited for.
        unsafe { device.cmd_copy_buffer(commands, slot.buffer(), target.buffer(), &all) };
        // SAFETY: these commands.
        unsafe { slot.release(commands) };
    };
    slot.device().submit_after(after, record).unwrap()
}

/// The word of which that place is full.
pub(crate) fn place_word(place: &Allocation) -> u32 {
    let start = place.memory.map(bips::Access::Read).unwrap().start.cast::<u32>();
    let last = start.map_addr(|addr| addr.saturating_add(place.len as usize - 4));
    // SAFETY: the first word of the memory, which nobody writes now.
    let first = unsafe { start.read_volatile() };
    // SAFETY: likewise the last.
    let last = unsafe { last.read_volatile() };
    assert_eq!(first, last);
    first
}

/// The device copies the slot to that place, and the CPU reads there.
fn by_device(slot: Slot<'_>, to: &Allocation) -> u32 {
    read_into(slot, to, None).wait(1, None).unwrap();
    place_word(to)
}

/// The child's part: reads each frame by its device and by its CPU.
pub(crate) fn copy(directory: &Path) {
    let mut consumer = consumer(directory).connect().unwrap();
    let mut place = None;
    for sequence in 0..FRAMES {
        let frame = consumer.receive(SOON).unwrap();
        let slot = frame.vulkan().unwrap();
        let place = place.get_or_insert_with(|| own(slot.device(), slot.len()));
        let mut word = [0; 4];
        frame.copy_to(frame.nbytes() - 4, &mut word);
        assert_eq!((by_device(slot, place), u32::from_ne_bytes(word)), (sequence + 1, sequence + 1));
    }
    println!("read {FRAMES} frames on {}", consumer.backend().kind);
}

#[test]
fn what_one_process_has_its_device_write_another_reads_by_its_own() {
    let Some(backend) = here() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let producer = producer(&backend, scratch.path()).create().unwrap();
    let mut child = in_role("copy", scratch.path());
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    producer.wait_for_consumers(1, SOON).unwrap();
    for sequence in 0..FRAMES {
        let frame = producer.acquire(SOON).unwrap();
        let work = fill(frame.vulkan().unwrap(), sequence + 1);
        frame.publish(Description::new(), work.into()).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && said(&output).contains("read 20 frames"), "{}", said(&output));
}

/// Also in one process, and both ways: what the CPU writes the device reads.
#[test]
fn the_cpu_writes_and_the_device_reads() {
    let Some(backend) = here() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let producer = producer(&backend, scratch.path()).create().unwrap();
    let mut consumer = consumer(scratch.path()).connect().unwrap();
    let mut frame = producer.acquire(SOON).unwrap();
    frame.bytes_mut().fill(0x42);
    let place = own(frame.vulkan().unwrap().device(), 1 << 20);
    frame.publish(Description::new(), Fence::Signaled).unwrap();
    let frame = consumer.receive(SOON).unwrap();
    assert_eq!(by_device(frame.vulkan().unwrap(), &place), 0x4242_4242);
    assert_eq!(frame.memory().kind, "vulkan");
}

/// So many fills, one after the other; the last one's word is `fills`.
fn long(slot: Slot<'_>, fills: u32) -> Work {
    let record = |device: &bips_vulkan::ash::Device, commands| {
        let order = [vk::MemoryBarrier::default()
            .src_access_mask(vk::AccessFlags::TRANSFER_WRITE)
            .dst_access_mask(vk::AccessFlags::TRANSFER_WRITE)];
        let (copies, none) = (vk::PipelineStageFlags::TRANSFER, vk::DependencyFlags::empty());
        for word in 1..=fills {
            // SAFETY: as in `fill`.
            unsafe { device.cmd_fill_buffer(commands, slot.buffer(), 0, slot.len(), word) };
            // SAFETY: the commands are being recorded.
            unsafe { device.cmd_pipeline_barrier(commands, copies, copies, none, &order, &[], &[]) };
        }
    };
    slot.device().submit(record).unwrap()
}

/// A frame is not there before its work is: without the fence it would be.
#[test]
fn a_frame_waits_for_its_work() {
    let Some(backend) = here() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let producer = producer(&backend, scratch.path()).create().unwrap();
    let mut consumer = consumer(scratch.path()).connect().unwrap();
    for fenced in [true, false] {
        // More and more, until the device is seen at it: how fast it is nobody knows.
        let caught = (8..20).map(|power| 1 << power).any(|fills| {
            let frame = producer.acquire(SOON).unwrap();
            let work = Arc::new(long(frame.vulkan().unwrap(), fills));
            let unfinished = work.value().unwrap() == 0;
            let ready = if fenced { Fence::Timeline(work.clone(), 1) } else { Fence::Signaled };
            frame.publish(Description::new(), ready).unwrap();
            let frame = consumer.receive(SOON).unwrap();
            let mut word = [0; 4];
            frame.copy_to(0, &mut word);
            let last = u32::from_ne_bytes(word) == fills;
            work.wait(1, None).unwrap();
            assert_eq!(work.wait(2, None).unwrap_err().kind(), ErrorKind::Timeout, "nothing comes after");
            assert!(last || !fenced, "word {word:?} of {fills}");
            if fenced { unfinished } else { !last }
        });
        assert!(caught, "fenced: {fenced}");
    }
}

/// Host memory used in place, at both ends: by a producer that writes and a consumer whose pages are read-only.
#[test]
fn a_memfd_stream_is_the_devices_too() {
    let Some(_) = here() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let memfd: Arc<dyn Backend> = Arc::new(bips_memfd::Memfd::new());
    let producer = producer(&memfd, scratch.path()).create().unwrap();
    let consumer = bips::Consumer::builder("gpu").registry(bips::Registry::new().with(memfd));
    let mut consumer = consumer.directory(scratch.path()).connect().unwrap();
    let device = bips_vulkan::Vulkan::new().device().unwrap();
    let place = own(&device, 1 << 20);
    // It would work, but does not say so: the specification forbids to try.
    if device.adapter().name.contains("SwiftShader") {
        let error = device.view(&place).unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("external_memory_host"));
        return;
    }
    let (mut theirs, mut ours) = (HashMap::new(), HashMap::new());
    for word in 1..20 {
        let frame = producer.acquire(SOON).unwrap();
        let view =
            theirs.entry(frame.slot()).or_insert_with(|| device.view(frame.allocation().unwrap()).unwrap());
        let work = device.submit(|device, commands| {
            // SAFETY: as in `fill`; the view lives on.
            unsafe { device.cmd_fill_buffer(commands, view.buffer(), 0, view.len(), word) };
        });
        frame.publish(Description::new(), work.unwrap().into()).unwrap();
        let frame = consumer.receive(SOON).unwrap();
        assert!(frame.readonly());
        let view =
            ours.entry(frame.slot()).or_insert_with(|| device.view(frame.allocation().unwrap()).unwrap());
        let target = place.vulkan().unwrap();
        let work = device.submit(|device, commands| {
            let all = [vk::BufferCopy::default().size(view.len())];
            // SAFETY: as in `by_device`.
            unsafe { device.cmd_copy_buffer(commands, view.buffer(), target.buffer(), &all) };
        });
        work.unwrap().wait(1, None).unwrap();
        let mut by_cpu = [0; 4];
        frame.copy_to(8, &mut by_cpu);
        let start = place.memory.map(bips::Access::Read).unwrap().start.cast::<u32>();
        // SAFETY: the first word of the memory, which nobody writes now.
        assert_eq!((unsafe { start.read_volatile() }, u32::from_ne_bytes(by_cpu)), (word, word));
    }
    let between = Allocation { len: place.len - 1, ..place.clone() };
    let error = device.view(&between).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("it takes whole pieces of"), "{error}");
}
