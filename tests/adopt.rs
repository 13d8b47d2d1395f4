//! Publishing from memfds that somebody else made: what is shared is theirs, and what consumers would refuse is refused
//! at once. dma-bufs are in `backends/dma-buf/tests/devices/adopt.rs`.

mod common;

use bips::sys::{Mapping, PAGE, Segment, Sharing};
use bips::{
    Content, Description, Error, ErrorKind, Fence, ForeignBuffer, Fourcc, Producer, ProducerBuilder, Wait,
};
use common::{PATIENCE, SOON, Scratch, assert_says};
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::os::fd::OwnedFd;

const FIXED: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW);

/// A memfd as a decoder may hand it over, with memory behind it.
fn memfd(len: u64, seals: SealFlag) -> OwnedFd {
    let fd = memfd_create("theirs", MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC).unwrap();
    nix::unistd::ftruncate(&fd, len.cast_signed()).unwrap();
    if len > 0 {
        fallocate(&fd, FallocateFlags::empty(), 0, len.cast_signed()).unwrap();
    }
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    fd
}

fn adopt(scratch: &Scratch, buffers: Vec<ForeignBuffer>) -> ProducerBuilder {
    Producer::adopt("adopted", buffers).registry(bips_backends::registry()).directory(scratch.path())
}

#[track_caller]
fn refused(buffers: Vec<ForeignBuffer>) -> Error {
    let scratch = Scratch::new();
    let error = adopt(&scratch, buffers).bytes(5000).create().unwrap_err();
    assert!(scratch.files().is_empty(), "a refused producer leaves nothing: {:?}", scratch.files());
    error
}

/// Writes into a buffer as its maker does: through its own mapping.
fn paint(theirs: &Mapping, at: usize, value: u8) {
    let at = theirs.start().map_addr(|addr| addr.saturating_add(at));
    // SAFETY: inside the mapping, which is the test's own; consumers have no frame of this slot yet.
    unsafe { at.write(value) };
}

#[test]
fn what_its_maker_writes_is_what_consumers_see() {
    let scratch = Scratch::new();
    let buffers: Vec<_> = (0..3).map(|_| memfd(8192, FIXED)).collect();
    let theirs: Vec<_> = buffers.iter().map(|fd| Mapping::new(fd, 8192, true, false).unwrap()).collect();
    let given = buffers.iter().map(|fd| ForeignBuffer::memfd(fd.try_clone().unwrap(), 0, 8192)).collect();
    let producer = adopt(&scratch, given).bytes(5000).create().unwrap();
    assert_eq!((producer.slots(), producer.slot_bytes()), (3, 8192));
    assert_eq!(producer.backend().kind, "memfd");
    let mut consumer = scratch.consumer("adopted").connect().unwrap();
    for round in 0..9u8 {
        let slot = (round * 2) % 3;
        let frame = producer.acquire_slot(slot.into(), SOON).unwrap();
        paint(&theirs[usize::from(slot)], 4999, round);
        frame.publish(Description::new(), Fence::Signaled).unwrap();
        let frame = consumer.receive(SOON).unwrap();
        let mut last = [0];
        frame.copy_to(4999, &mut last);
        assert_eq!((frame.nbytes(), last), (5000, [round]));
    }
    // Their descriptors can't be mapped for writing any more, by consumers least of all.
    for fd in &buffers {
        assert!(Mapping::new(fd, 8192, true, false).is_err());
    }
}

/// An image as a decoder lays it out: planes apart, rows padded, several frames in one piece of memory.
#[test]
fn parts_of_one_memfd_with_the_strides_of_a_device() {
    let scratch = Scratch::new();
    let fd = memfd(4 * 8192, FIXED);
    let theirs = Mapping::new(&fd, 4 * 8192, true, false).unwrap();
    // Two descriptors of the same file, and slots in any order.
    let given = [3, 0, 1].map(|part| ForeignBuffer::memfd(fd.try_clone().unwrap(), part * 8192, 8192));
    let nv12 = Fourcc::parse("NV12").unwrap();
    let content = Content::image_in_planes(nv12, 48, 32, &[(0, 64), (4096, 64)], 8192).unwrap();
    let producer = adopt(&scratch, given.into()).content(content).create().unwrap();
    let mut consumer = scratch.consumer("adopted").connect().unwrap();
    let frame = producer.acquire_slot(0, SOON).unwrap();
    paint(&theirs, 3 * 8192 + 4096 + 64, 77);
    frame.publish(Description::new(), Fence::Signaled).unwrap();
    let frame = consumer.receive(SOON).unwrap();
    let plane = frame.content().planes()[1];
    let mut colour = [0];
    frame.copy_to((plane.offset + plane.stride) as usize, &mut colour);
    assert_eq!((plane.offset, plane.stride, colour), (4096, 64, [77]));
}

