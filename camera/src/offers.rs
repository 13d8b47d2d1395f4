//! What a camera can do, for people to choose from.

use crate::abi::{self, Zeros};
use crate::device::{rate, text};
use crate::{Code, Device, sys};

/// A pixel format of a camera, and the sizes it has in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// Its code.
    pub code: Code,
    /// The driver's words for it.
    pub description: String,
    /// Whether frames are compressed.
    pub compressed: bool,
    /// Whether not the camera but a program in between makes it.
    pub emulated: bool,
    /// Sizes, as the driver lists them.
    pub sizes: Vec<Sizes>,
}

/// A size, or a range of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes {
    /// Width and height, the smallest.
    pub least: (u32, u32),
    /// The largest; the same for a single size.
    pub most: (u32, u32),
    /// From one to the next.
    pub step: (u32, u32),
    /// The highest rate at the largest size, where the driver says so.
    pub fps: Option<f64>,
}

/// More than any driver lists: one that never ends must not keep us.
const MANY: u32 = 256;

impl Device {
    /// Every format with its sizes.
    pub fn offers(&self) -> Vec<Offer> {
        (0..MANY).map_while(|index| self.offer(index)).collect()
    }

    fn offer(&self, index: u32) -> Option<Offer> {
        let mut found = abi::FmtDesc { index, kind: self.kind, ..abi::FmtDesc::zeros() };
        sys::enumerate_format(&self.file, &mut found).ok()?;
        let code = Code::of(found.pixelformat);
        Some(Offer {
            code,
            description: text(&found.description),
            compressed: found.flags & abi::FMT_FLAG_COMPRESSED != 0,
            emulated: found.flags & abi::FMT_FLAG_EMULATED != 0,
            sizes: (0..MANY).map_while(|index| self.sizes(code, index)).collect(),
        })
    }

    fn sizes(&self, code: Code, index: u32) -> Option<Sizes> {
        let mut found = abi::FrameSizes { index, pixelformat: code.value(), ..abi::FrameSizes::zeros() };
        sys::enumerate_size(&self.file, &mut found).ok()?;
        let sizes = found.sizes;
        if found.kind == abi::FRAME_DISCRETE {
            let size = (sizes[0], sizes[1]);
            return Some(Sizes { least: size, most: size, step: (1, 1), fps: self.fastest(code, size) });
        }
        // A range is one entry, and asking for the next is an error.
        let most = (sizes[1], sizes[4]);
        let fps = self.fastest(code, most);
        Some(Sizes { least: (sizes[0], sizes[3]), most, step: (sizes[2].max(1), sizes[5].max(1)), fps })
    }

    fn fastest(&self, code: Code, (width, height): (u32, u32)) -> Option<f64> {
        let interval = |index| {
            let mut found = abi::FrameIntervals {
                index,
                pixelformat: code.value(),
                width,
                height,
                ..abi::FrameIntervals::zeros()
            };
            sys::enumerate_interval(&self.file, &mut found).ok()?;
            rate(found.intervals[0])
        };
        (0..MANY).map_while(interval).max_by(f64::total_cmp)
    }
}
