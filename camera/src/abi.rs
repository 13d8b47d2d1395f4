//! The kernel's structures and numbers, as the V4L2 documentation gives them, for 64-bit machines.
//!
//! Only what this crate uses. Sizes are asserted: the number of an ioctl contains them, so a wrong one would be another
//! ioctl.

#![allow(unsafe_code, reason = "declares system calls")]

use std::mem::size_of;

pub(crate) const CAPTURE: u32 = 1;
pub(crate) const CAPTURE_MPLANE: u32 = 9;

pub(crate) const CAP_VIDEO_CAPTURE: u32 = 0x1;
pub(crate) const CAP_VIDEO_CAPTURE_MPLANE: u32 = 0x1000;
pub(crate) const CAP_STREAMING: u32 = 0x0400_0000;
pub(crate) const CAP_DEVICE_CAPS: u32 = 0x8000_0000;

pub(crate) const FMT_FLAG_COMPRESSED: u32 = 1;
pub(crate) const FMT_FLAG_EMULATED: u32 = 2;

pub(crate) const FIELD_ANY: u32 = 0;
pub(crate) const FIELD_NONE: u32 = 1;
pub(crate) const FIELD_INTERLACED: [u32; 3] = [4, 8, 9];

pub(crate) const MEMORY_MMAP: u32 = 1;
pub(crate) const MEMORY_USERPTR: u32 = 2;
pub(crate) const MEMORY_DMABUF: u32 = 4;

pub(crate) const BUF_CAP_MMAP: u32 = 1;
pub(crate) const BUF_CAP_USERPTR: u32 = 2;
pub(crate) const BUF_CAP_DMABUF: u32 = 4;

pub(crate) const BUF_FLAG_ERROR: u32 = 0x40;
pub(crate) const BUF_FLAG_LAST: u32 = 0x0010_0000;
pub(crate) const BUF_FLAG_TIMESTAMP_MASK: u32 = 0xe000;
pub(crate) const BUF_FLAG_TIMESTAMP_MONOTONIC: u32 = 0x2000;

pub(crate) const PIX_FMT_PRIV_MAGIC: u32 = 0xfeed_cafe;
pub(crate) const CAP_TIMEPERFRAME: u32 = 0x1000;
pub(crate) const IN_CAP_DV_TIMINGS: u32 = 2;

pub(crate) const EVENT_SOURCE_CHANGE: u32 = 5;

pub(crate) const FRAME_DISCRETE: u32 = 1;

pub(crate) const CTRL_FLAG_DISABLED: u32 = 1;
pub(crate) const CTRL_FLAG_NEXT: u32 = 0x8000_0000;

