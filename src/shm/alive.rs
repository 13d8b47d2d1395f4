//! A word of the seat that the kernel changes when the consumer's process ends.
//!
//! The end of a connection says it too, but only after the kernel has unmapped all that the process had mapped: 0.2 ms
//! for each MiB in small pages. A robust futex is dealt with before that (ADR 12).

use super::{Seat, Shared};
use crate::Result;
use crate::sys::{aside, futex};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};

/// As the kernel reads it: `struct robust_list`, the link of a circular list.
#[repr(C)]
struct Link {
    next: *mut Link,
}

/// `struct robust_list_head`.
#[repr(C)]
struct Head {
    list: Link,
    /// From a link to its futex word, in bytes; the same for all of them.
    offset: libc::c_long,
    pending: *mut Link,
}

/// Marks this process as living in a seat, until dropped. A thread of its own does so: the kernel knows one such list
/// for each thread, and glibc uses those of all others.
#[derive(Debug)]
pub(crate) struct Alive {
    over: Arc<AtomicU32>,
}

impl Alive {
    pub(crate) fn begin(seat: Shared<Seat>) -> Result<Self> {
        let over = Arc::new(AtomicU32::new(0));
        let theirs = over.clone();
        aside::quiet_thread("bips-alive", move || live(&seat, &theirs))?;
        Ok(Self { over })
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.over.store(1, Release); // ORDERING: orders nothing but itself; pairs with the load in `live`
        futex::wake_all(&self.over);
    }
}

fn live(seat: &Seat, over: &AtomicU32) {
    let word = seat.alive();
    let mut link = Link { next: ptr::null_mut() };
    let mut head = Head { list: Link { next: &raw mut link }, offset: 0, pending: ptr::null_mut() };
    link.next = &raw mut head.list;
    head.offset = word.as_ptr().addr().wrapping_sub((&raw const link).addr()) as libc::c_long;
    if !register(&raw const head) {
        return; // then the end of the connection has to do
    }
    // SAFETY: no arguments.
    let thread = unsafe { libc::gettid() } as u32;
    // The kernel touches the word only if it names the thread that ends, and wakes somebody only if it has this bit.
    word.announce(thread | libc::FUTEX_WAITERS);
    while over.load(Acquire) == 0 {
        futex::wait(over, 0, None);
    }
    // From here on the word may be unmapped, and the links go with this thread's stack.
    register(ptr::null());
}

/// Tells the kernel this thread's list of robust futexes; none by null.
fn register(head: *const Head) -> bool {
    // SAFETY: the kernel follows the list only when this thread ends, and ignores what it can't read. Until `live`
    // registers null, head and link lie in its frame, and the word in the seat it borrows.
    unsafe { libc::syscall(libc::SYS_set_robust_list, head, size_of::<Head>()) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{PAGE, Segment, Sharing};
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::{ForkResult, fork};
    use std::time::{Duration, Instant};

    fn seat() -> Shared<Seat> {
        Shared::<Seat>::over(Arc::new(Segment::create("seat", PAGE, Sharing::ReadWrite).unwrap()))
    }

    #[track_caller]
    fn until(what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(Instant::now() < end, "in vain: {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn the_kernel_says_that_a_process_died_and_wakes_who_waits() {
        let seat = seat();
        // SAFETY: the child begins a thread, for which glibc is made, and ends by a signal.
        let child = match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let _alive = Alive::begin(seat.clone());
                // SAFETY: a plain number; ends the child should nobody else.
                unsafe { libc::alarm(60) };
                loop {
                    std::thread::park();
                }
            }
            ForkResult::Parent { child } => child,
        };
        until("it lives", || seat.alive().load(Acquire) != 0);
        let alive = seat.alive().load(Acquire);
        assert!(!Seat::is_dead(alive));
        std::thread::scope(|scope| {
            let asleep = scope.spawn(|| seat.alive().wait(alive, None));
            kill(child, Signal::SIGKILL).unwrap();
            asleep.join().unwrap();
        });
        until("it is dead", || Seat::is_dead(seat.alive().load(Acquire)));
        nix::sys::wait::waitpid(child, None).unwrap();
    }

    #[test]
    fn who_leaves_is_not_dead() {
        let seat = seat();
        drop(Alive::begin(seat.clone()).unwrap());
        let threads = || std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let name =
            |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        until("the thread ends", || !threads().any(|task| name(task).starts_with("bips-alive")));
        assert!(!Seat::is_dead(seat.alive().load(Acquire)));
    }
}
