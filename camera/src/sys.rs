//! The system calls, one safe function each where the kernel can do no harm with what it is given.

#![allow(unsafe_code, reason = "system calls")]

use crate::abi::{self, Buffer, Format, Pix, PixMplane, PlaneBuffer, Zeros};
use nix::errno::Errno;
use std::fs::File;
use std::os::fd::AsRawFd;

type Result<T = ()> = nix::Result<T>;

/// A call that fills in or changes a structure of integers and nothing else.
macro_rules! call {
    ($($name:ident($of:ty) -> $by:ident),* $(,)?) => { $(
        pub(crate) fn $name(file: &File, of: &mut $of) -> Result {
            // SAFETY: the kernel reads and writes one structure of the size in the ioctl's number, which is `of`'s.
            again(|| unsafe { abi::$by(file.as_raw_fd(), of) })
        }
    )* };
}

call! {
    capability(abi::Capability) -> querycap,
    enumerate_format(abi::FmtDesc) -> enum_fmt,
    get_format(Format) -> g_fmt,
    set_format(Format) -> s_fmt,
    request_buffers(abi::RequestBuffers) -> reqbufs,
    export_buffer(abi::ExportBuffer) -> expbuf,
    get_parameters(abi::StreamParm) -> g_parm,
    set_parameters(abi::StreamParm) -> s_parm,
    enumerate_input(abi::Input) -> enuminput,
    get_input(i32) -> g_input,
    set_input(i32) -> s_input,
    enumerate_size(abi::FrameSizes) -> enum_framesizes,
    enumerate_interval(abi::FrameIntervals) -> enum_frameintervals,
    set_timings(abi::DvTimings) -> s_dv_timings,
    query_timings(abi::DvTimings) -> query_dv_timings,
    take_event(abi::Event) -> dqevent,
    get_control(abi::Control) -> g_ctrl,
    set_control(abi::Control) -> s_ctrl,
    describe_control(abi::QueryControl) -> queryctrl,
}

pub(crate) fn subscribe(file: &File, subscription: &abi::Subscription) -> Result {
    // SAFETY: the kernel reads one structure.
    again(|| unsafe { abi::subscribe_event(file.as_raw_fd(), subscription) })
}

pub(crate) fn stream_on(file: &File, kind: u32) -> Result {
    let kind = kind.cast_signed();
    // SAFETY: the kernel reads one number.
    again(|| unsafe { abi::streamon(file.as_raw_fd(), &kind) })
}

pub(crate) fn stream_off(file: &File, kind: u32) -> Result {
    let kind = kind.cast_signed();
    // SAFETY: the kernel reads one number.
    again(|| unsafe { abi::streamoff(file.as_raw_fd(), &kind) })
}

/// A buffer, and the planes of a multi-planar one.
pub(crate) struct Described {
    pub(crate) buffer: Buffer,
    pub(crate) planes: [PlaneBuffer; abi::MAX_PLANES],
}

impl Described {
    pub(crate) fn new(kind: u32, memory: u32) -> Self {
        let buffer = Buffer { kind, memory, ..Buffer::zeros() };
        Self { buffer, planes: [PlaneBuffer::zeros(); abi::MAX_PLANES] }
    }

    /// Refers to its own planes, where it is moved no more.
    fn link(&mut self) {
        if self.buffer.kind == abi::CAPTURE_MPLANE {
            self.buffer.at.planes = self.planes.as_mut_ptr();
        }
    }
}

/// Gives the driver a buffer to write to.
///
/// # Safety
/// What it describes stays memory that nothing else uses until it is dequeued, streaming is off, or the file closed.
pub(crate) unsafe fn queue(file: &File, described: &mut Described) -> Result {
    described.link();
    // SAFETY: one structure; its planes, if it has any, are `MAX_PLANES`, as many as a driver can ask for. What the
    // driver writes to later is the caller's care.
    again(|| unsafe { abi::qbuf(file.as_raw_fd(), &raw mut described.buffer) })
}

pub(crate) fn dequeue(file: &File, described: &mut Described) -> Result {
    described.buffer.length = abi::MAX_PLANES as u32;
    described.link();
    // SAFETY: one structure, and at most `MAX_PLANES` planes, which are there.
    again(|| unsafe { abi::dqbuf(file.as_raw_fd(), &raw mut described.buffer) })
}

impl Format {
    pub(crate) fn single(pix: Pix) -> Self {
        let mut format = Self { kind: abi::CAPTURE, ..Self::zeros() };
        // Into zeros: the kernel reads the rest of the union too.
        format.of.pix = pix;
        format
    }

    pub(crate) fn multi(mplane: PixMplane) -> Self {
        let mut format = Self { kind: abi::CAPTURE_MPLANE, ..Self::zeros() };
        format.of.mplane = mplane;
        format
    }

    pub(crate) fn pix(&self) -> Pix {
        // SAFETY: any bytes are integers.
        unsafe { self.of.pix }
    }

    pub(crate) fn mplane(&self) -> PixMplane {
        // SAFETY: any bytes are integers.
        unsafe { self.of.mplane }
    }
}

/// Until no signal interrupts it.
fn again(mut call: impl FnMut() -> Result<i32>) -> Result {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}
