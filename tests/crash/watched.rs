//! A consumer that says in its seat that it lives dies: the pool is of many small pages.

use crate::MIB;
use crate::common::process::{Role, Stage, TOLD_BY, play};
use crate::common::wire::{Raw, Scribble, seat};
use crate::common::{SOON, Scratch, eventually, in_small_pages, of_each_thread, publish, receive, threads};
use bips::Producer;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

pub(crate) const ROLES: [Role; 2] = [("becomes another", become_another), ("is another", be_another)];

/// Watched.
fn small_pages(scratch: &Scratch) -> Producer {
    in_small_pages(scratch.producer("cam").bytes(4 * MIB))
}

#[test]
fn a_consumer_of_many_small_pages_lives_and_dies_in_its_seat() {
    let scratch = Scratch::new();
    let producer = small_pages(&scratch);
    // One after the other: each begins and ends anew.
    for _ in 0..3 {
        let mut child = play("holds two", scratch.path(), 0);
        child.expect("ready");
        publish(&producer);
        publish(&producer);
        child.expect("holding");
        child.kill();
        let all: Vec<_> = (0..4).map(|_| producer.acquire(SOON).unwrap()).collect();
        drop(all);
        eventually("the seat is gone", || producer.stats().unwrap().consumers.is_empty());
    }
    let mut leaving = scratch.consumer("cam").connect().unwrap();
    publish(&producer);
    drop(receive(&mut leaving));
    drop(leaving);
    eventually("the seat is gone", || producer.stats().unwrap().consumers.is_empty());
    eventually("no thread is left", || watchers() == 0);
}

/// A process that becomes another program keeps its number and, where it is told so, its connections; of what it was
/// only the seat tells. A consumer of a pool that nobody watches does the same before: nothing else says so.
#[test]
fn a_consumer_dies_in_its_seat_alone() {
    let scratch = Scratch::new();
    let (watched, other) =
        (small_pages(&scratch), scratch.producer("other").bytes(100).create().expect("a small pool"));
    let mut children = ["other", "cam"].map(|name| {
        let mut child = play("becomes another", scratch.path(), u64::from(name == "cam"));
        child.expect("joined");
        child
    });
    for _ in 0..2 {
        publish(&watched);
    }
    for child in &mut children {
        child.tell("become another");
        child.expect("I am another");
    }
    eventually("the seat is gone", || watched.stats().unwrap().consumers.is_empty());
    let slots: Vec<_> = (0..4).map(|_| watched.acquire(SOON).unwrap()).collect();
    drop(slots);
    assert_eq!(other.stats().unwrap().consumers.len(), 1, "its connection or its process told as well");
    for mut child in children {
        assert!(child.ended().is_none());
        child.tell("end");
        child.finish();
    }
    eventually("its connection ends", || other.stats().unwrap().consumers.is_empty());
}

fn become_another(stage: &Stage) {
    let is_watched = stage.number == 1;
    let mut consumer = stage.consumer(if is_watched { "cam" } else { "other" }).connect().unwrap();
    // From then on the kernel knows of its seat.
    eventually("its thread sleeps", || {
        !is_watched || of_each_thread("stat").any(|stat| stat.contains("(bips-alive) S"))
    });
    stage.say("joined");
    let _held = is_watched.then(|| receive(&mut consumer));
    stage.hear();
    for fd in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        if std::fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:")) {
            let number = fd.file_name().to_string_lossy().parse().expect("a number");
            // SAFETY: open, since nobody else in this process closes a socket meanwhile.
            let socket = unsafe { BorrowedFd::borrow_raw(number) };
            fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        }
    }
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", "child_process", "--nocapture"]).env(TOLD_BY[0], "is another");
    panic!("{}", program.exec());
}

fn be_another(stage: &Stage) {
    stage.say("I am another");
    stage.hear();
}

/// Threads of this process that stand for a life, or watch over one.
fn watchers() -> usize {
    threads("bips-vigil") + threads("bips-alive")
}

/// However soon it leaves: nothing says so for good in a page that both write to, and that is given back.
#[test]
fn coming_and_going_leaves_no_watcher() {
    let scratch = Scratch::new();
    let producer = small_pages(&scratch);
    for round in 0..200 {
        let consumer = scratch.consumer("cam").wait(SOON).connect().unwrap();
        if round == 0 {
            eventually("it is watched", || watchers() == 2);
        }
        std::thread::sleep(Duration::from_millis(round % 4));
        drop(consumer);
    }
    let begin = std::time::Instant::now();
    eventually("no thread is left", || watchers() == 0);
    assert!(begin.elapsed() < Duration::from_secs(20), "they were only left to their time-out");
    drop(producer);
}

/// Whoever says that it is dead is treated so: it loses its seat, and its connection.
#[test]
fn a_consumer_that_plays_dead_has_no_seat() {
    let scratch = Scratch::new();
    let producer = small_pages(&scratch);
    let raw = Raw::connect(scratch.path(), "cam");
    let seat = Scribble::over(&raw.seated(None)[1]);
    let word = &seat.words()[seat::ALIVE];
    // Anything else it says there is believed, and means nothing.
    for lie in [1, 77, u64::from(libc::FUTEX_WAITERS), 0] {
        word.store(lie, Relaxed);
        wake(word);
        publish(&producer);
        assert_eq!(producer.stats().unwrap().consumers.len(), 1);
    }
    word.store(libc::FUTEX_OWNER_DIED.into(), Relaxed);
    wake(word);
    eventually("its seat is gone", || producer.stats().unwrap().consumers.is_empty());
    assert!(raw.hear().is_none(), "it is hung up on");
    for _ in 0..8 {
        publish(&producer);
    }
}

fn wake(word: &std::sync::atomic::AtomicU64) {
    // SAFETY: the word lives; FUTEX_WAKE doesn't touch its value.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}
