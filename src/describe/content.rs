//! The content of a slot: a tensor, an image, or plain bytes.

use super::image::Format;
use super::{DType, Fourcc, MAX_PLANES, Plane};
use crate::{Error, Result};
use std::fmt;
use std::ops::Deref;

/// Most dimensions a tensor can have.
pub const MAX_DIMS: usize = 8;

/// Most bytes of user metadata a frame carries.
pub const MAX_METADATA: usize = 256;

/// The lengths of up to [`MAX_DIMS`] dimensions, in elements.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Shape {
    dims: [u64; MAX_DIMS],
    len: u8,
}

impl Shape {
    /// From the lengths, outermost first.
    ///
    /// # Errors
    /// `InvalidArgument` for more than [`MAX_DIMS`] dimensions.
    pub fn new(dims: &[u64]) -> Result<Self> {
        let mut shape = Self { len: dims.len() as u8, ..Self::default() };
        match shape.dims.get_mut(..dims.len()) {
            Some(to) => to.copy_from_slice(dims),
            None => {
                return Err(Error::invalid(format!(
                    "{} dimensions are too many; a frame has at most {MAX_DIMS}: merge some of them",
                    dims.len()
                )));
            }
        }
        Ok(shape)
    }

    /// Elements in all; `None` when that number overflows.
    pub(crate) fn elements(&self) -> Option<u64> {
        self.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim))
    }
}

impl Deref for Shape {
    type Target = [u64];
    fn deref(&self) -> &[u64] {
        &self.dims[..usize::from(self.len)]
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, dim) in self.iter().enumerate() {
            write!(f, "{}{dim}", if i == 0 { "" } else { " x " })?;
        }
        if self.is_empty() { f.write_str("scalar") } else { Ok(()) }
    }
}

/// How a frame lies in its slot: always a tensor, and an image too where a pixel format is given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Content {
    pub(super) dtype: DType,
    pub(super) shape: Shape,
    pub(super) strides: [i64; MAX_DIMS],
    pub(super) fourcc: Option<Fourcc>,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) modifier: u64,
    pub(super) planes: [Plane; MAX_PLANES],
    pub(super) plane_count: u8,
    pub(super) nbytes: u64,
}

impl Content {
    /// A C-contiguous tensor. A dimension of length 0 makes an empty one.
    ///
    /// # Errors
    /// `InvalidArgument` for more than [`MAX_DIMS`] dimensions or a size beyond 2^62 bytes.
    pub fn tensor(dtype: DType, dims: &[u64]) -> Result<Self> {
        let shape = Shape::new(dims)?;
        let too_large = || {
            Error::invalid(format!("a tensor of {shape} {dtype} is larger than any machine; check the shape"))
        };
        let nbytes = shape
            .elements()
            .and_then(|elements| elements.checked_mul(dtype.size() as u64))
            .filter(|nbytes| *nbytes < 1 << 62)
            .ok_or_else(too_large)?;
        let mut strides = [0; MAX_DIMS];
        let mut stride = dtype.size() as i64;
        for (to, dim) in strides[..shape.len()].iter_mut().zip(shape.iter()).rev() {
            *to = stride;
            let dim = i64::try_from((*dim).max(1)).map_err(|_| too_large())?;
            stride = stride.checked_mul(dim).ok_or_else(too_large)?;
        }
        let mut planes = [Plane::default(); MAX_PLANES];
        planes[0] = Plane { offset: 0, stride: nbytes, width: nbytes, rows: 1 };
        Ok(Self {
            dtype,
            shape,
            strides,
            fourcc: None,
            width: 0,
            height: 0,
            modifier: 0,
            planes,
            plane_count: 1,
            nbytes,
        })
    }

