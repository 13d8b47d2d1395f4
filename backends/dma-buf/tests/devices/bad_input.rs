//! What can't be had, said with the next step, and what peers may send.

use crate::{Scratch, are_here, backend, in_role, registry};
use bips::sys::{Segment, Sharing};
use bips::{Access, Content, ErrorKind, ExternalHandle, Requirements};
use bips_dma_buf::{DmaBuf, DmaHeap, SyncFile, dma_buf_of};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;

fn requirements(bytes: u64) -> Requirements {
    Requirements { slots: 1, ..Requirements::of(Content::bytes(bytes).unwrap()) }
}

#[test]
fn no_such_heap() {
    if !are_here(&["dma-heap"]) {
        return;
    }
    let error = Scratch::new().producer("dma-heap:nonesuch").create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let there = format!("use one of: {}", DmaHeap::heaps().join(", "));
    assert!(error.to_string().contains(&there), "{error}");
    let error = Scratch::new().producer("dma-heap:../null").create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}

#[test]
fn a_heap_by_name() {
    if !are_here(&["dma-heap"]) {
        return;
    }
    let scratch = Scratch::new();
    let kind = format!("dma-heap:{}", DmaHeap::heaps()[0]);
    let producer = scratch.producer(&kind).create().unwrap();
    assert_eq!(producer.backend().kind, kind);
    assert_eq!(scratch.consumer().connect().unwrap().backend().kind, kind);
}

/// The kernel would take all memory and then kill.
#[test]
fn more_than_the_machine_has() {
    if !are_here(&["dma-heap"]) {
        return;
    }
    for bytes in [1 << 40, 1 << 50] {
        let error = Scratch::new().producer("dma-heap").bytes(bytes).create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        assert!(error.to_string().contains("fewer slots"), "{error}");
    }
}

#[test]
fn more_than_a_udmabuf_may_have() {
    if !are_here(&["udmabuf"]) {
        return;
    }
    let limit = std::fs::read_to_string("/sys/module/udmabuf/parameters/size_limit_mb").unwrap();
    let limit: u64 = limit.trim().parse().unwrap();
    let plan = |bytes| backend("udmabuf").plan(&requirements(bytes));
    assert!(plan(limit << 20).is_ok());
    let error = plan((limit << 20) + 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains(&format!("echo {} > ", limit + 1)), "{error}");
}

#[test]
fn cuda_takes_neither() {
    for kind in ["dma-heap", "udmabuf"] {
        let error = backend(kind).serves(&"cuda:0".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("CUDA imports no"), "{error}");
    }
}

/// Prints what the kinds say in a process that may open no device.
pub(crate) fn plan_all() {
    for kind in ["dma-heap", "udmabuf"] {
        let error = backend(kind).plan(&requirements(100)).unwrap_err();
        println!("{kind}: {:?}: {error}", error.kind());
    }
}

