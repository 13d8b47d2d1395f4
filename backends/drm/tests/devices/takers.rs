//! Devices take the buffers for what they are.

use crate::common::{Opened, node};
use crate::{backend, image, plan};
use bips::{Allocation, ExternalHandle, Layout, Usage};
use bips_dma_buf::DmaBuf;
use drm::buffer::{Buffer, DrmFourcc, Handle};
use drm::control::Device as _;
use std::os::fd::{AsFd, OwnedFd};

pub(crate) fn device_fd(slot: &Allocation) -> OwnedFd {
    match slot.memory.export_to_device(slot.offset).unwrap() {
        (ExternalHandle::DmaBuf { fd, .. }, 0) => fd,
        other => panic!("{other:?}"),
    }
}

/// A slot as a display is told of it.
pub(crate) struct Picture<'a>(pub(crate) Handle, pub(crate) &'a Layout);

impl Buffer for Picture<'_> {
    fn size(&self) -> (u32, u32) {
        (self.1.content.width(), self.1.content.height())
    }
    fn format(&self) -> DrmFourcc {
        DrmFourcc::Xrgb8888
    }
    fn pitch(&self) -> u32 {
        self.1.content.strides()[0] as u32
    }
    fn handle(&self) -> Handle {
        self.0
    }
}

#[test]
fn a_display_takes_a_slot_by_its_stride() {
    for kind in ["drm", "gbm"] {
        let Some(backend) = backend(kind, "virtio_gpu") else { continue };
        let layout = plan(&backend, image("AR24", 640, 480), Usage::DISPLAY).unwrap();
        let slots = backend.allocate(&layout, 1).unwrap();
        let card = Opened::node(&node("virtio_gpu", false));
        let handle = card.prime_fd_to_buffer(device_fd(&slots[0]).as_fd()).unwrap();
        let shown = card.add_framebuffer(&Picture(handle, &layout), 24, 32).unwrap();
        card.destroy_framebuffer(shown).unwrap();
    }
}

/// What the documentation says of read-only streams: the consumer's mapping is read-only, its descriptor is not.
#[test]
fn a_consumer_that_means_to_can_write() {
    for (kind, driver) in [("drm", "vgem"), ("drm", "virtio_gpu"), ("gbm", "vgem"), ("gbm", "virtio_gpu")] {
        let Some(backend) = backend(kind, driver) else { continue };
        assert!(!backend.capabilities().read_only_enforced, "{kind} of {driver}");
    }
}

/// The same memory: the other driver exports the very dma-buf it was given.
#[test]
fn another_device_takes_a_slot() {
    if backend("drm", "vgem").is_none() {
        return;
    }
    for kind in ["drm", "gbm"] {
        let Some(backend) = backend(kind, "virtio_gpu") else { continue };
        let layout = plan(&backend, image("AR24", 64, 48), Usage::CPU).unwrap();
        let slots = backend.allocate(&layout, 2).unwrap();
        let ours: Vec<_> = slots.iter().map(|slot| DmaBuf::new(device_fd(slot)).unwrap()).collect();
        assert_ne!(ours[0].id().unwrap(), ours[1].id().unwrap());
        let vgem = Opened::node(&node("vgem", false));
        for ours in &ours {
            let handle = vgem.prime_fd_to_buffer(ours.as_fd()).unwrap();
            let theirs = DmaBuf::new(vgem.buffer_to_prime_fd(handle, drm::CLOEXEC).unwrap()).unwrap();
            assert_eq!((theirs.id().unwrap(), theirs.len()), (ours.id().unwrap(), layout.slot_bytes));
        }
    }
}