    /// An image of `width` x `height` pixels, planes tightly packed.
    ///
    /// As a tensor it is (height, width, channels) for packed formats, (height, width) for one channel, and
    /// (rows of all planes, width) for planar ones.
    ///
    /// # Errors
    /// `InvalidArgument` for a size of zero, beyond 2^16 pixels a side, or odd where the format subsamples.
    pub fn image(fourcc: Fourcc, width: u32, height: u32) -> Result<Self> {
        let format =
            fourcc.format().ok_or_else(|| Error::invalid(format!("{fourcc} is no known pixel format")))?;
        let allowed = 1..=1 << 16;
        if !allowed.contains(&width) || !allowed.contains(&height) {
            return Err(Error::invalid(format!(
                "{width}x{height} is no image size; each side is 1 to 65536 pixels"
            )));
        }
        if !width.is_multiple_of(format.align_x) || !height.is_multiple_of(format.align_y) {
            return Err(Error::invalid(format!(
                "{fourcc} shares colour between pixels: the width must be a multiple of {}, the height of {}; \
                 {width}x{height} is not",
                format.align_x, format.align_y
            )));
        }
        let rows = format.tensor_rows(u64::from(height));
        let dims = [rows, u64::from(width), u64::from(format.channels)];
        let mut content = Self::tensor(format.dtype, if format.channels == 1 { &dims[..2] } else { &dims })?;
        let (planes, plane_count) = format.planes(width, height);
        content.fourcc = Some(fourcc);
        (content.width, content.height) = (width, height);
        content.planes = planes;
        content.plane_count = plane_count as u8;
        Ok(content)
    }

    /// An image that lies as a device writes it: each plane at its offset, its rows a stride apart, `nbytes` in all
    /// with what comes after the last plane.
    ///
    /// As a tensor it is what [`Content::image`] makes of it, with strides, as long as one stride reaches every row of
    /// every plane; else it is its bytes, and [`Content::planes`] says where the image lies in them.
    ///
    /// # Errors
    /// `InvalidArgument` as [`Content::image`]; for another number of planes than the format has; for planes that
    /// reach beyond `nbytes` or whose rows overlap.
    pub fn image_in_planes(
        fourcc: Fourcc,
        width: u32,
        height: u32,
        planes: &[(u64, u64)],
        nbytes: u64,
    ) -> Result<Self> {
        let mut content = Self::image(fourcc, width, height)?;
        let dense = content.planes;
        let count = content.planes().len();
        if planes.len() != count {
            return Err(Error::invalid(format!(
                "{fourcc} has planes {count} in number, not {}; say where each of them lies",
                planes.len()
            )));
        }
        for (i, (plane, (offset, stride))) in content.planes.iter_mut().zip(planes).enumerate() {
            (plane.offset, plane.stride) = (*offset, *stride);
            let end = stride.checked_mul(plane.rows - 1).and_then(|rows| rows.checked_add(plane.width));
            let end = end.and_then(|size| size.checked_add(*offset));
            if *stride < plane.width || end.is_none_or(|end| end > nbytes) {
                return Err(Error::invalid(format!(
                    "plane {i} of {fourcc} {width}x{height} can't lie at byte {offset} with {stride} bytes a row: a row has \
                     {} bytes of pixels, and the frame {nbytes}",
                    plane.width
                )));
            }
        }
        content.nbytes = nbytes;
        if content.planes[..count] != dense[..count] && !content.restride() {
            let bytes = Self::bytes(nbytes)?;
            (content.dtype, content.shape, content.strides) = (bytes.dtype, bytes.shape, bytes.strides);
        }
        Ok(content)
    }

    /// The same image with a DRM format modifier: not in rows, but as a device tiles or compresses it. As a tensor it is
    /// its bytes then, unless the modifier is 0, linear.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no image, and for the modifier that stands for none (`DRM_FORMAT_MOD_INVALID`).
    pub fn with_modifier(mut self, modifier: u64) -> Result<Self> {
        const INVALID: u64 = 0x00ff_ffff_ffff_ffff;
        if self.fourcc.is_none() && modifier != 0 || modifier == INVALID {
            return Err(Error::invalid(format!(
                "{modifier:#x} can't be the modifier of this; give that of an image's format, or leave it out"
            )));
        }
        self.modifier = modifier;
        if modifier != 0 {
            let bytes = Self::bytes(self.nbytes)?;
            (self.dtype, self.shape, self.strides) = (bytes.dtype, bytes.shape, bytes.strides);
        }
        Ok(self)
    }

