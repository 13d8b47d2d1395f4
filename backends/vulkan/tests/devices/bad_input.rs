//! What a producer may send instead of its memory, and who may not use a device.

use crate::{SOON, consumer, here, producer};
use bips::{
    Access, Allocation, Backend, Description, DeviceId, Error, ErrorKind, ExternalHandle, Fence, Origin, Wait,
};
use bips_vulkan::VulkanFrame;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;

const LEN: u64 = 1 << 20;

fn memfd(bytes: u64) -> OwnedFd {
    let fd = memfd_create("theirs", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    nix::unistd::ftruncate(&fd, bytes.cast_signed()).unwrap();
    fd
}

/// What is said to a handle that was changed on its way.
fn refusal(backend: &Arc<dyn Backend>, change: impl FnOnce(&mut OwnedFd, &mut u64, &mut Origin)) -> Error {
    let slot = Allocation::for_trial(&**backend, LEN).unwrap();
    let ExternalHandle::OpaqueFd { mut fd, mut len, mut origin } = slot.memory.export().unwrap() else {
        panic!("opaque memory")
    };
    change(&mut fd, &mut len, &mut origin);
    backend.import(ExternalHandle::OpaqueFd { fd, len, origin }, Access::Read).unwrap_err()
}

#[test]
fn memory_that_is_not_what_it_is_said_to_be() {
    let Some(backend) = here() else { return };
    type Change = Box<dyn FnOnce(&mut OwnedFd, &mut u64, &mut Origin)>;
    let cases: Vec<(&str, Change)> = vec![
        ("short", Box::new(|fd, _, _| *fd = memfd(4096))),
        ("empty", Box::new(|fd, _, _| *fd = memfd(0))),
        ("a device", Box::new(|fd, _, _| *fd = std::fs::File::open("/dev/zero").unwrap().into())),
        ("a program", Box::new(|fd, _, _| *fd = std::fs::File::open("/proc/self/exe").unwrap().into())),
        ("longer", Box::new(|_, len, _| *len += 4096)),
        ("much longer", Box::new(|_, len, _| *len = !4095)),
        ("odd", Box::new(|_, len, _| *len -= 1)),
        ("nothing", Box::new(|_, len, _| *len = 0)),
        ("type 31", Box::new(|_, _, origin| origin.memory_type = 31)),
        ("type 4294967295", Box::new(|_, _, origin| origin.memory_type = u32::MAX)),
    ];
    for (name, change) in cases {
        let error = refusal(&backend, change);
        assert_eq!(error.kind(), ErrorKind::Protocol, "{name}: {error}");
    }
    let error = refusal(&backend, |_, _, origin| origin.device = DeviceId([9; 16]));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.to_string().contains("a device that this process does not see; it sees: vulkan:0"),
        "{error}"
    );
    let error = refusal(&backend, |_, _, origin| origin.driver = DeviceId([9; 16]));
    assert!(error.to_string().contains("another version of the driver of vulkan:0"), "{error}");
    let error = backend.import(ExternalHandle::Memfd { fd: memfd(LEN), len: LEN }, Access::Read).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

/// Read-only as far as the driver's mapping can be protected: a mistake ends who makes it, and changes nothing.
#[test]
fn a_mistaken_write_ends_the_consumer() {
    let Some(backend) = here() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let producer = producer(&backend, scratch.path()).create().unwrap();
    let mut reader = consumer(scratch.path()).connect().unwrap();
    let mut frame = producer.acquire(SOON).unwrap();
    frame.bytes_mut().fill(7);
    frame.publish(Description::new(), Fence::Signaled).unwrap();
    let frame = reader.receive(SOON).unwrap();
    assert!(frame.readonly());
    // SAFETY: the child makes the one access and ends; it is a mistake, which the MMU is to stop.
    let child = unsafe { nix::unistd::fork() }.unwrap();
    let nix::unistd::ForkResult::Parent { child } = child else {
        // SAFETY: not safe at all, and meant so.
        unsafe { frame.as_ptr().cast_mut().write_volatile(1) };
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(0) }
    };
    let mut status = 0;
    // SAFETY: waits for our own child; one integer to write to.
    assert_eq!(unsafe { libc::waitpid(child.as_raw(), &raw mut status, 0) }, child.as_raw());
    assert_eq!(std::process::ExitStatus::from_raw(status).signal(), Some(libc::SIGSEGV));
    let mut byte = [0];
    frame.copy_to(0, &mut byte);
    assert_eq!(byte, [7]);
}

/// The driver's threads are the parent's; ending what was inherited must not wait for them.
#[test]
fn a_forked_child_has_no_device() {
    let Some(backend) = here() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let producer = producer(&backend, scratch.path()).create().unwrap();
    let frame = producer.acquire(SOON).unwrap();
    let device = frame.vulkan().unwrap().device().clone();
    let slot = Allocation::for_trial(&*backend, LEN).unwrap();
    // SAFETY: the child makes a few calls and ends; glibc makes malloc usable after fork.
    let child = unsafe { nix::unistd::fork() }.unwrap();
    let nix::unistd::ForkResult::Parent { child } = child else {
        let forked = |error: Error| error.kind() == ErrorKind::Forked;
        let told = [
            slot.vulkan().map(drop).is_err_and(forked),
            device.submit(|_, _| {}).map(drop).is_err_and(forked),
            frame.vulkan().map(drop).is_err_and(forked),
        ];
        drop((slot, frame, device, producer, backend));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(told.iter().position(|told| !told).map_or(0, |at| at as i32 + 1)) }
    };
    let mut status = 0;
    // SAFETY: as above.
    assert_eq!(unsafe { libc::waitpid(child.as_raw(), &raw mut status, 0) }, child.as_raw());
    assert_eq!(std::process::ExitStatus::from_raw(status).code(), Some(0));
    frame.publish(Description::new(), Fence::Signaled).unwrap();
    producer.acquire(Wait::Now).unwrap().cancel();
}
