//! Slots being written.

use crate::args::{Answer, Place, read, sized, slice};
use crate::content::Content;
use crate::fence::{bips_fence, fence};
use crate::handle::{self, handled};
use crate::status::{Outcome, Status, call};
use bips::{Description, FrameMut, Shape};
use std::ffi::{c_int, c_void};
use std::os::fd::IntoRawFd;

/// A slot to write the next frame into. One thread at a time; any thread.
#[allow(non_camel_case_types, reason = "as C writes them")]
pub struct bips_writable_frame(());

pub(crate) struct Writable(pub(crate) FrameMut);
handled!(Writable, bips_writable_frame, 3, "a writable frame");

/// Where a slot is.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Slot {
    /// sizeof(bips_slot).
    pub size: usize,
    /// First byte; writable for `nbytes` bytes until the frame is published. It may hold an older frame: write all that
    /// you publish.
    pub data: *mut c_void,
    /// Bytes of the slot.
    pub nbytes: usize,
    /// Index of the slot in its pool.
    pub index: u32,
    /// Zero.
    pub reserved: u32,
}
sized!(Slot, "bips_slot", 32);

impl Slot {
    pub(crate) fn of(Writable(frame): &Writable) -> Self {
        Self {
            size: 0,
            data: frame.as_mut_ptr().cast(),
            nbytes: frame.len(),
            index: frame.slot(),
            reserved: 0,
        }
    }
}

/// What a producer says about one frame. All of it is optional.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameDescription {
    /// sizeof(bips_description).
    pub size: usize,
    /// A shape other than the stream's, of `ndim` dimensions; must fit the slot. NULL: the stream's.
    pub shape: *const u64,
    /// Dimensions of `shape`.
    pub ndim: usize,
    /// When the content was captured, in ns of CLOCK_MONOTONIC; 0: now.
    pub timestamp_ns: u64,
    /// Up to 256 bytes that travel with the frame.
    pub metadata: *const c_void,
    /// Bytes of `metadata`.
    pub metadata_size: usize,
}
sized!(FrameDescription, "bips_description", 48);

/// Where to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_writable_frame_get_slot(
    frame: *const bips_writable_frame,
    slot: *mut Slot,
) -> Status {
    call(|| {
        // SAFETY: as the header says, a structure of its size or NULL.
        let answer = unsafe { Answer::to(slot) }?;
        answer.give(&Slot::of(&*handle::exclusive::<Writable>(frame)?));
        Ok(())
    })
}

/// How the stream's frames lie in their slots: where to write planes, rows and elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_writable_frame_get_content(
    frame: *const bips_writable_frame,
    content: *mut Content,
) -> Status {
    call(|| {
        // SAFETY: as the header says, a place for it or NULL.
        let place = unsafe { Place::at(content, "the content") }?;
        place.put(handle::exclusive::<Writable>(frame)?.0.content().into());
        Ok(())
    })
}

/// Gives the slot to a device, which writes the frame instead of the CPU: from here until it is published do not touch its
/// bytes. Where devices and CPUs must be told of each other, they are told now and not at the end, when the CPU's caches
/// would come after what the device wrote. For other memory it is nothing; so is doing it again.
#[unsafe(no_mangle)]
pub extern "C" fn bips_writable_frame_for_device(frame: *const bips_writable_frame) -> Status {
    call(|| {
        handle::exclusive::<Writable>(frame)?.0.for_device()?;
        Ok(())
    })
}

/// A descriptor of the memory by which devices write to the slot, a dma-buf where it has one, and where in it the slot
/// begins. It is yours: close it. It is not for consumers: of some memory kinds it allows more than theirs.
///
/// BIPS_UNSUPPORTED where the memory has none to give; BIPS_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_writable_frame_fd(
    frame: *const bips_writable_frame,
    fd: *mut c_int,
    offset: *mut u64,
) -> Status {
    call(|| {
        // SAFETY: as the header says, a place for it or NULL.
        let fd_place = unsafe { Place::at(fd, "the descriptor") }?;
        // SAFETY: as above.
        let offset_place = unsafe { Place::at(offset, "the offset") }?;
        let (fd, offset) = handle::exclusive::<Writable>(frame)?.0.fd()?;
        offset_place.put(offset);
        fd_place.put(fd.into_raw_fd());
        Ok(())
    })
}

/// Hands the frame to every consumer, once `ready` (NULL: at once). Its sequence number, from 0, goes to `sequence`,
/// which may be NULL. Waits for no consumer, and not for `ready`: consumers receive the frame when it is done, never if it fails.
/// Only of memory that must be told of the CPU's access (dma-bufs) it waits for `ready` and for devices that still
/// write, until the producer is closed. The handle ends, also when it fails: then nothing was published. Only what is no handle of this process,
/// of a frame or a timeline, and a structure of a wrong size leave it as it was.
///
/// BIPS_INVALID_ARGUMENT for a shape that doesn't fit or too much metadata; BIPS_CLOSED; BIPS_FORKED; what the fence
/// has to report by now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_writable_frame_publish(
    frame: *mut bips_writable_frame,
    description: *const FrameDescription,
    ready: *const bips_fence,
    sequence: *mut u64,
) -> Status {
    call(|| {
        // SAFETY: as the header says, a place for it or NULL.
        let place = unsafe { Place::if_any(sequence) };
        let described = if description.is_null() {
            None
        } else {
            // SAFETY: as the header says, a structure of its size.
            Some(unsafe { read(description) }?)
        };
        // SAFETY: as the header says, a fence or NULL.
        let ready = unsafe { fence(ready) }?;
        let (writable, _vacated) = handle::exclusive::<Writable>(frame)?.into_parts();
        let description = match &described {
            // SAFETY: as the header says of what the structure points to.
            Some(described) => unsafe { description_of(described) }?,
            None => Description::new(),
        };
        let published = writable.0.publish(description, ready)?;
        if let Some(place) = place {
            place.put(published);
        }
        Ok(())
    })
}

/// Gives the slot back unseen and ends the handle. NULL is nothing.
#[unsafe(no_mangle)]
pub extern "C" fn bips_writable_frame_cancel(frame: *mut bips_writable_frame) -> Status {
    call(|| {
        if frame.is_null() {
            return Ok(());
        }
        handle::remove::<Writable>(frame)
    })
}

/// # Safety
/// As the header says of the structure.
unsafe fn description_of(from: &FrameDescription) -> Outcome<Description<'_>> {
    // SAFETY: the caller's promise.
    let metadata = unsafe { slice(from.metadata.cast::<u8>(), from.metadata_size, "bytes of metadata") }?;
    // SAFETY: as above.
    let shape = unsafe { slice(from.shape, from.ndim, "lengths in `shape`") }?;
    let shape = if from.shape.is_null() { None } else { Some(Shape::new(shape)?) };
    let timestamp = (from.timestamp_ns != 0).then_some(from.timestamp_ns);
    Ok(Description { shape, timestamp, metadata })
}