    /// Gives the tensor the stride of the planes; false when no one stride serves.
    fn restride(&mut self) -> bool {
        let [first, others @ ..] = self.planes() else { return false };
        let stride = first.stride;
        let mut next = first.rows.checked_mul(stride);
        let one_after_another = others.iter().all(|plane| {
            let fits = plane.width == first.width && plane.stride == stride && Some(plane.offset) == next;
            next = next.and_then(|next| plane.rows.checked_mul(stride)?.checked_add(next));
            fits
        });
        let whole = stride.is_multiple_of(self.dtype.size() as u64);
        match i64::try_from(stride) {
            Ok(stride) if first.offset == 0 && one_after_another && whole => self.strides[0] = stride,
            _ => return false,
        }
        true
    }

    /// Plain bytes: a one-dimensional tensor of `uint8`.
    ///
    /// # Errors
    /// `InvalidArgument` beyond 2^62 bytes.
    pub fn bytes(len: u64) -> Result<Self> {
        Self::tensor(DType::U8, &[len])
    }

    /// The same kind of content with another shape, as one frame may have it.
    ///
    /// # Errors
    /// `InvalidArgument` when it needs more than `slot_bytes`, or is no shape of this pixel format.
    pub fn reshaped(&self, shape: &[u64], slot_bytes: u64) -> Result<Self> {
        let content = match self.fourcc.and_then(|fourcc| Some((fourcc, fourcc.format()?))) {
            None => Self::tensor(self.dtype, shape)?,
            Some((fourcc, format)) => {
                let (width, height) = format.size_of(shape).ok_or_else(|| {
                    Error::invalid(format!(
                        "{} is no shape of a {fourcc} image; this stream's frames are {}, give the same dimensions \
                         with smaller lengths",
                        Shape::new(shape).map_or_else(|_| "this".into(), |shape| shape.to_string()),
                        self.shape
                    ))
                })?;
                let content = Self::image(fourcc, width, height)?.with_modifier(self.modifier)?;
                let Plane { stride, width: row, .. } = self.planes[0];
                // A device that wants its rows so far apart wants it of every frame.
                let apart = (stride > row).then(|| content.with_row_stride(stride).ok()).flatten();
                apart.unwrap_or(content)
            }
        };
        content.fits(slot_bytes)?;
        Ok(content)
    }

    /// The same image with its rows `stride` bytes apart and its planes one after another, as drivers of displays and GPUs
    /// lay it: what a backend plans may differ from what was asked for in this.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no image, for rows that overlap or begin inside an element, and for formats whose
    /// rows can't be apart.
    pub fn with_row_stride(&self, stride: u64) -> Result<Self> {
        let Some(fourcc) = self.fourcc else {
            return Err(Error::invalid(
                "only the rows of an image can lie apart, and this has no pixel format",
            ));
        };
        let dense = Self::image(fourcc, self.width, self.height)?.with_modifier(self.modifier)?;
        let (row, size) = (dense.planes[0].width, dense.dtype.size() as u64);
        if stride < row || !stride.is_multiple_of(size) || stride > i64::MAX as u64 / (1 << 18) {
            return Err(Error::invalid(format!(
                "rows of {row} bytes can't lie {stride} bytes apart; give a multiple of {size} from {row} on"
            )));
        }
        if stride == row {
            return Ok(dense);
        }
        if dense.planes().iter().any(|plane| plane.width < row) {
            return Err(Error::invalid(format!(
                "{fourcc} has rows of colour half as long, two of which take the place of one: that leaves no room \
                 between rows, and {stride} bytes were to hold {row}; use a width that needs none, or NV12"
            )));
        }
        let (mut planes, mut end) = ([(0, stride); MAX_PLANES], 0);
        for (to, plane) in planes.iter_mut().zip(dense.planes()) {
            to.0 = end;
            end += stride * plane.rows;
        }
        let planes = &planes[..dense.planes().len()];
        Self::image_in_planes(fourcc, self.width, self.height, planes, end)?.with_modifier(self.modifier)
    }

