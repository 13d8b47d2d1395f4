//! The kernel's virtual camera, spoken to directly: dma-bufs, and what it refuses.

mod common;

use bips_v4l2::{Device, Filled, Layout, Next, Place, Queue, Target, Way};
use common::{SIZE, assert_bars, code, needs_one_piece, streaming, vivid};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

/// What the kernel's heaps take and give.
#[repr(C)]
struct HeapAllocation {
    len: u64,
    fd: u32,
    fd_flags: u32,
    heap_flags: u64,
}

mod ioctl {
    #![allow(missing_docs, reason = "named as the kernel does")]
    nix::ioctl_readwrite!(heap_alloc, b'H', 0, super::HeapAllocation);
    nix::ioctl_write_ptr!(dma_buf_sync, b'b', 0, u64);
}

const HEAP: &str = "/dev/dma_heap/system";

/// A dma-buf of the system heap.
#[derive(Debug)]
struct DmaBuf {
    fd: OwnedFd,
    len: u32,
}

impl DmaBuf {
    fn new(len: u32) -> Self {
        let heap = File::open(HEAP).expect("a machine with vivid has it");
        let flags = (nix::libc::O_RDWR | nix::libc::O_CLOEXEC) as u32;
        let mut wanted = HeapAllocation { len: len.into(), fd: 0, fd_flags: flags, heap_flags: 0 };
        // SAFETY: one structure of the size in the ioctl's number.
        unsafe { ioctl::heap_alloc(heap.as_raw_fd(), &mut wanted) }.expect("a small buffer");
        // SAFETY: the kernel has just made it for us.
        let fd = unsafe { OwnedFd::from_raw_fd(wanted.fd.cast_signed()) };
        Self { fd, len }
    }

    /// A copy of its bytes, between brackets that make the caches true.
    fn bytes(&self) -> Vec<u8> {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
        const READ: u64 = 1;
        const END: u64 = 4;
        let len = (self.len as usize).next_multiple_of(4096).try_into().expect("not 0");
        // SAFETY: a new mapping, where the kernel likes.
        let start = unsafe { mmap(None, len, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, &self.fd, 0) };
        let start = start.expect("dma-bufs of the heap can be mapped");
        // SAFETY: the kernel reads one number.
        unsafe { ioctl::dma_buf_sync(self.fd.as_raw_fd(), &READ) }.expect("a dma-buf");
        // SAFETY: mapped for at least so many bytes, and the driver has given the buffer back.
        let bytes =
            unsafe { std::slice::from_raw_parts(start.as_ptr().cast::<u8>(), self.len as usize) }.to_vec();
        // SAFETY: the kernel reads one number.
        unsafe { ioctl::dma_buf_sync(self.fd.as_raw_fd(), &(READ | END)) }.expect("a dma-buf");
        // SAFETY: our own mapping, which nothing refers to any more.
        unsafe { munmap(start, len.get()) }.expect("mapped above");
        bytes
    }
}

// SAFETY: nothing else uses the dma-buf but `bytes`, which has the value, so the driver has not.
unsafe impl Target for DmaBuf {
    fn place(&self, plane: usize) -> Option<Place<'_>> {
        (plane == 0).then(|| Place::DmaBuf { fd: self.fd.as_fd(), len: self.len })
    }
}

/// Memory of this process, on the heap: scattered pages.
#[derive(Debug)]
struct Owned(Box<[u8]>);

// SAFETY: the box is the only way to its memory, and does not move it.
unsafe impl Target for Owned {
    fn place(&self, plane: usize) -> Option<Place<'_>> {
        let start = NonNull::new(self.0.as_ptr().cast_mut())?;
        (plane == 0).then_some(Place::Memory { start, len: self.0.len() as u32 })
    }
}

#[track_caller]
fn next_frame<T: Target>(queue: &mut Queue<T>) -> Filled<T> {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        assert!(Instant::now() < until, "no frame came");
        if let Next::Frame(filled) = queue.next(Duration::from_secs(1)).unwrap() {
            return filled;
        }
    }
}

fn prepared(vivid: &common::Vivid, format: &str) -> (Device, Layout) {
    let camera = vivid.open();
    let mode = camera.set_mode(code(format), Some(SIZE)).unwrap();
    let layout = Layout::of(&mode).unwrap();
    (camera, layout)
}

