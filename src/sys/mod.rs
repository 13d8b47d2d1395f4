//! The operating system: memory segments, futexes, sockets, fork, the monitor thread. Linux only.

pub(crate) mod aside;
mod clock;
mod descriptor;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod limits;
mod map;
mod memory;
pub(crate) mod monitor;
mod segment;
pub(crate) mod socket;

pub(crate) use clock::Clock;
pub use descriptor::Descriptor;
pub use fork::{PerProcess, process_number};
pub use limits::{check_uncharged, check_unswappable};
pub use map::Mapping;
pub use memory::SegmentMemory;
pub use segment::{Pages, Segment, Sharing};

use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};

/// Now, in ns of `CLOCK_MONOTONIC`: the clock of every time bips reports, the same in all processes.
#[inline]
pub fn monotonic_ns() -> u64 {
    // The clock exists on every Linux; without it no time-out would work either.
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |now| now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

/// The processor this thread runs on right now.
#[inline]
pub(crate) fn current_cpu() -> u32 {
    // SAFETY: takes no arguments and touches no memory of ours.
    let cpu = unsafe { libc::sched_getcpu() };
    u32::try_from(cpu).unwrap_or(u32::MAX)
}

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// Random bytes for identities; from the kernel.
pub(crate) fn random_id() -> [u64; 2] {
    let mut id = [0u64; 2];
    // SAFETY: `id` is 16 writable bytes; getrandom writes at most that many.
    let got = unsafe { libc::getrandom(id.as_mut_ptr().cast(), 16, 0) };
    if got != 16 {
        // Only early boot can fail. Time and address still tell two streams apart.
        id = [monotonic_ns(), std::ptr::from_ref(&id).addr() as u64];
    }
    id
}

/// Whether a process, as numbered here, is stopped (`SIGSTOP`, a debugger; a paused container is
/// not seen here). For people only: it may go on at any time.
pub(crate) fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name stands in brackets, and may hold any.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    matches!(state, Some('T' | 't'))
}

/// `flock` on a descriptor that somebody else owns, which nix's guard can't do.
pub(crate) fn flock(fd: std::os::fd::BorrowedFd<'_>, operation: i32) -> nix::Result<()> {
    // SAFETY: the descriptor is open while borrowed; no memory is passed.
    Errno::result(unsafe { libc::flock(std::os::fd::AsRawFd::as_raw_fd(&fd), operation) }).map(drop)
}
