//! What a call came to, and the words for it.

use bips::{Error, ErrorKind};
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a call came to. The numbers never change meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "as C writes them")]
#[repr(i32)]
pub enum Status {
    /// Done.
    BIPS_OK = 0,
    /// The time allowed ran out.
    BIPS_TIMEOUT = 1,
    /// The other side, or this handle, has been closed.
    BIPS_CLOSED = 2,
    /// Another live producer publishes under this name.
    BIPS_NAME_TAKEN = 3,
    /// No producer of this name lives in the runtime directory.
    BIPS_NOT_FOUND = 4,
    /// This machine, kernel, memory kind or peer cannot do what was asked.
    BIPS_UNSUPPORTED = 5,
    /// Permissions, of files or of the stream's access rule, forbid it.
    BIPS_ACCESS_DENIED = 6,
    /// A peer broke the protocol, or speaks another major version of it.
    BIPS_PROTOCOL = 7,
    /// The machine, or the memory control group, has not that much memory.
    BIPS_OUT_OF_MEMORY = 8,
    /// An argument is outside what the call allows: NULL, no handle or one that was destroyed, a buffer too small, a
    /// structure of a wrong size, text that is not UTF-8.
    BIPS_INVALID_ARGUMENT = 9,
    /// The handle was made before a `fork` and is used in the child.
    BIPS_FORKED = 10,
    /// The frame was never completed: its producer died before its device work was done.
    BIPS_LOST = 11,
    /// The operating system refused a call that should succeed.
    BIPS_SYSTEM = 12,
    /// The consumer already leases as many frames as the producer allows it.
    BIPS_TOO_MANY_HELD = 13,
    /// A fault in bips itself, or a kind of error that a later version will name.
    BIPS_INTERNAL = 255,
}

use Status::*;

impl From<ErrorKind> for Status {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Timeout => BIPS_TIMEOUT,
            ErrorKind::Closed => BIPS_CLOSED,
            ErrorKind::NameTaken => BIPS_NAME_TAKEN,
            ErrorKind::NotFound => BIPS_NOT_FOUND,
            ErrorKind::Unsupported => BIPS_UNSUPPORTED,
            ErrorKind::AccessDenied => BIPS_ACCESS_DENIED,
            ErrorKind::Protocol => BIPS_PROTOCOL,
            ErrorKind::OutOfMemory => BIPS_OUT_OF_MEMORY,
            ErrorKind::InvalidArgument => BIPS_INVALID_ARGUMENT,
            ErrorKind::Forked => BIPS_FORKED,
            ErrorKind::Lost => BIPS_LOST,
            ErrorKind::System => BIPS_SYSTEM,
            ErrorKind::TooManyHeld => BIPS_TOO_MANY_HELD,
            _ => BIPS_INTERNAL,
        }
    }
}

impl Status {
    const ALL: [(Self, &CStr); 15] = [
        (BIPS_OK, c"ok"),
        (BIPS_TIMEOUT, c"timeout"),
        (BIPS_CLOSED, c"closed"),
        (BIPS_NAME_TAKEN, c"name-taken"),
        (BIPS_NOT_FOUND, c"not-found"),
        (BIPS_UNSUPPORTED, c"unsupported"),
        (BIPS_ACCESS_DENIED, c"access-denied"),
        (BIPS_PROTOCOL, c"protocol"),
        (BIPS_OUT_OF_MEMORY, c"out-of-memory"),
        (BIPS_INVALID_ARGUMENT, c"invalid-argument"),
        (BIPS_FORKED, c"forked"),
        (BIPS_LOST, c"lost"),
        (BIPS_SYSTEM, c"system"),
        (BIPS_TOO_MANY_HELD, c"too-many-held"),
        (BIPS_INTERNAL, c"internal"),
    ];
}

