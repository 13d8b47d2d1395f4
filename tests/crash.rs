//! Peers that are killed or stopped, at any moment: nobody else loses anything.

#![cfg(not(any(bips_loom, bips_shuttle)))]

mod common;

use bips::{DType, ErrorKind, ReceiveError, Wait};
use common::process::{Role, Stage, play};
use common::wire::{Raw, Scribble, seat};
use common::{SOON, Scratch, assert_says, check, eventually, publish, receive};
use nix::sys::prctl::set_thp_disable;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const MIB: u64 = 1 << 20;

const ROLES: &[Role] = &[
    ("holds two", hold_two),
    ("receives", receive_for_ever),
    ("publishes three", publish_three),
    ("publishes", publish_for_ever),
    ("produces and forks", produce_and_fork),
    ("consumes and forks", consume_and_fork),
    ("consumes and clones", consume_and_clone),
];

#[test]
fn child_process() {
    common::process::child(ROLES);
}

fn hold_two(stage: &Stage) {
    let mut consumer = stage.consumer("cam").connect().unwrap();
    stage.say("ready");
    let _held = [receive(&mut consumer), receive(&mut consumer)];
    stage.say("holding");
    stage.hear();
}

fn receive_for_ever(stage: &Stage) {
    let mut consumer = stage.consumer("cam").connect().unwrap();
    stage.say("ready");
    loop {
        receive(&mut consumer);
    }
}

fn publish_three(stage: &Stage) {
    let producer = stage.producer("cam").bytes(MIB).create().unwrap();
    producer.wait_for_consumers(1, SOON).unwrap();
    for _ in 0..3 {
        publish(&producer);
    }
    stage.say("published");
    stage.hear();
}

fn publish_for_ever(stage: &Stage) {
    let shape = [stage.number, 100];
    let producer = stage.producer("cam").tensor(DType::U8, &shape).create().unwrap();
    producer.wait_for_consumers(1, SOON).unwrap();
    loop {
        publish(&producer);
    }
}

// A consumer dies

/// A pool of many small pages, as where the kernel makes no huge ones: its consumers say in their seats that they live.
fn small_pages(scratch: &Scratch) -> bips::Producer {
    // Of the whole process.
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    set_thp_disable(true).unwrap();
    let producer = scratch.producer("cam").bytes(4 * MIB).create().unwrap();
    set_thp_disable(false).unwrap();
    producer
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

/// Threads of this process that stand for a life, or watch over one.
fn watchers() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = threads.map(|task| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default());
    names.filter(|name| name.starts_with("bips-vigil") || name.starts_with("bips-alive")).count()
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

#[test]
fn the_slots_of_a_killed_consumer_come_back() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(MIB).create().unwrap();
    let mut other = scratch.consumer("cam").connect().unwrap();
    let mut child = play("holds two", scratch.path(), 0);
    child.expect("ready");
    for number in 0..3 {
        publish(&producer);
        assert_eq!(receive(&mut other).sequence(), number);
    }
    child.expect("holding");
    let holder = producer.stats().unwrap().consumers[1];
    assert_eq!((holder.pid, holder.held, holder.unread), (child.pid(), 2, 1));
    child.kill();
    for number in 3..103 {
        publish(&producer);
        assert_eq!(receive(&mut other).sequence(), number);
    }
    assert_eq!(producer.stats().unwrap().consumers.len(), 1);
}

#[test]
fn consumers_killed_at_any_moment() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(MIB).create().unwrap();
    let mut other = scratch.consumer("cam").connect().unwrap();
    let survivor = std::thread::spawn(move || {
        for number in 0.. {
            match other.receive(SOON) {
                Ok(frame) => assert_eq!((check(&frame), frame.sequence()), (number, number)),
                Err(error) => {
                    assert_eq!(error, ReceiveError::Closed);
                    return number;
                }
            }
        }
        unreachable!("a test does not publish 2^64 frames");
    });
    for round in 0..15 {
        let mut child = play("receives", scratch.path(), 0);
        child.expect("ready");
        // Around the kill frames flow; how many before it differs from round to round.
        for _ in 0..5 + round * 7 % 20 {
            publish(&producer);
        }
        std::thread::scope(|scope| {
            scope.spawn(|| child.kill());
            for _ in 0..30 {
                publish(&producer);
            }
        });
    }
    let published = producer.stats().unwrap().published;
    eventually("the dead are gone", || producer.stats().unwrap().consumers.len() == 1);
    producer.close();
    assert_eq!(survivor.join().unwrap(), published);
}

#[test]
fn a_killed_consumer_wakes_who_waits_for_its_slots() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).slots(3).max_held(3).create().unwrap();
    let mut child = play("holds two", scratch.path(), 0);
    child.expect("ready");
    for _ in 0..3 {
        publish(&producer);
    }
    child.expect("holding");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| publish(&producer));
        std::thread::sleep(Duration::from_millis(20));
        child.kill();
        assert_eq!(waiting.join().unwrap(), 3);
    });
}

