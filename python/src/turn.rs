//! A value that threads use one at a time, in the order they came, none waiting with the interpreter in hand.

use parking_lot::{Mutex, MutexGuard};
use pyo3::prelude::*;
use std::time::Duration;

/// See the module. `None` once the value is closed.
pub(crate) struct Turn<T>(Mutex<Option<T>>);

impl<T: Send> Turn<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(Some(value)))
    }

    /// At once or not at all.
    pub(crate) fn try_take(&self) -> Option<MutexGuard<'_, Option<T>>> {
        self.0.try_lock()
    }

    /// Waits at most `time` for its turn. To be called detached.
    pub(crate) fn take(&self, time: Duration) -> Option<MutexGuard<'_, Option<T>>> {
        self.0.try_lock_for(time)
    }

    /// Ends a turn; whoever waits longest is next, not whoever is quickest.
    pub(crate) fn pass_on(guard: MutexGuard<'_, Option<T>>) {
        MutexGuard::unlock_fair(guard);
    }

    /// Runs `call` when its turn comes. Nobody keeps a turn for longer than a slice of waiting.
    pub(crate) fn with<R: Send>(&self, py: Python<'_>, call: impl FnOnce(&mut Option<T>) -> R + Send) -> R {
        match self.0.try_lock() {
            Some(mut value) => call(&mut value),
            None => py.detach(|| call(&mut self.0.lock())),
        }
    }
}
