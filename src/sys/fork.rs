//! What happens to our handles in a forked child.
//!
//! A child that inherits a control socket hides its parent's death; one that inherits the lock keeps the name.
//! So descriptors that stand for a process are registered here, and an at-fork handler turns them into
//! `/dev/null` in the child. Turning, not closing: the child's copy of the handle will close the number once
//! more, and by then it could belong to something else.

use crate::{Error, Result};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering::*};
use std::{fs, ptr};

/// Rises by one in each forked child.
static PROCESS: AtomicU32 = AtomicU32::new(0);
static NULL: AtomicI32 = AtomicI32::new(-1);
static FIRST: Chunk = Chunk::new();

const NONE: RawFd = -1;

/// Part of a list that only grows, so that the handler can walk it without a lock.
struct Chunk {
    fds: [AtomicI32; 64],
    next: AtomicPtr<Chunk>,
}

impl Chunk {
    const fn new() -> Self {
        Self { fds: [const { AtomicI32::new(NONE) }; 64], next: AtomicPtr::new(ptr::null_mut()) }
    }

    fn next(&self) -> Option<&'static Chunk> {
        let next = self.next.load(Acquire); // ORDERING: sees the chunk whole, pairs with the exchange in `claim`
        // SAFETY: null, or a chunk leaked by `claim`, which is never freed.
        unsafe { next.as_ref() }
    }
}

/// Tells this process from those it was forked from: a handle that remembers another number was made before a fork.
#[inline]
pub fn process_number() -> u32 {
    PROCESS.load(Relaxed) // changes only in the child's one thread, before anything of ours runs there
}

/// A static that a forked child gets anew. Behind a plain lock it could never be used again in a child forked while
/// another thread held the lock.
pub struct PerProcess<T: 'static>(AtomicPtr<(u32, T)>);

impl<T> Default for PerProcess<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> PerProcess<T> {
    /// None made yet.
    pub const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// This process's, made on first use. A parent's stays behind in the child: a leak of one for each fork.
    pub fn get(&self, make: fn() -> T) -> &'static T {
        loop {
            let current = self.0.load(Acquire); // ORDERING: sees the value whole, pairs with the exchange below
            // SAFETY: null, or leaked below and never freed.
            if let Some((owner, value)) = unsafe { current.as_ref() }
                && *owner == process_number()
            {
                return value;
            }
            let fresh = Box::into_raw(Box::new((process_number(), make())));
            // ORDERING: publishes the value whole, pairs with the load above
            if self.0.compare_exchange(current, fresh, AcqRel, Acquire).is_err() {
                // SAFETY: another thread was first; `fresh` is ours alone and came from Box::into_raw.
                drop(unsafe { Box::from_raw(fresh) });
            }
        }
    }
}

/// Installs the at-fork handler, once.
fn install() -> Result<()> {
    static INSTALLED: OnceLock<i32> = OnceLock::new();
    let status = INSTALLED.get_or_init(|| {
        if let Ok(null) = fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
            NULL.store(std::os::fd::IntoRawFd::into_raw_fd(null), Relaxed);
        }
        // SAFETY: the handler is async-signal-safe: atomics, dup3 and close only.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) }
    });
    match status {
        0 => Ok(()),
        errno => Err(Error::system("pthread_atfork", std::io::Error::from_raw_os_error(*errno))),
    }
}

extern "C" fn in_child() {
    PROCESS.fetch_add(1, Relaxed);
    let null = NULL.load(Relaxed);
    let mut chunk = Some(&FIRST);
    while let Some(current) = chunk {
        for entry in &current.fds {
            let fd = entry.swap(NONE, Relaxed); // one thread here; the parent's writes came before the fork
            if fd != NONE {
                // SAFETY: replaces a descriptor that a handle of the parent owns; without /dev/null this fails
                // and changes nothing.
                unsafe { libc::dup3(null, fd, libc::O_CLOEXEC) };
            }
        }
        chunk = current.next();
    }
}

/// A descriptor that stands for this process: useless in a forked child.
#[derive(Debug)]
pub(crate) struct ProcessFd {
    fd: OwnedFd,
    entry: &'static AtomicI32,
    process: u32,
}

impl ProcessFd {
    pub(crate) fn new(fd: OwnedFd) -> Result<Self> {
        install()?;
        let entry = claim(fd.as_raw_fd());
        Ok(Self { fd, entry, process: process_number() })
    }

    /// Whether it was made in this process, not in one this was forked from.
    pub(crate) fn is_ours(&self) -> bool {
        self.process == process_number()
    }
}

fn claim(fd: RawFd) -> &'static AtomicI32 {
    let mut chunk = &FIRST;
    loop {
        for entry in &chunk.fds {
            if entry.compare_exchange(NONE, fd, Relaxed, Relaxed).is_ok() {
                return entry;
            }
        }
        chunk = chunk.next().unwrap_or_else(|| {
            let fresh = Box::into_raw(Box::new(Chunk::new()));
            // ORDERING: publishes the chunk whole, pairs with `Chunk::next`
            match chunk.next.compare_exchange(ptr::null_mut(), fresh, AcqRel, Acquire) {
                Ok(_) => {}
                // SAFETY: another thread was first; `fresh` is ours alone and came from Box::into_raw.
                Err(_) => drop(unsafe { Box::from_raw(fresh) }),
            }
            chunk.next().expect("someone has linked a chunk")
        });
    }
}

impl AsFd for ProcessFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for ProcessFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Drop for ProcessFd {
    fn drop(&mut self) {
        // Before the number can be given to another file. In a child the entry may hold a newer handle's.
        let _ = self.entry.compare_exchange(self.fd.as_raw_fd(), NONE, Relaxed, Relaxed);
    }
}