    /// Refuses content larger than a slot.
    pub(crate) fn fits(&self, slot_bytes: u64) -> Result<()> {
        if self.nbytes <= slot_bytes {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "{} {} needs {} bytes but a slot has {slot_bytes}; give a smaller shape, or make the producer with \
             larger slots",
            self.shape, self.dtype, self.nbytes
        )))
    }

    /// Type of an element.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Lengths of the dimensions, in elements.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// From one element to the next along each dimension, in bytes.
    pub fn strides(&self) -> &[i64] {
        &self.strides[..self.shape.len()]
    }

    /// Pixel format, for images.
    pub fn fourcc(&self) -> Option<Fourcc> {
        self.fourcc
    }

    /// Width in pixels; 0 where there is no pixel format.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels; 0 where there is no pixel format.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// DRM format modifier; 0 is linear.
    pub fn modifier(&self) -> u64 {
        self.modifier
    }

    /// The planes; tensors have one that is all of it.
    pub fn planes(&self) -> &[Plane] {
        &self.planes[..usize::from(self.plane_count)]
    }

    /// Bytes the content occupies from the start of its slot.
    pub fn nbytes(&self) -> u64 {
        self.nbytes
    }
}

impl Format {
    /// Width and height of an image whose tensor has this shape.
    fn size_of(&self, shape: &[u64]) -> Option<(u32, u32)> {
        let (rows, width) = match (shape, self.channels) {
            ([rows, width], 1) => (*rows, *width),
            ([rows, width, channels], expected) if *channels == u64::from(expected) => (*rows, *width),
            _ => return None,
        };
        Some((u32::try_from(width).ok()?, u32::try_from(self.height_of(rows)?).ok()?))
    }
}

/// What a producer says about one frame. All of it is optional.
#[derive(Debug, Clone, Copy, Default)]
pub struct Description<'a> {
    /// A shape other than the stream's; must fit the slot.
    pub shape: Option<Shape>,
    /// When the content was captured, in ns of `CLOCK_MONOTONIC`; the time of publication where absent.
    pub timestamp: Option<u64>,
    /// Up to [`MAX_METADATA`] bytes that travel with the frame.
    pub metadata: &'a [u8],
}

impl<'a> Description<'a> {
    /// Nothing said: the stream's own content, captured now, no metadata.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a shape of its own.
    #[must_use]
    pub fn with_shape(mut self, shape: Shape) -> Self {
        self.shape = Some(shape);
        self
    }

