//! Who calls: with what arguments, and what came of it.

use crate::handles::{Handles, Noise};
use crate::room::Room;
use bips_capi::*;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr::{null, null_mut, without_provenance_mut};

pub(crate) const TEXTS: [&CStr; 20] = [
    c"",
    c"cam",
    c"cam",
    c"cam",
    c"a/b",
    c"../x",
    c"\xff\xfe",
    c"uint8",
    c"float32",
    c"RGB3",
    c"NV12",
    c"reliable",
    c"latest",
    c"keep-last:3",
    c"memfd",
    c"auto",
    c"owner",
    c"expel:1",
    c"wait",
    c"group:\xc3",
];

pub(crate) struct Caller {
    pub(crate) noise: Noise,
    pub(crate) handles: Handles,
    pub(crate) place: CString,
    /// Whether it is the only thread that ends handles: what belongs to one then stays there while it is used.
    pub(crate) alone: bool,
    pub(crate) answers: Answers,
    /// Calls that another thread's call with the same handle excluded.
    pub(crate) refused: u64,
}

/// How often each function answered what.
pub(crate) type Answers = BTreeMap<(&'static str, i32), u64>;

/// Calls a function, and notes its answer.
macro_rules! called {
    ($caller:expr, $function:ident($($argument:expr),* $(,)?)) => {{
        let answer = $function($($argument),*);
        $caller.note(stringify!($function), answer.status());
        answer
    }};
}

/// The same with any handle, which it ends.
macro_rules! ending {
    ($caller:expr, $function:ident) => {{
        let handle = $caller.handles.any(&mut $caller.noise);
        if called!($caller, $function(handle)) == Status::BIPS_OK {
            $caller.handles.end(handle);
        }
    }};
}

pub(crate) use {called, ending};

pub(crate) trait Answer {
    fn status(&self) -> Status;
}

impl Answer for Status {
    fn status(&self) -> Status {
        *self
    }
}

// Functions that always have an answer.
impl Answer for u32 {
    fn status(&self) -> Status {
        Status::BIPS_OK
    }
}

impl Answer for *const c_char {
    fn status(&self) -> Status {
        assert!(!self.is_null());
        Status::BIPS_OK
    }
}

impl Caller {
    pub(crate) fn text(&mut self) -> *const c_char {
        if self.noise.one_in(10) { null() } else { self.noise.of(&TEXTS).as_ptr() }
    }

    /// Mostly one name, so that calls meet.
    pub(crate) fn name(&mut self) -> *const c_char {
        if self.noise.one_in(8) { self.text() } else { c"cam".as_ptr() }
    }

    pub(crate) fn rarely<T>(&mut self, place: &mut T) -> *mut T {
        if self.noise.one_in(16) { null_mut() } else { place }
    }

    pub(crate) fn directory(&mut self) -> *const c_char {
        if self.noise.one_in(30) { c"/nonexistent".as_ptr() } else { self.place.as_ptr() }
    }

    pub(crate) fn timeout(&mut self) -> i64 {
        self.noise.of(&[0, 0, 0, 1, 1000, 200_000])
    }

    pub(crate) fn size(&mut self, right: usize) -> usize {
        match self.noise.below(16) {
            0 => 0,
            1 => self.noise.word() as usize,
            2 => self.noise.below(right as u64) as usize,
            3 => right + self.noise.below(64) as usize,
            _ => right,
        }
    }

    pub(crate) fn producer_options(&mut self) -> Room {
        // SAFETY: zeros are a value of it.
        let mut it: ProducerOptions = unsafe { std::mem::zeroed() };
        let shapes: [&[u64]; 5] = [&[4, 4], &[480, 640, 3], &[u64::MAX, 2], &[0], &[1; 8]];
        let shape = self.noise.of(&shapes);
        it.directory = self.directory();
        match self.noise.below(6) {
            0..3 => it.bytes = self.noise.of(&[1, 100, 5000, u64::MAX]),
            3 => {
                it.shape = shape.as_ptr();
                it.ndim = shape.len();
                it.dtype = self.noise.of(&[null(), c"float32".as_ptr(), c"x".as_ptr()]);
            }
            4 => {
                it.format = self.noise.of(&[c"RGB3".as_ptr(), c"NV12".as_ptr(), c"\xff".as_ptr()]);
                it.width = self.noise.of(&[0, 16, 33, u32::MAX]);
                it.height = self.noise.of(&[0, 16, 64]);
            }
            _ => it.format = self.text(),
        }
        if self.noise.one_in(4) {
            it.memory = self.text();
            it.access = self.text();
            it.on_stall = self.text();
            it.slots = self.noise.below(70) as u32;
            it.max_held = self.noise.below(70) as u32;
            it.history = self.noise.below(5) as u32;
            it.usage = self.noise.below(80) as u32;
            it.writable = self.noise.below(3) as u8;
            it.refuse_reliable = self.noise.below(3) as u8;
            it.spin_ns = self.noise.of(&[0, -1, 1000, i64::MIN]);
        }
        Room::of(self, it)
    }

    pub(crate) fn description(&mut self) -> Room {
        // SAFETY: zeros are a value of it.
        let mut it: FrameDescription = unsafe { std::mem::zeroed() };
        static BYTES: [u8; 300] = [7; 300];
        static SHAPE: [u64; 10] = [2, 2, 1, 1, 1, 1, 1, 1, 1, 1];
        if self.noise.one_in(3) {
            it.metadata = BYTES.as_ptr().cast();
            it.metadata_size = self.noise.below(300) as usize;
        }
        if self.noise.one_in(3) {
            it.shape = SHAPE.as_ptr();
            it.ndim = self.noise.below(10) as usize;
        }
        if self.noise.one_in(9) {
            it.metadata = null();
        }
        it.timestamp_ns = self.noise.below(2);
        Room::of(self, it)
    }

    /// Ends everything, whatever it is. What another thread is in a call with stays.
    pub(crate) fn end_all(&mut self) {
        let all = std::mem::take(&mut self.handles.known().alive);
        let mut stay = Vec::new();
        for handle in all {
            let before = self.refused;
            // SAFETY: handles, alive or not, of any type.
            unsafe {
                called!(self, bips_frame_release(without_provenance_mut(handle), null()));
                called!(self, bips_writable_frame_cancel(without_provenance_mut(handle)));
                called!(self, bips_private_view_destroy(without_provenance_mut(handle)));
                called!(self, bips_consumer_destroy(without_provenance_mut(handle)));
                called!(self, bips_producer_destroy(without_provenance_mut(handle)));
                called!(self, bips_timeline_destroy(without_provenance_mut(handle)));
            }
            if self.refused > before {
                stay.push(handle);
            }
        }
        self.handles.known().alive.append(&mut stay);
    }

    pub(crate) fn note(&mut self, function: &'static str, status: Status) {
        assert_ne!(status, Status::BIPS_INTERNAL, "{function}: {}", last());
        assert!(status == Status::BIPS_OK || !last().is_empty(), "{function} says nothing of {status:?}");
        self.refused += u64::from(was_refused(status));
        *self.answers.entry((function, status as i32)).or_default() += 1;
    }
}

/// Whether it came to nothing because of another thread's call.
pub(crate) fn was_refused(status: Status) -> bool {
    status == Status::BIPS_INVALID_ARGUMENT && last().starts_with("another thread is in a call")
}

pub(crate) fn last() -> String {
    // SAFETY: never null, and copied at once.
    unsafe { CStr::from_ptr(bips_last_error_message()) }.to_string_lossy().into_owned()
}

pub(crate) fn name(status: i32) -> &'static str {
    // SAFETY: never null, valid for ever.
    unsafe { CStr::from_ptr(bips_status_name(status)) }.to_str().expect("ASCII")
}