#[test]
fn a_modifier_reaches_consumers() {
    let scratch = Scratch::new();
    let tiled = 0x0100_0000_0000_0002; // I915_FORMAT_MOD_Y_TILED
    let image = Content::image(Fourcc::parse("XR24").unwrap(), 32, 32).unwrap();
    let content = image.with_modifier(tiled).unwrap();
    assert_eq!(image.with_modifier(0).unwrap(), image);
    let given = vec![ForeignBuffer::memfd(memfd(4096, FIXED), 0, 4096)];
    let producer = adopt(&scratch, given).content(content).create().unwrap();
    let mut consumer = scratch.consumer("adopted").connect().unwrap();
    producer.acquire(SOON).unwrap().publish(Description::new(), Fence::Signaled).unwrap();
    let frame = consumer.receive(SOON).unwrap();
    assert_eq!((frame.content().modifier(), frame.shape()), (tiled, &[4096][..]), "bytes, not rows");
    assert_eq!((frame.content().width(), frame.content().height()), (32, 32));
    let error = image.with_modifier(0x00ff_ffff_ffff_ffff).unwrap_err();
    assert_says(&error, ErrorKind::InvalidArgument, &["leave it out"]);
    assert!(Content::bytes(100).unwrap().with_modifier(tiled).is_err());
}

#[test]
fn the_same_memory_twice() {
    let fd = memfd(16_384, FIXED);
    let part = |offset, len| ForeignBuffer::memfd(fd.try_clone().unwrap(), offset, len);
    let says = ["buffer 1 lies in the same memory as buffer 0", "give each buffer once"];
    assert_says(&refused(vec![part(0, 8192), part(0, 8192)]), ErrorKind::InvalidArgument, &says);
    let fd = memfd(16_384, FIXED);
    let part = |offset, len| ForeignBuffer::memfd(fd.try_clone().unwrap(), offset, len);
    assert_says(&refused(vec![part(0, 8192), part(4096, 8192)]), ErrorKind::InvalidArgument, &says);
}

#[test]
fn buffers_of_the_wrong_size() {
    let one = |len, offset, part| refused(vec![ForeignBuffer::memfd(memfd(len, FIXED), offset, part)]);
    let invalid = ErrorKind::InvalidArgument;
    assert_says(&one(8192, 0, 4096), invalid, &["buffer 0 has 4096 bytes", "needs 5000", "8192"]);
    assert_says(&one(8192, 0, 5000), invalid, &["0..+5000", "no whole pages"]);
    assert_says(&one(16_384, 100, 8192), invalid, &["100..+8192", "begin at a page"]);
    assert_says(&one(8192, 4096, 8192), invalid, &["of a file of 8192 bytes", "give the size that it has"]);
    assert_says(&one(8192, u64::MAX - 4095, 8192), invalid, &["of a file of 8192 bytes"]);
    assert_says(&one(8192, 0, u64::MAX - 4095), invalid, &["of a file of 8192 bytes"]);
}

#[test]
fn memfds_that_consumers_would_refuse() {
    let one = |fd| refused(vec![ForeignBuffer::memfd(fd, 0, 8192)]);
    let invalid = ErrorKind::InvalidArgument;
    let future_write = SealFlag::from_bits_retain(libc::F_SEAL_FUTURE_WRITE);
    for seals in [SealFlag::empty(), SealFlag::F_SEAL_GROW, SealFlag::F_SEAL_SHRINK] {
        assert_says(&one(memfd(8192, seals)), invalid, &["F_SEAL_SHRINK and F_SEAL_GROW", "(buffer: 0,"]);
    }
    for seals in [future_write, SealFlag::F_SEAL_WRITE] {
        assert_says(&one(memfd(8192, FIXED | seals)), invalid, &["before F_SEAL_FUTURE_WRITE"]);
    }
    assert_says(&one(memfd(8192, FIXED | SealFlag::F_SEAL_SEAL)), invalid, &["F_SEAL_SEAL", "`writable`"]);
    assert_says(&one(memfd(0, FIXED)), invalid, &["empty", "ftruncate"]);
    let sparse = memfd_create("theirs", MFdFlags::MFD_ALLOW_SEALING).unwrap();
    nix::unistd::ftruncate(&sparse, 8192).unwrap();
    fcntl(&sparse, FcntlArg::F_ADD_SEALS(FIXED)).unwrap();
    assert_says(&one(sparse), invalid, &["fallocate()"]);
    let program = std::fs::File::open("/proc/self/exe").unwrap();
    assert_says(&one(program.into()), invalid, &["no memfd", "MFD_ALLOW_SEALING"]);
}

#[test]
fn a_memfd_whose_consumers_may_write() {
    let scratch = Scratch::new();
    let given = vec![ForeignBuffer::memfd(memfd(8192, FIXED | SealFlag::F_SEAL_SEAL), 0, 8192)];
    let producer = adopt(&scratch, given).bytes(5000).writable(true).create().unwrap();
    assert!(producer.writable());
    scratch.consumer("adopted").connect().unwrap();
}