#[test]
fn dma_bufs_of_a_heap_are_written_to() {
    let Some(vivid) = streaming() else { return };
    let (camera, layout) = prepared(&vivid, "RGB3");
    assert!(camera.ways().unwrap().has(Way::DmaBuf));
    let len = layout.memory[0].1;
    let mut queue = Queue::new(camera, Way::DmaBuf, 1, 3).unwrap();
    for index in 0..3 {
        queue.queue(index, DmaBuf::new(len)).unwrap();
    }
    queue.start().unwrap();
    for number in 0..9 {
        let filled = next_frame(&mut queue);
        assert!(!filled.error && filled.bytes_used == u64::from(len));
        assert_bars(&filled.target.bytes(), SIZE, &format!("frame {number}"));
        queue.queue(number % 3, filled.target).unwrap();
    }
    assert_eq!(queue.queued(), 3);
    // The camera serves again, another way.
    let camera = queue.stop().unwrap();
    let mut queue = Queue::new(camera, Way::UserPtr, 1, 2).unwrap();
    queue.queue(0, Owned(vec![0; len as usize].into())).unwrap();
    queue.start().unwrap();
    assert_bars(&next_frame(&mut queue).target.0, SIZE, "by address");
}

#[test]
fn buffers_that_are_too_small_are_refused() {
    let Some(vivid) = streaming() else { return };
    let (camera, layout) = prepared(&vivid, "RGB3");
    let len = layout.memory[0].1;
    let mut queue = Queue::new(camera, Way::DmaBuf, 1, 2).unwrap();
    let error = queue.queue(0, DmaBuf::new(len / 2)).unwrap_err();
    assert!(error.to_string().contains("too small"), "{error}");
    // Nothing was lost by that: the buffer is free.
    queue.queue(0, DmaBuf::new(len)).unwrap();
    assert!(queue.queue(0, DmaBuf::new(len)).is_err(), "it has that one already");
    assert!(queue.queue(2, DmaBuf::new(len)).is_err(), "there is none of that number");
}

#[test]
fn a_camera_that_needs_memory_in_one_piece_says_so() {
    let Some(vivid) = vivid() else { return };
    if !needs_one_piece() {
        return common::skip::without("camera", "vivid was not loaded with allocators=1");
    }
    let (camera, layout) = prepared(&vivid, "RGB3");
    let ways = camera.ways().unwrap();
    assert!(ways.has(Way::DmaBuf) && !ways.has(Way::UserPtr));
    let mut queue = Queue::new(camera, Way::DmaBuf, 1, 2).unwrap();
    let error = queue.queue(0, DmaBuf::new(layout.memory[0].1)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("in one piece") && text.contains("--memory dma-heap:"), "{text}");
    drop(queue);
    let refused = Queue::<Owned>::new(vivid.open(), Way::UserPtr, 1, 2).unwrap_err();
    assert!(refused.to_string().contains("V4L2_MEMORY_USERPTR"), "{refused}");
}

#[test]
fn what_is_no_camera_is_not_opened() {
    use bips::ErrorKind;
    let kind = |path: &str| Device::open(path.as_ref()).unwrap_err().kind();
    assert_eq!(kind("/dev/null"), ErrorKind::InvalidArgument);
    assert_eq!(kind("/dev/video-none"), ErrorKind::NotFound);
    let error = Device::open("/dev/null".as_ref()).unwrap_err().to_string();
    assert!(error.contains("no camera") && error.contains("--list"), "{error}");
}

