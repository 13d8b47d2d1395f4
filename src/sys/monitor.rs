//! One thread per process that watches every control socket: the base on which deaths are seen.
//!
//! It sleeps in `epoll_wait` and does nothing while nothing happens.

use super::fork;
use crate::{Error, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, SigmaskHow};
use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Something whose descriptor the monitor watches.
pub(crate) trait Watch: Send + Sync {
    /// The descriptor; the watch owns it.
    fn fd(&self) -> BorrowedFd<'_>;

    /// The descriptor is ready. False: watch it no longer.
    fn ready(&self) -> bool;

    /// When [`Watch::late`] shall be called. Read after each event; changes only inside `ready`, or before the
    /// watch begins from within another watch's `ready`.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The deadline has passed. False: watch it no longer.
    fn late(&self) -> bool {
        true
    }
}

/// Ends the watching when dropped. A call already under way may still finish.
#[derive(Debug)]
pub(crate) struct Watched {
    monitor: Arc<Monitor>,
    token: u64,
}

/// What to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Messages or connections, and the end of the peer.
    Input,
    /// Only the end of the peer.
    End,
}

struct Monitor {
    epoll: Epoll,
    table: Mutex<Table>,
    generation: u32,
}

#[derive(Default)]
struct Table {
    watches: HashMap<u64, Arc<dyn Watch>>,
    next: u64,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Monitor")
    }
}

static CURRENT: Mutex<Option<Arc<Monitor>>> = Mutex::new(None);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in a watch is caught below and leaves the table whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches until the result is dropped or the watch says that it is over.
pub(crate) fn watch(watch: Arc<dyn Watch>, interest: Interest) -> Result<Watched> {
    let monitor = current()?;
    let token = {
        let mut table = lock(&monitor.table);
        table.next += 1;
        let token = table.next;
        table.watches.insert(token, watch.clone());
        token
    };
    let flags = match interest {
        Interest::Input => EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP,
        Interest::End => EpollFlags::EPOLLRDHUP,
    };
    let watched = Watched { monitor, token };
    watched
        .monitor
        .epoll
        .add(watch.fd(), EpollEvent::new(flags, token))
        .map_err(|errno| Error::system("watching a socket", errno))?;
    Ok(watched)
}

/// The process's monitor; a forked child starts its own.
fn current() -> Result<Arc<Monitor>> {
    let mut current = lock(&CURRENT);
    let generation = fork::generation();
    if let Some(monitor) = current.as_ref().filter(|monitor| monitor.generation == generation) {
        return Ok(monitor.clone());
    }
    let epoll =
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|errno| Error::system("epoll_create", errno))?;
    let monitor = Arc::new(Monitor { epoll, table: Mutex::default(), generation });
    let thread = monitor.clone();
    quiet_thread("bips-monitor", move || thread.run())?;
    *current = Some(monitor.clone());
    Ok(monitor)
}

/// Starts a thread that takes no signals from those that expect them, such as Ctrl-C in Python's main thread.
pub(crate) fn quiet_thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    // A new thread inherits its maker's mask.
    let all = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let spawned = std::thread::Builder::new().name(name.into()).spawn(run);
    if let Ok(before) = all {
        let _ = before.thread_set_mask();
    }
    spawned.map(drop).map_err(|error| Error::system("starting a thread", error).with("thread", name))
}

impl Monitor {
    fn run(&self) {
        let mut events = [EpollEvent::empty(); 32];
        loop {
            let ready = match self.epoll.wait(&mut events, self.timeout()) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => 0,
                Err(errno) => {
                    tracing::error!(%errno, "the monitor can't wait; deaths of peers go unseen");
                    return;
                }
            };
            for event in &events[..ready] {
                self.call(event.data(), |watch| watch.ready());
            }
            let now = Instant::now();
            for token in self.late(now) {
                self.call(token, |watch| watch.late());
            }
        }
    }

    /// Calls a watch without holding the table: it may add or end watches.
    fn call(&self, token: u64, call: impl FnOnce(&dyn Watch) -> bool) {
        let Some(watch) = lock(&self.table).watches.get(&token).cloned() else {
            return;
        };
        let keep = catch_unwind(AssertUnwindSafe(|| call(&*watch))).unwrap_or_else(|_| {
            tracing::error!("a watch panicked and is given up; this is a bug in bips");
            false
        });
        if !keep {
            self.end(token);
        }
    }

    fn end(&self, token: u64) {
        let watch = lock(&self.table).watches.remove(&token);
        if let Some(watch) = watch {
            // Else a peer that is gone would be reported again and again for as long as the watch lives.
            let _ = self.epoll.delete(watch.fd());
        } // dropped outside the lock: its own drop may end further watches
    }

    fn deadlines(&self) -> Vec<(u64, Instant)> {
        let table = lock(&self.table);
        table.watches.iter().filter_map(|(token, watch)| Some((*token, watch.deadline()?))).collect()
    }

    fn late(&self, now: Instant) -> Vec<u64> {
        self.deadlines().into_iter().filter(|(_, at)| *at <= now).map(|(token, _)| token).collect()
    }

    fn timeout(&self) -> EpollTimeout {
        let next = self.deadlines().into_iter().map(|(_, at)| at).min();
        next.map_or(EpollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
        })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // In a forked child the table may be locked by a thread that only the parent has.
        if self.monitor.generation == fork::generation() {
            self.monitor.end(self.token);
        }
    }
}
