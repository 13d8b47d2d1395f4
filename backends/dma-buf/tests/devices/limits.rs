//! The same memory on both sides, and how far consumers are kept from writing to it.

use crate::{SOON, Scratch, are_here, consumer, in_role};
use bips::{Description, Fence, FrameMut, Producer};
use bips_dma_buf::DmaBuf;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mprotect};
use std::fs::OpenOptions;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

fn id(frame: &FrameMut) -> u64 {
    DmaBuf::new(frame.fd().unwrap().0).unwrap().id().unwrap()
}

fn publish_all(producer: &Producer) -> Vec<u64> {
    let mut ids = Vec::new();
    for _ in 0..producer.slots() {
        let mut frame = producer.acquire(SOON).unwrap();
        frame.bytes_mut().fill(7);
        ids.push(id(&frame));
        frame.publish(Description::new(), Fence::Signaled).unwrap();
    }
    ids
}

/// The child prints which buffers the frames lie in, as it sees them.
pub(crate) fn identify(directory: &Path) {
    let mut consumer = consumer(directory).connect().unwrap();
    while let Ok(frame) = consumer.receive(SOON) {
        let (fd, offset) = frame.fd().unwrap();
        let mut bytes = vec![0; frame.nbytes()];
        frame.copy_to(0, &mut bytes);
        assert_eq!((offset, bytes), (0, vec![7; 10_000]));
        println!("buffer {}", DmaBuf::new(fd).unwrap().id().unwrap());
    }
}

/// No copy: the very buffer, by its inode, in another process.
#[test]
fn both_sides_have_the_same_buffers() {
    if !are_here(&["dma-heap"]) {
        return;
    }
    let scratch = Scratch::new();
    let producer = scratch.producer("dma-heap").slots(3).create().unwrap();
    let child = in_role("identify", &scratch.0).spawn().unwrap();
    producer.wait_for_consumers(1, SOON).unwrap();
    let ids = publish_all(&producer);
    drop(producer);
    let child = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}{}", String::from_utf8_lossy(&child.stderr));
    let theirs: Vec<u64> =
        said.split("buffer ").skip(1).filter_map(|rest| rest.lines().next()?.parse().ok()).collect();
    assert_eq!(theirs, ids);
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
}

/// The child writes to a frame as only a mistake would.
pub(crate) fn scribble(directory: &Path) {
    let mut consumer = consumer(directory).connect().unwrap();
    let frame = consumer.receive(SOON).unwrap();
    assert!(frame.readonly());
    // SAFETY: not safe at all, and meant so: the MMU must stop it.
    unsafe { frame.as_ptr().cast_mut().write_volatile(1) };
}

#[test]
fn a_mistaken_write_ends_the_consumer() {
    for kind in ["dma-heap", "udmabuf"] {
        if !are_here(&[kind]) {
            continue;
        }
        let scratch = Scratch::new();
        let producer = scratch.producer(kind).slots(1).create().unwrap();
        let child = in_role("scribble", &scratch.0).spawn().unwrap();
        producer.wait_for_consumers(1, SOON).unwrap();
        publish_all(&producer);
        let child = child.wait_with_output().unwrap();
        assert_eq!(child.status.signal(), Some(libc::SIGSEGV), "{}", String::from_utf8_lossy(&child.stderr));
        // Its slot is free again, and what lies there is what was written.
        assert!(producer.acquire(SOON).unwrap().bytes_mut()[..10_000].iter().all(|byte| *byte == 7));
    }
}

fn can_map_for_writing(fd: impl AsFd) -> bool {
    let len = NonZeroUsize::new(4096).unwrap();
    // SAFETY: a new mapping at an address of the kernel's choice.
    unsafe { mmap(None, len, ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, fd, 0) }.is_ok()
}

fn can_make_writable(fd: impl AsFd) -> bool {
    let len = NonZeroUsize::new(4096).unwrap();
    // SAFETY: a new mapping at an address of the kernel's choice.
    let start = unsafe { mmap(None, len, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, fd, 0) }.unwrap();
    // SAFETY: of that mapping, which nothing else uses.
    unsafe { mprotect(start, 4096, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE) }.is_ok()
}

/// What `backends/README.md` says about consumers that mean to write.
#[test]
fn how_far_read_only_goes() {
    if !are_here(&["dma-heap", "udmabuf"]) {
        return;
    }
    for (kind, writable) in [("dma-heap", true), ("udmabuf", false)] {
        let scratch = Scratch::new();
        let producer = scratch.producer(kind).create().unwrap();
        let mut consumer = scratch.consumer().connect().unwrap();
        let frame = producer.acquire(SOON).unwrap();
        assert!(can_map_for_writing(frame.fd().unwrap().0), "{kind}: a device of the producer's must write");
        frame.publish(Description::new(), Fence::Signaled).unwrap();
        let frame = consumer.receive(SOON).unwrap();
        let (fd, _) = frame.fd().unwrap();
        assert_eq!(can_map_for_writing(&fd), writable, "{kind}");
        assert_eq!(can_make_writable(&fd), writable, "{kind}");
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let again = OpenOptions::new().read(true).write(true).open(path);
        // A dma-buf can't be opened by its path at all; a memfd can, and stays sealed.
        assert_eq!(again.is_ok(), kind == "udmabuf", "{kind}: {again:?}");
        assert!(again.is_err() || !can_map_for_writing(again.unwrap()));
    }
}
