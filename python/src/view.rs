//! `bips.View`: memory that isn't a whole frame: a plane, a copy-on-write view, a copy.

use crate::export::{self, Exports, Origin, Tensor, memory_methods};
use crate::fork::Birth;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use std::sync::Arc;

/// A plane, a copy-on-write view or a copy of a frame. Arrays and tensors are made from it as from a frame.
///
/// A plane and a copy-on-write view keep the frame's slot taken until they and all arrays made from them are gone.
#[pyclass(frozen, weakref, module = "bips")]
pub(crate) struct View {
    tensor: Tensor,
    origin: Arc<Origin>,
    birth: Birth,
}

impl View {
    pub(crate) fn new(tensor: Tensor, origin: &Arc<Origin>, birth: Birth) -> Self {
        Self { tensor, origin: Arc::clone(origin), birth }
    }
}

impl Exports for View {
    fn tensor(&self) -> PyResult<Tensor> {
        self.birth.check()?;
        Ok(self.tensor.clone())
    }
}

memory_methods! {
    impl View;

    /// A copy in this process's own memory: writable, laid out without gaps, valid for ever.
    fn copy(&self, py: Python<'_>) -> PyResult<Self> {
        let tensor = export::copy(py, &self.tensor()?, &self.origin)?;
        Ok(Self::new(tensor, &self.origin, self.birth))
    }

    /// Bytes of all elements.
    #[getter]
    fn nbytes(&self) -> usize {
        self.tensor.nbytes()
    }

    /// Whether the memory is mapped read-only here.
    #[getter]
    fn readonly(&self) -> bool {
        !self.tensor.writable()
    }

    fn __repr__(&self) -> String {
        let access = if self.tensor.writable() { "writable" } else { "read-only" };
        format!("<bips.View {} {:?}, {access}>", self.tensor.dtype(), self.tensor.shape())
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a bips.View is memory of this process and can't be pickled; send bytes(view), or let the other process \
             open the stream with bips.Consumer(name)",
        ))
    }
}
