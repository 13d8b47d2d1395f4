//! A consumer's descriptor for event loops.

use super::asking::poll_timeout;
use crate::signaler::Subscriber;
use crate::step::{Step, reach};
use crate::sys::aside;
use crate::{Error, Result};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Readable when there may be something to receive. Made so by a thread of the consumer's own that sleeps where the
/// producer wakes: so a producer knows one kind of sleeper, and no descriptor of its consumers (ADR 10).
#[derive(Debug)]
pub(crate) struct Pollable {
    event: EventFd,
    stopped: AtomicBool,
}

impl Pollable {
    /// Readable to begin with: what came before may not have been received.
    pub(super) fn start(subscriber: &Subscriber) -> Result<Arc<Self>> {
        let event = EventFd::from_value_and_flags(1, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| Error::system("eventfd", errno))?;
        let pollable = Arc::new(Self { event, stopped: AtomicBool::new(false) });
        let (theirs, subscriber) = (pollable.clone(), subscriber.clone());
        let mut last = subscriber.last_wake();
        aside::quiet_thread("bips-poll", move || {
            while let Some(wake) = subscriber.await_wake(last, || theirs.stopped.load(Relaxed)) {
                reach(Step::PollWoken);
                theirs.ring();
                last = wake;
            }
        })?;
        Ok(pollable)
    }

    /// Ends the thread, with the wake-up that follows.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Relaxed); // ordered by the wake-up
    }

    pub(super) fn number(&self) -> RawFd {
        self.event.as_fd().as_raw_fd()
    }

    /// Sleeps until it is readable, a signal comes, or `timeout` is over. It stays readable.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        // Whatever ends it, the caller looks again.
        let _ = poll(&mut [PollFd::new(self.event.as_fd(), PollFlags::POLLIN)], poll_timeout(timeout));
    }

    /// Empties it, so that it is readable only for what comes next.
    pub(crate) fn drain(&self) {
        let _ = self.event.read(); // empty already, else
    }

    /// Makes it readable.
    pub(crate) fn ring(&self) {
        let _ = self.event.write(1); // full is readable too
    }
}
