//! DLPack's managed tensors, and the owner each of them drops when its consumer is done.

use crate::abi::{self, CPU, DataType, FLAG_READ_ONLY, Managed, ManagedVersioned, Version};
use crate::{MAX_DIMS, Tensor};
use bips::{Error, ErrorKind, Result};
use std::mem::offset_of;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{NonNull, null_mut};

/// A tensor as C code takes it over, which must call its `deleter` once, on any thread. Says "read-only" by itself.
///
/// # Errors
/// `Unsupported` for strides that DLPack can't say.
pub fn to_versioned<H: Send + Sync + 'static>(
    tensor: Tensor<H>,
    version: Version,
    flags: u64,
) -> Result<NonNull<ManagedVersioned>> {
    let flags = if tensor.writable() { flags } else { flags | FLAG_READ_ONLY };
    Owner::<ManagedVersioned, H>::leak(tensor, |tensor| ManagedVersioned {
        version,
        context: null_mut(),
        deleter: Some(delete_versioned::<H>),
        flags,
        tensor,
    })
}

/// The same as before DLPack 1.0, which can't say "read-only".
///
/// # Errors
/// As [`to_versioned`].
pub fn to_legacy<H: Send + Sync + 'static>(tensor: Tensor<H>) -> Result<NonNull<Managed>> {
    Owner::<Managed, H>::leak(tensor, |tensor| Managed {
        tensor,
        context: null_mut(),
        deleter: Some(delete_legacy::<H>),
    })
}

/// What a `deleter` frees: the structure the consumer sees, first, then what that points to and keeps alive.
#[repr(C)]
struct Owner<M, H> {
    managed: M,
    shape: [i64; MAX_DIMS],
    /// In elements.
    strides: [i64; MAX_DIMS],
    hold: H,
}

impl<M, H> Owner<M, H> {
    /// Moves the description of `tensor` and its hold to the heap; freed by [`Owner::delete`].
    fn leak(tensor: Tensor<H>, wrap: impl FnOnce(abi::Tensor) -> M) -> Result<NonNull<M>> {
        let dtype = tensor.dtype();
        let size = dtype.size() as i64;
        let mut strides = [0; MAX_DIMS];
        for (to, bytes) in strides.iter_mut().zip(tensor.strides()) {
            if bytes % size != 0 {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!(
                        "steps of {bytes} bytes are no whole number of {dtype} elements, which DLPack can't say; use a \
                         copy, or read the memory itself"
                    ),
                ));
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
    /// `managed` comes from `leak` of this same `M` and `H`, and isn't used again.
    unsafe fn delete(managed: *mut M) {
        // SAFETY: the managed structure is the first field of the boxed owner, whose only owner the caller is.
        let owner = unsafe { Box::from_raw(managed.cast::<Self>()) };
        if catch_unwind(AssertUnwindSafe(|| drop(owner))).is_err() {
            // The lease stays taken; the process of the consumer lives on.
        }
    }
}

/// The `deleter` of legacy tensors: any thread.
unsafe extern "C" fn delete_legacy<H>(managed: *mut Managed) {
    if !managed.is_null() {
        // SAFETY: DLPack's consumers pass the tensor they took from the capsule, once.
        unsafe { Owner::<_, H>::delete(managed) }
    }
}

/// The `deleter` of versioned tensors: any thread.
unsafe extern "C" fn delete_versioned<H>(managed: *mut ManagedVersioned) {
    if !managed.is_null() {
        // SAFETY: DLPack's consumers pass the tensor they took from the capsule, once.
        unsafe { Owner::<_, H>::delete(managed) }
    }
}
