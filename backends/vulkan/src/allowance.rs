//! How many memory objects a driver allows. Beyond that it need not refuse: it is for the program to count.

use bips::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Those of one device: bips' alone, where others allocate there too.
#[derive(Debug)]
pub(crate) struct Allowance {
    /// `maxMemoryAllocationCount`.
    most: u32,
    taken: AtomicU32,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<Allowance>);

impl Allowance {
    pub(crate) fn of(most: u32) -> Arc<Self> {
        Arc::new(Self { most, taken: AtomicU32::new(0) })
    }

    pub(crate) fn take(self: &Arc<Self>) -> Result<Ticket> {
        // A count, which orders nothing.
        let taken = self.taken.fetch_add(1, Relaxed);
        let ticket = Ticket(self.clone());
        if taken < self.most {
            return Ok(ticket);
        }
        Err(Error::new(
            ErrorKind::OutOfMemory,
            format!(
                "the driver allows {} pieces of memory on a device, and bips has as many here, one for each slot; use \
                 fewer slots or streams",
                self.most
            ),
        ))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_there_again() {
        let allowance = Allowance::of(2);
        let tickets = [allowance.take().unwrap(), allowance.take().unwrap()];
        for _ in 0..3 {
            let error = allowance.take().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OutOfMemory);
            assert!(error.to_string().contains("allows 2 pieces"), "{error}");
        }
        drop(tickets);
        let _again = [allowance.take().unwrap(), allowance.take().unwrap()];
        allowance.take().unwrap_err();
    }
}