/// Planes a buffer can have.
pub(crate) const MAX_PLANES: usize = 8;

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Capability {
    pub(crate) driver: [u8; 16],
    pub(crate) card: [u8; 32],
    pub(crate) bus_info: [u8; 32],
    pub(crate) version: u32,
    pub(crate) capabilities: u32,
    pub(crate) device_caps: u32,
    pub(crate) reserved: [u32; 3],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct FmtDesc {
    pub(crate) index: u32,
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    pub(crate) description: [u8; 32],
    pub(crate) pixelformat: u32,
    pub(crate) mbus_code: u32,
    pub(crate) reserved: [u32; 3],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Pix {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) pixelformat: u32,
    pub(crate) field: u32,
    pub(crate) bytesperline: u32,
    pub(crate) sizeimage: u32,
    pub(crate) colorspace: u32,
    pub(crate) private: u32,
    pub(crate) flags: u32,
    pub(crate) ycbcr: u32,
    pub(crate) quantization: u32,
    pub(crate) transfer: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PlanePix {
    pub(crate) sizeimage: u32,
    pub(crate) bytesperline: u32,
    pub(crate) reserved: [u16; 6],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PixMplane {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) pixelformat: u32,
    pub(crate) field: u32,
    pub(crate) colorspace: u32,
    pub(crate) planes: [PlanePix; MAX_PLANES],
    pub(crate) num_planes: u8,
    pub(crate) flags: u8,
    pub(crate) ycbcr: u8,
    pub(crate) quantization: u8,
    pub(crate) transfer: u8,
    pub(crate) reserved: [u8; 7],
}

#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(crate) union FormatOf {
    pub(crate) pix: Pix,
    pub(crate) mplane: PixMplane,
    pub(crate) raw: [u8; 200],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Format {
    pub(crate) kind: u32,
    pub(crate) of: FormatOf,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct RequestBuffers {
    pub(crate) count: u32,
    pub(crate) kind: u32,
    pub(crate) memory: u32,
    pub(crate) capabilities: u32,
    pub(crate) flags: u8,
    pub(crate) reserved: [u8; 3],
}

/// Where a buffer or a plane lies: an offset, an address, a descriptor, or (of a multi-planar buffer) its planes.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) union Whereabouts {
    pub(crate) userptr: u64,
    pub(crate) fd: i32,
    pub(crate) planes: *mut PlaneBuffer,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PlaneBuffer {
    pub(crate) bytesused: u32,
    pub(crate) length: u32,
    pub(crate) at: Whereabouts,
    pub(crate) data_offset: u32,
    pub(crate) reserved: [u32; 11],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Buffer {
    pub(crate) index: u32,
    pub(crate) kind: u32,
    pub(crate) bytesused: u32,
    pub(crate) flags: u32,
    pub(crate) field: u32,
    pub(crate) seconds: i64,
    pub(crate) microseconds: i64,
    pub(crate) timecode: [u32; 4],
    pub(crate) sequence: u32,
    pub(crate) memory: u32,
    pub(crate) at: Whereabouts,
    pub(crate) length: u32,
    pub(crate) reserved: u32,
    pub(crate) request: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ExportBuffer {
    pub(crate) kind: u32,
    pub(crate) index: u32,
    pub(crate) plane: u32,
    pub(crate) flags: u32,
    /// Written by the kernel.
    pub(crate) fd: i32,
    pub(crate) reserved: [u32; 11],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Fraction {
    pub(crate) numerator: u32,
    pub(crate) denominator: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct StreamParm {
    pub(crate) kind: u32,
    pub(crate) capability: u32,
    pub(crate) mode: u32,
    pub(crate) timeperframe: Fraction,
    pub(crate) raw: [u32; 46],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Input {
    pub(crate) index: u32,
    pub(crate) name: [u8; 32],
    pub(crate) kind: u32,
    pub(crate) audioset: u32,
    pub(crate) tuner: u32,
    pub(crate) std: u64,
    pub(crate) status: u32,
    pub(crate) capabilities: u32,
    pub(crate) reserved: [u32; 3],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct FrameSizes {
    pub(crate) index: u32,
    pub(crate) pixelformat: u32,
    pub(crate) kind: u32,
    /// Discrete: width, height. Else: least, most and step of the width, then of the height.
    pub(crate) sizes: [u32; 6],
    pub(crate) reserved: [u32; 2],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct FrameIntervals {
    pub(crate) index: u32,
    pub(crate) pixelformat: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) kind: u32,
    /// Discrete: the first. Else: shortest, longest, step.
    pub(crate) intervals: [Fraction; 3],
    pub(crate) reserved: [u32; 2],
}

/// Opaque: what QUERY gives is what S takes.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct DvTimings {
    pub(crate) words: [u32; 33],
}

#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(crate) struct Payload(pub(crate) [u8; 64]);

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Event {
    pub(crate) kind: u32,
    pub(crate) payload: Payload,
    pub(crate) pending: u32,
    pub(crate) sequence: u32,
    pub(crate) timestamp: [i64; 2],
    pub(crate) id: u32,
    pub(crate) reserved: [u32; 8],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Subscription {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) flags: u32,
    pub(crate) reserved: [u32; 5],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Control {
    pub(crate) id: u32,
    pub(crate) value: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct QueryControl {
    pub(crate) id: u32,
    pub(crate) kind: u32,
    pub(crate) name: [u8; 32],
    pub(crate) minimum: i32,
    pub(crate) maximum: i32,
    pub(crate) step: i32,
    pub(crate) default: i32,
    pub(crate) flags: u32,
    pub(crate) reserved: [u32; 2],
}

const _: () = {
    assert!(size_of::<Capability>() == 104);
    assert!(size_of::<FmtDesc>() == 64);
    assert!(size_of::<Pix>() == 48);
    assert!(size_of::<PlanePix>() == 20);
    assert!(size_of::<PixMplane>() == 192);
    assert!(size_of::<Format>() == 208);
    assert!(size_of::<RequestBuffers>() == 20);
    assert!(size_of::<PlaneBuffer>() == 64);
    assert!(size_of::<Buffer>() == 88);
    assert!(size_of::<ExportBuffer>() == 64);
    assert!(size_of::<StreamParm>() == 204);
    assert!(size_of::<Input>() == 80);
    assert!(size_of::<FrameSizes>() == 44);
    assert!(size_of::<FrameIntervals>() == 52);
    assert!(size_of::<DvTimings>() == 132);
    assert!(size_of::<Event>() == 136);
    assert!(size_of::<Subscription>() == 32);
    assert!(size_of::<Control>() == 8);
    assert!(size_of::<QueryControl>() == 68);
};

/// A structure of zeros, which all of the above may be.
///
/// # Safety
/// Implemented only for the structures of this file: integers, arrays and unions of them, raw pointers.
pub(crate) unsafe trait Zeros: Copy {
    fn zeros() -> Self {
        // SAFETY: all zeros are a value of each implementor (contract of the trait).
        unsafe { std::mem::zeroed() }
    }
}

macro_rules! zeros {
    ($($name:ty),*) => { $(
        // SAFETY: integers, arrays and unions of them, raw pointers.
        unsafe impl Zeros for $name {}
    )* };
}

zeros!(
    Capability,
    FmtDesc,
    Format,
    RequestBuffers,
    PlaneBuffer,
    Buffer,
    ExportBuffer,
    StreamParm,
    Input,
    FrameSizes,
    FrameIntervals,
    DvTimings,
    Event,
    Subscription,
    QueryControl
);

nix::ioctl_read!(querycap, b'V', 0, Capability);
nix::ioctl_readwrite!(enum_fmt, b'V', 2, FmtDesc);
nix::ioctl_readwrite!(g_fmt, b'V', 4, Format);
nix::ioctl_readwrite!(s_fmt, b'V', 5, Format);
nix::ioctl_readwrite!(reqbufs, b'V', 8, RequestBuffers);
nix::ioctl_readwrite!(qbuf, b'V', 15, Buffer);
nix::ioctl_readwrite!(expbuf, b'V', 16, ExportBuffer);
nix::ioctl_readwrite!(dqbuf, b'V', 17, Buffer);
nix::ioctl_write_ptr!(streamon, b'V', 18, i32);
nix::ioctl_write_ptr!(streamoff, b'V', 19, i32);
nix::ioctl_readwrite!(g_parm, b'V', 21, StreamParm);
nix::ioctl_readwrite!(s_parm, b'V', 22, StreamParm);
nix::ioctl_readwrite!(enuminput, b'V', 26, Input);
nix::ioctl_readwrite!(g_ctrl, b'V', 27, Control);
nix::ioctl_readwrite!(s_ctrl, b'V', 28, Control);
nix::ioctl_readwrite!(queryctrl, b'V', 36, QueryControl);
nix::ioctl_read!(g_input, b'V', 38, i32);
nix::ioctl_readwrite!(s_input, b'V', 39, i32);
nix::ioctl_readwrite!(enum_framesizes, b'V', 74, FrameSizes);
nix::ioctl_readwrite!(enum_frameintervals, b'V', 75, FrameIntervals);
nix::ioctl_readwrite!(s_dv_timings, b'V', 87, DvTimings);
nix::ioctl_read!(dqevent, b'V', 89, Event);
nix::ioctl_write_ptr!(subscribe_event, b'V', 90, Subscription);
nix::ioctl_read!(query_dv_timings, b'V', 99, DvTimings);
