//! That the other tests were watched: under the validation layer, as lane `vulkan` sets it up, a mistake ends the program.

use crate::{here, in_role, said};
use bips::{Allocation, Timeline};
use bips_vulkan::ash::vk;
use bips_vulkan::{Vulkan, VulkanFrame};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

const LAYERS: &str = "VK_INSTANCE_LAYERS";

/// Has the device do what is recorded with a buffer of a page.
fn work(record: impl FnOnce(&bips_vulkan::ash::Device, vk::CommandBuffer, vk::Buffer)) {
    let slot = Allocation::for_trial(&Vulkan::new(), 4096).unwrap();
    let slot = slot.vulkan().unwrap();
    println!("begun");
    let work = slot.device().submit(|device, commands| record(device, commands, slot.buffer())).unwrap();
    work.wait(1, None).unwrap();
    println!("done");
}

/// The child's part: fills more than the buffer has, in a way that no driver minds.
pub(crate) fn beyond() {
    work(|device, commands, buffer| {
        // SAFETY: not allowed (four bytes of nothing, at the buffer's end), and meant so; nothing is written.
        unsafe { device.cmd_fill_buffer(commands, buffer, 4096, vk::WHOLE_SIZE, 1) };
    });
}

/// The child's part: two writes without an order.
pub(crate) fn hazard() {
    work(|device, commands, buffer| {
        for word in [1, 2] {
            // SAFETY: inside the buffer; which of the two is last is open, and nobody reads it.
            unsafe { device.cmd_fill_buffer(commands, buffer, 0, 4096, word) };
        }
    });
}

#[test]
fn mistakes_end_the_program_that_makes_them() {
    if here().is_none() || std::env::var_os(LAYERS).is_none() {
        return; // the lane runs it with the layer as well
    }
    for (role, message) in
        [("beyond", "VUID-vkCmdFillBuffer-dstOffset-00024"), ("hazard", "SYNC-HAZARD-WRITE-AFTER-WRITE")]
    {
        let output = in_role(role, Path::new("/")).output().unwrap();
        let said = said(&output);
        assert!(said.contains("begun") && !said.contains("done"), "{role}: {said}");
        assert_eq!(output.status.signal(), Some(libc::SIGTRAP), "{role}: {said}");
        assert!(said.contains(message), "{role}: {said}");
    }
}
