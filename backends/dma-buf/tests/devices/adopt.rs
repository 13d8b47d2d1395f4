//! Publishing from dma-bufs that somebody else made.

use crate::{SOON, Scratch, are_here, backend, in_role};
use bips::sys::Mapping;
use bips::{
    AcquireError, Consumer, Content, Description, Error, ErrorKind, ExternalHandle, Fence, ForeignBuffer,
    Producer, ProducerBuilder, Registry, Requirements, Wait,
};
use bips_dma_buf::{Foreign, dma_buf_of};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

fn adopt(scratch: &Scratch, buffers: Vec<ForeignBuffer>) -> ProducerBuilder {
    let registry = Registry::new().with(Arc::new(Foreign::new()));
    Producer::adopt("device", buffers).registry(registry).bytes(5000).directory(&scratch.0)
}

/// A memfd, and a dma-buf over it: what is written to the one is in the other.
fn udmabuf(len: u64) -> (OwnedFd, OwnedFd) {
    let memfd = memfd_create("theirs", MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC).unwrap();
    nix::unistd::ftruncate(&memfd, len.cast_signed()).unwrap();
    fcntl(&memfd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
    let buffer = dma_buf_of(&memfd, 0, len).unwrap().duplicate().unwrap();
    (memfd, buffer)
}

/// Dma-bufs of the system heap, as a driver that uses it would hand them over.
fn of_the_heap(bytes: u64, count: u32) -> Vec<OwnedFd> {
    let heap = backend("dma-heap");
    let content = Content::bytes(bytes).unwrap();
    let layout = heap.plan(&Requirements { slots: count, ..Requirements::of(content) }).unwrap();
    let export = |slot: &bips::Allocation| match slot.memory.export().unwrap() {
        ExternalHandle::DmaBuf { fd, .. } => fd,
        other => panic!("{other:?}"),
    };
    heap.allocate(&layout, count).unwrap().iter().map(export).collect()
}

/// Reads two frames in a process of its own and gives back the first.
pub(crate) fn read(directory: &Path) {
    let registry = Registry::new().with(Arc::new(Foreign::new()));
    let mut consumer =
        Consumer::builder("device").registry(registry).directory(directory).wait(SOON).connect().unwrap();
    for _ in 0..2 {
        let frame = consumer.receive(SOON).unwrap();
        let mut ends = [0; 2];
        frame.copy_to(0, &mut ends[..1]);
        frame.copy_to(4999, &mut ends[1..]);
        println!("read {ends:?} from {}", consumer.backend().kind);
    }
}

#[test]
fn another_process_sees_what_their_maker_wrote() {
    if !are_here(&["udmabuf"]) {
        return;
    }
    let scratch = Scratch::new();
    let (memfds, buffers): (Vec<_>, Vec<_>) = (0..3).map(|_| udmabuf(8192)).unzip();
    let theirs: Vec<_> = memfds.iter().map(|fd| Mapping::new(fd, 8192, true, false).unwrap()).collect();
    let given = buffers.into_iter().map(|fd| ForeignBuffer::dma_buf(fd, 0, 8192)).collect();
    let producer = adopt(&scratch, given).create().unwrap();
    assert_eq!((producer.backend().kind.as_str(), producer.slots()), ("dma-buf", 3));
    let child = in_role("read", &scratch.0).spawn().unwrap();
    producer.wait_for_consumers(1, SOON).unwrap();
    for (slot, value) in [(2, 21), (1, 22)] {
        let frame = producer.acquire_slot(slot, SOON).unwrap();
        let start = theirs[slot as usize].start().as_ptr();
        // SAFETY: inside the mapping; the slot is acquired, so nobody reads it.
        unsafe { start.write_bytes(value, 8192) };
        frame.publish(Description::new(), Fence::Signaled).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for value in [21, 22] {
        assert!(said.contains(&format!("read [{value}, {value}] from dma-buf")), "{said}");
    }
}

#[test]
fn slots_of_the_heap_by_their_index() {
    if !are_here(&["dma-heap"]) {
        return;
    }
    let scratch = Scratch::new();
    let given = of_the_heap(5000, 4).into_iter().map(|fd| ForeignBuffer::dma_buf(fd, 0, 8192)).collect();
    let producer = adopt(&scratch, given).create().unwrap();
    let registry = Registry::new().with(Arc::new(Foreign::new()));
    let mut consumer = scratch.consumer().registry(registry).connect().unwrap();
    for slot in [3, 1, 2, 0, 3] {
        let mut frame = producer.acquire_slot(slot, SOON).unwrap();
        frame.bytes_mut().fill(slot as u8 + 1);
        frame.publish(Description::new(), Fence::Signaled).unwrap();
        let frame = consumer.receive(SOON).unwrap();
        let mut byte = [0];
        frame.copy_to(4999, &mut byte);
        assert_eq!(byte, [slot as u8 + 1]);
        assert_eq!(producer.acquire_slot(slot, Wait::Now).unwrap_err(), AcquireError::Timeout, "leased");
        assert_eq!(producer.free_slots().unwrap(), 0b1111 & !(1 << slot));
    }
}

#[test]
fn dma_bufs_that_make_no_pool() {
    if !are_here(&["dma-heap"]) {
        return;
    }
    let refused = |buffers| adopt(&Scratch::new(), buffers).create().unwrap_err();
    let says = |error: Error, text: &str| {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(text), "{text:?} is missing in: {error}");
    };
    let one = || of_the_heap(8192, 1).remove(0);
    let same = one();
    let twice = [same.try_clone().unwrap(), same].map(|fd| ForeignBuffer::dma_buf(fd, 0, 8192));
    says(refused(twice.into()), "buffer 1 lies in the same memory as buffer 0");
    let large = of_the_heap(16_384, 1).remove(0);
    let parts = [large.try_clone().unwrap(), large].into_iter().zip([0, 8192]);
    let parts = parts.map(|(fd, offset)| ForeignBuffer::dma_buf(fd, offset, 8192)).collect();
    says(refused(parts), "buffer 1 is in the same memory as buffer 0");
    says(refused(vec![ForeignBuffer::dma_buf(one(), 0, 12_288)]), "of a file of 8192 bytes");
    says(refused(vec![ForeignBuffer::dma_buf(one(), 4096, 8192)]), "of a file of 8192 bytes");
    says(refused(vec![ForeignBuffer::dma_buf(one(), 0, 4096)]), "the content needs 5000");
    says(refused(vec![ForeignBuffer::dma_buf(one(), 512, 8192)]), "no whole pages");
    let memfd = memfd_create("theirs", MFdFlags::MFD_CLOEXEC).unwrap();
    says(refused(vec![ForeignBuffer::dma_buf(memfd, 0, 8192)]), "is no dma-buf");
}
