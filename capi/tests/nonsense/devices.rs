//! The functions that bips calls, and what they call.

use crate::caller::Caller;
use bips_capi::*;
use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

thread_local! {
    /// Calls from within a call: from the functions that bips was given.
    pub(crate) static WITHIN: RefCell<Option<Caller>> = const { RefCell::new(None) };
}

/// In one of those: calls any function, with any handle, also of what the call around it is about.
pub(crate) fn calls_too() {
    WITHIN.with(|within| {
        // Not from within a call from within.
        if let Ok(mut within) = within.try_borrow_mut()
            && let Some(caller) = &mut *within
        {
            caller.call();
        }
    });
}

pub(crate) unsafe extern "C" fn done(_: *mut c_void, value: *mut u64) -> i32 {
    calls_too();
    // SAFETY: the library passes a place for it.
    unsafe { value.write(u64::MAX) };
    0
}

/// A device that goes on whenever it is asked.
pub(crate) unsafe extern "C" fn rises(_: *mut c_void, value: *mut u64) -> i32 {
    pub(crate) static STANDS: AtomicU64 = AtomicU64::new(0);
    calls_too();
    // SAFETY: the library passes a place for it.
    unsafe { value.write(STANDS.fetch_add(1, Relaxed) % 5) };
    0
}

/// How often a device failed when it was asked.
#[derive(Debug)]
pub(crate) struct Failures {
    pub(crate) value: AtomicU64,
    pub(crate) wait: AtomicU64,
}

pub(crate) static FAILED: Failures = Failures { value: AtomicU64::new(0), wait: AtomicU64::new(0) };

pub(crate) unsafe extern "C" fn fails(_: *mut c_void, _: *mut u64) -> i32 {
    FAILED.value.fetch_add(1, Relaxed);
    calls_too();
    5
}

pub(crate) unsafe extern "C" fn sleeps(_: *mut c_void, _: u64, _: i64) -> i32 {
    calls_too();
    0
}

pub(crate) unsafe extern "C" fn sleeps_badly(_: *mut c_void, _: u64, _: i64) -> i32 {
    FAILED.wait.fetch_add(1, Relaxed);
    7
}

/// Timelines that were made with `ends`, and those that have ended.
pub(crate) static TIMELINES: AtomicU64 = AtomicU64::new(0);
pub(crate) static ENDED: AtomicU64 = AtomicU64::new(0);

pub(crate) unsafe extern "C" fn ends(_: *mut c_void) {
    ENDED.fetch_add(1, Relaxed);
    calls_too();
}

#[allow(clippy::multiple_unsafe_ops_per_block, reason = "one after another of what the library passes")]
pub(crate) unsafe extern "C" fn tell_name(name: *const c_char, told: *mut c_void) {
    calls_too();
    // SAFETY: a text, and the counter that was passed.
    unsafe {
        assert!(!CStr::from_ptr(name).is_empty());
        *told.cast::<u64>() += 1;
    }
}

#[allow(clippy::multiple_unsafe_ops_per_block, reason = "one after another of what the library passes")]
pub(crate) unsafe extern "C" fn tell_check(check: *const Check, told: *mut c_void) {
    calls_too();
    // SAFETY: a check, and the counter that was passed.
    unsafe {
        assert!(!CStr::from_ptr((*check).name).is_empty() && (*check).size == size_of::<Check>());
        *told.cast::<u64>() += 1;
    }
}
