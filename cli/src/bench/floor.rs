//! What the machine can do at best: one cache line between two cores, and one futex wake between two processes.
//!
//! The only unsafe code of the program: a shared mapping and the futex call.
#![allow(unsafe_code)]

use std::fs::File;
use std::hint::spin_loop;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::ftruncate;

use super::link::Waiting;
use crate::exit::{Failure, Outcome};

const BYTES: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// Two lines apart: many processors fetch lines in pairs.
const SPACING: usize = 128;

/// Words of the page, each on cache lines of its own.
#[derive(Clone, Copy)]
pub(super) enum Word {
    Line = 0,
    Ping = 1,
    Pong = 2,
    Arrived = 3,
}

/// Written into every word when a process has gone, so that the other stops waiting for it.
const GONE: u32 = u32::MAX;

/// A page that two processes share.
pub(super) struct SharedPage {
    start: NonNull<u8>,
    fd: OwnedFd,
}

// SAFETY: the page is reached through atomics only, and stays mapped as long as the value lives.
unsafe impl Send for SharedPage {}
// SAFETY: as above.
unsafe impl Sync for SharedPage {}

impl SharedPage {
    /// A new page; its descriptor is inherited by children on purpose.
    pub(super) fn create() -> Outcome<Arc<Self>> {
        let fd =
            memfd_create("bips-bench", MFdFlags::empty()).map_err(|e| Failure::system("memfd_create", e))?;
        ftruncate(&fd, BYTES.get() as i64).map_err(|errno| Failure::system("ftruncate", errno))?;
        Self::map(fd)
    }

    /// The page that the parent left open under this number.
    pub(super) fn inherited(fd: RawFd) -> Outcome<Arc<Self>> {
        let file = File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/self/fd/{fd}"))
            .map_err(|error| Failure::system("open the page of the measurement", error))?;
        Self::map(file.into())
    }

    fn map(fd: OwnedFd) -> Outcome<Arc<Self>> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address the kernel chooses touches no memory that exists.
        let start = unsafe { mmap(None, BYTES, access, MapFlags::MAP_SHARED, &fd, 0) };
        let start = start.map_err(|errno| Failure::system("mmap", errno))?.cast();
        Ok(Arc::new(Self { start, fd }))
    }

    pub(super) fn number(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    pub(super) fn word(&self, word: Word) -> &AtomicU32 {
        // SAFETY: the offset is at most 3 * 128, inside the mapped 4096 bytes.
        let word = unsafe { self.start.add(word as usize * SPACING) };
        // SAFETY: aligned, zeroed by the kernel, mapped as long as `self`, and shared only as an atomic.
        unsafe { word.cast().as_ref() }
    }

    pub(super) fn reset(&self) {
        for word in [Word::Line, Word::Ping, Word::Pong, Word::Arrived] {
            self.word(word).store(0, Ordering::Release);
        }
    }

    /// Ends every wait of the other process on this page.
    pub(super) fn abandon(&self) {
        for word in [Word::Line, Word::Ping, Word::Pong, Word::Arrived] {
            self.word(word).store(GONE, Ordering::Release);
            futex_wake(self.word(word));
        }
    }

    /// Spins until the word has this value; `relaxed` with the processor's pause between two looks.
    pub(super) fn await_value(&self, word: Word, value: u32, relaxed: bool) -> Outcome {
        let word = self.word(word);
        loop {
            match word.load(Ordering::Acquire) {
                now if now == value => return Ok(()),
                GONE => return Err(gone()),
                _ if relaxed => spin_loop(),
                _ => {}
            }
        }
    }

    /// One way there and back, begun here, waiting as told. Both sides count in turns: odd there, even back.
    pub(super) fn ping(&self, waiting: Waiting, turn: &mut u32) -> Outcome {
        *turn += 2;
        if waiting == Waiting::Blocking {
            signal(self.word(Word::Ping), *turn - 1);
            return sleep_until(self.word(Word::Pong), *turn);
        }
        // One line for both directions: whoever writes it takes it from the other.
        self.word(Word::Line).store(*turn - 1, Ordering::Release);
        self.await_value(Word::Line, *turn, waiting == Waiting::Pausing)
    }

    /// One way there and back, answered here.
    pub(super) fn pong(&self, waiting: Waiting, turn: &mut u32) -> Outcome {
        *turn += 2;
        if waiting == Waiting::Blocking {
            sleep_until(self.word(Word::Ping), *turn - 1)?;
            signal(self.word(Word::Pong), *turn);
            return Ok(());
        }
        self.await_value(Word::Line, *turn - 1, waiting == Waiting::Pausing)?;
        self.word(Word::Line).store(*turn, Ordering::Release);
        Ok(())
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: this value made the mapping, and every reference into it has ended with the borrow of the value.
        let unmapped = unsafe { munmap(self.start.cast(), BYTES.get()) };
        debug_assert!(unmapped.is_ok());
    }
}

fn signal(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Release);
    futex_wake(word);
}

fn sleep_until(word: &AtomicU32, value: u32) -> Outcome {
    loop {
        match word.load(Ordering::Acquire) {
            now if now == value => return Ok(()),
            GONE => return Err(gone()),
            now => futex_wait(word, now),
        }
    }
}

fn gone() -> Failure {
    Failure::failed("the other process of the measurement has gone; run it again")
}

/// Sleeps while the word has this value; may return early, callers look again.
fn futex_wait(word: &AtomicU32, value: u32) {
    let forever = std::ptr::null::<libc::timespec>();
    // SAFETY: the word lives through the call; the kernel only reads it.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, forever) };
}

fn futex_wake(word: &AtomicU32) {
    // SAFETY: waking uses the address as a key only.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}
