//! A call of any function.

use crate::caller::{Answer, Caller, called, ending};
use crate::devices::{TIMELINES, done, ends, fails, rises, sleeps, sleeps_badly, tell_check, tell_name};
use crate::room::Room;
use bips_capi::*;
use std::ffi::{CStr, c_int};
use std::ptr::{null, null_mut};
use std::sync::atomic::Ordering::Relaxed;

impl Caller {
    pub(crate) fn call(&mut self) {
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
    pub(crate) unsafe fn call_any(&mut self) {
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
    pub(crate) fn fence(&mut self) -> bips_fence {
        bips_fence { timeline: self.handles.any(&mut self.noise), value: self.noise.below(4) }
    }

    /// # Safety
    /// As `call_any`.
    #[allow(clippy::multiple_unsafe_ops_per_block, clippy::undocumented_unsafe_blocks, reason = "as there")]
    pub(crate) unsafe fn legacy_tensor(&mut self) {
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
