//! DLPack capsules, and the owner each of them drops when its consumer is done.

use super::abi::{
    self, CPU, DataType, FLAG_IS_COPIED, FLAG_READ_ONLY, LEGACY, Managed, ManagedVersioned, VERSION,
    VERSIONED, Version,
};
use super::tensor::{ALIGNMENT, Hold, MAX_DIMS};
use super::{Origin, Tensor};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use std::ffi::{CStr, c_void};
use std::mem::offset_of;
use std::panic::{AssertUnwindSafe, catch_unwind};
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
            let managed = to_managed(tensor, version, flags)?;
            // SAFETY: the destructor takes a `ManagedVersioned` by this name, on any thread, and frees it once.
            let capsule = unsafe { capsule(py, managed.cast(), VERSIONED, drop_versioned_capsule) };
            capsule.inspect_err(|_| {
                // SAFETY: no capsule took it over.
                unsafe { delete_versioned(managed.as_ptr()) }
            })
        }
        None => {
            check_legacy(&tensor, origin)?;
            let managed = Owner::<Managed>::leak(tensor, |tensor| Managed {
                tensor,
                context: null_mut(),
                deleter: Some(delete_legacy),
            })?;
            // SAFETY: the destructor takes a `Managed` by this name, on any thread, and frees it once.
            let capsule = unsafe { capsule(py, managed.cast(), LEGACY, drop_legacy_capsule) };
            capsule.inspect_err(|_| {
                // SAFETY: no capsule took it over.
                unsafe { delete_legacy(managed.as_ptr()) }
            })
        }
    }
}

/// A tensor as C code takes it over; its `deleter` must be called once.
pub(super) fn to_managed(
    tensor: Tensor,
    version: Version,
    flags: u64,
) -> PyResult<NonNull<ManagedVersioned>> {
    let flags = if tensor.writable() { flags } else { flags | FLAG_READ_ONLY };
    Owner::<ManagedVersioned>::leak(tensor, |tensor| ManagedVersioned {
        version,
        context: null_mut(),
        deleter: Some(delete_versioned),
        flags,
        tensor,
    })
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

/// What a `deleter` frees: the structure the consumer sees, first, then what that points to and keeps alive.
#[repr(C)]
struct Owner<M> {
    managed: M,
    shape: [i64; MAX_DIMS],
    /// In elements.
    strides: [i64; MAX_DIMS],
    hold: Hold,
}

impl<M> Owner<M> {
    /// Moves the description of `tensor` and its hold to the heap; freed by [`Owner::delete`].
    fn leak(tensor: Tensor, wrap: impl FnOnce(abi::Tensor) -> M) -> PyResult<NonNull<M>> {
        let dtype = tensor.dtype();
        let size = dtype.size() as i64;
        let mut strides = [0; MAX_DIMS];
        for (to, bytes) in strides.iter_mut().zip(tensor.strides()) {
            if bytes % size != 0 {
                return Err(PyBufferError::new_err(format!(
                    "steps of {bytes} bytes are no whole number of {dtype} elements, which DLPack can't say; use \
                     .copy() or the buffer protocol"
                )));
            }
            *to = bytes / size;
        }
        let mut shape = [0; MAX_DIMS];
        shape[..tensor.shape().len()].copy_from_slice(tensor.shape());

        let owner: *mut Self = Box::into_raw(Box::<Self>::new_uninit()).cast();
        let managed = wrap(abi::Tensor {
            data: tensor.data().cast(),
            device: CPU,
            ndim: tensor.shape().len() as i32,
            dtype: DataType { code: dtype.code(), bits: dtype.bits(), lanes: dtype.lanes() },
            shape: owner.wrapping_byte_add(offset_of!(Self, shape)).cast(),
            strides: owner.wrapping_byte_add(offset_of!(Self, strides)).cast(),
            byte_offset: 0,
        });
        // SAFETY: `owner` was allocated for just this, and nobody else knows it yet.
        unsafe { owner.write(Self { managed, shape, strides, hold: tensor.into_hold() }) };
        Ok(NonNull::new(owner.cast()).expect("a box is never null"))
    }

    /// Drops everything behind a pointer from [`Owner::leak`]. Never unwinds into C.
    ///
    /// # Safety
    /// `managed` comes from `leak` of this same `M`, and isn't used again.
    unsafe fn delete(managed: *mut M) {
        // SAFETY: the managed structure is the first field of the boxed owner, whose only owner the caller is.
        let owner = unsafe { Box::from_raw(managed.cast::<Self>()) };
        if catch_unwind(AssertUnwindSafe(|| drop(owner))).is_err() {
            // The lease stays taken; the process of the consumer lives on.
        }
    }
}

/// The `deleter` of legacy tensors: any thread, no interpreter.
unsafe extern "C" fn delete_legacy(managed: *mut Managed) {
    if !managed.is_null() {
        // SAFETY: DLPack's consumers pass the tensor they took from the capsule, once.
        unsafe { Owner::delete(managed) }
    }
}

/// The `deleter` of versioned tensors: any thread, no interpreter.
unsafe extern "C" fn delete_versioned(managed: *mut ManagedVersioned) {
    if !managed.is_null() {
        // SAFETY: DLPack's consumers pass the tensor they took from the capsule, once.
        unsafe { Owner::delete(managed) }
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
    unsafe { delete_legacy(managed.cast()) }
}

unsafe extern "C" fn drop_versioned_capsule(capsule: *mut ffi::PyObject) {
    // SAFETY: CPython calls a destructor with its capsule, attached.
    let managed = unsafe { unconsumed(capsule, VERSIONED) };
    // SAFETY: a capsule of this name that nobody consumed still owns its tensor.
    unsafe { delete_versioned(managed.cast()) }
}
