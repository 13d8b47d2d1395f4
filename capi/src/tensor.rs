//! Frames as DLPack tensors.

use crate::args::Place;
use crate::frame::{Leased, bips_frame};
use crate::handle;
use crate::status::{Outcome, Status, call, invalid};
use crate::writable_frame::{Writable, bips_writable_frame};
use bips::{Frame, SlotHold};
use bips_dlpack::abi::VERSION;
use bips_dlpack::{Tensor, to_legacy, to_versioned};
use std::ptr::NonNull;
use std::sync::Arc;

/// A tensor of `dlpack/dlpack.h`, version 1.
pub struct DLManagedTensorVersioned(());

/// A tensor of `dlpack/dlpack.h` as it was before version 1.
pub struct DLManagedTensor(());

/// The frame as a DLPack tensor over the same memory: of plane `plane` of an image, from 0, or of all of it for -1. It
/// says that it is read-only unless the stream is writable, and holds the lease: the frame may be released. Its taker
/// calls its `deleter` once, on any thread; libtorch's `at::fromDLPackVersioned` and the like do.
///
/// BIPS_INVALID_ARGUMENT when there is no such plane; BIPS_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_frame_dlpack(
    frame: *const bips_frame,
    plane: i32,
    tensor: *mut *mut DLManagedTensorVersioned,
) -> Status {
    // SAFETY: the caller's promise is this function's.
    unsafe { of_frame(frame, plane, tensor, |tensor| to_versioned(tensor, VERSION, 0)) }
}

/// The same as a tensor of DLPack before version 1, for `at::fromDLPack` and others that take no newer one. It can't say
/// that it is read-only: unless the stream is writable, whoever writes to it ends with SIGSEGV.
///
/// BIPS_INVALID_ARGUMENT when there is no such plane; BIPS_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_frame_dlpack_legacy(
    frame: *const bips_frame,
    plane: i32,
    tensor: *mut *mut DLManagedTensor,
) -> Status {
    // SAFETY: the caller's promise is this function's.
    unsafe { of_frame(frame, plane, tensor, to_legacy) }
}

/// The slot as a DLPack tensor to write into, laid out as the stream's frames are. The slot is not taken again before the
/// tensor is gone: let go of it when the frame is published, and write no more.
///
/// BIPS_INVALID_ARGUMENT when there is no such plane; BIPS_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_writable_frame_dlpack(
    frame: *const bips_writable_frame,
    plane: i32,
    tensor: *mut *mut DLManagedTensorVersioned,
) -> Status {
    // SAFETY: the caller's promise is this function's.
    unsafe { of_slot(frame, plane, tensor, |tensor| to_versioned(tensor, VERSION, 0)) }
}

/// The same as a tensor of DLPack before version 1.
///
/// BIPS_INVALID_ARGUMENT when there is no such plane; BIPS_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_writable_frame_dlpack_legacy(
    frame: *const bips_writable_frame,
    plane: i32,
    tensor: *mut *mut DLManagedTensor,
) -> Status {
    // SAFETY: the caller's promise is this function's.
    unsafe { of_slot(frame, plane, tensor, to_legacy) }
}

/// # Safety
/// NULL, or a place for a tensor.
unsafe fn of_frame<To, Made>(
    frame: *const bips_frame,
    plane: i32,
    to: *mut *mut To,
    make: impl FnOnce(Tensor<Arc<Frame>>) -> bips::Result<NonNull<Made>>,
) -> Status {
    call(|| {
        // SAFETY: the caller's promise.
        let place = unsafe { Place::at(to, "the tensor") }?;
        let lease = Leased::share(frame)?;
        let content = *lease.content();
        // SAFETY: the tensor keeps a reference to the frame.
        let tensor = unsafe { Tensor::of_frame(&lease, lease.clone()) };
        place.put(make(part(tensor, &content, plane)?)?.as_ptr().cast());
        Ok(())
    })
}

/// # Safety
/// NULL, or a place for a tensor.
unsafe fn of_slot<To, Made>(
    frame: *const bips_writable_frame,
    plane: i32,
    to: *mut *mut To,
    make: impl FnOnce(Tensor<SlotHold>) -> bips::Result<NonNull<Made>>,
) -> Status {
    call(|| {
        // SAFETY: the caller's promise.
        let place = unsafe { Place::at(to, "the tensor") }?;
        let frame = &handle::exclusive::<Writable>(frame)?.0;
        let (hold, content) = (frame.hold(), *frame.content());
        let data = hold.as_mut_ptr();
        // SAFETY: the hold keeps the slot, which has room for the stream's content, mapped to write.
        let tensor = unsafe { Tensor::of_content(data, &content, hold) };
        place.put(make(part(tensor, &content, plane)?)?.as_ptr().cast());
        Ok(())
    })
}

/// All of it, or a plane.
fn part<H>(tensor: Tensor<H>, content: &bips::Content, plane: i32) -> Outcome<Tensor<H>> {
    match plane {
        -1 => Ok(tensor),
        0.. => Ok(tensor.plane(content.planes(), plane.into())?),
        _ => Err(invalid(format!("{plane} is no plane; they count from 0, and -1 is all of them"))),
    }
}
