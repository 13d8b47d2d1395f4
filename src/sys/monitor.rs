//! One thread per process that watches every control socket: the base on which deaths are seen.
//!
//! It sleeps in `epoll_wait` and does nothing while nothing happens.

use super::aside;
use super::fork::{self, PerProcess};
use crate::{Error, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Something whose descriptor the monitor watches.
pub(crate) trait Watch: Send + Sync {
    /// The descriptor; the watch owns it.
    fn fd(&self) -> BorrowedFd<'_>;

    /// The descriptor is ready.
    fn ready(&self) -> Verdict;

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

/// How to go on after a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    /// Don't look at the descriptor for so long; there is nothing to be done about it now.
    Pause(Duration),
    /// Don't look at the descriptor any more, only at the deadline.
    Deafen,
    End,
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
    process: u32,
}

#[derive(Default)]
struct Table {
    watches: HashMap<u64, Entry>,
    next: u64,
}

struct Entry {
    watch: Arc<dyn Watch>,
    flags: EpollFlags,
    /// Not looked at until then.
    paused: Option<Instant>,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Monitor")
    }
}

static CURRENT: PerProcess<Mutex<Option<Arc<Monitor>>>> = PerProcess::new();

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in a watch is caught below and leaves the table whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches until the result is dropped or the watch says that it is over.
pub(crate) fn watch(watch: Arc<dyn Watch>, interest: Interest) -> Result<Watched> {
    let monitor = current()?;
    let flags = match interest {
        Interest::Input => EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP,
        Interest::End => EpollFlags::EPOLLRDHUP,
    };
    let token = {
        let mut table = lock(&monitor.table);
        table.next += 1;
        let token = table.next;
        table.watches.insert(token, Entry { watch: watch.clone(), flags, paused: None });
        token
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
    let mut current = lock(CURRENT.get(Mutex::default));
    let process = fork::process_number();
    if let Some(monitor) = current.as_ref() {
        return Ok(monitor.clone());
    }
    let epoll =
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|errno| Error::system("epoll_create", errno))?;
    let monitor = Arc::new(Monitor { epoll, table: Mutex::default(), process });
    let thread = monitor.clone();
    aside::quiet_thread("bips-monitor", move || thread.run())?;
    *current = Some(monitor.clone());
    Ok(monitor)
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
            self.resume(now);
            for token in self.late(now) {
                self.call(token, |watch| if watch.late() { Verdict::Keep } else { Verdict::End });
            }
        }
    }

    /// Calls a watch without holding the table: it may add or end watches.
    fn call(&self, token: u64, call: impl FnOnce(&dyn Watch) -> Verdict) {
        let Some(watch) = lock(&self.table).watches.get(&token).map(|entry| entry.watch.clone()) else {
            return;
        };
        let verdict = catch_unwind(AssertUnwindSafe(|| call(&*watch))).unwrap_or_else(|_| {
            tracing::error!("a watch panicked and is given up; this is a bug in bips");
            Verdict::End
        });
        match verdict {
            Verdict::Keep => {}
            Verdict::Pause(time) => self.pause(token, Instant::now() + time),
            Verdict::Deafen => {
                if let Some(entry) = lock(&self.table).watches.get(&token) {
                    let _ = self.epoll.delete(entry.watch.fd());
                }
            }
            Verdict::End => self.end(token),
        }
    }

    fn pause(&self, token: u64, until: Instant) {
        if let Some(entry) = lock(&self.table).watches.get_mut(&token) {
            entry.paused = Some(until);
            let _ = self.epoll.modify(entry.watch.fd(), &mut EpollEvent::new(EpollFlags::empty(), token));
        }
    }

    /// Looks again at what was paused until now.
    fn resume(&self, now: Instant) {
        for (token, entry) in &mut lock(&self.table).watches {
            if entry.paused.is_some_and(|until| until <= now) {
                entry.paused = None;
                let _ = self.epoll.modify(entry.watch.fd(), &mut EpollEvent::new(entry.flags, *token));
            }
        }
    }

    fn end(&self, token: u64) {
        let entry = lock(&self.table).watches.remove(&token);
        if let Some(entry) = entry {
            // Else a peer that is gone would be reported again and again for as long as the watch lives.
            let _ = self.epoll.delete(entry.watch.fd());
        } // dropped outside the lock: its own drop may end further watches
    }

    fn late(&self, now: Instant) -> Vec<u64> {
        let table = lock(&self.table);
        let is_late = |entry: &Entry| entry.watch.deadline().is_some_and(|at| at <= now);
        table.watches.iter().filter(|(_, entry)| is_late(entry)).map(|(token, _)| *token).collect()
    }

    fn timeout(&self) -> EpollTimeout {
        let table = lock(&self.table);
        let next = table
            .watches
            .values()
            .filter_map(|entry| entry.watch.deadline().into_iter().chain(entry.paused).min())
            .min();
        drop(table);
        next.map_or(EpollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
        })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // In a forked child the table may be locked by a thread that only the parent has.
        if self.monitor.process == fork::process_number() {
            self.monitor.end(self.token);
        }
    }
}
