//! What a consumer may try on pages it may only read: the frames and the board.

use crate::common::process::{Role, Stage, play};
use crate::common::skip::skip;
use crate::common::wire::Raw;
use crate::common::{SOON, Scratch, assert_says, publish, receive};
use crate::flow::BYTES;
use bips::{AccessRule, ErrorKind};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, SpliceFFlags, fallocate, fcntl, splice};
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mprotect, munmap};
use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};
use std::ffi::c_void;
use std::fs::OpenOptions;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::ptr::NonNull;

pub(crate) const ROLES: [Role; 4] = [
    ("tries everything", try_everything),
    ("tries everything as another user", try_as_another),
    ("writes where it may only read", write_where_reading_is_allowed),
    ("writes to a frame", write_to_a_frame),
];

const PAGE: usize = 4096;
/// What is written wherever it can be.
const GRAFFITI: [u8; 8] = *b"was here";

/// Whatever would change these pages, and what became of it.
fn attempts(fd: &OwnedFd) -> Vec<(&'static str, Result<(), Errno>)> {
    let len = nix::sys::stat::fstat(fd).expect("a descriptor").st_size;
    let mut all: Vec<(&'static str, Result<(), Errno>)> = vec![
        ("mapped to write", map_and_write(fd)),
        ("mapped to read, then made writable", unprotect(fd)),
        ("written to", write_at(fd, 0)),
        ("written to at the end", write_at(fd, len - 8)),
        ("made shorter", nix::unistd::ftruncate(fd, len - PAGE as i64)),
        ("made empty", nix::unistd::ftruncate(fd, 0)),
        ("made longer", nix::unistd::ftruncate(fd, len + PAGE as i64)),
        ("extended by writing", write_at(fd, len)),
        ("filled from a pipe", fill_from_a_pipe(fd)),
        ("removed by madvise", advise(fd, libc::MADV_REMOVE)),
        ("written through /proc/self/mem", write_through_mem(fd)),
        ("written by process_vm_writev", write_to_self(fd)),
    ];
    let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
    for (what, flags) in [
        ("allocated beyond the end", FallocateFlags::empty()),
        ("punched", FallocateFlags::FALLOC_FL_PUNCH_HOLE | keep),
        ("zeroed", FallocateFlags::FALLOC_FL_ZERO_RANGE),
        ("collapsed", FallocateFlags::FALLOC_FL_COLLAPSE_RANGE),
    ] {
        let len = if flags.is_empty() { len + PAGE as i64 } else { PAGE as i64 };
        all.push((what, fallocate(fd, flags, 0, len)));
    }
    for (what, seal) in [
        ("sealed against writing", SealFlag::F_SEAL_WRITE),
        ("sealed as it is", SealFlag::F_SEAL_SEAL),
        ("sealed with what it has", SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW),
    ] {
        all.push((what, fcntl(fd, FcntlArg::F_ADD_SEALS(seal)).map(drop)));
    }
    all
}

fn map(fd: &OwnedFd, protection: ProtFlags) -> Result<NonNull<c_void>, Errno> {
    let page = NonZeroUsize::new(PAGE).expect("not zero");
    // SAFETY: a new mapping at an address of the kernel's choice.
    unsafe { mmap(None, page, protection, MapFlags::MAP_SHARED, fd, 0) }
}

fn unmap(start: NonNull<c_void>) {
    // SAFETY: the page that `map` just gave.
    unsafe { munmap(start, PAGE) }.expect("our own mapping");
}

fn write_to(start: NonNull<c_void>) {
    // SAFETY: the start of a page that the kernel says is mapped to be written to.
    unsafe { start.cast::<[u8; 8]>().write_volatile(GRAFFITI) };
    unmap(start);
}

fn map_and_write(fd: &OwnedFd) -> Result<(), Errno> {
    map(fd, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE).map(write_to)
}

fn unprotect(fd: &OwnedFd) -> Result<(), Errno> {
    let start = map(fd, ProtFlags::PROT_READ)?;
    // SAFETY: the page that was just mapped, which nothing refers to.
    match unsafe { mprotect(start, PAGE, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE) } {
        Ok(()) => write_to(start),
        Err(errno) => {
            unmap(start);
            return Err(errno);
        }
    }
    Ok(())
}

