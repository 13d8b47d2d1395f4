//! FUTEX_WAIT and FUTEX_WAKE between processes; both work through read-only mappings too.

use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Sleeps while `word` is `expected`: until woken, `timeout`, a signal, or for no reason.
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `word` and `timeout` (null or a live timespec) outlive the call; FUTEX_WAIT only reads them.
    // Every failure (value changed, time over, signal) means "look again", which all callers do.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, timeout) };
}

/// Wakes one that is asleep on `word`: where there should be one, and more would be at our cost.
pub(crate) fn wake_one(word: &AtomicU32) {
    wake(word, 1);
}

/// Wakes everyone asleep on `word`: where a stranger among them must not take the wake-up of whom it was for.
pub(crate) fn wake_all(word: &AtomicU32) {
    wake(word, i32::MAX);
}

/// Wakes at most so many of those asleep on `word`.
pub(crate) fn wake_some(word: &AtomicU32, most: u32) {
    wake(word, most.try_into().unwrap_or(i32::MAX));
}

fn wake(word: &AtomicU32, most: i32) {
    // SAFETY: `word` is a live, aligned u32; FUTEX_WAKE does not touch its value.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, most) };
}
