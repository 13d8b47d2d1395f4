//! The buffer protocol (PEP 3118): `memoryview(frame)`, `np.asarray(frame)`, `file.write(frame)`.

use super::Tensor;
use bips::DType;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{CStr, c_int};
use std::ptr::null_mut;

/// Fills `view` from `tensor`; the hold lives in `view` until [`release_buffer`].
///
/// # Safety
/// `view` points to a `Py_buffer` that may be written, and `owner` is the object asked for it.
///
/// # Errors
/// That of `tensor`; `BufferError` when the caller wants to write to read-only memory, or can't cope with gaps between rows.
pub(crate) unsafe fn fill_buffer(
    tensor: PyResult<Tensor>,
    owner: Bound<'_, PyAny>,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    // SAFETY: the caller's promise. CPython wants null there when this fails.
    unsafe { (*view).obj = null_mut() };
    let tensor = tensor?;
    check(&tensor, flags)?;
    let asks = |flag: c_int| flags & flag == flag;
    let dtype = tensor.dtype();
    let (nbytes, ndim, data) = (tensor.nbytes(), tensor.shape().len(), tensor.data());
    let readonly = c_int::from(!tensor.writable());
    // The arrays in the box are what `shape` and `strides` point to.
    let tensor = Box::into_raw(Box::new(tensor));
    let filled = ffi::Py_buffer {
        buf: data.cast(),
        obj: owner.into_ptr(),
        len: nbytes.cast_signed(),
        itemsize: dtype.size().cast_signed(),
        readonly,
        ndim: ndim as c_int,
        format: if asks(ffi::PyBUF_FORMAT) { format(dtype).as_ptr().cast_mut() } else { null_mut() },
        shape: if asks(ffi::PyBUF_ND) { Tensor::shape_in(tensor) } else { null_mut() },
        strides: if asks(ffi::PyBUF_STRIDES) { Tensor::strides_in(tensor) } else { null_mut() },
        suboffsets: null_mut(),
        internal: tensor.cast(),
    };
    // SAFETY: the caller's promise.
    unsafe { view.write(filled) };
    Ok(())
}

/// Drops what [`fill_buffer`] put into `view`.
///
/// # Safety
/// `view` was filled by [`fill_buffer`], and isn't used again.
pub(crate) unsafe fn release_buffer(view: *mut ffi::Py_buffer) {
    // SAFETY: the caller's promise.
    let internal = unsafe { (*view).internal };
    // SAFETY: `fill_buffer` left a box there, and each view is released once.
    drop(unsafe { Box::from_raw(internal.cast::<Tensor>()) });
}

fn check(tensor: &Tensor, flags: c_int) -> PyResult<()> {
    let asks = |flag: c_int| flags & flag == flag;
    if asks(ffi::PyBUF_WRITABLE) && !tensor.writable() {
        return Err(PyBufferError::new_err(
            "this frame is read-only, as all frames of a producer without writable=True are; use .copy(), or \
             .private() to write without others seeing it",
        ));
    }
    let refused = if asks(ffi::PyBUF_F_CONTIGUOUS) {
        !tensor.is_f_contiguous()
    } else if asks(ffi::PyBUF_ANY_CONTIGUOUS) {
        !tensor.is_c_contiguous() && !tensor.is_f_contiguous()
    } else {
        (asks(ffi::PyBUF_C_CONTIGUOUS) || !asks(ffi::PyBUF_STRIDES)) && !tensor.is_c_contiguous()
    };
    if refused {
        return Err(PyBufferError::new_err(
            "the rows of this memory have gaps between them and the caller can't take that; use .copy()",
        ));
    }
    Ok(())
}

/// The `struct` code of an element. `bfloat16` has none and shows as 16-bit integers:
/// `np.asarray(frame).view(ml_dtypes.bfloat16)` reads it.
fn format(dtype: DType) -> &'static CStr {
    match dtype {
        DType::I8 => c"b",
        DType::I16 => c"h",
        DType::I32 => c"i",
        DType::I64 => c"q",
        DType::U16 | DType::BF16 => c"H",
        DType::U32 => c"I",
        DType::U64 => c"Q",
        DType::F16 => c"e",
        DType::F32 => c"f",
        DType::F64 => c"d",
        DType::C64 => c"Zf",
        DType::C128 => c"Zd",
        DType::BOOL => c"?",
        _ => c"B",
    }
}
