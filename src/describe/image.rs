//! Image formats: V4L2 four-character codes and how their planes lie.

use crate::describe::DType;
use crate::{Error, Result};
use std::fmt;

/// Most planes an image can have.
pub const MAX_PLANES: usize = 4;

/// A pixel format by its V4L2 four-character code, such as `RGB3` or `NV12`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fourcc(pub(crate) [u8; 4]);

/// One plane of an image inside its slot. All in bytes, `rows` in rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plane {
    /// Where the plane begins in the slot.
    pub offset: u64,
    /// From the start of one row to the next.
    pub stride: u64,
    /// Bytes of a row that hold pixels.
    pub width: u64,
    /// Rows of the plane.
    pub rows: u64,
}

/// How a format lies in memory, as a tensor and as planes.
pub(super) struct Format {
    pub(super) fourcc: &'static [u8; 4],
    /// Element of the tensor view.
    pub(super) dtype: DType,
    /// Elements per pixel in the tensor's last dimension; 1 leaves the dimension out.
    pub(super) channels: u32,
    /// Width must be a multiple of this.
    pub(super) align_x: u32,
    /// Height must be a multiple of this.
    pub(super) align_y: u32,
    /// Chroma planes after the first: (bytes per row as a fraction of the luma row, rows as a fraction).
    pub(super) chroma: &'static [(u64, u64)],
}

const fn packed(fourcc: &'static [u8; 4], dtype: DType, channels: u32) -> Format {
    Format { fourcc, dtype, channels, align_x: 1, align_y: 1, chroma: &[] }
}

/// Two pixels share their colour.
const fn pairs(fourcc: &'static [u8; 4]) -> Format {
    Format { align_x: 2, ..packed(fourcc, DType::U8, 2) }
}

/// Four pixels see the three colours, in the order of a Bayer filter.
const fn mosaic(fourcc: &'static [u8; 4], dtype: DType) -> Format {
    Format { align_x: 2, align_y: 2, ..packed(fourcc, dtype, 1) }
}

/// Pixels share their colour, which lies in planes of its own.
const fn planar(fourcc: &'static [u8; 4], chroma: &'static [(u64, u64)]) -> Format {
    Format { align_x: 2, align_y: 2, chroma, ..packed(fourcc, DType::U8, 1) }
}

const FORMATS: &[Format] = &[
    packed(b"RGB3", DType::U8, 3),
    packed(b"BGR3", DType::U8, 3),
    packed(b"GREY", DType::U8, 1),
    packed(b"Y10 ", DType::U16, 1),
    packed(b"Y12 ", DType::U16, 1),
    packed(b"Y16 ", DType::U16, 1),
    packed(b"AB24", DType::U8, 4),
    packed(b"AR24", DType::U8, 4),
    packed(b"BA24", DType::U8, 4),
    packed(b"XB24", DType::U8, 4),
    packed(b"XR24", DType::U8, 4),
    packed(b"BX24", DType::U8, 4),
    pairs(b"YUYV"),
    pairs(b"UYVY"),
    pairs(b"YVYU"),
    pairs(b"VYUY"),
    planar(b"NV12", &[(1, 2)]),
    planar(b"NV21", &[(1, 2)]),
    planar(b"YU12", &[(2, 2), (2, 2)]),
    planar(b"YV12", &[(2, 2), (2, 2)]),
    Format { align_y: 1, ..planar(b"NV16", &[(1, 1)]) },
    Format { align_y: 1, ..planar(b"NV61", &[(1, 1)]) },
    // What a sensor sees: one colour a pixel. 10 and 12 bits lie in the lower ones of 16.
    mosaic(b"BA81", DType::U8),
    mosaic(b"GBRG", DType::U8),
    mosaic(b"GRBG", DType::U8),
    mosaic(b"RGGB", DType::U8),
    mosaic(b"BG10", DType::U16),
    mosaic(b"GB10", DType::U16),
    mosaic(b"BA10", DType::U16),
    mosaic(b"RG10", DType::U16),
    mosaic(b"BG12", DType::U16),
    mosaic(b"GB12", DType::U16),
    mosaic(b"BA12", DType::U16),
    mosaic(b"RG12", DType::U16),
    mosaic(b"BYR2", DType::U16),
    mosaic(b"GB16", DType::U16),
    mosaic(b"GR16", DType::U16),
    mosaic(b"RG16", DType::U16),
];

impl Fourcc {
    /// The format of this code. Three letters are padded (`Y16`), case matters.
    ///
    /// # Errors
    /// `InvalidArgument`, listing the formats bips knows.
    pub fn parse(code: &str) -> Result<Self> {
        let mut bytes = [b' '; 4];
        if code.len() <= 4 {
            bytes[..code.len()].copy_from_slice(code.as_bytes());
        }
        let fourcc = Self(bytes);
        if code.len() > 4 || fourcc.format().is_none() {
            let known: Vec<_> = FORMATS.iter().map(|format| Self(*format.fourcc).to_string()).collect();
            let meant = known.iter().find(|known| known.eq_ignore_ascii_case(code));
            let meant = meant.map_or_else(String::new, |meant| format!("did you mean {meant}? If not, "));
            return Err(Error::invalid(format!(
                "{code:?} is no pixel format bips knows; {meant}use a V4L2 code, one of {}, or publish a plain tensor",
                known.join(", ")
            )));
        }
        Ok(fourcc)
    }

    /// The code as the little-endian number V4L2 and DRM use.
    pub const fn value(self) -> u32 {
        u32::from_le_bytes(self.0)
    }

    pub(super) fn from_value(value: u32) -> Option<Self> {
        let fourcc = Self(value.to_le_bytes());
        fourcc.format().map(|_| fourcc)
    }

    pub(super) fn format(self) -> Option<&'static Format> {
        FORMATS.iter().find(|format| format.fourcc == &self.0)
    }
}

impl Format {
    /// The planes of an image of this size, tightly packed, and how many there are.
    pub(super) fn planes(&self, width: u32, height: u32) -> ([Plane; MAX_PLANES], usize) {
        let row = u64::from(width) * u64::from(self.channels) * self.dtype.size() as u64;
        let rows = u64::from(height);
        let mut planes = [Plane::default(); MAX_PLANES];
        planes[0] = Plane { offset: 0, stride: row, width: row, rows };
        let mut offset = row * rows;
        for (plane, (by_x, by_y)) in planes[1..].iter_mut().zip(self.chroma) {
            *plane = Plane { offset, stride: row / by_x, width: row / by_x, rows: rows / by_y };
            offset += plane.stride * plane.rows;
        }
        (planes, 1 + self.chroma.len())
    }

    /// Rows of the tensor view: those of the luma plane, plus the chroma planes seen as rows as wide.
    pub(super) fn tensor_rows(&self, height: u64) -> u64 {
        height + height * self.chroma_quarters() / 4
    }

    /// The inverse of [`Format::tensor_rows`].
    pub(super) fn height_of(&self, tensor_rows: u64) -> Option<u64> {
        let quarters = 4 + self.chroma_quarters();
        let height = tensor_rows.checked_mul(4)? / quarters;
        (self.tensor_rows(height) == tensor_rows).then_some(height)
    }

    /// Bytes of the chroma planes, in quarters of those of the luma plane.
    fn chroma_quarters(&self) -> u64 {
        self.chroma.iter().map(|(by_x, by_y)| 4 / (by_x * by_y)).sum()
    }
}

impl fmt::Display for Fourcc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(String::from_utf8_lossy(&self.0).trim_end())
    }
}

impl fmt::Debug for Fourcc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fourcc({self})")
    }
}
