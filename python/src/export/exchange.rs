//! DLPack's C exchange table, both ways: torch's own, through which a frame becomes a tensor in a third of the
//! time of `torch.from_dlpack`, and ours, through which C code (TVM FFI) takes frames without calling Python.

use super::dlpack::buffer_error;
use super::{Exports, Tensor};
use crate::{Frame, View, WritableFrame};
use bips_dlpack::abi::{
    self, EXCHANGE, ExchangeApi, ExchangeHeader, ManagedVersioned, SetError, ToObject, VERSION, Version,
};
use bips_dlpack::to_versioned;
use pyo3::exceptions::{PyBufferError, PyImportError, PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyCapsule;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{NonNull, null_mut};

/// torch's way from a managed tensor to a `torch.Tensor`, with the version torch speaks.
#[derive(Clone, Copy)]
struct TorchApi {
    to_object: ToObject,
    version: Version,
}

/// The tensor as a `torch.Tensor` over the same memory. `owner` is the Python object that has it.
///
/// # Errors
/// `ImportError` without torch.
pub(crate) fn to_torch<'py>(owner: &Bound<'py, PyAny>, tensor: Tensor) -> PyResult<Bound<'py, PyAny>> {
    static TORCH: PyOnceLock<Option<TorchApi>> = PyOnceLock::new();
    let py = owner.py();
    let Some(api) = TORCH.get_or_try_init(py, || torch_api(py))? else {
        // A torch of before the exchange table.
        return import_torch(py)?.call_method1(intern!(py, "from_dlpack"), (owner,));
    };
    let managed = to_versioned(tensor, api.version, 0).map_err(buffer_error)?;
    let mut object = null_mut();
    // SAFETY: the function comes from torch's table of a version we know; it takes `managed` over.
    let failed = unsafe { (api.to_object)(managed.as_ptr(), &raw mut object) };
    if failed != 0 {
        return Err(PyErr::fetch(py));
    }
    // SAFETY: on success the function leaves a new reference.
    unsafe { Bound::from_owned_ptr_or_err(py, object.cast()) }
}

fn import_torch(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import(intern!(py, "torch")).map_err(|cause| {
        if !cause.is_instance_of::<PyImportError>(py) {
            return cause;
        }
        let error = PyImportError::new_err(
            "torch() needs PyTorch, which can't be imported here; install it (pip install 'bips[torch]'), or read \
             the frame with np.from_dlpack(frame) or memoryview(frame)",
        );
        error.set_cause(py, Some(cause));
        error
    })
}

/// torch's table, if this torch has one of a version we know.
fn torch_api(py: Python<'_>) -> PyResult<Option<TorchApi>> {
    let class = import_torch(py)?.getattr(intern!(py, "Tensor"))?;
    let Some(capsule) = class.getattr_opt(intern!(py, "__dlpack_c_exchange_api__"))? else {
        return Ok(None);
    };
    let Ok(capsule) = capsule.cast_into::<PyCapsule>() else {
        return Ok(None);
    };
    let table = capsule.pointer_checked(Some(EXCHANGE))?.cast::<ExchangeApi>();
    // SAFETY: a capsule of this name holds a table that lives as long as the process and begins with a header
    // whose layout never changes.
    let version = unsafe { table.cast::<ExchangeHeader>().as_ref() }.version;
    if version.major != VERSION.major {
        return Ok(None);
    }
    // SAFETY: the table's layout is the same in all minor versions.
    let to_object = unsafe { table.as_ref() }.to_object;
    let version = Version { minor: version.minor.min(VERSION.minor), ..version };
    Ok(to_object.map(|to_object| TorchApi { to_object, version }))
}

/// Our table, in the capsule that goes on the class.
pub(crate) fn exchange_capsule(py: Python<'_>) -> PyResult<Bound<'_, PyCapsule>> {
    static TABLE: ExchangeApi = ExchangeApi {
        header: ExchangeHeader { version: VERSION, previous: None },
        allocator: Some(refuse_allocation),
        from_object: Some(from_object),
        to_object: Some(refuse_object),
        borrow_from_object: None,
        current_stream: Some(no_stream),
    };
    let table = NonNull::from(&TABLE).cast::<c_void>();
    // SAFETY: the table is static, and nobody writes through the pointer.
    unsafe { PyCapsule::new_with_pointer(py, table, EXCHANGE) }
}

/// A managed tensor from a frame, view or writable frame.
unsafe extern "C" fn from_object(object: *mut c_void, out: *mut *mut ManagedVersioned) -> c_int {
    guarded(|py| {
        // SAFETY: the table's callers pass a Python object they hold a reference to.
        let object = unsafe { Bound::from_borrowed_ptr(py, object.cast::<ffi::PyObject>()) };
        let managed = to_versioned(tensor_of(&object)?, VERSION, 0).map_err(buffer_error)?;
        // SAFETY: the table's callers pass a place for the result.
        unsafe { out.write(managed.as_ptr()) };
        Ok(())
    })
}

fn tensor_of(object: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    if let Ok(frame) = object.cast::<Frame>() {
        frame.get().tensor()
    } else if let Ok(view) = object.cast::<View>() {
        view.get().tensor()
    } else if let Ok(frame) = object.cast::<WritableFrame>() {
        frame.get().tensor()
    } else {
        Err(PyTypeError::new_err("only bips.Frame, bips.View and bips.WritableFrame have memory of bips"))
    }
}

/// bips shares the memory of pools and makes no tensors of its own.
unsafe extern "C" fn refuse_allocation(
    _: *mut abi::Tensor,
    _: *mut *mut ManagedVersioned,
    context: *mut c_void,
    set_error: SetError,
) -> c_int {
    let message =
        c"bips allocates no tensors; allocate with the framework, or take a slot with Producer.acquire()";
    // SAFETY: the caller passes its own error callback with its context.
    unsafe { set_error(context, c"BufferError".as_ptr(), message.as_ptr()) };
    -1
}

/// A frame comes from a stream, never from a tensor.
unsafe extern "C" fn refuse_object(_: *mut ManagedVersioned, _: *mut *mut c_void) -> c_int {
    guarded(|_| {
        Err(PyBufferError::new_err(
            "a tensor can't become a bips frame; take a slot with Producer.acquire() and write into it",
        ))
    })
}

/// CPU memory has no streams.
unsafe extern "C" fn no_stream(_: i32, _: i32, out: *mut *mut c_void) -> c_int {
    // SAFETY: the table's callers pass a place for the result.
    unsafe { out.write(null_mut()) };
    0
}

/// Runs a callback so that neither an error nor a panic gets into C as such.
fn guarded(callback: impl FnOnce(Python<'_>) -> PyResult<()>) -> c_int {
    Python::attach(|py| {
        let outcome = catch_unwind(AssertUnwindSafe(|| callback(py)));
        match outcome.unwrap_or_else(|_| Err(PyRuntimeError::new_err("bips panicked; please report it"))) {
            Ok(()) => 0,
            Err(error) => {
                error.restore(py);
                -1
            }
        }
    })
}
