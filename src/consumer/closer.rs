//! Closing a consumer from another thread.

use crate::session::Attachment;
use crate::sys::fork;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Closes a [`Consumer`](crate::Consumer) from any thread, also while that waits in
/// [`receive`](crate::Consumer::receive); it need not be the thread that owns it.
#[derive(Debug, Clone)]
pub struct Closer(pub(super) Arc<Closing>);

impl Closer {
    /// Every receive of the consumer, one that waits now too, is `Closed` from here on. Frames that it leases stay
    /// whole; what it has not read it gives up with its next receive, or with its end. Doing it again is nothing.
    ///
    /// One that just finds a frame may still give that.
    pub fn close(&self) {
        self.0.close();
    }

    /// Whether anybody has closed it.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

#[derive(Debug)]
pub(super) struct Closing {
    closed: AtomicBool,
    /// Whether it had been put out before it resigned, which the seat then no longer says.
    expelled: AtomicBool,
    /// Where the consumer sleeps: another place with each producer that it joins.
    place: Mutex<Weak<Attachment>>,
    process: u32,
}

impl Closing {
    pub(super) fn of(attachment: &Arc<Attachment>) -> Arc<Self> {
        let place = Mutex::new(Arc::downgrade(attachment));
        let (closed, expelled) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { closed, expelled, place, process: fork::process_number() })
    }

    /// The consumer sleeps there from now on. If it was closed before, it sees that before it sleeps: under the lock
    /// one of the two is first.
    pub(super) fn moved(&self, attachment: &Arc<Attachment>) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(attachment);
    }

    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Acquire) // ORDERING: pairs with the store in `close`
    }

    /// Gives up what it has not read.
    pub(super) fn resign(&self, attachment: &Attachment) {
        if attachment.subscriber.is_expelled() {
            self.expelled.store(true, Relaxed); // for `ending`, which the same thread or a later one asks
        }
        attachment.subscriber.resign();
    }

    pub(super) fn was_expelled(&self) -> bool {
        self.expelled.load(Relaxed)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Release); // ORDERING: pairs with the load in `is_closed`; the wake-up comes after
        if self.process != fork::process_number() {
            return; // the sleeper, and perhaps the lock, are the parent's
        }
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        if let Some(attachment) = place {
            attachment.wake_self();
        }
    }
}
