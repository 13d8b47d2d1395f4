//! Export and import, within one process and between two.

use crate::allocation::{peek, poke};
use crate::{Scratch, Subject, in_child, plan};
use bips::{
    Access, Allocation, Consumer, Description, ErrorKind, ExternalHandle, Fence, Producer, Registry, Wait,
};
use std::os::fd::OwnedFd;
use std::time::Duration;

const PATIENCE: Wait = Wait::For(Duration::from_secs(20));

fn import(backend: &Subject, slot: &Allocation, access: Access) -> bips::Result<Allocation> {
    let memory = backend.import(slot.memory.export()?, access)?;
    Ok(Allocation { memory, ..slot.clone() })
}

/// What one side wrote before, the other reads after.
pub fn imports_what_it_exports(backend: Subject) {
    let slots = backend.allocate(&plan(&backend, 10_000, false), 3).expect("a small pool");
    for (i, slot) in slots.iter().enumerate() {
        poke(slot, 77, i as u8 + 1);
    }
    for (i, slot) in slots.iter().enumerate() {
        assert_eq!(peek(&import(&backend, slot, Access::Read).expect("own export"), 77), i as u8 + 1);
    }
}

/// The same memory, not a copy.
pub fn writes_are_seen_at_once(backend: Subject) {
    let slots = backend.allocate(&plan(&backend, 4096, false), 1).expect("a small pool");
    let theirs = import(&backend, &slots[0], Access::Read).expect("own export");
    for value in [1, 2, 3] {
        poke(&slots[0], 9, value);
        assert_eq!(peek(&theirs, 9), value);
    }
}

/// Descriptors of other files, and lengths that aren't true.
pub fn refuses_foreign_handles(backend: Subject) {
    let slots = backend.allocate(&plan(&backend, 8192, false), 1).expect("a small pool");
    let null = || OwnedFd::from(std::fs::File::open("/dev/null").expect("every Linux has it"));
    let damage = |change: &dyn Fn(&mut OwnedFd, &mut u64)| match slots[0].memory.export().expect("can share")
    {
        ExternalHandle::Memfd { mut fd, mut len } => {
            change(&mut fd, &mut len);
            ExternalHandle::Memfd { fd, len }
        }
        ExternalHandle::DmaBuf { mut fd, mut len } => {
            change(&mut fd, &mut len);
            ExternalHandle::DmaBuf { fd, len }
        }
        ExternalHandle::OpaqueFd { mut fd, mut len, origin } => {
            change(&mut fd, &mut len);
            ExternalHandle::OpaqueFd { fd, len, origin }
        }
        other => panic!("teach this case how to damage {other:?}"),
    };
    for handle in [damage(&|fd, _| *fd = null()), damage(&|_, len| *len += 4096), damage(&|_, len| *len = 0)]
    {
        let error = backend.import(handle, Access::Read).expect_err("not what the backend made");
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    }
}

/// A read-only pool can't be imported for writing; a writable one can, and the producer sees it.
pub fn writable_only_when_planned(backend: Subject) {
    if backend.capabilities().read_only_enforced {
        let slots = backend.allocate(&plan(&backend, 4096, false), 1).expect("a small pool");
        assert!(import(&backend, &slots[0], Access::Write).is_err(), "sealed");
        let reader = import(&backend, &slots[0], Access::Read).expect("own export");
        assert_eq!(reader.memory.map(Access::Write).expect_err("read-only").kind(), ErrorKind::AccessDenied);
    }
    let slots = backend.allocate(&plan(&backend, 4096, true), 1).expect("a small pool");
    poke(&import(&backend, &slots[0], Access::Write).expect("made writable"), 5, 55);
    assert_eq!(peek(&slots[0], 5), 55);
}

