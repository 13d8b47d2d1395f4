//! DLPack capsules, and the owner each of them drops when its consumer is done.

use super::{Origin, Tensor};
use bips_dlpack::abi::{CPU, FLAG_IS_COPIED, LEGACY, Managed, ManagedVersioned, VERSION, VERSIONED, Version};
use bips_dlpack::{ALIGNMENT, to_legacy, to_versioned};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use std::ffi::{CStr, c_void};
use std::ptr::{NonNull, null_mut};

/// What a caller of `__dlpack__` asks for, once its arguments are checked.
pub(crate) struct Request {
    /// `None` for the capsule of before 1.0, else the version both sides speak.
    version: Option<Version>,
    copy: bool,
}

impl Request {
    /// Checks the arguments of `__dlpack__`.
    ///
    /// # Errors
    /// `BufferError` for a stream or a device that CPU memory doesn't have.
    pub(crate) fn new(
        stream: Option<&Bound<'_, PyAny>>,
        max_version: Option<(u32, u32)>,
        device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Self> {
        if stream.is_some() {
            return Err(PyBufferError::new_err(
                "this frame is in CPU memory, which has no streams; leave stream=None",
            ));
        }
        if device.is_some_and(|(kind, id)| kind != CPU.kind || id != CPU.id) {
            return Err(PyBufferError::new_err(
                "this frame is in CPU memory, dl_device (1, 0); take it there first and move it with the framework, \
                 as in torch.from_dlpack(frame).to(\"cuda\")",
            ));
        }
        let version = match max_version {
            Some((major, minor)) if major == VERSION.major => {
                Some(Version { major, minor: minor.min(VERSION.minor) })
            }
            Some((major, _)) if major > VERSION.major => Some(VERSION),
            _ => None,
        };
        Ok(Self { version, copy: copy == Some(true) })
    }
}

/// The capsule that answers `request`.
pub(crate) fn to_capsule<'py>(
    py: Python<'py>,
    mut tensor: Tensor,
    origin: &Origin,
    request: &Request,
) -> PyResult<Bound<'py, PyCapsule>> {
    let mut flags = 0;
    if request.copy {
        tensor = super::copy(py, &tensor, origin)?;
        flags |= FLAG_IS_COPIED;
    }
    match request.version {
        Some(version) => {
            let managed = to_versioned(tensor, version, flags).map_err(buffer_error)?;
            // SAFETY: the destructor takes a `ManagedVersioned` by this name, on any thread, and frees it once.
            let capsule = unsafe { capsule(py, managed.cast(), VERSIONED, drop_versioned_capsule) };
            capsule.inspect_err(|_| {
                // SAFETY: no capsule took it over.
                unsafe { drop_versioned(managed.as_ptr()) }
            })
        }
        None => {
            check_legacy(&tensor, origin)?;
            let managed = to_legacy(tensor).map_err(buffer_error)?;
            // SAFETY: the destructor takes a `Managed` by this name, on any thread, and frees it once.
            let capsule = unsafe { capsule(py, managed.cast(), LEGACY, drop_legacy_capsule) };
            capsule.inspect_err(|_| {
                // SAFETY: no capsule took it over.
                unsafe { drop_legacy(managed.as_ptr()) }
            })
        }
    }
}

/// Callers of before 1.0 know no flags and no unaligned memory.
fn check_legacy(tensor: &Tensor, origin: &Origin) -> PyResult<()> {
    if !tensor.is_aligned() {
        return Err(PyBufferError::new_err(format!(
            "this memory starts {} bytes after a multiple of 64, and callers of DLPack before 1.0, such as \
             TensorFlow, may crash on it; pass .copy() of it, or ask for max_version=(1, 0)",
            tensor.data().addr() % ALIGNMENT
        )));
    }
    if origin.strict() && !tensor.writable() {
        return Err(PyBufferError::new_err(
            "this frame is read-only, the caller asked for a DLPack capsule of before 1.0, which can't say so, and \
             the consumer was made with strict=True; ask for max_version=(1, 0), pass .copy(), or leave out strict",
        ));
    }
    Ok(())
}

/// What DLPack can't say, as its callers expect to hear it.
pub(super) fn buffer_error(error: bips::Error) -> PyErr {
    PyBufferError::new_err(error.to_string())
}

/// # Safety
/// `managed` is null, or a tensor that nobody took over.
unsafe fn drop_legacy(managed: *mut Managed) {
    // SAFETY: the caller's promise.
    if let Some(deleter) = unsafe { managed.as_ref() }.and_then(|managed| managed.deleter) {
        // SAFETY: as above, so this is the only call.
        unsafe { deleter(managed) }
    }
}

/// # Safety
/// `managed` is null, or a tensor that nobody took over.
unsafe fn drop_versioned(managed: *mut ManagedVersioned) {
    // SAFETY: the caller's promise.
    if let Some(deleter) = unsafe { managed.as_ref() }.and_then(|managed| managed.deleter) {
        // SAFETY: as above, so this is the only call.
        unsafe { deleter(managed) }
    }
}

/// Makes a capsule around a managed tensor.
///
/// # Safety
/// `destructor` expects a capsule of this name around a pointer of this kind.
unsafe fn capsule<'py>(
    py: Python<'py>,
    managed: NonNull<c_void>,
    name: &'static CStr,
    destructor: ffi::PyCapsule_Destructor,
) -> PyResult<Bound<'py, PyCapsule>> {
    // SAFETY: the pointer stays valid until its deleter is called, by the destructor or by a consumer who renames
    // the capsule first; the destructor is the caller's promise.
    unsafe { PyCapsule::new_with_pointer_and_destructor(py, managed, name, Some(destructor)) }
}

/// The pointer in a capsule nobody consumed; null when somebody did, and renamed it.
///
/// # Safety
/// `capsule` is a capsule, and the thread is attached to the interpreter.
unsafe fn unconsumed(capsule: *mut ffi::PyObject, name: &CStr) -> *mut c_void {
    // SAFETY: the caller's promise.
    let valid = unsafe { ffi::PyCapsule_IsValid(capsule, name.as_ptr()) };
    if valid == 0 {
        return null_mut();
    }
    // SAFETY: as above; the name was checked, so this can't fail.
    unsafe { ffi::PyCapsule_GetPointer(capsule, name.as_ptr()) }
}

unsafe extern "C" fn drop_legacy_capsule(capsule: *mut ffi::PyObject) {
    // SAFETY: CPython calls a destructor with its capsule, attached.
    let managed = unsafe { unconsumed(capsule, LEGACY) };
    // SAFETY: a capsule of this name that nobody consumed still owns its tensor.
    unsafe { drop_legacy(managed.cast()) }
}

unsafe extern "C" fn drop_versioned_capsule(capsule: *mut ffi::PyObject) {
    // SAFETY: CPython calls a destructor with its capsule, attached.
    let managed = unsafe { unconsumed(capsule, VERSIONED) };
    // SAFETY: a capsule of this name that nobody consumed still owns its tensor.
    unsafe { drop_versioned(managed.cast()) }
}
