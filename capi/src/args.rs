//! What C passes, looked at before it is used.

use crate::status::{Failure, Outcome, invalid};
use bips::{Error, ErrorKind, Wait};
use std::ffi::{CStr, c_char};
use std::path::Path;
use std::time::Duration;

/// A structure that may grow at its end. `size` comes first, and says how much of it the caller knows.
///
/// # Safety
/// `repr(C)`, plain data for which zeros are a value, with a `usize` first.
pub(crate) unsafe trait Sized: Copy {
    /// As C calls it.
    const NAME: &'static str;
    /// What it had in the first version of the interface.
    const FIRST: usize;
}

macro_rules! sized {
    ($type:ty, $name:literal, $first:literal) => {
        // SAFETY: a repr(C) structure of numbers, pointers and arrays of them; the assertions below.
        unsafe impl $crate::args::Sized for $type {
            const NAME: &'static str = $name;
            const FIRST: usize = $first;
        }
        const _: () = {
            assert!(std::mem::offset_of!($type, size) == 0);
            // When one grows, the first size stays here beside the new one.
            assert!(size_of::<$type>() == $first, "programs were made with another size");
        };
    };
}
pub(crate) use sized;

const _: () =
    assert!(size_of::<usize>() == 8, "handles are 64-bit numbers, and bips.h is for 64-bit systems");

/// How much beyond what we know a caller's structure may be: more is no size but garbage.
const LARGEST: usize = 1 << 16;

/// A caller's structure, all zeros where the caller knows less. NULL is all zeros.
///
/// # Safety
/// NULL, or a structure of which as many bytes may be read as its `size` says.
#[inline]
pub(crate) unsafe fn read<T: Sized>(from: *const T) -> Outcome<T> {
    // SAFETY: zeros are a value of `T`.
    let mut value: T = unsafe { std::mem::zeroed() };
    if from.is_null() {
        return Ok(value);
    }
    // SAFETY: the caller's promise; the first field is its size.
    let size = unsafe { size_of_callers(from) }?;
    let known = size.min(size_of::<T>());
    // SAFETY: the caller has `size` bytes there, we have at least `known`.
    unsafe { from.cast::<u8>().copy_to_nonoverlapping((&raw mut value).cast(), known) };
    for at in known..size {
        // SAFETY: within the `size` bytes that the caller has.
        if unsafe { from.cast::<u8>().wrapping_add(at).read() } != 0 {
            return Err(Failure::Told(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{} asks for something this library is too old for; it is bips {}, update it",
                    T::NAME,
                    env!("CARGO_PKG_VERSION")
                ),
            )));
        }
    }
    Ok(value)
}

/// Where an answer goes. Looked at before anything is done, so that nothing is lost when it can't be given.
pub(crate) struct Answer<T> {
    to: *mut T,
    size: usize,
}

impl<T: Sized> Answer<T> {
    /// # Safety
    /// NULL, or a structure of which as many bytes may be written as its `size` says, until `give`.
    #[inline]
    pub(crate) unsafe fn to(to: *mut T) -> Outcome<Self> {
        if to.is_null() {
            return Err(invalid(format!("NULL instead of a place for {}", T::NAME)));
        }
        // SAFETY: the caller's promise; the first field is its size.
        let size = unsafe { size_of_callers(to) }?;
        Ok(Self { to, size })
    }

    /// Fills as much as the caller knows of; of what we don't know, nothing. `size` stays the caller's.
    pub(crate) fn give(self, value: &T) {
        let (from, to) = ((&raw const *value).cast::<u8>(), self.to.cast::<u8>());
        let (begin, end) = (size_of::<usize>(), self.size.min(size_of::<T>()));
        let from = from.wrapping_add(begin);
        // SAFETY: `to` was promised `size` bytes in `Answer::to`, and `value` has `end` of them.
        unsafe { from.copy_to_nonoverlapping(to.wrapping_add(begin), end - begin) };
    }
}

/// # Safety
/// A `usize` can be read there.
unsafe fn size_of_callers<T: Sized>(structure: *const T) -> Outcome<usize> {
    // SAFETY: the caller's promise.
    let size = unsafe { structure.cast::<usize>().read_unaligned() };
    if (T::FIRST..=LARGEST).contains(&size) {
        return Ok(size);
    }
    Err(invalid(format!(
        "{} with a size of {size}; set it to sizeof({0}), or begin with {0}_init()",
        T::NAME
    )))
}

#[cold]
fn no_place(what: &str) -> Failure {
    invalid(format!("NULL instead of a place for {what}"))
}

/// Where a handle or a number goes. Checked before anything is done.
pub(crate) struct Place<T>(*mut T);

impl<T> Place<T> {
    /// # Safety
    /// NULL, or a `T` may be written there until `put`.
    #[inline]
    pub(crate) unsafe fn at(to: *mut T, what: &str) -> Outcome<Self> {
        if to.is_null() { Err(no_place(what)) } else { Ok(Self(to)) }
    }

    /// The same where nobody needs to be interested.
    ///
    /// # Safety
    /// As for [`Place::at`].
    #[inline]
    pub(crate) unsafe fn if_any(to: *mut T) -> Option<Self> {
        (!to.is_null()).then_some(Self(to))
    }

    /// # Safety
    /// So many of them may be written there, and nobody else looks as long as the result lives.
    pub(crate) unsafe fn many<'a>(self, count: usize) -> &'a mut [T]
    where
        T: Copy,
    {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0, count) }
    }

    pub(crate) fn put(self, value: T) {
        // SAFETY: as promised in `at`.
        unsafe { self.0.write(value) };
    }
}

/// # Safety
/// NULL, or text that ends with a NUL.
pub(crate) unsafe fn text<'a>(from: *const c_char, what: &str) -> Outcome<Option<&'a str>> {
    if from.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(from) };
    match text.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(invalid(format!("{what} is not UTF-8: {text:?}"))),
    }
}

/// # Safety
/// As for [`text`].
pub(crate) unsafe fn name<'a>(from: *const c_char) -> Outcome<&'a str> {
    // SAFETY: the caller's promise.
    unsafe { text(from, "the stream's name") }?.ok_or_else(|| invalid("NULL instead of a stream's name"))
}

/// A path need not be UTF-8.
///
/// # Safety
/// As for [`text`].
pub(crate) unsafe fn path<'a>(from: *const c_char) -> Option<&'a Path> {
    use std::os::unix::ffi::OsStrExt;
    if from.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let path = unsafe { CStr::from_ptr(from) };
    Some(Path::new(std::ffi::OsStr::from_bytes(path.to_bytes())))
}

/// # Safety
/// NULL with a length of 0, or so many values may be read there.
#[inline]
pub(crate) unsafe fn slice<'a, T>(from: *const T, len: usize, what: &str) -> Outcome<&'a [T]> {
    match (from.is_null(), len) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(invalid(format!("NULL instead of {what}, of which there should be {len}"))),
        (false, _) if !from.is_aligned() || len > isize::MAX as usize / size_of::<T>().max(1) => {
            Err(invalid(format!("{what}: {len} of them at {from:p} can't be")))
        }
        // SAFETY: the caller's promise; aligned, and no more than an address space holds.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(from, len) }),
    }
}

/// Nanoseconds: 0 tries once, a negative number waits for ever.
#[inline]
pub(crate) fn wait(timeout_ns: i64) -> Wait {
    match u64::try_from(timeout_ns) {
        Err(_) => Wait::Forever,
        Ok(0) => Wait::Now,
        Ok(nanoseconds) => Wait::For(Duration::from_nanos(nanoseconds)),
    }
}
