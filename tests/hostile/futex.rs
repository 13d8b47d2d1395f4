//! What anybody may do with a futex word that it has mapped. Nothing here changes the word.

use nix::libc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

const ALL: usize = i32::MAX as usize;

/// Sleeps on the word's lower half while that is `expected`, and so takes a wake-up meant for another.
pub(crate) fn wait(word: &AtomicU64, expected: u32, timeout: Duration) {
    let until = libc::timespec { tv_sec: 0, tv_nsec: timeout.subsec_nanos().into() };
    // SAFETY: the word and the time live; FUTEX_WAIT only reads both.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, &raw const until) };
}

/// Wakes everybody.
pub(crate) fn wake(word: &AtomicU64) {
    // SAFETY: the word lives; FUTEX_WAKE does not touch it.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, ALL) };
}

/// Moves whoever sleeps on one word to another.
pub(crate) fn requeue(from: &AtomicU64, to: &AtomicU64) {
    moved(from, to);
}

/// The same; how many slept.
pub(crate) fn moved(from: &AtomicU64, to: &AtomicU64) -> i64 {
    // SAFETY: both words live; FUTEX_REQUEUE touches neither.
    unsafe { libc::syscall(libc::SYS_futex, from.as_ptr(), libc::FUTEX_REQUEUE, 0, ALL, to.as_ptr()) }
}

/// The same, if the first is what it was expected to be; one is woken.
pub(crate) fn requeue_if(from: &AtomicU64, expected: u32, to: &AtomicU64) {
    let operation = libc::FUTEX_CMP_REQUEUE;
    // SAFETY: both words live; FUTEX_CMP_REQUEUE only reads the first.
    unsafe { libc::syscall(libc::SYS_futex, from.as_ptr(), operation, 1, ALL, to.as_ptr(), expected) };
}
