//! Frames as DLPack tensors.

use crate::args::Place;
use crate::frame::{Leased, bips_frame};
use crate::handle;
use crate::status::Status::BIPS_FORKED;
use crate::status::{Failure, Outcome, Status, call, invalid};
use crate::writable_frame::{Writable, bips_writable_frame};
use bips_dlpack::abi::{ManagedVersioned, VERSION};
use bips_dlpack::{Tensor, to_versioned};
use std::ptr::NonNull;

/// A tensor of `dlpack/dlpack.h`, version 1.
pub struct DLManagedTensorVersioned(());

/// The frame as a DLPack tensor over the same memory: of plane `plane` of an image, from 0, or of all of it for -1. It
/// says that it is read-only unless the stream is writable, and holds the lease: the frame may be released. Its taker
/// calls its `deleter` once, on any thread; `at::fromDLPack` and the like do.
///
/// BIPS_INVALID_ARGUMENT when there is no such plane; BIPS_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_frame_dlpack(
    frame: *const bips_frame,
    plane: i32,
    tensor: *mut *mut DLManagedTensorVersioned,
) -> Status {
    call(|| {
        // SAFETY: as the header says, a place for it or NULL.
        let place = unsafe { Place::at(tensor, "the tensor") }?;
        let lease = Leased::share(frame)?;
        let content = *lease.content();
        // SAFETY: the tensor keeps a reference to the frame.
        let tensor = unsafe { Tensor::of_frame(&lease, lease.clone()) };
        place.put(leaked(tensor, &content, plane)?.as_ptr().cast());
        Ok(())
    })
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
    call(|| {
        // SAFETY: as the header says, a place for it or NULL.
        let place = unsafe { Place::at(tensor, "the tensor") }?;
        let frame = &handle::exclusive::<Writable>(frame)?.0;
        if frame.is_forked() {
            let message = c"the slot was acquired before a fork; it is the parent's";
            return Err(Failure::Plain(BIPS_FORKED, message));
        }
        let (hold, content) = (frame.hold(), *frame.content());
        let data = hold.as_mut_ptr();
        // SAFETY: the hold keeps the slot, which has room for the stream's content, mapped to write.
        let tensor = unsafe { Tensor::of_content(data, &content, hold) };
        place.put(leaked(tensor, &content, plane)?.as_ptr().cast());
        Ok(())
    })
}

fn leaked<H: Send + Sync + 'static>(
    tensor: Tensor<H>,
    content: &bips::Content,
    plane: i32,
) -> Outcome<NonNull<ManagedVersioned>> {
    let tensor = match plane {
        -1 => tensor,
        0.. => tensor.plane(content.planes(), plane.into())?,
        _ => return Err(invalid(format!("{plane} is no plane; they count from 0, and -1 is all of them"))),
    };
    Ok(to_versioned(tensor, VERSION, 0)?)
}