#[test]
fn no_permission() {
    if !are_here(&["dma-heap", "udmabuf"]) {
        return;
    }
    let (nobody, scratch) = (65_534, Scratch::new());
    let mode = |device: &str| std::fs::metadata(device).map_or(0, |node| node.mode());
    let heap = "/dev/dma_heap/system";
    if [heap, "/dev/udmabuf"].iter().any(|device| mode(device) & 0o004 != 0) {
        return bips_conformance::left_out(&[], "everybody may open the devices here");
    }
    let Ok(child) = in_role("plan", &scratch.0).uid(nobody).gid(nobody).output() else {
        return bips_conformance::left_out(&["dma-buf"], "only root can be somebody else");
    };
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}{}", String::from_utf8_lossy(&child.stderr));
    for (kind, device, rule) in [
        ("dma-heap", heap, "SUBSYSTEM==\"dma_heap\", KERNEL==\"system\""),
        ("udmabuf", "/dev/udmabuf", "KERNEL==\"udmabuf\""),
    ] {
        let line = said.lines().find(|line| line.contains(&format!("{kind}: AccessDenied"))).unwrap_or(&said);
        let step = if mode(device) & 0o060 == 0 { rule } else { "usermod -aG" };
        for part in [
            &format!("user 65534 may not open {device} (owner root, "),
            step,
            &format!("`--device {device}`"),
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}

#[test]
fn what_is_no_dma_buf() {
    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    let error = DmaBuf::new(null()).unwrap_err();
    assert!(error.to_string().contains("no dma-buf"), "{error}");
    assert!(SyncFile::new(null()).unwrap_err().to_string().contains("no sync file"));
    assert!(SyncFile::of(null(), Access::Read).is_err());
    let memfd = Segment::create("t", 8192, Sharing::ReadOnly).unwrap();
    let memfd = || memfd.fd().unwrap().try_clone_to_owned().unwrap();
    let heap = backend("dma-heap");
    for handle in [
        ExternalHandle::DmaBuf { fd: null(), len: 8192 },
        ExternalHandle::DmaBuf { fd: memfd(), len: 8192 },
        ExternalHandle::Memfd { fd: memfd(), len: 8192 },
    ] {
        let error = heap.import(handle, Access::Read).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    }
}

/// Whatever a producer says of its dma-buf, no more is mapped than there is.
#[test]
fn dma_bufs_of_another_size() {
    if !are_here(&["dma-heap"]) {
        return;
    }
    let (heap, udmabuf) = (backend("dma-heap"), backend("udmabuf"));
    let layout = heap.plan(&requirements(8192)).unwrap();
    let slots = heap.allocate(&layout, 1).unwrap();
    let export = || match slots[0].memory.export().unwrap() {
        ExternalHandle::DmaBuf { fd, len: 8192 } => fd,
        other => panic!("{other:?}"),
    };
    for len in [0, 4096, 8191, 12_288, u64::MAX] {
        let error = heap.import(ExternalHandle::DmaBuf { fd: export(), len }, Access::Read).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    }
    assert!(heap.import(ExternalHandle::DmaBuf { fd: export(), len: 8192 }, Access::Read).is_ok());
    let error = udmabuf.import(ExternalHandle::DmaBuf { fd: export(), len: 8192 }, Access::Read).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "consumers of a udmabuf get its memfd: {error}");
}

/// The kernel says EINVAL to all of these.
#[test]
fn memfds_that_make_no_udmabuf() {
    if !are_here(&["udmabuf"]) {
        return;
    }
    let memfd = |seals| {
        let memfd = memfd_create("t", MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC).unwrap();
        nix::unistd::ftruncate(&memfd, 8192).unwrap();
        fcntl(&memfd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
        memfd
    };
    let (shrink, future_write) =
        (SealFlag::F_SEAL_SHRINK, SealFlag::from_bits_retain(libc::F_SEAL_FUTURE_WRITE));
    let refused = |fd: OwnedFd, offset, len, why: &str| {
        let error = dma_buf_of(fd, offset, len).unwrap_err();
        assert!(error.to_string().contains(why), "{why}: {error}");
    };
    refused(memfd(SealFlag::empty()), 0, 8192, "seal it with F_SEAL_SHRINK");
    refused(memfd(shrink | future_write), 0, 8192, "before F_SEAL_WRITE or F_SEAL_FUTURE_WRITE");
    refused(memfd(shrink | SealFlag::F_SEAL_WRITE), 0, 8192, "before F_SEAL_WRITE or F_SEAL_FUTURE_WRITE");
    refused(memfd(shrink), 0, 4097, "no whole pages");
    refused(memfd(shrink), 4096, 8192, "beyond its 8192 bytes");
    refused(File::open("/proc/self/exe").unwrap().into(), 0, 4096, "no memfd");
    let buffer = dma_buf_of(memfd(shrink), 4096, 4096).unwrap();
    assert_eq!(buffer.len(), 4096);
}

#[test]
fn all_kinds_are_there_by_name() {
    for kind in ["dma-heap", "dma-heap:any", "udmabuf"] {
        assert_eq!(registry().get(kind).unwrap().info().kind, kind);
    }
    assert!(registry().get("udmabuf:any").is_none());
}