fn write_at(fd: &OwnedFd, at: i64) -> Result<(), Errno> {
    nix::sys::uio::pwrite(fd, &GRAFFITI, at).map(drop)
}

fn fill_from_a_pipe(fd: &OwnedFd) -> Result<(), Errno> {
    let (out, into) = nix::unistd::pipe()?;
    nix::unistd::write(&into, &GRAFFITI)?;
    splice(out, None, fd, Some(&mut 0), GRAFFITI.len(), SpliceFFlags::empty()).map(drop)
}

fn advise(fd: &OwnedFd, advice: i32) -> Result<(), Errno> {
    let start = map(fd, ProtFlags::PROT_READ)?;
    // SAFETY: the page that was just mapped, which nothing refers to.
    let advised = Errno::result(unsafe { libc::madvise(start.as_ptr(), PAGE, advice) }).map(drop);
    unmap(start);
    advised
}

/// As debuggers write into code that is mapped read-only.
fn write_through_mem(fd: &OwnedFd) -> Result<(), Errno> {
    let start = map(fd, ProtFlags::PROT_READ)?;
    let memory = OpenOptions::new().write(true).open("/proc/self/mem").map_err(errno);
    let written =
        memory.and_then(|memory| memory.write_at(&GRAFFITI, start.addr().get() as u64).map_err(errno));
    unmap(start);
    written.map(drop)
}

fn write_to_self(fd: &OwnedFd) -> Result<(), Errno> {
    use nix::sys::uio::{RemoteIoVec, process_vm_writev};
    let start = map(fd, ProtFlags::PROT_READ)?;
    let there = [RemoteIoVec { base: start.addr().get(), len: GRAFFITI.len() }];
    let written = process_vm_writev(nix::unistd::Pid::this(), &[io::IoSlice::new(&GRAFFITI)], &there);
    unmap(start);
    written.map(drop)
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

/// The same file by another descriptor, for reading and writing: nothing in the descriptor itself protects it.
fn reopened(fd: &OwnedFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    OpenOptions::new().read(true).write(true).open(path).map(OwnedFd::from)
}

fn try_everything(stage: &Stage) {
    let raw = Raw::connect(&stage.directory, "cam");
    let fds = raw.seated(Some(1));
    stage.say("seated");
    assert_eq!(stage.hear(), "go");
    let mut tried = 0;
    for (name, fd) in [("board", &fds[0]), ("pool", &fds[3])] {
        let again = reopened(fd);
        let ways = [("as it came", Some(fd)), ("re-opened", again.as_ref().ok())];
        for (way, fd) in ways.into_iter().filter_map(|(way, fd)| Some((way, fd?))) {
            for (what, outcome) in attempts(fd) {
                assert!(outcome.is_err(), "the {name} ({way}) could be {what}");
                tried += 1;
            }
        }
        if geteuid().is_root() {
            assert!(again.is_ok(), "the kernel lets root open it again: {again:?}");
        }
    }
    assert!(!raw.has_ended(), "to try is no breach of the protocol");
    stage.say(tried);
}

fn try_as_another(stage: &Stage) {
    let stranger = 12345;
    setgroups(&[]).unwrap();
    setgid(Gid::from_raw(stranger)).unwrap();
    setuid(Uid::from_raw(stranger)).unwrap();
    try_everything(stage);
}

fn pages_stay_as_they_are(role: &str) {
    let scratch = Scratch::new();
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let builder = scratch.producer("cam").bytes(BYTES).slots(4).history(1);
    let producer = builder.access(AccessRule::Directory).create().unwrap();
    let mut honest = scratch.consumer("cam").connect().unwrap();
    let witness = Raw::connect(scratch.path(), "cam");
    let fds = witness.seated(Some(1));
    let content = || [0, 3].map(|fd: usize| read(&fds[fd]));
    for frames in [0, 3] {
        let mut child = play(role, scratch.path(), 0);
        child.expect("seated");
        let held: Vec<_> = (0..frames)
            .map(|_| {
                publish(&producer);
                receive(&mut honest)
            })
            .take(2)
            .collect();
        let before = content();
        child.tell("go");
        let tried: u32 = child.hear().parse().unwrap();
        assert!(tried >= 38, "tried {tried} ways only");
        assert!(content() == before, "something has changed");
        child.finish();
        held.iter().for_each(|frame| assert_eq!(crate::common::check(frame), frame.sequence()));
    }
    publish(&producer);
    drop(receive(&mut honest));
}

fn read(fd: &OwnedFd) -> Vec<u8> {
    let len = nix::sys::stat::fstat(fd).unwrap().st_size as usize;
    let mut bytes = vec![0; len];
    assert_eq!(nix::sys::uio::pread(fd, &mut bytes, 0).unwrap(), len);
    bytes
}

#[test]
fn nothing_changes_pages_that_may_only_be_read() {
    pages_stay_as_they_are("tries everything");
}

#[test]
fn nothing_another_user_does_changes_them_either() {
    if !geteuid().is_root() {
        return skip("only root can play another user");
    }
    pages_stay_as_they_are("tries everything as another user");
}

/// The attempts are worth something only if they succeed where they may.
#[test]
fn on_a_writable_pool_the_attempts_succeed() {
    let scratch = Scratch::new();
    let _producer = scratch.producer("cam").bytes(BYTES).slots(4).writable(true).create().unwrap();
    let fds = Raw::connect(scratch.path(), "cam").seated(Some(1));
    let outcomes = attempts(&fds[3]);
    for what in [
        "mapped to write",
        "mapped to read, then made writable",
        "written to",
        "written to at the end",
        "filled from a pipe",
        "punched",
    ] {
        let (_, outcome) = outcomes.iter().find(|(name, _)| *name == what).unwrap();
        assert_eq!(*outcome, Ok(()), "{what}");
    }
    assert_eq!(read(&fds[3])[(BYTES * 4) as usize - 8..], GRAFFITI);
}

/// The child is about to die as planned: no file shall tell of it.
fn leave_no_core() {
    use nix::sys::resource::{Resource, setrlimit};
    setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
}

fn write_where_reading_is_allowed(stage: &Stage) {
    leave_no_core();
    let fds = Raw::connect(&stage.directory, "cam").seated(Some(1));
    let start = map(&fds[stage.number as usize], ProtFlags::PROT_READ).unwrap();
    write_to(start);
}

fn write_to_a_frame(stage: &Stage) {
    leave_no_core();
    let frame = receive(&mut stage.consumer("cam").connect().unwrap());
    // SAFETY: none; that it ends the process is what is tested.
    unsafe { frame.as_ptr().cast_mut().write_volatile(7) };
}

#[test]
fn to_write_all_the_same_ends_the_writer() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).history(1).create().unwrap();
    let mut honest = scratch.consumer("cam").connect().unwrap();
    publish(&producer);
    let frame = receive(&mut honest);
    for (role, number) in
        [("writes where it may only read", 0), ("writes where it may only read", 3), ("writes to a frame", 0)]
    {
        let status = play(role, scratch.path(), number).end();
        assert_eq!(status.signal(), Some(libc::SIGSEGV), "{role}: {status}");
    }
    assert_eq!(crate::common::check(&frame), 0);
    publish(&producer);
    receive(&mut honest);
}

