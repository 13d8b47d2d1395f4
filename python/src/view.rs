//! `bips.View`: memory that isn't a whole frame: a plane, a copy-on-write view, a copy.

use crate::export::{self, CPU, Exports, Origin, Request, Tensor};
use crate::fork::Birth;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyTuple};
use std::ffi::c_int;
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

#[pymethods]
impl View {
    /// A DLPack capsule over this memory; as Frame.__dlpack__.
    ///
    /// Raises BufferError also for a caller of DLPack before 1.0 when the memory isn't aligned to 64 bytes, on which
    /// TensorFlow would abort: pass view.copy() there.
    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<&Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let request = Request::new(stream, max_version, dl_device, copy)?;
        export::to_capsule(py, self.tensor()?, &self.origin, &request)
    }

    /// Where the memory is, as DLPack says it: (1, 0) is the CPU.
    fn __dlpack_device__(&self) -> (i32, i32) {
        (CPU.kind, CPU.id)
    }

    /// DLPack's C exchange table (capsule "dlpack_exchange_api"), for frameworks written in C.
    #[classattr]
    fn __dlpack_c_exchange_api__(py: Python<'_>) -> PyResult<Py<PyCapsule>> {
        export::exchange_capsule(py).map(Bound::unbind)
    }

    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        // SAFETY: CPython passes a view to fill.
        unsafe { export::fill_buffer(slf.get().tensor(), slf.into_any(), view, flags) }
    }

    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: CPython passes each view that was filled, once.
        unsafe { export::release_buffer(view) }
    }

    /// A torch.Tensor over the same memory. Raises ImportError without PyTorch.
    fn torch<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        export::to_torch(slf.as_any(), slf.get().tensor()?)
    }

    /// A copy in this process's own memory: writable, laid out without gaps, valid for ever.
    fn copy(&self, py: Python<'_>) -> PyResult<Self> {
        let tensor = export::copy(py, &self.tensor()?, &self.origin)?;
        Ok(Self::new(tensor, &self.origin, self.birth))
    }

    /// Lengths of the dimensions, in elements.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.tensor.shape())
    }

    /// From one element to the next along each dimension, in bytes.
    #[getter]
    fn strides<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.tensor.strides())
    }

    /// Type of an element, such as "uint8".
    #[getter]
    fn dtype(&self) -> &'static str {
        self.tensor.dtype().name()
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

    /// Address of the first byte in this process.
    #[getter]
    fn address(&self) -> usize {
        self.tensor.data().addr()
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
