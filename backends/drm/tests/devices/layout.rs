//! How images lie in the buffers of drivers.

use crate::{backend, image, plan};
use bips::{Access, Consumer, Description, ErrorKind, Fence, Fourcc, Producer, Registry, Usage, Wait};
use std::time::Duration;

/// virtio-gpu has pixels of 32 bits only: rows of other images end on a word, or, by Mesa's software driver, later.
#[test]
fn rows_lie_as_the_driver_has_them() {
    for (kind, driver, least) in [
        ("drm", "vgem", 1923),
        ("drm", "virtio_gpu", 1924),
        ("gbm", "vgem", 1923),
        ("gbm", "virtio_gpu", 1924),
    ] {
        let Some(backend) = backend(kind, driver) else { continue };
        let layout = plan(&backend, image("RGB3", 641, 480), Usage::CPU).unwrap();
        let stride = layout.content.planes()[0].stride;
        println!("{kind} of {driver}: rows of 1923 bytes lie {stride} apart");
        assert!(
            if kind == "drm" { stride == least } else { stride >= least },
            "{kind} of {driver}: {stride}"
        );
        assert_eq!(layout.content.strides(), [stride.cast_signed(), 3, 1]);
        assert_eq!(layout.content.nbytes(), 480 * stride);
        assert!(layout.slot_bytes >= layout.content.nbytes());
    }
}

#[test]
fn every_format_has_a_buffer() {
    for (kind, driver) in [("drm", "vgem"), ("drm", "virtio_gpu"), ("gbm", "vgem"), ("gbm", "virtio_gpu")] {
        let Some(backend) = backend(kind, driver) else { continue };
        for code in ["RGB3", "BGR3", "GREY", "Y16", "AB24", "AR24", "YUYV", "UYVY", "NV12", "YU12"] {
            let layout = plan(&backend, image(code, 640, 480), Usage::CPU);
            let layout = layout.unwrap_or_else(|error| panic!("{code}, {kind} of {driver}: {error}"));
            assert_eq!(layout.content.fourcc().unwrap().to_string(), code);
            let slots = backend.allocate(&layout, 2).unwrap();
            let mapped = slots[1].memory.map(Access::Write).unwrap();
            assert_eq!(mapped.len as u64, layout.slot_bytes);
        }
    }
}

#[test]
fn rows_that_cannot_lie_apart_make_one_run() {
    for kind in ["drm", "gbm"] {
        let Some(backend) = backend(kind, "virtio_gpu") else { continue };
        let asked = image("YU12", 642, 480);
        assert_eq!(plan(&backend, asked, Usage::CPU).unwrap().content, asked);
        let nv12 = plan(&backend, image("NV12", 642, 480), Usage::CPU).unwrap().content;
        let stride = nv12.planes()[0].stride;
        assert!(stride >= 644 && nv12.planes()[1].stride == stride);
        assert_eq!(nv12.planes()[1].offset, stride * 480);
    }
}

/// The whole way: the last pixel of each row arrives where strides say it is.
#[test]
fn frames_with_room_between_rows_arrive() {
    let Some(backend) = backend("drm", "virtio_gpu") else { return };
    let scratch = tempfile::tempdir().unwrap();
    let producer = Producer::builder("display").backend(backend.clone()).directory(scratch.path());
    let producer = producer.image(Fourcc::parse("RGB3").unwrap(), 641, 48).create().unwrap();
    let registry = Registry::new().with(backend.clone());
    let mut consumer =
        Consumer::builder("display").registry(registry).directory(scratch.path()).connect().unwrap();
    let soon = Wait::For(Duration::from_secs(30));
    let at = |row: usize| row * 1924 + 640 * 3 + 2;
    let mut frame = producer.acquire(soon).unwrap();
    for row in 0..48 {
        frame.bytes_mut()[at(row)] = row as u8 + 1;
    }
    frame.publish(Description::new(), Fence::Signaled).unwrap();
    let frame = consumer.receive(soon).unwrap();
    assert_eq!(frame.strides(), [1924, 3, 1]);
    for row in 0..48 {
        let mut byte = [0];
        frame.copy_to(at(row), &mut byte);
        assert_eq!(byte, [row as u8 + 1]);
    }
}

#[test]
fn the_cpu_gets_no_tiled_buffer() {
    let tiled = image("AR24", 640, 480).with_modifier(1 << 56 | 2).unwrap();
    for kind in ["drm", "gbm"] {
        let Some(backend) = backend(kind, "virtio_gpu") else { continue };
        let error = plan(&backend, tiled, Usage::CPU).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(
            error.to_string().contains("0x100000000000002") && error.to_string().contains("CPU would read")
        );
        assert!(plan(&backend, tiled, Usage::DISPLAY).is_err(), "pools are mapped all the same");
    }
}