// A producer dies

#[test]
fn frames_outlive_a_killed_producer() {
    let scratch = Scratch::new();
    let mut child = play("publishes three", scratch.path(), 0);
    let mut consumer = scratch.consumer("cam").wait(SOON).connect().unwrap();
    child.expect("published");
    let held = [receive(&mut consumer), receive(&mut consumer)];
    child.kill();
    // The name is free at once, and what comes under it is another stream.
    let next = scratch.producer("cam").bytes(MIB).create().unwrap();
    publish(&next);
    for (number, frame) in held.iter().enumerate() {
        assert_eq!(check(frame), number as u64);
    }
    drop(held);
    assert_eq!(receive(&mut consumer).sequence(), 2);
    for wait in [SOON, Wait::Forever, Wait::Now] {
        assert_eq!(consumer.receive(wait).unwrap_err(), ReceiveError::Closed);
    }
}

#[test]
fn a_killed_producer_wakes_its_consumers() {
    let scratch = Scratch::new();
    let mut child = play("publishes three", scratch.path(), 0);
    let mut consumer = scratch.consumer("cam").wait(SOON).connect().unwrap();
    child.expect("published");
    for _ in 0..3 {
        receive(&mut consumer);
    }
    let mut second = scratch.consumer("cam").connect().unwrap();
    let fd = second.poll_fd().unwrap();
    assert_eq!(second.receive(Wait::Now).unwrap_err(), ReceiveError::Timeout);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| consumer.receive(SOON).unwrap_err());
        let polling = scope.spawn(|| {
            // SAFETY: `second` keeps the descriptor open.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            let mut fds = [nix::poll::PollFd::new(fd, nix::poll::PollFlags::POLLIN)];
            // The first signal says that the socket was noted; after it comes only the end.
            while second.receive(Wait::Now).unwrap_err() == ReceiveError::Timeout {
                assert_eq!(nix::poll::poll(&mut fds, 60_000u16).unwrap(), 1, "never readable");
            }
            second.receive(Wait::Now).unwrap_err()
        });
        std::thread::sleep(Duration::from_millis(20));
        child.kill();
        assert_eq!(waiting.join().unwrap(), ReceiveError::Closed);
        assert_eq!(polling.join().unwrap(), ReceiveError::Closed);
    });
}

#[test]
fn a_reconnecting_consumer_outlives_producers() {
    let scratch = Scratch::new();
    let mut child = play("publishes", scratch.path(), 1);
    let mut consumer = scratch.consumer("cam").wait(SOON).reconnect(true).connect().unwrap();
    let mut kept = None;
    for rows in 2..12 {
        let mut last = receive(&mut consumer);
        for _ in 0..50 {
            let sequence = last.sequence();
            last = receive(&mut consumer);
            assert_eq!(last.sequence(), sequence + 1);
        }
        assert_eq!(last.shape(), [rows - 1, 100]);
        let number = check(&last);
        // A frame of each pool is kept into the life of the next.
        if let Some((frame, number)) = kept.replace((last, number)) {
            assert_eq!(check(&frame), number);
        }
        child.kill();
        child = play("publishes", scratch.path(), rows);
        let first = loop {
            let frame = receive(&mut consumer);
            if frame.shape()[0] == rows {
                break frame;
            }
        };
        assert_eq!(first.sequence(), 0, "the numbers begin anew");
        assert_eq!(u64::from(first.generation()), rows - 1);
        assert_eq!((consumer.generation(), consumer.content().shape()), (first.generation(), first.shape()));
    }
    assert_eq!(consumer.stats().reconnects, 10);
}

#[test]
fn a_reconnecting_consumer_waits_as_long_as_it_takes() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let mut consumer = scratch.consumer("cam").reconnect(true).connect().unwrap();
    drop(producer);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| consumer.receive(Wait::Forever).map(|frame| frame.sequence()));
        std::thread::sleep(Duration::from_millis(5500));
        let next = scratch.producer("cam").bytes(100).create().unwrap();
        while next.wait_for_consumers(1, Wait::For(Duration::from_millis(50))).is_err() {
            assert!(!waiting.is_finished(), "given up: {:?}", waiting.join());
        }
        publish(&next);
        assert_eq!(waiting.join().unwrap(), Ok(0));
    });
}

// What the dead leave behind