#[test]
fn no_pool_at_all() {
    let one = || ForeignBuffer::memfd(memfd(8192, FIXED), 0, 8192);
    let invalid = ErrorKind::InvalidArgument;
    assert_says(&refused(vec![]), invalid, &["has 1 to 64"]);
    assert_says(&refused((0..65).map(|_| one()).collect()), invalid, &["65 slots", "1 to 64"]);
    let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let mixed = refused(vec![one(), ForeignBuffer::dma_buf(null(), 0, 8192)]);
    assert_says(&mixed, invalid, &["buffer 1 is said to be a dma-buf, and buffer 0 a memfd"]);
    let no_dma_buf = refused(vec![ForeignBuffer::dma_buf(null(), 0, 8192)]);
    assert_says(&no_dma_buf, invalid, &["no dma-buf", "VIDIOC_EXPBUF", "(buffer: 0,"]);
    let memfd = refused(vec![ForeignBuffer::dma_buf(memfd(8192, FIXED), 0, 8192)]);
    assert_says(&memfd, invalid, &["no dma-buf"]);

    let scratch = Scratch::new();
    let error = adopt(&scratch, vec![one(), one()]).bytes(100).slots(4).create().unwrap_err();
    assert_says(&error, invalid, &["2 buffers are no pool of 4 slots"]);
    let error = adopt(&scratch, vec![one()]).bytes(100).memory("dma-heap").create().unwrap_err();
    assert_says(&error, ErrorKind::Unsupported, &["dma-heap does not publish from a memfd", "takes memfd"]);
    let error = adopt(&scratch, vec![one()]).bytes(100).memory("nonesuch").create().unwrap_err();
    assert_says(&error, invalid, &["no memory kind"]);
    let error = adopt(&scratch, vec![one()]).bytes(100).registry(bips::Registry::new()).create().unwrap_err();
    assert_says(&error, ErrorKind::Unsupported, &["add a backend"]);
}

/// A buffer is changed for good by being adopted: not for who doesn't get the name.
#[test]
fn a_name_that_is_taken_costs_no_buffer() {
    let scratch = Scratch::new();
    let first = scratch.producer("adopted").bytes(100).create().unwrap();
    let fd = memfd(8192, FIXED);
    let given = || vec![ForeignBuffer::memfd(fd.try_clone().unwrap(), 0, 8192)];
    let error = adopt(&scratch, given()).bytes(5000).create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameTaken);
    drop(first);
    adopt(&scratch, given()).bytes(5000).create().unwrap();
}

/// Consumers check what they get from such a pool as from any other.
#[test]
fn what_is_adopted_is_held_to_what_consumers_demand() {
    let fd = memfd(2 * PAGE, FIXED);
    let adopted = Segment::adopt(fd.try_clone().unwrap(), Sharing::ReadOnly).unwrap();
    Segment::open(fd.try_clone().unwrap(), 2 * PAGE, Sharing::ReadOnly, false).unwrap();
    assert!(fcntl(&fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).is_err(), "no further seals");
    drop(adopted);
    assert!(Segment::adopt(fd, Sharing::ReadOnly).is_err(), "once");
}

/// As a decoder uses it: a lease for each buffer that it fills, given up when it says which one is full.
#[test]
fn buffers_go_round_between_a_decoder_and_consumers() {
    let scratch = Scratch::new();
    let fd = memfd(4 * PAGE, FIXED);
    let theirs = Mapping::new(&fd, 4 * PAGE as usize, true, false).unwrap();
    let given = (0..4).map(|part| ForeignBuffer::memfd(fd.try_clone().unwrap(), part * PAGE, PAGE)).collect();
    let producer = adopt(&scratch, given).bytes(8).create().unwrap();
    let consumers: Vec<_> = (0..2)
        .map(|_| {
            let policy = bips::Policy::Reliable;
            let mut consumer = scratch.consumer("adopted").policy(policy).connect().unwrap();
            std::thread::spawn(move || {
                for number in 0..500u64 {
                    let frame = consumer.receive(Wait::For(PATIENCE)).unwrap();
                    let mut bytes = [0; 8];
                    frame.copy_to(0, &mut bytes);
                    assert_eq!(u64::from_le_bytes(bytes), number, "torn, or another frame's");
                }
            })
        })
        .collect();
    let mut decoder: Vec<_> = (0..4).map(|slot| producer.acquire_slot(slot, SOON).unwrap()).collect();
    for number in 0..500u64 {
        let filled = decoder.remove((number as usize * 7) % decoder.len());
        let at = theirs.start().map_addr(|addr| addr.saturating_add((filled.slot() * PAGE as u32) as usize));
        // SAFETY: inside the mapping, and the lease says that no consumer reads there.
        unsafe { at.cast::<u64>().write(number.to_le()) };
        filled.publish(Description::new(), Fence::Signaled).unwrap();
        while decoder.is_empty() {
            decoder.push(producer.acquire(SOON).unwrap());
        }
        while let Ok(free) = producer.acquire(Wait::Now) {
            decoder.push(free);
        }
    }
    for consumer in consumers {
        consumer.join().unwrap();
    }
}
