//! The C functions called in random order with random arguments: any handle, of any type, alive or not; structures of any
//! size; text that is none; timelines of devices that fail; from within the functions that bips calls; by one thread, and by
//! several with the same handles. Every call answers with a status and a message, nothing crashes, and in the end all is
//! given back. `BIPS_NONSENSE=1000000 BIPS_SEED=7 cargo test -p bips-capi --test nonsense` calls more. The seed
//! repeats the choices, not who comes first and which of the waits, of microseconds, ends in time: counts differ a little.

use bips_capi::*;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::ptr::{null, null_mut, without_provenance_mut};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// xorshift64*.
struct Noise(u64);

impl Noise {
    fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.word() % limit
    }

    fn one_in(&mut self, chance: u64) -> bool {
        self.below(chance) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// The handles that calls gave, of whatever type, to whatever thread.
#[derive(Default, Clone)]
struct Handles(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// Not ended, as far as anybody noted.
    alive: Vec<usize>,
    /// Of those that have ended the last ones.
    gone: VecDeque<usize>,
}

impl Handles {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap()
    }

    fn alive(&self) -> usize {
        self.known().alive.len()
    }

    /// What a call gave, if it did.
    fn keep<T>(&self, handle: *mut T) {
        if !handle.is_null() {
            self.known().alive.push(handle.addr());
        }
    }

    /// What a call has ended.
    fn end<T>(&self, handle: *mut T) {
        let mut known = self.known();
        known.alive.retain(|alive| *alive != handle.addr());
        known.gone.push_back(handle.addr());
        if known.gone.len() > 100 {
            known.gone.pop_front();
        }
    }

    /// One of them, mostly of the right type, alive, and of those given last; sometimes a number that is near one, or any.
    fn any<T>(&self, noise: &mut Noise) -> *mut T {
        const TYPES: [&str; 6] = [
            "bips_producer",
            "bips_consumer",
            "bips_writable_frame",
            "bips_frame",
            "bips_timeline",
            "bips_private_view",
        ];
        let name = std::any::type_name::<T>();
        let kind =
            TYPES.iter().position(|known| name.ends_with(&format!("::{known}"))).expect("a handle") + 1;
        let known = self.known();
        let of_kind = |handle: &&usize| **handle >> 56 == kind;
        let (alive, gone) = (known.alive.iter().rev().filter(of_kind), known.gone.iter().filter(of_kind));
        let number = match noise.below(24) {
            0 => 0,
            1 => noise.word() as usize,
            2 if !known.alive.is_empty() => noise.of(&known.alive) ^ (1 << noise.below(64)),
            3 if !known.alive.is_empty() => noise.of(&known.alive),
            4..6 => gone.copied().nth(noise.below(10) as usize).unwrap_or(0),
            6..9 => alive.copied().nth(noise.below(30) as usize).unwrap_or(0),
            _ => alive.copied().take(noise.below(3) as usize + 1).last().unwrap_or(0),
        };
        without_provenance_mut(number)
    }
}

