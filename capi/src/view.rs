//! Private, writable views of frames.

use crate::args::Place;
use crate::frame::{Leased, bips_frame};
use crate::handle::{self, handled};
use crate::status::{Status, call};
use bips::{Frame, PrivateView};
use std::ffi::c_void;
use std::sync::Arc;

/// A writable, private view of a frame: only pages written to are copied, and nobody else sees it.
#[allow(non_camel_case_types, reason = "as C writes them")]
pub struct bips_private_view(());

struct View(#[allow(dead_code, reason = "held for its drop")] PrivateView<Arc<Frame>>);
handled!(View, bips_private_view, 6, "a private view");

/// Makes a private view of a frame, one at a time of each. It holds the lease itself: the frame may be released. Its
/// first byte goes to `data`, writable for all the slot's bytes until the view is destroyed.
///
/// BIPS_UNSUPPORTED by memory that has no such view; BIPS_INVALID_ARGUMENT while another view of the frame lives;
/// BIPS_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_frame_private_view(
    frame: *const bips_frame,
    view: *mut *mut bips_private_view,
    data: *mut *mut c_void,
) -> Status {
    call(|| {
        // SAFETY: as the header says, a place for it or NULL.
        let view_place = unsafe { Place::at(view, "the view") }?;
        // SAFETY: as above.
        let data_place = unsafe { Place::at(data, "its first byte") }?;
        let view = PrivateView::of(Leased::share(frame)?)?;
        let data = view.as_mut_ptr();
        view_place.put(handle::insert(View(view))?);
        data_place.put(data.cast());
        Ok(())
    })
}

/// Ends the view. What was written is forgotten. NULL is nothing.
#[unsafe(no_mangle)]
pub extern "C" fn bips_private_view_destroy(view: *mut bips_private_view) -> Status {
    call(|| if view.is_null() { Ok(()) } else { handle::remove::<View>(view) })
}
