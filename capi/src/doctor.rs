//! What works on this machine.

use crate::args;
use crate::status::{Status, call, invalid, text};
use bips_backends::Status as Verdict;
use std::ffi::{CString, c_char, c_void};

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "as C writes them")]
#[repr(i32)]
pub enum CheckStatus {
    /// It works.
    BIPS_CHECK_OK = 0,
    /// It works, with something to know.
    BIPS_CHECK_WARN = 1,
    /// It does not work.
    BIPS_CHECK_FAIL = 2,
    /// It could not be tried.
    BIPS_CHECK_SKIP = 3,
}

/// One thing that was tried.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Check {
    /// sizeof(bips_check) of the library.
    pub size: usize,
    /// What was tried, such as a memory kind.
    pub name: *const c_char,
    /// What came of it.
    pub detail: *const c_char,
    /// What to do about it, or NULL.
    pub next_step: *const c_char,
    /// The verdict.
    pub status: CheckStatus,
}

/// Tries what this machine can do, and calls `each` with every check. What it is called with is valid during the call,
/// which must neither throw nor jump out. `directory` as in the options. Drivers of GPUs are not loaded for it: the program
/// `bips doctor` tries those.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_doctor(
    directory: *const c_char,
    each: Option<unsafe extern "C" fn(check: *const Check, context: *mut c_void)>,
    context: *mut c_void,
) -> Status {
    call(|| {
        let each = each.ok_or_else(|| invalid("NULL instead of a function for each check"))?;
        // SAFETY: as the header says, text or NULL.
        let report = bips_backends::doctor_in_passing(unsafe { args::path(directory) });
        for check in report.checks {
            let (name, detail) = (text(&check.name), text(&check.detail));
            let next_step: Option<CString> = check.next_step.as_deref().map(text);
            let check = Check {
                size: size_of::<Check>(),
                name: name.as_ptr(),
                detail: detail.as_ptr(),
                next_step: next_step.as_ref().map_or(std::ptr::null(), |step| step.as_ptr()),
                status: match check.status {
                    Verdict::Ok => CheckStatus::BIPS_CHECK_OK,
                    Verdict::Warn => CheckStatus::BIPS_CHECK_WARN,
                    Verdict::Fail => CheckStatus::BIPS_CHECK_FAIL,
                    Verdict::Skip => CheckStatus::BIPS_CHECK_SKIP,
                },
            };
            // SAFETY: the caller's function, with the context that goes with it.
            unsafe { each(&raw const check, context) };
        }
        Ok(())
    })
}