    /// With the time of capture, in ns of `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn with_timestamp(mut self, timestamp: u64) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// With metadata of up to [`MAX_METADATA`] bytes.
    #[must_use]
    pub fn with_metadata(mut self, metadata: &'a [u8]) -> Self {
        self.metadata = metadata;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fourcc(code: &str) -> Fourcc {
        Fourcc::parse(code).unwrap()
    }

    #[test]
    fn packed_images_are_height_width_channels() {
        let content = Content::image(fourcc("RGB3"), 1920, 1080).unwrap();
        assert_eq!(content.shape(), [1080, 1920, 3]);
        assert_eq!(content.strides(), [5760, 3, 1]);
        assert_eq!(content.nbytes(), 1920 * 1080 * 3);
        assert_eq!(content.planes(), [Plane { offset: 0, stride: 5760, width: 5760, rows: 1080 }]);
        assert_eq!(Content::image(fourcc("Y16"), 8, 4).unwrap().shape(), [4, 8]);
    }

    #[test]
    fn planar_images_know_their_planes() {
        let content = Content::image(fourcc("NV12"), 640, 480).unwrap();
        assert_eq!(content.shape(), [720, 640]);
        assert_eq!(content.planes()[1], Plane { offset: 640 * 480, stride: 640, width: 640, rows: 240 });
        let content = Content::image(fourcc("YU12"), 640, 480).unwrap();
        assert_eq!(content.shape(), [720, 640]);
        assert_eq!(content.nbytes(), 640 * 480 * 3 / 2);
        let last = content.planes()[2];
        assert_eq!(last.offset + last.stride * last.rows, content.nbytes());
        assert!(Content::image(fourcc("NV12"), 641, 480).unwrap_err().to_string().contains("multiple of 2"));
    }

    #[test]
    fn shapes_say_the_size_of_an_image() {
        for (code, rows, channels) in [
            ("NV12", 72, 1),
            ("YV12", 72, 1),
            ("NV16", 96, 1),
            ("RG10", 48, 1),
            ("XR24", 48, 4),
            ("VYUY", 48, 2),
        ] {
            let content = Content::image(fourcc(code), 64, 48).unwrap();
            let shape = [rows, 64, channels];
            assert_eq!(content.shape(), if channels == 1 { &shape[..2] } else { &shape[..] }, "{code}");
            assert_eq!(content.reshaped(content.shape(), content.nbytes()).unwrap(), content);
        }
        let nv12 = Content::image(fourcc("NV12"), 64, 48).unwrap();
        assert!(nv12.reshaped(&[71, 64], nv12.nbytes()).is_err());
        assert!(nv12.reshaped(&[u64::MAX, 64], nv12.nbytes()).is_err());
    }

    #[test]
    fn planes_of_a_device_have_its_strides() {
        let content = Content::image_in_planes(fourcc("RGB3"), 100, 10, &[(0, 320)], 4096).unwrap();
        assert_eq!((content.shape(), content.strides()), (&[10, 100, 3][..], &[320, 3, 1][..]));
        assert_eq!(content.nbytes(), 4096);
        assert_eq!(content.planes(), [Plane { offset: 0, stride: 320, width: 300, rows: 10 }]);
        let pairs = [(0, 128), (128 * 10, 128)];
        let content = Content::image_in_planes(fourcc("NV12"), 100, 10, &pairs, 128 * 15).unwrap();
        assert_eq!((content.shape(), content.strides()), (&[15, 100][..], &[128, 1][..]));
        assert_eq!(content.planes()[1], Plane { offset: 1280, stride: 128, width: 100, rows: 5 });
    }

    #[test]
    fn dense_planes_make_the_same_image() {
        for code in ["RGB3", "Y16", "NV12", "YU12", "YUYV"] {
            let image = Content::image(fourcc(code), 64, 48).unwrap();
            let planes: Vec<_> = image.planes().iter().map(|plane| (plane.offset, plane.stride)).collect();
            let again = Content::image_in_planes(fourcc(code), 64, 48, &planes, image.nbytes()).unwrap();
            assert_eq!(again, image);
        }
    }

    #[test]
    fn planes_that_no_stride_reaches_are_bytes() {
        let apart = [(0, 128), (4096, 128)];
        let content = Content::image_in_planes(fourcc("NV12"), 100, 10, &apart, 8192).unwrap();
        assert_eq!((content.shape(), content.strides()), (&[8192][..], &[1][..]));
        assert_eq!((content.planes()[1].offset, content.width(), content.height()), (4096, 100, 10));
        let padded = [(0, 128), (1280, 64), (1280 + 320, 64)];
        let content = Content::image_in_planes(fourcc("YU12"), 100, 10, &padded, 1920).unwrap();
        assert_eq!(content.shape(), [1920]);
        // A row of 16-bit pixels at an odd address is no tensor of them.
        let odd = Content::image_in_planes(fourcc("Y16"), 4, 2, &[(0, 9)], 18).unwrap();
        assert_eq!((odd.dtype(), odd.shape()), (DType::U8, &[18][..]));
    }

    #[test]
    fn planes_that_cannot_be_are_refused() {
        let refused = |planes: &[(u64, u64)], nbytes| {
            let made = Content::image_in_planes(fourcc("NV12"), 100, 10, planes, nbytes);
            made.unwrap_err().to_string()
        };
        assert!(refused(&[(0, 100)], 4096).contains("2 in number"));
        assert!(refused(&[(0, 99), (1000, 100)], 4096).contains("plane 0"));
        assert!(refused(&[(0, 100), (1000, 100)], 1499).contains("plane 1"));
        assert!(refused(&[(0, 100), (u64::MAX, 100)], 4096).contains("plane 1"));
        assert!(refused(&[(0, u64::MAX), (1000, 100)], 4096).contains("plane 0"));
    }

    #[test]
    fn a_frame_may_be_smaller_but_not_larger() {
        let stream = Content::image(fourcc("RGB3"), 64, 48).unwrap();
        let smaller = stream.reshaped(&[24, 32, 3], stream.nbytes()).unwrap();
        assert_eq!((smaller.width(), smaller.height(), smaller.nbytes()), (32, 24, 24 * 32 * 3));
        let error = stream.reshaped(&[49, 64, 3], stream.nbytes()).unwrap_err();
        assert!(error.to_string().contains("a slot has 9216"), "{error}");
        assert!(stream.reshaped(&[24, 32], stream.nbytes()).is_err());
    }

    #[test]
    fn rows_may_lie_apart() {
        let image = |code, width| Content::image(fourcc(code), width, 48).unwrap();
        let rgb = image("RGB3", 65).with_row_stride(256).unwrap();
        assert_eq!((rgb.strides(), rgb.nbytes()), (&[256, 3, 1][..], 256 * 48));
        assert_eq!(rgb.planes(), [Plane { offset: 0, stride: 256, width: 195, rows: 48 }]);
        let nv12 = image("NV12", 64).with_row_stride(128).unwrap();
        assert_eq!((nv12.shape(), nv12.strides()), (&[72, 64][..], &[128, 1][..]));
        assert_eq!(nv12.planes()[1], Plane { offset: 128 * 48, stride: 128, width: 64, rows: 24 });
        assert_eq!(nv12.with_row_stride(64).unwrap(), image("NV12", 64));
        // A smaller frame in the same buffers.
        let smaller = rgb.reshaped(&[10, 60, 3], rgb.nbytes()).unwrap();
        assert_eq!((smaller.strides(), smaller.nbytes()), (&[256, 3, 1][..], 2560));
        let wider = rgb.reshaped(&[10, 100, 3], rgb.nbytes()).unwrap();
        assert_eq!(wider.strides(), [300, 3, 1]);
    }

    #[test]
    fn images_alone_have_modifiers() {
        let image = Content::image(fourcc("AR24"), 64, 48).unwrap().with_modifier(1 << 56 | 2).unwrap();
        assert_eq!(image.modifier(), 0x0100_0000_0000_0002);
        assert_eq!(image.reshaped(&[8, 8, 4], image.nbytes()).unwrap().modifier(), image.modifier());
        assert!(Content::bytes(64).unwrap().with_modifier(2).is_err());
    }

    #[test]
    fn rows_that_cannot_lie_so_are_refused() {
        let image = |code| Content::image(fourcc(code), 64, 48).unwrap();
        for (content, stride) in [
            (image("RGB3"), 191),
            (image("Y16"), 129),
            (image("GREY"), u64::MAX),
            (image("YU12"), 128),
            (Content::bytes(100).unwrap(), 128),
        ] {
            let error = content.with_row_stride(stride).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidArgument, "{error}");
        }
        assert_eq!(image("YU12").with_row_stride(64).unwrap(), image("YU12"));
    }

    #[test]
    fn absurd_sizes_are_refused_not_wrapped() {
        assert!(Content::tensor(DType::F64, &[u64::MAX, 2]).is_err());
        assert!(Content::tensor(DType::U8, &[0, u64::MAX]).is_err());
        assert!(Content::tensor(DType::U8, &[1; 9]).is_err());
        assert_eq!(Content::tensor(DType::U8, &[0, 7]).unwrap().nbytes(), 0);
        assert_eq!(Content::tensor(DType::F32, &[]).unwrap().nbytes(), 4);
    }
}
