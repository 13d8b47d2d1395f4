//! libgbm, loaded when first used: the build needs it as little as a machine without a GPU does (ADR 16).

use crate::card::Card;
use crate::grid::Grid;
use bips::{Error, ErrorKind, Result};
use drm::buffer::Handle;
use std::ffi::{c_int, c_uint, c_void};
use std::io;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::OnceLock;

const NAME: &str = "libgbm.so.1";

const USE_SCANOUT: u32 = 1;
const USE_RENDERING: u32 = 4;
const USE_LINEAR: u32 = 16;

/// `union gbm_bo_handle`.
#[repr(C)]
#[derive(Clone, Copy)]
union RawHandle {
    number: u32,
    whole: u64,
}

/// The functions used, as `gbm.h` declares them. The objects are known by address alone.
pub(super) struct Library {
    create_device: unsafe extern "C" fn(c_int) -> *mut c_void,
    device_destroy: unsafe extern "C" fn(*mut c_void),
    is_format_supported: unsafe extern "C" fn(*mut c_void, u32, u32) -> c_int,
    bo_create: unsafe extern "C" fn(*mut c_void, u32, u32, u32, u32) -> *mut c_void,
    /// Since Mesa 21.3.
    bo_create_with_modifiers2: Option<WithModifiers>,
    bo_destroy: unsafe extern "C" fn(*mut c_void),
    bo_get_handle: unsafe extern "C" fn(*mut c_void) -> RawHandle,
    bo_get_stride: unsafe extern "C" fn(*mut c_void) -> u32,
    bo_get_offset: unsafe extern "C" fn(*mut c_void, c_int) -> u32,
    bo_get_modifier: unsafe extern "C" fn(*mut c_void) -> u64,
}

type WithModifiers = unsafe extern "C" fn(*mut c_void, u32, u32, u32, *const u64, c_uint, u32) -> *mut c_void;

/// The library, loaded once and never unloaded: drivers leave threads and exit handlers behind.
pub(super) fn get() -> Result<&'static Library> {
    static LIBRARY: OnceLock<std::result::Result<Library, String>> = OnceLock::new();
    LIBRARY.get_or_init(|| load(NAME)).as_ref().map_err(|why| Error::new(ErrorKind::Unsupported, why.clone()))
}

