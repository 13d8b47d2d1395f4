//! A consumer that says in its seat that it lives dies: the pool is of many small pages.

use crate::MIB;
use crate::common::process::play;
use crate::common::wire::{Raw, Scribble, seat};
use crate::common::{SOON, Scratch, eventually, publish, receive};
use nix::sys::prctl::set_thp_disable;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

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