/// Why a call failed.
pub(crate) enum Failure {
    /// Rare: with a message made for it.
    Told(Error),
    /// Of a call that only looked: a loop may do so a million times a second.
    Plain(Status, &'static CStr),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Told(error)
    }
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// An argument that the call does not allow.
pub(crate) fn invalid(message: impl Into<String>) -> Failure {
    Failure::Told(Error::new(ErrorKind::InvalidArgument, message))
}

thread_local! {
    /// What bips_last_error_message says: a literal, or TEXT. Without a destructor, so cheap to write.
    static LAST: Cell<*const c_char> = const { Cell::new(c"".as_ptr()) };
    static TEXT: Text = const { Text(RefCell::new(None)) };
}

const ENDING: &CStr = c"an error whose message is lost: the thread is ending";

/// A thread that ends can still ask: the destructors of a program's own may run after this one.
struct Text(RefCell<Option<CString>>);

impl Drop for Text {
    fn drop(&mut self) {
        let said = self.0.get_mut().take();
        if said.is_some_and(|said| said.as_ptr() == LAST.get()) {
            LAST.set(ENDING.as_ptr());
        }
    }
}

/// Does the work of a call. A failure is remembered for this thread; a panic does not leave it.
pub(crate) fn call(work: impl FnOnce() -> Outcome) -> Status {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => BIPS_OK,
        Ok(Err(failure)) => remember(failure),
        Err(payload) => {
            let said = payload.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
            let message = format!("a fault in bips, please report it: {said}");
            // What a payload does when it is dropped is nobody's promise.
            std::mem::forget(payload);
            say(&message);
            BIPS_INTERNAL
        }
    }
}

fn remember(failure: Failure) -> Status {
    match failure {
        Failure::Plain(status, message) => {
            LAST.set(message.as_ptr());
            status
        }
        Failure::Told(error) => {
            say(&error.to_string());
            error.kind().into()
        }
    }
}

/// Unless the thread is ending and has no place for it any more.
#[cold]
fn say(message: &str) {
    let message = text(message);
    LAST.set(ENDING.as_ptr());
    let _ = TEXT.try_with(|place| {
        LAST.set(message.as_ptr());
        place.0.replace(Some(message));
    });
}

/// As C has it; a message with a NUL in it, which a peer's text could bring, ends there.
pub(crate) fn text(message: &str) -> CString {
    let end = message.find('\0').unwrap_or(message.len());
    CString::new(&message[..end]).unwrap_or_default()
}

/// Why the last call of this thread that failed did so, and what to do next. Never NULL; empty when none has failed.
/// Valid until the next call of this thread that fails.
#[unsafe(no_mangle)]
pub extern "C" fn bips_last_error_message() -> *const c_char {
    LAST.get()
}

/// The name of a status, such as "not-found". Never NULL, valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn bips_status_name(status: i32) -> *const c_char {
    let named = Status::ALL.iter().find(|(known, _)| *known as i32 == status);
    named.map_or(c"unknown", |(_, name)| name).as_ptr()
}

/// The version of this interface that the library has; BIPS_ABI_VERSION is the header's. A library serves
/// programs made with an older header of the same number; a new number is a new file name.
#[unsafe(no_mangle)]
pub extern "C" fn bips_abi_version() -> u32 {
    BIPS_ABI_VERSION
}

/// The version of this interface.
pub const BIPS_ABI_VERSION: u32 = 1;

/// The release of bips, such as "0.1.0". Valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn bips_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => c"",
        };
    VERSION.as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last() -> String {
        // SAFETY: never null, and this thread has no further call before the copy.
        let said = unsafe { CStr::from_ptr(bips_last_error_message()) };
        said.to_str().unwrap().to_owned()
    }

    #[test]
    fn numbers_and_names_are_those_of_the_core() {
        for code in 1..=13 {
            let (status, name) = Status::ALL[code];
            assert_eq!(status as usize, code);
            assert!(name.to_str().unwrap().len() > 3);
        }
        assert_eq!(Status::from(ErrorKind::TooManyHeld) as u32, ErrorKind::TooManyHeld as u32);
        assert_eq!(Status::from(ErrorKind::NameTaken) as u32, ErrorKind::NameTaken as u32);
        for (status, name) in Status::ALL {
            // SAFETY: never null, valid for ever.
            assert_eq!(unsafe { CStr::from_ptr(bips_status_name(status as i32)) }, name);
        }
    }

    #[test]
    fn a_panic_stays_here() {
        assert_eq!(call(|| panic!("of {}", "sorts")), BIPS_INTERNAL);
        assert!(last().contains("of sorts"), "{}", last());
    }

    #[test]
    fn the_last_error_is_this_thread_s() {
        assert_eq!(call(|| Err(invalid("a\0b"))), BIPS_INVALID_ARGUMENT);
        assert_eq!(last(), "a");
        std::thread::spawn(|| assert_eq!(last(), "")).join().unwrap();
        assert_eq!(call(|| Ok(())), BIPS_OK);
        assert_eq!(last(), "a");
    }
}