/// What the loader said; the error itself only says which of its functions failed.
fn said(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

fn load(name: &str) -> std::result::Result<Library, String> {
    // SAFETY: it runs what the library does when it is loaded. It is the system's own, by the name of its binary interface.
    let library = unsafe { libloading::Library::new(name) }.map_err(|error| {
        let said = said(&error);
        format!("libgbm can't be loaded ({said}); install it (package libgbm1 or mesa-libgbm), or use drm")
    })?;
    macro_rules! function {
        ($name:literal) => {
            // SAFETY: the type is that of the declaration in `gbm.h`, which has not changed since the function came.
            *unsafe { library.get($name) }
                .map_err(|error| format!("{NAME} is too old or not Mesa's ({}); use drm instead", said(&error)))?
        };
    }
    let functions = Library {
        create_device: function!(b"gbm_create_device"),
        device_destroy: function!(b"gbm_device_destroy"),
        is_format_supported: function!(b"gbm_device_is_format_supported"),
        bo_create: function!(b"gbm_bo_create"),
        // SAFETY: as above.
        bo_create_with_modifiers2: unsafe { library.get(b"gbm_bo_create_with_modifiers2") }
            .ok()
            .map(|function| *function),
        bo_destroy: function!(b"gbm_bo_destroy"),
        bo_get_handle: function!(b"gbm_bo_get_handle"),
        bo_get_stride: function!(b"gbm_bo_get_stride"),
        bo_get_offset: function!(b"gbm_bo_get_offset"),
        bo_get_modifier: function!(b"gbm_bo_get_modifier"),
    };
    std::mem::forget(library);
    Ok(functions)
}

impl Library {
    /// The driver's library for an opened node.
    pub(super) fn device(&'static self, card: &Card) -> io::Result<Device> {
        // A descriptor of its own, so that it lives as long as the device. The same open file: handles are the file's.
        let fd = card.as_fd().try_clone_to_owned()?;
        // SAFETY: the descriptor is open, and closed only after the device is destroyed.
        let device = unsafe { (self.create_device)(fd.as_raw_fd()) };
        match NonNull::new(device) {
            Some(device) => Ok(Device { library: self, device, _fd: fd }),
            None => Err(io::Error::last_os_error()),
        }
    }
}

/// A device of libgbm.
pub(super) struct Device {
    library: &'static Library,
    device: NonNull<c_void>,
    _fd: OwnedFd,
}

/// Why there is no buffer object.
pub(super) enum Refusal {
    /// The driver has no such pixels, or not in such a grid.
    Format,
    System(io::Error),
}

impl Device {
    /// A buffer object whose rows lie one after the other: one a display could show, if the driver has that.
    pub(super) fn linear_object(&self, grid: &Grid) -> std::result::Result<Object<'_>, Refusal> {
        let format = grid.format as u32;
        let uses = [USE_SCANOUT | USE_RENDERING | USE_LINEAR, USE_RENDERING | USE_LINEAR, USE_LINEAR];
        let mut last = None;
        for uses in uses {
            // SAFETY: the device lives; no memory is passed.
            if unsafe { (self.library.is_format_supported)(self.device.as_ptr(), format, uses) } == 0 {
                continue;
            }
            match self.create(grid, uses) {
                Ok(object) => return Ok(object),
                Err(error) => last = Some(error),
            }
        }
        Err(match last {
            None => Refusal::Format,
            Some(error) if error.raw_os_error() == Some(libc::EINVAL) => Refusal::Format,
            Some(error) => Refusal::System(error),
        })
    }

    fn create(&self, grid: &Grid, uses: u32) -> io::Result<Object<'_>> {
        let Grid { width, height, format, .. } = *grid;
        let device = self.device.as_ptr();
        let object = |made| {
            NonNull::new(made).map(|object| Object { library: self.library, object, _device: PhantomData })
        };
        if let Some(create) = self.library.bo_create_with_modifiers2 {
            let linear = [super::LINEAR];
            // The modifier says it already, and some drivers take only one of the two.
            let uses = uses & !USE_LINEAR;
            // SAFETY: the device lives, and the list of one modifier as long as the call.
            let made = unsafe { create(device, width, height, format as u32, linear.as_ptr(), 1, uses) };
            // A driver that doesn't say it of the buffer may have passed over the list.
            if let Some(object) = object(made).filter(|object| object.modifier() == super::LINEAR) {
                return Ok(object);
            }
        }
        // A driver without modifiers, or the library has none: the older way of asking.
        // SAFETY: the device lives; no memory is passed.
        let made = unsafe { (self.library.bo_create)(device, width, height, format as u32, uses) };
        object(made).ok_or_else(io::Error::last_os_error)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: made by this library, its objects are gone (they borrow it), and its descriptor is closed after this.
        unsafe { (self.library.device_destroy)(self.device.as_ptr()) };
    }
}

/// A buffer object.
pub(super) struct Object<'device> {
    library: &'static Library,
    object: NonNull<c_void>,
    _device: PhantomData<&'device Device>,
}

impl Object<'_> {
    /// From one row to the next, in bytes.
    pub(super) fn stride(&self) -> u64 {
        // SAFETY: the object lives.
        unsafe { (self.library.bo_get_stride)(self.object.as_ptr()) }.into()
    }

    /// Where its one plane begins in it.
    pub(super) fn offset(&self) -> u32 {
        // SAFETY: the object lives, and has a plane 0.
        unsafe { (self.library.bo_get_offset)(self.object.as_ptr(), 0) }
    }

    /// In which order its pixels lie.
    pub(super) fn modifier(&self) -> u64 {
        // SAFETY: the object lives.
        unsafe { (self.library.bo_get_modifier)(self.object.as_ptr()) }
    }

    /// The kernel's handle of it, for the node it was made by.
    pub(super) fn handle(&self) -> Option<Handle> {
        // SAFETY: the object lives.
        let handle = unsafe { (self.library.bo_get_handle)(self.object.as_ptr()) };
        // SAFETY: any bits are a number.
        if unsafe { handle.whole } == u64::MAX {
            return None; // -1: an error
        }
        // SAFETY: as above.
        NonZeroU32::new(unsafe { handle.number }).map(Handle::from)
    }
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        // SAFETY: made by this library, not destroyed before, and its device lives.
        unsafe { (self.library.bo_destroy)(self.object.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_to_install() {
        let why = load("libgbm-that-is-not-there.so.1").err().unwrap();
        assert!(why.contains("package libgbm1"), "{why}");
        // There, but another library: no half-filled table.
        let why = load("libc.so.6").err().unwrap();
        assert!(why.contains("gbm_create_device"), "{why}");
    }
}