/// Where there are private views: what is written to one is seen by nobody, and forgotten on request.
pub fn private_views_stay_private(backend: Subject) {
    let slots = backend.allocate(&plan(&backend, 8192, false), 2).expect("a small pool");
    poke(&slots[1], 10, 1);
    let reader = import(&backend, &slots[1], Access::Read).expect("own export");
    let private = match reader.memory.map_private() {
        Ok(private) => private,
        // A kind without such views says so; one that fails to make them has a fault.
        Err(error) if error.kind() == ErrorKind::Unsupported => return,
        Err(error) => panic!("{error}"),
    };
    let at = reader.offset as usize + 10;
    let byte = private.mapped().start.map_addr(|addr| addr.saturating_add(at));
    // SAFETY: inside the view, which is writable for as long as `private` lives (contract of PrivateMapping).
    unsafe { byte.write_volatile(99) };
    assert_eq!((peek(&slots[1], 10), peek(&reader, 10)), (1, 1));
    poke(&slots[1], 10, 2);
    private.forget(reader.offset as usize, reader.len as usize).expect("a range of the view");
    // SAFETY: as above.
    assert_eq!(unsafe { byte.read_volatile() }, 2, "the shared byte shows again");
}

/// The whole way: a producer here, a consumer in another process, patterns in every slot.
pub fn frames_reach_another_process(backend: Subject) {
    let scratch = Scratch::new();
    let producer = producer(&backend, &scratch);
    let child = in_child("verify", &scratch);
    producer.wait_for_consumers(1, PATIENCE).expect("the child joins");
    for round in 0..32u8 {
        let mut frame = producer.acquire(PATIENCE).expect("the child gives back");
        frame.bytes_mut().fill(round);
        frame.publish(Description::new(), Fence::Signaled).expect("open");
    }
    drop(producer);
    let (status, said) = child.finish();
    assert!(status.success(), "{said}");
    assert!(said.contains("verified 32"), "{said}");
}

/// Where read-only is enforced: a consumer that writes dies by SIGSEGV, and the data stays.
pub fn a_consumer_that_writes_dies_alone(backend: Subject) {
    use std::os::unix::process::ExitStatusExt;
    if !backend.capabilities().read_only_enforced {
        return;
    }
    let scratch = Scratch::new();
    let producer = producer(&backend, &scratch);
    let mut witness = consumer(&backend, &scratch);
    let child = in_child("scribble", &scratch);
    producer.wait_for_consumers(2, PATIENCE).expect("the child joins");
    let mut frame = producer.acquire(PATIENCE).expect("all free");
    frame.bytes_mut().fill(7);
    frame.publish(Description::new(), Fence::Signaled).expect("open");
    let (status, said) = child.finish();
    assert_eq!(status.signal(), Some(libc::SIGSEGV), "{said}");
    let frame = witness.receive(PATIENCE).expect("published");
    let mut bytes = vec![0; frame.nbytes()];
    frame.copy_to(0, &mut bytes);
    assert!(bytes.iter().all(|byte| *byte == 7));
}

fn producer(backend: &Subject, scratch: &Scratch) -> Producer {
    let builder =
        Producer::builder("conformance").backend(backend.clone()).bytes(20_000).directory(scratch.path());
    builder.create().expect("a small stream in an empty directory")
}

fn consumer(backend: &Subject, scratch: &Scratch) -> Consumer {
    let builder = Consumer::builder("conformance").registry(Registry::new().with(backend.clone()));
    builder.directory(scratch.path()).wait(PATIENCE).connect().expect("the producer is there")
}

/// The child's side of the cases above.
pub(crate) fn play(role: &str, backend: &Subject, directory: &std::path::Path) {
    let scratch = std::mem::ManuallyDrop::new(Scratch(directory.into())); // the parent's
    let mut consumer = consumer(backend, &scratch);
    match role {
        "verify" => {
            let mut count = 0;
            while let Ok(frame) = consumer.receive(PATIENCE) {
                let mut bytes = vec![0; frame.nbytes()];
                frame.copy_to(0, &mut bytes);
                assert!(
                    bytes.iter().all(|byte| u64::from(*byte) == frame.sequence()),
                    "frame {}",
                    frame.sequence()
                );
                count += 1;
            }
            println!("verified {count}");
        }
        "scribble" => {
            let frame = consumer.receive(PATIENCE).expect("published");
            assert!(frame.readonly());
            // SAFETY: not safe at all, and meant so: the MMU must stop it.
            unsafe { frame.as_ptr().cast_mut().write_volatile(1) };
        }
        role => panic!("no role {role}"),
    }
}