#[test]
fn leftovers_are_taken_over_and_taken_away() {
    let scratch = Scratch::new();
    let mut child = play("publishes", scratch.path(), 1);
    drop(scratch.consumer("cam").wait(SOON).connect().unwrap());
    child.kill();
    let left: Vec<_> = scratch.files();
    assert_eq!(left, [scratch.path().join("cam.lock"), scratch.path().join("cam.sock")]);
    assert_eq!(bips::streams(Some(scratch.path())).unwrap(), [""; 0]);
    let error = scratch.consumer("cam").connect().unwrap_err();
    assert_says(&error, ErrorKind::NotFound, &["no stream is published there"]);
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    publish(&producer);
    receive(&mut consumer);
    producer.close();
    assert!(scratch.files().is_empty(), "{:?}", scratch.files());
}

#[test]
fn closing_leaves_the_directory_as_before() {
    let scratch = Scratch::new();
    let deep = scratch.producer("a/b/c").bytes(100).create().unwrap();
    let beside = scratch.producer("a/d").bytes(100).create().unwrap();
    assert_eq!(bips::streams(Some(scratch.path())).unwrap(), ["a/b/c", "a/d"]);
    drop(deep);
    assert!(!scratch.path().join("a/b").exists());
    assert_eq!(bips::streams(Some(scratch.path())).unwrap(), ["a/d"]);
    drop(beside);
    assert!(scratch.files().is_empty(), "{:?}", scratch.files());
}

/// A forked child that lives on inherits everything but its parent's life.
#[test]
fn a_fork_does_not_hide_a_producers_death() {
    let scratch = Scratch::new();
    let mut child = play("produces and forks", scratch.path(), 0);
    let mut consumer = scratch.consumer("cam").wait(SOON).connect().unwrap();
    let orphan = Orphan(child.hear().parse().unwrap());
    child.kill();
    assert_eq!(consumer.receive(SOON).unwrap_err(), ReceiveError::Closed);
    drop(scratch.producer("cam").bytes(100).create().unwrap());
    assert!(orphan.lives());
}

#[test]
fn a_fork_does_not_hide_a_consumers_death() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).slots(1).create().unwrap();
    let mut child = play("consumes and forks", scratch.path(), 0);
    producer.wait_for_consumers(1, SOON).unwrap();
    publish(&producer);
    let orphan = Orphan(child.hear().parse().unwrap());
    child.kill();
    assert_eq!(publish(&producer), 1);
    assert!(orphan.lives());
}

fn produce_and_fork(stage: &Stage) {
    let producer = stage.producer("cam").bytes(100).create().unwrap();
    producer.wait_for_consumers(1, SOON).unwrap();
    leave_an_orphan(stage);
}

fn consume_and_fork(stage: &Stage) {
    let mut consumer = stage.consumer("cam").connect().unwrap();
    consumer.poll_fd().unwrap();
    let _frame = receive(&mut consumer);
    leave_an_orphan(stage);
}

/// One that was made behind the C library's back keeps its parent's end of the connection open.
#[test]
fn a_child_made_without_fork_does_not_hide_a_consumers_death() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).slots(1).create().unwrap();
    let mut child = play("consumes and clones", scratch.path(), 0);
    producer.wait_for_consumers(1, SOON).unwrap();
    publish(&producer);
    let orphan = Orphan(child.hear().parse().unwrap());
    if !names_processes() {
        return common::skip::skip("this kernel has no SO_PEERPIDFD (Linux 6.5)");
    }
    child.kill();
    assert_eq!(publish(&producer), 1);
    assert!(orphan.lives());
}

/// Whether a socket says which process made its other end, in a way that lasts.
fn names_processes() -> bool {
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut fd: i32 = -1;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the option is an int; `fd` and `len` say where it goes and how long that is. The descriptor leaks.
    0 == unsafe {
        let at = (&raw mut fd).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERPIDFD, at, &raw mut len)
    }
}

fn consume_and_clone(stage: &Stage) {
    let mut consumer = stage.consumer("cam").connect().unwrap();
    let _frame = receive(&mut consumer);
    // SAFETY: as fork, without the handlers; the child makes system calls only.
    match unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } {
        0 => linger(),
        orphan => stage.say(orphan),
    }
    stage.hear();
}

/// What a child does that makes system calls only.
fn linger() -> ! {
    // SAFETY: a plain number; ends the orphan should nobody else.
    unsafe { libc::alarm(120) };
    loop {
        // SAFETY: no arguments.
        unsafe { libc::pause() };
    }
}

fn leave_an_orphan(stage: &Stage) {
    // SAFETY: the child makes only async-signal-safe calls.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => linger(),
        nix::unistd::ForkResult::Parent { child } => stage.say(child),
    }
    stage.hear();
}

/// A grandchild, ended by its pid.
struct Orphan(i32);

impl Orphan {
    fn lives(&self) -> bool {
        std::fs::read_to_string(format!("/proc/{}/stat", self.0)).is_ok_and(|stat| !stat.contains(") Z"))
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0), nix::sys::signal::SIGKILL);
    }
}
