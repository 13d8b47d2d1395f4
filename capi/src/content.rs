//! How a frame lies in its slot.

use crate::args::{Place, text};
use crate::status::{Status, call, invalid};
use bips::{DType, MAX_DIMS, MAX_PLANES};
use std::ffi::{CStr, c_char};

/// The type of one element, numbered as DLPack's `DLDataType`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DataType {
    /// 0 signed, 1 unsigned, 2 floating point, 4 bfloat, 5 complex, 6 boolean.
    pub code: u8,
    /// Bits of one lane.
    pub bits: u8,
    /// Lanes of one element; 1.
    pub lanes: u16,
}

/// One plane of an image inside its slot. All in bytes, `rows` in rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
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

/// Most dimensions a frame can have.
pub const BIPS_MAX_DIMS: usize = 8;

/// Most planes an image can have.
pub const BIPS_MAX_PLANES: usize = 4;

/// Most bytes of metadata a frame carries.
pub const BIPS_MAX_METADATA: usize = 256;

const _: () = {
    assert!(BIPS_MAX_DIMS == MAX_DIMS);
    assert!(BIPS_MAX_PLANES == MAX_PLANES);
    assert!(BIPS_MAX_METADATA == bips::MAX_METADATA);
};

/// How a frame lies in its slot: as a tensor, and an image also as planes.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Content {
    /// Bytes from the start of the slot to the end of the frame.
    pub nbytes: u64,
    /// Lengths of the dimensions, in elements, the outermost first; `ndim` of them count.
    pub shape: [u64; BIPS_MAX_DIMS],
    /// From one element to the next along each dimension, in bytes.
    pub strides: [i64; BIPS_MAX_DIMS],
    /// `nplanes` of them count; a tensor has one that is all of it.
    pub planes: [Plane; BIPS_MAX_PLANES],
    /// How the pixels lie in each plane, as DRM numbers it; 0 is row by row.
    pub modifier: u64,
    /// Dimensions.
    pub ndim: u32,
    /// Planes.
    pub nplanes: u32,
    /// V4L2's four-character code of an image, 0 for a tensor.
    pub fourcc: u32,
    /// Width of an image in pixels, or 0.
    pub width: u32,
    /// Height of an image in pixels, or 0.
    pub height: u32,
    /// Type of an element.
    pub dtype: DataType,
}

impl From<DType> for DataType {
    fn from(dtype: DType) -> Self {
        Self { code: dtype.code(), bits: dtype.bits(), lanes: dtype.lanes() }
    }
}

impl From<&bips::Content> for Content {
    fn from(content: &bips::Content) -> Self {
        let mut copy = Self {
            nbytes: content.nbytes(),
            modifier: content.modifier(),
            ndim: content.shape().len() as u32,
            nplanes: content.planes().len() as u32,
            fourcc: content.fourcc().map_or(0, bips::Fourcc::value),
            width: content.width(),
            height: content.height(),
            dtype: content.dtype().into(),
            ..Self::default()
        };
        copy.shape[..content.shape().len()].copy_from_slice(content.shape());
        copy.strides[..content.strides().len()].copy_from_slice(content.strides());
        for (to, plane) in copy.planes.iter_mut().zip(content.planes()) {
            *to = Plane { offset: plane.offset, stride: plane.stride, width: plane.width, rows: plane.rows };
        }
        copy
    }
}

/// The type of this name: NumPy's and PyTorch's spelling, such as "uint8" or "bfloat16".
///
/// BIPS_INVALID_ARGUMENT lists the names there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_dtype_parse(name: *const c_char, dtype: *mut DataType) -> Status {
    call(|| {
        // SAFETY: as the header says, a place for it or NULL.
        let place = unsafe { Place::at(dtype, "the type") }?;
        // SAFETY: as the header says, text or NULL.
        let name = unsafe { text(name, "the name of a type") }?;
        let name = name.ok_or_else(|| invalid("NULL instead of the name of a type"))?;
        place.put(DType::parse(name)?.into());
        Ok(())
    })
}

/// The name of a type, such as "float32"; "unknown" for one that bips doesn't have. Valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn bips_dtype_name(dtype: DataType) -> *const c_char {
    /// With a NUL each, which [`DType::name`] doesn't have.
    const NAMES: [&CStr; 15] = [
        c"int8",
        c"int16",
        c"int32",
        c"int64",
        c"uint8",
        c"uint16",
        c"uint32",
        c"uint64",
        c"float16",
        c"float32",
        c"float64",
        c"bfloat16",
        c"complex64",
        c"complex128",
        c"bool",
    ];
    let name = DType::from_dlpack(dtype.code, dtype.bits, dtype.lanes).map_or("unknown", DType::name);
    NAMES.into_iter().find(|known| known.to_bytes() == name.as_bytes()).unwrap_or(c"unknown").as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_name() {
        for code in 0..8 {
            for bits in [8, 16, 32, 64, 128] {
                let known = DType::from_dlpack(code, bits, 1).map_or("unknown", DType::name);
                // SAFETY: never null, valid for ever.
                let name = unsafe { CStr::from_ptr(bips_dtype_name(DataType { code, bits, lanes: 1 })) };
                assert_eq!(name.to_str().unwrap(), known);
            }
        }
    }

    #[test]
    fn an_image_keeps_its_planes() {
        let content = bips::Content::image(bips::Fourcc::parse("NV12").unwrap(), 640, 480).unwrap();
        let copy = Content::from(&content);
        assert_eq!((copy.ndim, copy.nplanes, &copy.shape[..2]), (2, 2, &[720, 640][..]));
        assert_eq!(copy.planes[1], Plane { offset: 640 * 480, stride: 640, width: 640, rows: 240 });
        assert_eq!(copy.fourcc.to_le_bytes(), *b"NV12");
    }
}
