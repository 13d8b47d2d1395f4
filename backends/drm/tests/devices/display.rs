//! A display shows what lies in slots: vkms, which sums up the pixels of every picture that it puts out.

use crate::common::{self, Opened, node};
use crate::takers::{Picture, device_fd};
use crate::{image, plan};
use bips::{Access, Allocation, Backend, ErrorKind, Usage};
use bips_dma_buf::{DmaHeap, Udmabuf};
use drm::control::{Device as _, Mode, connector, crtc};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

struct Display {
    card: Opened,
    crtc: crtc::Handle,
    connector: connector::Handle,
    mode: Mode,
    /// Of the kernel's, where the sums are read.
    sums: PathBuf,
}

impl Display {
    /// `None` where there is none, which is said.
    #[track_caller]
    fn open() -> Option<Self> {
        let name = node("vkms", false);
        let Some(number) = name.strip_prefix("card").and_then(|number| number.parse::<u32>().ok()) else {
            bips_conformance::left_out(&["vkms"], "there is no virtual display (the kernel's module vkms)");
            return None;
        };
        let card = Opened::node(&name);
        let resources = card.resource_handles().unwrap();
        let (crtc, connector) = (resources.crtcs()[0], resources.connectors()[0]);
        let modes = card.get_connector(connector, true).unwrap().modes().to_vec();
        let mode = modes.into_iter().min_by_key(|mode| mode.size()).expect("a display that is connected");
        let sums = PathBuf::from(format!("/sys/kernel/debug/dri/{number}/crtc-0/crc"));
        fs::write(sums.join("control"), "auto").unwrap();
        Some(Self { card, crtc, connector, mode, sums })
    }

    fn size(&self) -> (u32, u32) {
        let (width, height) = self.mode.size();
        (width.into(), height.into())
    }

    /// Shows a slot, and gives the sum of what is seen.
    fn show(&self, slot: &Allocation, layout: &bips::Layout) -> String {
        let handle = self.card.prime_fd_to_buffer(device_fd(slot).as_fd()).unwrap();
        let shown = self.card.add_framebuffer(&Picture(handle, layout), 24, 32).unwrap();
        self.card.set_crtc(self.crtc, Some(shown), (0, 0), &[self.connector], Some(self.mode)).unwrap();
        let mut sums = File::open(self.sums.join("data")).unwrap();
        let mut line = [0; 64];
        // The first may be of the picture before.
        let last = (0..4).map(|_| {
            let read = sums.read(&mut line).unwrap();
            let text = std::str::from_utf8(&line[..read]).unwrap();
            text.split_whitespace().nth(1).expect("a number and a sum").to_owned()
        });
        let sum = last.last().expect("four");
        drop(sums);
        self.card.set_crtc(self.crtc, None, (0, 0), &[], None).unwrap();
        self.card.destroy_framebuffer(shown).unwrap();
        self.card.close_buffer(handle).unwrap();
        sum
    }
}

/// Writes a picture by the CPU: pixel by pixel, rows where the layout has them.
fn paint(slot: &Allocation, layout: &bips::Layout, colour: impl Fn(u64, u64) -> [u8; 4]) {
    let plane = layout.content.planes()[0];
    let cpu = slot.memory.cpu_access().expect("a dma-buf");
    cpu.begin(slot.offset, Access::Write, None).unwrap();
    let start = slot.memory.map(Access::Write).unwrap().start.as_ptr();
    for y in 0..plane.rows {
        for x in 0..plane.width / 4 {
            let at = (slot.offset + y * plane.stride + x * 4) as usize;
            assert!(at + 4 <= (slot.offset + slot.len) as usize);
            // SAFETY: inside the slot, which is mapped for writing.
            let pixel = unsafe { start.add(at) };
            // SAFETY: four bytes of the slot, which nobody else uses.
            unsafe { pixel.cast::<[u8; 4]>().write_unaligned(colour(x, y)) };
        }
    }
    cpu.end(slot.offset, Access::Write).unwrap();
}

#[test]
fn a_display_shows_what_lies_in_slots() {
    let Some(display) = Display::open() else { return };
    let (width, height) = display.size();
    let kinds: [Arc<dyn Backend>; 5] = [
        Arc::new(common::drm("vkms")),
        Arc::new(common::drm("vgem")),
        Arc::new(common::gbm("vgem")),
        Arc::new(DmaHeap::new()),
        Arc::new(Udmabuf::new()),
    ];
    let mut seen: Vec<(String, [String; 2])> = Vec::new();
    for backend in kinds {
        let kind = backend.info().kind.clone();
        let layout = match plan(&backend, image("AR24", width, height), Usage::CPU) {
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                bips_conformance::left_out(&[&kind[..3]], &error.to_string());
                continue;
            }
            layout => layout.unwrap(),
        };
        let slots = backend.allocate(&layout, 2).unwrap();
        paint(&slots[0], &layout, |x, y| [x as u8, y as u8, (x + y) as u8, 0]);
        paint(&slots[1], &layout, |x, y| [y as u8, x as u8, 7, 0]);
        let sums = [display.show(&slots[0], &layout), display.show(&slots[1], &layout)];
        assert_ne!(sums[0], sums[1], "{kind}: two pictures");
        assert_eq!(display.show(&slots[0], &layout), sums[0], "{kind}: the first again");
        println!(
            "{kind}: {width}x{height} in rows of {} is seen as {sums:?}",
            layout.content.planes()[0].stride
        );
        seen.push((kind, sums));
    }
    assert!(seen.len() > 1, "{seen:?}");
    assert!(seen.iter().all(|(_, sums)| *sums == seen[0].1), "the same pictures: {seen:?}");
}