const TEXTS: [&CStr; 20] = [
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

struct Caller {
    noise: Noise,
    handles: Handles,
    place: CString,
    /// Whether it is the only thread that ends handles: what belongs to one then stays there while it is used.
    alone: bool,
    answers: Answers,
    /// Calls that another thread's call with the same handle excluded.
    refused: u64,
}

/// How often each function answered what.
type Answers = BTreeMap<(&'static str, i32), u64>;

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

trait Answer {
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
    fn text(&mut self) -> *const c_char {
        if self.noise.one_in(10) { null() } else { self.noise.of(&TEXTS).as_ptr() }
    }

    /// Mostly one name, so that calls meet.
    fn name(&mut self) -> *const c_char {
        if self.noise.one_in(8) { self.text() } else { c"cam".as_ptr() }
    }

    fn rarely<T>(&mut self, place: &mut T) -> *mut T {
        if self.noise.one_in(16) { null_mut() } else { place }
    }

    fn directory(&mut self) -> *const c_char {
        if self.noise.one_in(30) { c"/nonexistent".as_ptr() } else { self.place.as_ptr() }
    }

    fn timeout(&mut self) -> i64 {
        self.noise.of(&[0, 0, 0, 1, 1000, 200_000])
    }

    fn size(&mut self, right: usize) -> usize {
        match self.noise.below(16) {
            0 => 0,
            1 => self.noise.word() as usize,
            2 => self.noise.below(right as u64) as usize,
            3 => right + self.noise.below(64) as usize,
            _ => right,
        }
    }

    fn producer_options(&mut self) -> Room {
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

    fn description(&mut self) -> Room {
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
    fn end_all(&mut self) {
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

    fn note(&mut self, function: &'static str, status: Status) {
        assert_ne!(status, Status::BIPS_INTERNAL, "{function}: {}", last());
        assert!(status == Status::BIPS_OK || !last().is_empty(), "{function} says nothing of {status:?}");
        self.refused += u64::from(was_refused(status));
        *self.answers.entry((function, status as i32)).or_default() += 1;
    }

    fn call(&mut self) {
        // SAFETY: what is no handle is NULL, text that ends, or a place of the size it says.
        unsafe { self.call_any() }
    }

    /// # Safety
    /// Nothing is promised: it is what the test is about.
    #[allow(
        clippy::multiple_unsafe_ops_per_block,
        clippy::undocumented_unsafe_blocks,
        reason = "one call after another"
    )]
    #[allow(clippy::too_many_lines, reason = "a few lines for each function")]
    unsafe fn call_any(&mut self) {
        unsafe {
            match self.noise.below(40) {
                0 | 39 => {
                    let (name, mut options) = (self.name(), self.producer_options());
                    let mut producer = null_mut();
                    let to = self.rarely(&mut producer);
                    called!(self, bips_producer_create(name, options.at(), to));
                    self.handles.keep(producer);
                }
                1 | 2 => {
                    let mut it: ConsumerOptions = std::mem::zeroed();
                    it.directory = self.directory();
                    it.reconnect = self.noise.one_in(5).into();
                    if self.noise.one_in(2) {
                        it.policy = self.text();
                    }
                    let mut options = Room::of(self, it);
                    let (name, timeout) = (self.name(), self.timeout());
                    let mut consumer = null_mut();
                    let to = self.rarely(&mut consumer);
                    called!(self, bips_consumer_connect(name, options.at(), timeout, to));
                    self.handles.keep(consumer);
                }
                3..8 => {
                    let (producer, timeout) = (self.handles.any(&mut self.noise), self.timeout());
                    let mut frame = null_mut();
                    let to = self.rarely(&mut frame);
                    if self.noise.one_in(2) {
                        called!(self, bips_producer_acquire(producer, timeout, to));
                    } else {
                        let mut slot = Room::empty::<Slot>(self);
                        called!(self, bips_producer_acquire_slot(producer, timeout, to, slot.at()));
                        slot.check();
                    }
                    self.handles.keep(frame);
                }
                8..12 => {
                    let (frame, mut description) = (self.handles.any(&mut self.noise), self.description());
                    let mut sequence = 0;
                    let fence = self.fence();
                    let fence = if self.noise.one_in(8) { &raw const fence } else { null() };
                    let to = self.rarely(&mut sequence);
                    let status =
                        called!(self, bips_writable_frame_publish(frame, description.at(), fence, to));
                    // Of a wrong argument, or a description too new, it may be left.
                    if !matches!(status, Status::BIPS_INVALID_ARGUMENT | Status::BIPS_UNSUPPORTED) {
                        self.handles.end(frame);
                    }
                }
                12..17 => {
                    let (consumer, timeout) = (self.handles.any(&mut self.noise), self.timeout());
                    let mut frame = null_mut();
                    let to = self.rarely(&mut frame);
                    if self.noise.one_in(2) {
                        called!(self, bips_consumer_receive(consumer, timeout, to));
                    } else {
                        let (mut data, mut nbytes) = (null(), 0);
                        let (data, length) = (self.rarely(&mut data), self.rarely(&mut nbytes));
                        called!(self, bips_consumer_receive_data(consumer, timeout, to, data, length));
                    }
                    self.handles.keep(frame);
                }
                17..20 => {
                    let fence = self.fence();
                    let fence = if self.noise.one_in(8) { &raw const fence } else { null() };
                    let frame = self.handles.any(&mut self.noise);
                    if called!(self, bips_frame_release(frame, fence)) != Status::BIPS_INVALID_ARGUMENT {
                        self.handles.end(frame);
                    }
                }
                20 if self.noise.one_in(2) => {
                    let (mut data, mut nbytes) = (null(), 0);
                    let (to, length) = (self.rarely(&mut data), self.rarely(&mut nbytes));
                    called!(self, bips_frame_data(self.handles.any(&mut self.noise), to, length));
                }
                20 => {
                    let mut info = Room::empty::<FrameInfo>(self);
                    called!(self, bips_frame_get_info(self.handles.any(&mut self.noise), info.at()));
                    info.check();
                }
                21 => {
                    let mut bytes = [0_u8; 64];
                    let offset = self.noise.of(&[0, 1, 4000, usize::MAX]);
                    let size = self.noise.of(&[0, 1, 64]);
                    let to = self.rarely(&mut bytes).cast();
                    called!(self, bips_frame_copy(self.handles.any(&mut self.noise), offset, to, size));
                }
                22 => {
                    let (mut fd, mut offset) = (-1 as c_int, 0);
                    let (fd_to, offset_to) = (self.rarely(&mut fd), self.rarely(&mut offset));
                    let status = if self.noise.one_in(2) {
                        called!(self, bips_frame_fd(self.handles.any(&mut self.noise), fd_to, offset_to))
                    } else {
                        let frame = self.handles.any(&mut self.noise);
                        called!(self, bips_writable_frame_fd(frame, fd_to, offset_to))
                    };
                    if status == Status::BIPS_OK {
                        use std::os::fd::FromRawFd;
                        drop(std::os::fd::OwnedFd::from_raw_fd(fd));
                    }
                }
                23 => {
                    let (mut view, mut data) = (null_mut(), null_mut());
                    let (to, data_to) = (self.rarely(&mut view), self.rarely(&mut data));
                    let status = called!(
                        self,
                        bips_frame_private_view(self.handles.any(&mut self.noise), to, data_to)
                    );
                    if status == Status::BIPS_OK && self.alone {
                        data.cast::<u8>().write(1);
                    }
                    self.handles.keep(view);
                }
                24 => ending!(self, bips_private_view_destroy),
                25 => {
                    if self.noise.one_in(3) {
                        return self.legacy_tensor();
                    }
                    let mut tensor = null_mut();
                    let (plane, to) = (self.noise.below(5) as i32 - 2, self.rarely(&mut tensor));
                    let status = if self.noise.one_in(2) {
                        called!(self, bips_frame_dlpack(self.handles.any(&mut self.noise), plane, to))
                    } else {
                        called!(
                            self,
                            bips_writable_frame_dlpack(self.handles.any(&mut self.noise), plane, to)
                        )
                    };
                    if status == Status::BIPS_OK {
                        let tensor = tensor.cast::<bips_dlpack::abi::ManagedVersioned>();
                        (*tensor).deleter.expect("every tensor has one")(tensor);
                    }
                }
                26 => ending!(self, bips_writable_frame_cancel),
                27 if self.noise.one_in(2) => {
                    let mut content = bips_capi::Content::default();
                    let to = self.rarely(&mut content);
                    called!(self, bips_writable_frame_get_content(self.handles.any(&mut self.noise), to));
                    called!(self, bips_writable_frame_for_device(self.handles.any(&mut self.noise)));
                }
                27 => {
                    let mut slot = Room::empty::<Slot>(self);
                    called!(
                        self,
                        bips_writable_frame_get_slot(self.handles.any(&mut self.noise), slot.at(),)
                    );
                    slot.check();
                }
                28 => {
                    let mut layout = Room::empty::<Layout>(self);
                    if self.noise.one_in(2) {
                        called!(
                            self,
                            bips_producer_get_layout(self.handles.any(&mut self.noise), layout.at())
                        );
                    } else {
                        called!(
                            self,
                            bips_consumer_get_layout(self.handles.any(&mut self.noise), layout.at())
                        );
                    }
                    layout.check();
                }
                29 => {
                    if self.noise.one_in(2) {
                        let mut stats = Room::empty::<ProducerStats>(self);
                        called!(self, bips_producer_get_stats(self.handles.any(&mut self.noise), stats.at()));
                    } else {
                        let mut stats = Room::empty::<ConsumerStats>(self);
                        called!(self, bips_consumer_get_stats(self.handles.any(&mut self.noise), stats.at()));
                    }
                }
                30 => {
                    let mut states = [std::mem::zeroed::<ConsumerState>(); 2];
                    let mut count = 0;
                    let (capacity, to) = (self.noise.below(3) as usize, self.rarely(&mut count));
                    let states = self.rarely(&mut states).cast();
                    called!(
                        self,
                        bips_producer_get_consumers(self.handles.any(&mut self.noise), states, capacity, to,)
                    );
                }
                31 => {
                    let (mut fd, mut ending) = (0, Ending::BIPS_NOT_ENDED);
                    let (fd, ending) = (self.rarely(&mut fd), self.rarely(&mut ending));
                    let consumer = self.handles.any(&mut self.noise);
                    called!(self, bips_consumer_get_ending(consumer, ending));
                    called!(self, bips_consumer_poll_fd(consumer, fd));
                }
                32 => match self.noise.below(12) {
                    2..5 => _ = called!(self, bips_consumer_close(self.handles.any(&mut self.noise))),
                    0 => _ = called!(self, bips_producer_close(self.handles.any(&mut self.noise))),
                    1 => ending!(self, bips_producer_destroy),
                    5..8 => ending!(self, bips_consumer_destroy),
                    _ => ending!(self, bips_timeline_destroy),
                },
                33 => {
                    let (name, place) = (self.name(), self.directory());
                    let mut info = Room::empty::<StreamInfo>(self);
                    let mut states = [std::mem::zeroed::<ConsumerState>(); 2];
                    let mut count = 0;
                    let (capacity, count) = (self.noise.below(3) as usize, self.rarely(&mut count));
                    let states = self.rarely(&mut states).cast();
                    called!(self, bips_query(name, place, info.at(), states, capacity, count));
                    info.check();
                }
                34 => {
                    let mut told = 0_u64;
                    let each = (!self.noise.one_in(4)).then_some(tell_name as _);
                    let context = (&raw mut told).cast();
                    called!(self, bips_streams(self.directory(), each, context));
                }
                35 if self.noise.one_in(200) => {
                    let mut told = 0_u64;
                    let each = (!self.noise.one_in(4)).then_some(tell_check as _);
                    let status = called!(self, bips_doctor(self.directory(), each, (&raw mut told).cast()));
                    assert!(status != Status::BIPS_OK || told > 0);
                }
                35 => {
                    let mut dtype = std::mem::zeroed();
                    let (name, to) = (self.text(), self.rarely(&mut dtype));
                    called!(self, bips_dtype_parse(name, to));
                    dtype.bits ^= self.noise.below(2) as u8;
                    let named = CStr::from_ptr(called!(self, bips_dtype_name(dtype)));
                    assert!(!named.is_empty());
                }
                36 => {
                    let count = self.noise.below(3) as u32;
                    let (producer, timeout) = (self.handles.any(&mut self.noise), self.timeout());
                    called!(self, bips_producer_wait_for_consumers(producer, count, timeout));
                }
                37 => {
                    assert_eq!(called!(self, bips_abi_version()), BIPS_ABI_VERSION);
                    assert!(!CStr::from_ptr(called!(self, bips_version())).is_empty());
                    assert!(
                        !CStr::from_ptr(called!(self, bips_status_name(self.noise.word() as i32))).is_empty()
                    );
                    assert!(
                        CStr::from_ptr(called!(self, bips_last_error_message())).to_bytes().len() < 10_000
                    );
                }
                _ => {
                    let mut it: TimelineFunctions = std::mem::zeroed();
                    it.value = self.noise.of(&[None, Some(done as _), Some(rises), Some(rises), Some(fails)]);
                    it.wait = self.noise.of(&[None, Some(sleeps as _), Some(sleeps_badly)]);
                    it.destroy = Some(ends);
                    let mut functions = Room::of(self, it);
                    let mut timeline = null_mut();
                    let to = self.rarely(&mut timeline);
                    let status = called!(self, bips_timeline_create(functions.at(), to));
                    TIMELINES.fetch_add(u64::from(status == Status::BIPS_OK && functions.has(40)), Relaxed);
                    self.handles.keep(timeline);
                }
            }
        }
    }

    /// A point on any timeline.
    fn fence(&mut self) -> bips_fence {
        bips_fence { timeline: self.handles.any(&mut self.noise), value: self.noise.below(4) }
    }

    /// # Safety
    /// As `call_any`.
    #[allow(clippy::multiple_unsafe_ops_per_block, clippy::undocumented_unsafe_blocks, reason = "as there")]
    unsafe fn legacy_tensor(&mut self) {
        unsafe {
            let mut tensor = null_mut();
            let (plane, to) = (self.noise.below(5) as i32 - 2, self.rarely(&mut tensor));
            let status = if self.noise.one_in(2) {
                called!(self, bips_frame_dlpack_legacy(self.handles.any(&mut self.noise), plane, to))
            } else {
                called!(self, bips_writable_frame_dlpack_legacy(self.handles.any(&mut self.noise), plane, to))
            };
            if status == Status::BIPS_OK {
                let tensor = tensor.cast::<bips_dlpack::abi::Managed>();
                (*tensor).deleter.expect("every tensor has one")(tensor);
            }
        }
    }
}

thread_local! {
    /// Calls from within a call: from the functions that bips was given.
    static WITHIN: RefCell<Option<Caller>> = const { RefCell::new(None) };
}

/// In one of those: calls any function, with any handle, also of what the call around it is about.
fn calls_too() {
    WITHIN.with(|within| {
        // Not from within a call from within.
        if let Ok(mut within) = within.try_borrow_mut()
            && let Some(caller) = &mut *within
        {
            caller.call();
        }
    });
}

unsafe extern "C" fn done(_: *mut c_void, value: *mut u64) -> i32 {
    calls_too();
    // SAFETY: the library passes a place for it.
    unsafe { value.write(u64::MAX) };
    0
}

/// A device that goes on whenever it is asked.
unsafe extern "C" fn rises(_: *mut c_void, value: *mut u64) -> i32 {
    static STANDS: AtomicU64 = AtomicU64::new(0);
    calls_too();
    // SAFETY: the library passes a place for it.
    unsafe { value.write(STANDS.fetch_add(1, Relaxed) % 5) };
    0
}

/// How often a device failed when it was asked.
#[derive(Debug)]
struct Failures {
    value: AtomicU64,
    wait: AtomicU64,
}

static FAILED: Failures = Failures { value: AtomicU64::new(0), wait: AtomicU64::new(0) };

unsafe extern "C" fn fails(_: *mut c_void, _: *mut u64) -> i32 {
    FAILED.value.fetch_add(1, Relaxed);
    calls_too();
    5
}

unsafe extern "C" fn sleeps(_: *mut c_void, _: u64, _: i64) -> i32 {
    calls_too();
    0
}

unsafe extern "C" fn sleeps_badly(_: *mut c_void, _: u64, _: i64) -> i32 {
    FAILED.wait.fetch_add(1, Relaxed);
    7
}

/// Timelines that were made with `ends`, and those that have ended.
static TIMELINES: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" fn ends(_: *mut c_void) {
    ENDED.fetch_add(1, Relaxed);
    calls_too();
}

#[allow(clippy::multiple_unsafe_ops_per_block, reason = "one after another of what the library passes")]
unsafe extern "C" fn tell_name(name: *const c_char, told: *mut c_void) {
    calls_too();
    // SAFETY: a text, and the counter that was passed.
    unsafe {
        assert!(!CStr::from_ptr(name).is_empty());
        *told.cast::<u64>() += 1;
    }
}

#[allow(clippy::multiple_unsafe_ops_per_block, reason = "one after another of what the library passes")]
unsafe extern "C" fn tell_check(check: *const Check, told: *mut c_void) {
    calls_too();
    // SAFETY: a check, and the counter that was passed.
    unsafe {
        assert!(!CStr::from_ptr((*check).name).is_empty() && (*check).size == size_of::<Check>());
        *told.cast::<u64>() += 1;
    }
}

/// A structure whose `size` says anything, with as much room as may be believed. Nothing is written behind what it says.
struct Room {
    words: Vec<u64>,
    said: usize,
}

const ROOM: usize = 80_000;

impl Room {
    fn of<T: Copy>(caller: &mut Caller, value: T) -> Self {
        let mut words = vec![0_u64; ROOM / 8];
        let said = caller.size(size_of::<T>());
        let at: *mut T = words.as_mut_ptr().cast();
        // SAFETY: every structure of the interface is smaller than the room, and its alignment at most 8.
        unsafe { at.write(value) };
        words[0] = said as u64;
        if caller.noise.one_in(20) {
            words[size_of::<T>() / 8] = 1;
        }
        Self { words, said }
    }

    fn empty<T: Copy>(caller: &mut Caller) -> Self {
        // SAFETY: only structures of the interface are made so; zeros are a value of theirs.
        let zeros: T = unsafe { std::mem::zeroed() };
        let mut room = Self::of(caller, zeros);
        room.words[1..].fill(0);
        room
    }

    /// Whether the library could see so many bytes of it.
    fn has(&self, bytes: usize) -> bool {
        self.said >= bytes
    }

    fn at<T>(&mut self) -> *mut T {
        self.words.as_mut_ptr().cast()
    }

    /// After it was filled.
    fn check(&self) {
        let behind = self.said.div_ceil(8).min(self.words.len());
        assert!(
            self.words[behind.max(1)..].iter().all(|word| *word == 0),
            "written beyond a size of {}",
            self.said
        );
        assert_eq!(self.words[0], self.said as u64, "the size is the caller's");
    }
}

/// Whether it came to nothing because of another thread's call.
fn was_refused(status: Status) -> bool {
    status == Status::BIPS_INVALID_ARGUMENT && last().starts_with("another thread is in a call")
}

fn last() -> String {
    // SAFETY: never null, and copied at once.
    unsafe { CStr::from_ptr(bips_last_error_message()) }.to_string_lossy().into_owned()
}

fn name(status: i32) -> &'static str {
    // SAFETY: never null, valid for ever.
    unsafe { CStr::from_ptr(bips_status_name(status)) }.to_str().expect("ASCII")
}

/// What the process has of the system.
#[derive(Debug, Clone, Copy)]
struct Open {
    descriptors: usize,
    maps: usize,
}

impl Open {
    fn now() -> Self {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
        Self { descriptors, maps: maps.lines().filter(|line| line.contains("bips:")).count() }
    }

    /// Until all that came since is given back: of neither the fewer make up for the more of the other.
    fn again(self) {
        before_long(|| {
            let now = Self::now();
            let given_back = now.descriptors <= self.descriptors && now.maps <= self.maps;
            if given_back { Ok(()) } else { Err(format!("{self:?} has become {now:?}")) }
        });
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// A folder for streams, and who calls in it.
struct Ground {
    directory: PathBuf,
    seed: u64,
    handles: Handles,
}

impl Ground {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("bips-nonsense-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let seed = number("BIPS_SEED", 4);
        // Before the first call: one that ends the process leaves no time for it.
        println!("{name}: BIPS_SEED={seed} repeats the choices");
        Self { directory, seed, handles: Handles::default() }
    }

    fn caller(&self, thread: u64, alone: bool) -> Caller {
        let place = CString::new(self.directory.to_str().unwrap()).unwrap();
        let noise = Noise((self.seed + thread).max(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Caller { noise, handles: self.handles.clone(), place, alone, answers: Answers::new(), refused: 0 }
    }

    /// Has this thread call from within its calls too, until it takes the caller back.
    fn within(&self, thread: u64) {
        WITHIN.set(Some(self.caller(thread, false)));
    }

    /// Says what the calls came to, and that they came to `wanted` too.
    fn tell(&self, callers: &[Caller], wanted: &[&str]) {
        let mut counts = BTreeMap::<i32, u64>::new();
        for ((_, status), count) in callers.iter().flat_map(|caller| &caller.answers) {
            *counts.entry(*status).or_default() += count;
        }
        let words: Vec<_> =
            counts.iter().map(|(status, count)| format!("{}: {count}", name(*status))).collect();
        println!("{}", words.join(", "));
        for wanted in wanted {
            assert!(counts.keys().any(|status| name(*status) == *wanted), "never {wanted}");
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Waits until it holds.
fn before_long(what: impl Fn() -> Result<(), String>) {
    let until = Instant::now() + Duration::from_secs(30);
    while let Err(why) = what() {
        assert!(Instant::now() < until, "{why}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

// In one test: what is open is of the process, and test programs run their tests in threads.
#[test]
fn any_call_with_any_argument() {
    let calls = number("BIPS_NONSENSE", 60_000);
    by_one_thread(calls);
    by_several_threads(calls / 4);
    before_long(|| {
        let (made, ended) = (TIMELINES.load(Relaxed), ENDED.load(Relaxed));
        if made == ended { Ok(()) } else { Err(format!("of {made} timelines {ended} have ended")) }
    });
    assert!(TIMELINES.load(Relaxed) > 0);
}

fn by_one_thread(calls: u64) {
    let ground = Ground::new("one");
    let mut caller = ground.caller(0, true);
    // Once, for what is made once and stays.
    for _ in 0..5000 {
        caller.call();
    }
    caller.end_all();
    let before = Open::now();
    ground.within(100);
    for call in 0..calls {
        caller.call();
        if caller.handles.alive() > 200 || call % 5000 == 4999 {
            caller.end_all();
        }
    }
    caller.end_all();
    let within = WITHIN.take().expect("put there above");
    let answers: u64 = within.answers.values().sum();
    println!("{answers} calls from within calls");
    assert!(within.answers.keys().any(|(_, status)| *status == Status::BIPS_OK as i32));
    caller.end_all(); // what those made when timelines ended
    let wanted =
        ["ok", "timeout", "closed", "not-found", "invalid-argument", "too-many-held", "name-taken", "system"];
    ground.tell(std::slice::from_ref(&caller), &wanted);
    let listed: BTreeSet<_> = include_str!("../symbols.txt").lines().collect();
    let done = |function| caller.answers.contains_key(&(function, Status::BIPS_OK as i32));
    let failed: Vec<_> = listed.into_iter().filter(|function| !done(function)).collect();
    assert!(failed.is_empty(), "never called, or never with success: {failed:?}");
    for function in ["bips_writable_frame_publish", "bips_frame_release"] {
        let system = caller.answers.contains_key(&(function, Status::BIPS_SYSTEM as i32));
        assert!(system, "{function} never met a fence that fails");
    }
    assert!(FAILED.value.load(Relaxed) > 0 && FAILED.wait.load(Relaxed) > 0, "{FAILED:?}");
    before.again();
}

/// They use, and end, each other's handles.
fn by_several_threads(calls: u64) {
    let ground = Ground::new("several");
    let before = Open::now();
    let callers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=4)
            .map(|thread| {
                let mut caller = ground.caller(thread, false);
                let ground = &ground;
                scope.spawn(move || {
                    ground.within(100 + thread);
                    for _ in 0..calls {
                        caller.call();
                        if caller.handles.alive() > 200 {
                            caller.end_all();
                        }
                    }
                    WITHIN.take();
                    caller
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    ground.caller(0, false).end_all();
    ground.tell(&callers, &["ok", "timeout", "closed", "invalid-argument"]);
    let refused: u64 = callers.iter().map(|caller| caller.refused).sum();
    println!("{refused} calls refused while another thread was in one");
    assert!(refused > 0, "no two threads ever met at a handle that is for one at a time");
    before.again();
}
