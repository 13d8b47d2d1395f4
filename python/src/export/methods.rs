//! The Python methods that everything with memory has, written once.
//!
//! A base class would share them too, but each of its calls costs more, and PyO3 takes one block of methods for a
//! class: so this writes that block.

/// The `#[pymethods]` of a class that has [`Exports`](super::Exports) and an `origin`: the shared ones, then its own.
/// Needs `pyo3::prelude` around it.
macro_rules! memory_methods {
    (impl $class:ident; $($own:tt)*) => {
        #[allow(unsafe_op_in_unsafe_fn, reason = "PyO3's own calls of what is unsafe below")]
        const _: () = {
            #[pymethods]
            impl $class {
                /// A DLPack capsule over this memory (dmlc.github.io/dlpack).
                ///
                /// max_version=(1, 0) or later gives a versioned capsule that says "read-only"; without it, one of
                /// before 1.0, which can't (TensorFlow, ONNX Runtime and older JAX ask for that;
                /// bips.Consumer(strict=True) refuses it). copy=True copies; copy=False and None never do.
                ///
                /// Raises BufferError for a stream or a dl_device other than (1, 0), the CPU; and for a caller of
                /// before 1.0 when the memory isn't aligned to 64 bytes, on which TensorFlow would abort. Frames are
                /// aligned; of a plane that isn't, pass .copy().
                #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
                fn __dlpack__<'py>(
                    &self,
                    py: Python<'py>,
                    stream: Option<&Bound<'py, PyAny>>,
                    max_version: Option<(u32, u32)>,
                    dl_device: Option<(i32, i32)>,
                    copy: Option<bool>,
                ) -> PyResult<Bound<'py, pyo3::types::PyCapsule>> {
                    let request = $crate::export::Request::new(stream, max_version, dl_device, copy)?;
                    $crate::export::to_capsule(py, self.tensor()?, &self.origin, &request)
                }

                /// Where the memory is, as DLPack says it: (1, 0) is the CPU.
                fn __dlpack_device__(&self) -> (i32, i32) {
                    ($crate::export::CPU.kind, $crate::export::CPU.id)
                }

                /// DLPack's C exchange table (capsule "dlpack_exchange_api"), for frameworks written in C.
                #[classattr]
                fn __dlpack_c_exchange_api__(py: Python<'_>) -> PyResult<Py<pyo3::types::PyCapsule>> {
                    $crate::export::exchange_capsule(py).map(Bound::unbind)
                }

                unsafe fn __getbuffer__(
                    slf: Bound<'_, Self>,
                    view: *mut pyo3::ffi::Py_buffer,
                    flags: std::ffi::c_int,
                ) -> PyResult<()> {
                    // SAFETY: CPython passes a view to fill.
                    unsafe { $crate::export::fill_buffer(slf.get().tensor(), slf.into_any(), view, flags) }
                }

                unsafe fn __releasebuffer__(&self, view: *mut pyo3::ffi::Py_buffer) {
                    // SAFETY: CPython passes each view that was filled, once.
                    unsafe { $crate::export::release_buffer(view) }
                }

                /// A torch.Tensor over the same memory, about three times as fast as torch.from_dlpack().
                ///
                /// PyTorch doesn't know read-only memory: an in-place operation (`t.add_(1)`, `t[0] = 1`) on the
                /// tensor of a received frame ends this process with SIGSEGV. Other processes and the frame itself
                /// stay whole. Use frame.torch().clone() to write, or frame.private().torch(), which copies only the
                /// pages written to.
                ///
                /// Raises ImportError without PyTorch.
                fn torch<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
                    $crate::export::to_torch(slf.as_any(), slf.get().tensor()?)
                }

                /// Lengths of the dimensions, in elements.
                #[getter]
                fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, pyo3::types::PyTuple>> {
                    pyo3::types::PyTuple::new(py, self.tensor()?.shape())
                }

                /// From one element to the next along each dimension, in bytes.
                #[getter]
                fn strides<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, pyo3::types::PyTuple>> {
                    pyo3::types::PyTuple::new(py, self.tensor()?.strides())
                }

                /// Type of an element, such as "uint8" or "bfloat16".
                #[getter]
                fn dtype(&self) -> PyResult<&'static str> {
                    Ok(self.tensor()?.dtype().name())
                }

                /// Address of the first byte in this process, for tools that take one.
                #[getter]
                fn address(&self) -> PyResult<usize> {
                    Ok(self.tensor()?.data().addr())
                }

                $($own)*
            }
        };
    };
}
pub(crate) use memory_methods;