/// Whoever may write to the frames may take their pages away. What was in them is lost, and who joins meanwhile is
/// refused; those who are there go on, and pages come back with the next frames.
#[test]
fn holes_in_a_writable_pool() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(BYTES).slots(4).writable(true).create().unwrap();
    let raw = Raw::connect(scratch.path(), "cam");
    let fds = raw.seated(Some(1));
    let punch = || {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        for object in &fds[3..] {
            let len = nix::sys::stat::fstat(object).unwrap().st_size;
            fallocate(object, flags, 0, len).unwrap();
        }
    };
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    for number in 0..50 {
        assert_eq!(publish(&producer), number);
        punch();
        let frame = consumer.receive(SOON).unwrap();
        assert_eq!(frame.sequence(), number);
        let mut bytes = [1; 100];
        frame.copy_to(0, &mut bytes);
        assert_eq!(bytes, [0; 100], "the hole is felt");
    }
    let refused = scratch.consumer("cam").connect().unwrap_err();
    assert_says(&refused, ErrorKind::Protocol, &["not backed by memory"]);
    let mut all: Vec<_> = (0..4).map(|_| producer.acquire(SOON).unwrap()).collect();
    all.iter_mut().for_each(|frame| frame.bytes_mut().fill(1));
    drop(all);
    let mut late = scratch.consumer("cam").connect().unwrap();
    publish(&producer);
    for consumer in [&mut consumer, &mut late] {
        receive(consumer);
    }
}
