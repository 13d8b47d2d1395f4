//! A device that works at the test's pace.

use crate::{Error, ErrorKind, Result, Timeline};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A timeline that stands where the test says, at 0 to begin with.
#[derive(Debug, Default)]
pub struct Hand {
    now: Mutex<Now>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Now {
    value: u64,
    failed: bool,
}

impl Hand {
    /// Moves it to this value.
    pub fn reach(&self, value: u64) {
        self.change(|now| now.value = value);
    }

    /// Lets the device fail: from here on all who ask hear `Lost`.
    pub fn fail(&self) {
        self.change(|now| now.failed = true);
    }

    fn change(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
        self.moved.notify_all();
    }
}

impl Timeline for Hand {
    fn value(&self) -> Result<u64> {
        Ok(self.now.lock().unwrap_or_else(PoisonError::into_inner).value)
    }

    fn wait(&self, value: u64, timeout: Option<Duration>) -> Result<()> {
        let limit = timeout.unwrap_or(Duration::from_secs(3600));
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let open = |now: &mut Now| !now.failed && now.value < value;
        let (now, _) =
            self.moved.wait_timeout_while(now, limit, open).unwrap_or_else(PoisonError::into_inner);
        match *now {
            Now { failed: true, .. } => Err(Error::new(ErrorKind::Lost, "the device failed")),
            Now { value: reached, .. } if reached >= value => Ok(()),
            _ => Err(Error::new(ErrorKind::Timeout, "the device is at work")),
        }
    }
}
