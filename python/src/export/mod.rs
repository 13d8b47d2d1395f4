//! How memory leaves the package: DLPack capsules, DLPack's C exchange table, the buffer protocol.
//!
//! All `unsafe` code of the package is in this folder.

mod buffer;
mod dlpack;
mod exchange;
mod hold;
mod methods;

pub(crate) use bips_dlpack::abi::CPU;
pub(crate) use buffer::{fill_buffer, release_buffer};
pub(crate) use dlpack::{Request, to_capsule};
pub(crate) use exchange::{exchange_capsule, to_torch};
pub(crate) use hold::{Hold, Tensor};
pub(crate) use methods::memory_methods;

use pyo3::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The handle that memory came from, as everything made from it knows it.
#[derive(Debug)]
pub(crate) struct Origin {
    name: String,
    strict: bool,
    copied: AtomicU64,
}

impl Origin {
    pub(crate) fn new(name: &str, strict: bool) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), strict, copied: AtomicU64::new(0) })
    }

    /// Name of the stream.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether callers that can't be told "read-only" are refused read-only memory.
    pub(crate) fn strict(&self) -> bool {
        self.strict
    }

    /// Notes that so many bytes were copied because the caller asked for it.
    pub(crate) fn count(&self, bytes: usize) {
        self.copied.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn copied(&self) -> u64 {
        self.copied.load(Ordering::Relaxed)
    }
}

/// Python objects that have memory to export.
pub(crate) trait Exports {
    /// The memory, with a hold of its own.
    ///
    /// # Errors
    /// When the object has given it up, or belongs to the parent of this process.
    fn tensor(&self) -> PyResult<Tensor>;
}

/// A copy of `tensor`, counted in `origin`.
pub(crate) fn copy(py: Python<'_>, tensor: &Tensor, origin: &Origin) -> PyResult<Tensor> {
    /// Below this, giving up the interpreter costs more than it frees.
    const WORTH_DETACHING: usize = 1 << 16;
    let nbytes = tensor.nbytes();
    let copy = if nbytes < WORTH_DETACHING { tensor.copy() } else { py.detach(|| tensor.copy()) };
    let copy = copy.ok_or_else(|| {
        crate::errors::raise(bips::Error::new(
            bips::ErrorKind::OutOfMemory,
            format!("no memory for a copy of {nbytes} bytes; use the frame itself, it needs none"),
        ))
    })?;
    origin.count(nbytes);
    Ok(copy.held_by(Hold::Owned))
}
