//! After `fork`, the child's copies of all handles answer `Forked`.
//!
//! The core guards its own calls; this guards what Python objects do without asking the core, such as exporting
//! memory whose lease belongs to the parent.

use crate::errors::raise;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Called by `os.register_at_fork` in the child.
#[pyfunction]
pub(crate) fn _after_fork() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// In which process an object was made: this one, or a forefather of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Birth(u32);

impl Birth {
    pub(crate) fn now() -> Self {
        Self(GENERATION.load(Ordering::Relaxed))
    }

    /// Whether that is this process.
    pub(crate) fn is_here(self) -> bool {
        self.0 == GENERATION.load(Ordering::Relaxed)
    }

    /// # Errors
    /// `Forked` in a child of the process the object was made in.
    pub(crate) fn check(self) -> PyResult<()> {
        if self.is_here() {
            return Ok(());
        }
        Err(raise(bips::Error::new(
            bips::ErrorKind::Forked,
            "this object was made before a fork and belongs to the parent process; open the stream anew in the \
             child, or start children with multiprocessing's \"spawn\" method",
        )))
    }
}
