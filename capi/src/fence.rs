//! Fences: a point on the caller's own timeline of device work.

use crate::args::{Place, Sized, read, sized};
use crate::handle::{self, Room, handled};
use crate::status::{Outcome, Status, call, invalid};
use bips::{Error, ErrorKind, Fence, Result};
use std::ffi::c_void;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A 64-bit counter that device work advances and never turns back.
#[allow(non_camel_case_types, reason = "as C writes them")]
pub struct bips_timeline(());

/// How bips asks a timeline of yours, for instance one of CUDA events. Called by the thread that publishes or releases
/// a frame, and by one of bips' own as long as the work is not done then; must neither throw, nor jump out, nor fork.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct TimelineFunctions {
    /// sizeof(bips_timeline_functions).
    pub size: usize,
    /// Passed to the functions.
    pub context: *mut c_void,
    /// Where the timeline stands; not 0 for an error of the device, the code of which goes into the message.
    pub value: Option<unsafe extern "C" fn(context: *mut c_void, value: *mut u64) -> i32>,
    /// Blocks until it stands at `value` or beyond, or `timeout_ns` (negative: none) is over, after which it is asked
    /// for its value. May be NULL: then the value is asked for every 100 µs. A publication in
    /// memory that must be told of the CPU's access asks for a few milliseconds at a time, since closing the producer
    /// ends it.
    pub wait: Option<unsafe extern "C" fn(context: *mut c_void, value: u64, timeout_ns: i64) -> i32>,
    /// Called once when nobody will ask any more. May be NULL.
    pub destroy: Option<unsafe extern "C" fn(context: *mut c_void)>,
}
sized!(TimelineFunctions, "bips_timeline_functions", 40);

/// A point on a timeline. NULL instead of a fence, or with a timeline of NULL: the work is done.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct bips_fence {
    /// The timeline.
    pub timeline: *const bips_timeline,
    /// The value at which the work is done.
    pub value: u64,
}

/// Theirs, as the core asks it.
struct Theirs(TimelineFunctions);

// SAFETY: the header says that the functions are called by any thread.
unsafe impl Send for Theirs {}
// SAFETY: as above.
unsafe impl Sync for Theirs {}

impl std::fmt::Debug for Theirs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Timeline({:p})", self.0.context)
    }
}

impl bips::Timeline for Theirs {
    fn value(&self) -> Result<u64> {
        let mut value = 0;
        let function = self.0.value.expect("looked at when it was made");
        // SAFETY: the maker of the timeline promised a function for this context.
        match unsafe { function(self.0.context, &raw mut value) } {
            0 => Ok(value),
            code => Err(device_error("asking the timeline", code)),
        }
    }

    fn wait(&self, value: u64, timeout: Option<Duration>) -> Result<()> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        while self.value()? < value {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    "the device work is not done in the time allowed",
                ));
            }
            match self.0.wait {
                Some(function) => {
                    let left = left.map_or(-1, |left| left.as_nanos().try_into().unwrap_or(i64::MAX));
                    // SAFETY: as in `value`.
                    let code = unsafe { function(self.0.context, value, left) };
                    if code != 0 {
                        return Err(device_error("waiting for the timeline", code));
                    }
                }
                None => std::thread::sleep(Duration::from_micros(100)),
            }
        }
        Ok(())
    }
}

fn device_error(what: &str, code: i32) -> Error {
    Error::new(ErrorKind::System, format!("{what}: its function returned {code}"))
}

impl Drop for Theirs {
    fn drop(&mut self) {
        if let Some(destroy) = self.0.destroy {
            // SAFETY: promised by who made the timeline; nobody asks any more.
            unsafe { destroy(self.0.context) };
        }
    }
}

struct Timeline(Arc<Theirs>);
handled!(Timeline, bips_timeline, 5, "a timeline");

/// Makes a timeline of your functions. When that fails `destroy` is not called: the context is still yours.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_timeline_create(
    functions: *const TimelineFunctions,
    timeline: *mut *mut bips_timeline,
) -> Status {
    call(|| {
        // SAFETY: as the header says, a place for it or NULL.
        let place = unsafe { Place::at(timeline, "the timeline") }?;
        if functions.is_null() {
            return Err(invalid(format!("NULL instead of {}", TimelineFunctions::NAME)));
        }
        // SAFETY: as the header says, a structure of its size.
        let functions = unsafe { read(functions) }?;
        if functions.value.is_none() {
            return Err(invalid("a timeline needs a function `value`"));
        }
        let room = Room::reserve()?; // before it is ours: what fails from here on would call `destroy`
        place.put(room.fill(Timeline(Arc::new(Theirs(functions)))));
        Ok(())
    })
}

/// Ends the handle. Calls that wait for the timeline go on. NULL is nothing.
#[unsafe(no_mangle)]
pub extern "C" fn bips_timeline_destroy(timeline: *mut bips_timeline) -> Status {
    call(|| if timeline.is_null() { Ok(()) } else { handle::remove::<Timeline>(timeline) })
}

/// # Safety
/// NULL or a fence.
pub(crate) unsafe fn fence(from: *const bips_fence) -> Outcome<Fence> {
    if from.is_null() {
        return Ok(Fence::Signaled);
    }
    // SAFETY: the caller's promise.
    let fence = unsafe { from.read() };
    if fence.timeline.is_null() {
        return Ok(Fence::Signaled);
    }
    let timeline = handle::shared::<Timeline>(fence.timeline)?;
    Ok(Fence::Timeline(timeline.0.clone(), fence.value))
}