/// A stream made of the camera's own buffers, and a consumer of it.
mod own {
    use super::{SIZE, common, next_frame, prepared};
    use bips::{Consumer, ErrorKind, Fence, Policy, Producer, Registry, Wait};
    use bips_dma_buf::Foreign;
    use bips_v4l2::{Lent, Queue, Slot, Way};
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    const SOON: Wait = Wait::For(Duration::from_secs(30));

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("bips-own-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn producer(&self, lent: Vec<bips::ForeignBuffer>, layout: &bips_v4l2::Layout) -> Producer {
            let builder = Producer::adopt("own", lent).registry(registry()).directory(&self.0);
            builder.content(layout.content).create().unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn registry() -> Registry {
        Registry::new().with(Arc::new(Foreign::new()))
    }

    #[test]
    fn the_cameras_own_buffers_are_published() {
        let Some(vivid) = common::vivid() else { return };
        let scratch = Scratch::new("published");
        let (camera, layout) = prepared(&vivid, "RGB3");
        assert!(camera.ways().unwrap().has(Way::Own));
        let Lent { buffers, mut slots } = camera.lend(&layout, 4).unwrap();
        let producer = scratch.producer(buffers, &layout);
        assert_eq!((producer.slots(), producer.backend().kind.as_str()), (4, "dma-buf"));
        let consumer = Consumer::builder("own").registry(registry()).directory(&scratch.0);
        let mut consumer = consumer.policy(Policy::Reliable).connect().unwrap();
        let mut queue: Queue<Slot> = Queue::new(camera, Way::Own, 1, 4).unwrap();
        for index in [2, 0, 3] {
            let slot = slots.target(producer.acquire_slot(index, SOON).unwrap()).unwrap();
            queue.queue(index, slot).unwrap();
        }
        queue.start().unwrap();
        let mut seen = 0u32;
        let mut leased = None;
        for number in 0..12 {
            let filled = next_frame(&mut queue);
            assert!(!filled.error, "frame {number}");
            seen |= 1 << filled.target.index();
            let description = bips::Description { timestamp: filled.timestamp, ..bips::Description::new() };
            filled.target.into_frame().publish(description, Fence::Signaled).unwrap();
            let frame = consumer.receive(SOON).unwrap();
            let mut pixels = vec![0; frame.nbytes()];
            frame.copy_to(0, &mut pixels);
            common::assert_bars(&pixels, SIZE, &format!("frame {number}"));
            // One stays leased while the next is captured: its buffer must not be given to the camera.
            leased = Some(frame);
            let free = producer.acquire(SOON).unwrap();
            let free = slots.target(free).unwrap();
            queue.queue(free.index(), free).unwrap();
        }
        assert_eq!(seen, 0b1111, "every buffer went round");
        drop(queue.stop().unwrap());
        drop(producer);
        // The camera is closed and the stream over: what is leased is still there.
        let frame = leased.unwrap();
        let mut pixels = vec![0; frame.nbytes()];
        frame.copy_to(0, &mut pixels);
        common::assert_bars(&pixels, SIZE, "after the end");
    }

    /// Its driver would ask the kernel, which kills somebody for it.
    #[test]
    fn more_than_the_machine_has_is_not_asked_for() {
        let Some(vivid) = common::vivid() else { return };
        let (camera, mut layout) = prepared(&vivid, "RGB3");
        layout.memory = vec![(0, u32::MAX)];
        let error = camera.lend(&layout, 32).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
        assert!(error.to_string().contains("use fewer slots"), "{error}");
    }

    #[test]
    fn buffers_that_are_not_the_cameras_are_not_given_to_it() {
        let Some(vivid) = common::vivid() else { return };
        let scratch = Scratch::new("order");
        let (camera, layout) = prepared(&vivid, "RGB3");
        let Lent { mut buffers, mut slots } = camera.lend(&layout, 3).unwrap();
        buffers.swap(0, 1);
        let producer = scratch.producer(buffers, &layout);
        let mut queue: Queue<Slot> = Queue::new(camera, Way::Own, 1, 3).unwrap();
        let slot = slots.target(producer.acquire_slot(0, SOON).unwrap()).unwrap();
        let error = queue.queue(0, slot).unwrap_err();
        assert!(error.to_string().contains("in their order"), "{error}");
        let slot = slots.target(producer.acquire_slot(2, SOON).unwrap()).unwrap();
        queue.queue(2, slot).unwrap();
        // The same buffers made anew are others.
        let camera = queue.stop().unwrap();
        let error = Queue::<Slot>::new(camera, Way::Own, 1, 3).unwrap_err();
        assert!(error.to_string().contains("has lent 0 buffers, not 3"), "{error}");
        let camera = vivid.open();
        let again = camera.lend(&layout, 3).unwrap();
        drop(again);
        let mut queue: Queue<Slot> = Queue::new(camera, Way::Own, 1, 3).unwrap();
        let slot = slots.target(producer.acquire_slot(2, SOON).unwrap()).unwrap();
        let error = queue.queue(2, slot).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
}
