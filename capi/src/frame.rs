//! Leased frames.

use crate::args::{Answer, Place, sized};
use crate::content::Content;
use crate::fence::{bips_fence, fence};
use crate::handle::{self, handled};
use crate::status::{Outcome, Status, call, invalid};
use bips::Frame;
use std::ffi::{c_int, c_void};
use std::os::fd::IntoRawFd;
use std::sync::Arc;

/// A frame that another process published, readable in place. Any thread, several at once. It may outlive its consumer.
#[allow(non_camel_case_types, reason = "as C writes them")]
pub struct bips_frame(());

pub(crate) enum Leased {
    /// Nobody else has it.
    Alone(Frame),
    /// Tensors or views have it too.
    Shared(Arc<Frame>),
    /// On the way from one to the other.
    Moving,
}
handled!(Leased, bips_frame, 4, "a frame");

impl Leased {
    fn frame(&self) -> &Frame {
        match self {
            Self::Alone(frame) => frame,
            Self::Shared(frame) => frame,
            Self::Moving => unreachable!("whoever moves it has it to himself"),
        }
    }

    /// The lease, to be kept beside the handle.
    pub(crate) fn share(handle: *const bips_frame) -> Outcome<Arc<Frame>> {
        // Nobody has to wait for what is shared already.
        if let Self::Shared(frame) = &*handle::shared::<Self>(handle)? {
            return Ok(frame.clone());
        }
        let mut leased = handle::exclusive_soon::<Self>(handle)?;
        let frame = match std::mem::replace(&mut *leased, Self::Moving) {
            Self::Alone(frame) => Arc::new(frame),
            Self::Shared(frame) => frame,
            Self::Moving => unreachable!("whoever moves it has it to himself"),
        };
        *leased = Self::Shared(frame.clone());
        Ok(frame)
    }
}

/// All there is to know of a frame. What it points to is valid until the frame is released.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameInfo {
    /// sizeof(bips_frame_info).
    pub size: usize,
    /// First byte of the frame; readable for `slot_bytes` bytes.
    pub data: *const c_void,
    /// Bytes of the slot, at least `content.nbytes`.
    pub slot_bytes: usize,
    /// What the producer attached to the frame.
    pub metadata: *const c_void,
    /// Bytes of it, at most 256.
    pub metadata_size: usize,
    /// Which publication of its producer this is, from 0.
    pub sequence: u64,
    /// When it was published, in ns of CLOCK_MONOTONIC.
    pub published_ns: u64,
    /// When its content was captured, in ns of CLOCK_MONOTONIC; the time of publication if nobody said.
    pub timestamp_ns: u64,
    /// How often its consumer had joined anew before it came. With another producer sequences start again, and size,
    /// format and memory may be others.
    pub generation: u32,
    /// Index of the slot in its pool.
    pub slot: u32,
    /// 1: mapped read-only, which the MMU enforces; writing is SIGSEGV. 0: the stream is writable.
    pub readonly: u32,
    /// Zero.
    pub reserved: u32,
    /// How it lies in its slot.
    pub content: Content,
}
sized!(FrameInfo, "bips_frame_info", 376);

/// Where the frame is: its first byte, readable until it is released, and its length in bytes, which may be NULL. What
/// `bips_frame_get_info` also says, in less time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_frame_data(
    frame: *const bips_frame,
    data: *mut *const c_void,
    nbytes: *mut usize,
) -> Status {
    call(|| {
        // SAFETY: as the header says, a place for it or NULL.
        let place = unsafe { Place::at(data, "the frame's first byte") }?;
        // SAFETY: as above.
        let length = unsafe { Place::if_any(nbytes) };
        let leased = handle::shared::<Leased>(frame)?;
        place.put(leased.frame().as_ptr().cast());
        if let Some(length) = length {
            length.put(leased.frame().nbytes());
        }
        Ok(())
    })
}

/// Fills `info`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_frame_get_info(frame: *const bips_frame, info: *mut FrameInfo) -> Status {
    call(|| {
        // SAFETY: as the header says, a structure of its size or NULL.
        let answer = unsafe { Answer::to(info) }?;
        let leased = handle::shared::<Leased>(frame)?;
        let frame = leased.frame();
        answer.give(&FrameInfo {
            size: 0,
            data: frame.as_ptr().cast(),
            slot_bytes: frame.slot_bytes(),
            metadata: frame.metadata().as_ptr().cast(),
            metadata_size: frame.metadata().len(),
            sequence: frame.sequence(),
            published_ns: frame.published(),
            timestamp_ns: frame.timestamp(),
            generation: frame.generation(),
            slot: frame.slot(),
            readonly: frame.readonly().into(),
            reserved: 0,
            content: frame.content().into(),
        });
        Ok(())
    })
}

/// Copies `size` bytes from `offset` of the slot on. Safe whatever the producer does; reading in place is up to a
/// producer that keeps its promise.
///
/// BIPS_INVALID_ARGUMENT when that goes beyond the slot; BIPS_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_frame_copy(
    frame: *const bips_frame,
    offset: usize,
    to: *mut c_void,
    size: usize,
) -> Status {
    call(|| {
        let leased = handle::shared::<Leased>(frame)?;
        let frame = leased.frame();
        let slot = frame.slot_bytes();
        if offset.checked_add(size).is_none_or(|end| end > slot) {
            return Err(invalid(format!(
                "{size} bytes from {offset} on are not in the slot, which has {slot}"
            )));
        }
        if size == 0 {
            return Ok(());
        }
        // SAFETY: as the header says, NULL or room for so many bytes.
        let place = unsafe { Place::at(to.cast::<u8>(), "the bytes") }?;
        // SAFETY: as above.
        frame.copy_to(offset, unsafe { place.many(size) });
        Ok(())
    })
}

/// A descriptor of the memory, to pass on to V4L2, DRM or GStreamer, and where in it the slot begins. It is yours: close
/// it. The lease stays with the frame.
///
/// BIPS_UNSUPPORTED where the memory has none to give; BIPS_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_frame_fd(frame: *const bips_frame, fd: *mut c_int, offset: *mut u64) -> Status {
    call(|| {
        // SAFETY: as the header says, a place for it or NULL.
        let fd_place = unsafe { Place::at(fd, "the descriptor") }?;
        // SAFETY: as above.
        let offset_place = unsafe { Place::at(offset, "the offset") }?;
        let (fd, offset) = handle::shared::<Leased>(frame)?.frame().fd()?;
        offset_place.put(offset);
        fd_place.put(fd.into_raw_fd());
        Ok(())
    })
}

/// Gives the frame back once `done` (NULL: now), and ends the handle at once: a thread of bips waits for the fence. NULL instead
/// of a frame is nothing. The slot is free when everything made from the frame, such as DLPack tensors, is gone too. The
/// handle ends also when the fence has an error to report by now; only a wrong handle, or a fence of the parent in a forked child, leaves things as they were.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_frame_release(frame: *mut bips_frame, done: *const bips_fence) -> Status {
    call(|| {
        if frame.is_null() {
            return Ok(());
        }
        // SAFETY: as the header says, a fence or NULL.
        let waited = match unsafe { fence(done) }? {
            bips::Fence::Signaled => Ok(()),
            done => done.keep(Leased::share(frame)?),
        };
        handle::remove::<Leased>(frame)?;
        Ok(waited?)
    })
}
