//! A frame as pixels that people can look at. Works on the caller's own copy of the frame.

use bips::{DType, Frame, Plane};

use crate::exit::{Failure, Outcome};

/// How the pixels of a row are read.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// Bytes of a pixel at these places, one per output channel.
    Packed { pixel: usize, channels: [usize; 4], count: usize },
    /// Luma rows, then rows of pairs of Cb and Cr, half as many each way: where the two lie in a pair.
    Pairs { order: [usize; 2] },
    /// A plane of luma, and which ones of Cb and Cr.
    Planes { cb: usize, cr: usize },
    /// Two pixels in four bytes: where Y0, Cb, Y1, Cr lie.
    Yuv422 { order: [usize; 4] },
}

/// One frame, copied out of its slot.
pub(crate) struct Picture {
    layout: Layout,
    pub(crate) width: usize,
    pub(crate) height: usize,
    planes: Vec<Plane>,
    bytes: Vec<u8>,
}

impl Picture {
    /// Copies the frame into `buffer` (grown as needed) and finds out how to read it.
    pub(crate) fn of(frame: &Frame, mut buffer: Vec<u8>) -> Outcome<Self> {
        let planes = frame.planes().to_vec();
        let (layout, width, height, planes) = match frame.fourcc() {
            Some(fourcc) => {
                let (layout, width, height) = image_layout(&fourcc.to_string(), &planes)?;
                (layout, width, height, planes)
            }
            None => tensor_layout(frame.dtype(), frame.shape(), frame.strides())?,
        };
        buffer.resize(frame.nbytes(), 0);
        frame.copy_to(0, &mut buffer);
        let mut picture = Self { layout, width, height, planes, bytes: buffer };
        picture.show_all();
        Ok(picture)
    }

    /// A camera that writes pixels with room for alpha leaves zeros there: nobody would see anything of the picture.
    fn show_all(&mut self) {
        let Layout::Packed { pixel, channels, count: 4 } = self.layout else { return };
        let is_clear = |y| {
            let row = self.plane_row(0, y).unwrap_or_default();
            row.chunks_exact(pixel).all(|pixel| pixel.get(channels[3]) == Some(&0))
        };
        if (0..self.height).all(is_clear) {
            self.layout = Layout::Packed { pixel, channels, count: 3 };
        }
    }

    /// 1 grey, 3 colours, 4 colours and alpha.
    pub(crate) fn channels(&self) -> usize {
        match self.layout {
            Layout::Packed { count, .. } => count,
            _ => 3,
        }
    }

    /// The buffer, to be used again.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    /// Decodes row `y` into `row`, `width * channels` bytes.
    pub(crate) fn row(&self, y: usize, row: &mut [u8]) -> Outcome {
        self.decode(y, row).ok_or_else(|| {
            Failure::failed(format!(
                "row {y} of the picture lies outside the frame; its description can't be right"
            ))
        })
    }

    fn plane_row(&self, plane: usize, y: usize) -> Option<&[u8]> {
        let plane = self.planes.get(plane)?;
        let start = (y as u64).checked_mul(plane.stride)?.checked_add(plane.offset)?;
        let end = start.checked_add(plane.width)?;
        self.bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }

    fn decode(&self, y: usize, row: &mut [u8]) -> Option<()> {
        let first = self.plane_row(0, y)?;
        match self.layout {
            Layout::Packed { pixel, channels, count } => {
                for (to, from) in row.chunks_exact_mut(count).zip(first.chunks(pixel)) {
                    for (to, at) in to.iter_mut().zip(channels) {
                        *to = *from.get(at)?;
                    }
                }
            }
            Layout::Pairs { order: [cb, cr] } => {
                // As many rows of pairs as of luma, or half.
                let pairs =
                    self.plane_row(1, if self.planes[1].rows < self.planes[0].rows { y / 2 } else { y })?;
                for (x, (to, luma)) in row.chunks_exact_mut(3).zip(first).enumerate() {
                    let pair = pairs.get(x / 2 * 2..)?;
                    to.copy_from_slice(&rgb(*luma, *pair.get(cb)?, *pair.get(cr)?));
                }
            }
            Layout::Planes { cb, cr } => {
                let (cb, cr) = (self.plane_row(cb, y / 2)?, self.plane_row(cr, y / 2)?);
                for (x, (to, luma)) in row.chunks_exact_mut(3).zip(first).enumerate() {
                    to.copy_from_slice(&rgb(*luma, *cb.get(x / 2)?, *cr.get(x / 2)?));
                }
            }
            Layout::Yuv422 { order: [y0, cb, y1, cr] } => {
                for (to, from) in row.chunks_mut(6).zip(first.chunks_exact(4)) {
                    let pair = [rgb(from[y0], from[cb], from[cr]), rgb(from[y1], from[cb], from[cr])];
                    to.copy_from_slice(&pair.as_flattened()[..to.len()]);
                }
            }
        }
        Some(())
    }
}

fn image_layout(fourcc: &str, planes: &[Plane]) -> Outcome<(Layout, usize, usize)> {
    let packed = |pixel, channels: &[usize]| {
        let mut all = [0; 4];
        all[..channels.len()].copy_from_slice(channels);
        (Layout::Packed { pixel, channels: all, count: channels.len() }, pixel)
    };
    let (layout, pixel) = match fourcc {
        "RGB3" => packed(3, &[0, 1, 2]),
        "BGR3" => packed(3, &[2, 1, 0]),
        "GREY" | "BA81" | "GBRG" | "GRBG" | "RGGB" => packed(1, &[0]),
        // 16 bits, little-endian: the upper byte is what an eye can tell apart.
        "Y16" | "BYR2" | "GB16" | "GR16" | "RG16" => packed(2, &[1]),
        "AB24" => packed(4, &[0, 1, 2, 3]),
        "AR24" => packed(4, &[2, 1, 0, 3]),
        "BA24" => packed(4, &[1, 2, 3, 0]),
        "XB24" => packed(4, &[0, 1, 2]),
        "XR24" => packed(4, &[2, 1, 0]),
        "BX24" => packed(4, &[1, 2, 3]),
        "NV12" | "NV16" => (Layout::Pairs { order: [0, 1] }, 1),
        "NV21" | "NV61" => (Layout::Pairs { order: [1, 0] }, 1),
        "YU12" => (Layout::Planes { cb: 1, cr: 2 }, 1),
        "YV12" => (Layout::Planes { cb: 2, cr: 1 }, 1),
        "YUYV" => (Layout::Yuv422 { order: [0, 1, 2, 3] }, 2),
        "UYVY" => (Layout::Yuv422 { order: [1, 0, 3, 2] }, 2),
        "YVYU" => (Layout::Yuv422 { order: [0, 3, 2, 1] }, 2),
        "VYUY" => (Layout::Yuv422 { order: [1, 2, 3, 0] }, 2),
        other => return Err(unreadable(&format!("format {other}"))),
    };
    let first = planes.first().ok_or_else(|| unreadable("an image without planes"))?;
    Ok((layout, first.width as usize / pixel, first.rows as usize))
}

/// A tensor of bytes as height × width, or height × width × 1, 3 or 4, in whatever strides it lies.
fn tensor_layout(
    dtype: DType,
    shape: &[u64],
    strides: &[i64],
) -> Outcome<(Layout, usize, usize, Vec<Plane>)> {
    let what = || unreadable(&format!("a tensor of {} {shape:?}", dtype.name()));
    if dtype != DType::U8 {
        return Err(what());
    }
    let (height, width, count) = match *shape {
        [height, width] => (height, width, 1),
        [height, width, count @ (1 | 3 | 4)] => (height, width, count),
        _ => return Err(what()),
    };
    let stride =
        |dim: usize| strides.get(dim).and_then(|stride| usize::try_from(*stride).ok()).ok_or_else(what);
    let (row, pixel) = (stride(0)?, stride(1)?);
    let channel = if shape.len() == 3 { stride(2)? } else { 1 };
    let count = count as usize;
    let reach = pixel.checked_mul((width as usize).saturating_sub(1)).ok_or_else(what)?;
    let plane = Plane {
        offset: 0,
        stride: row as u64,
        width: (reach + channel.saturating_mul(count - 1) + 1) as u64,
        rows: height,
    };
    let mut channels = [0; 4];
    channels.iter_mut().take(count).enumerate().for_each(|(i, at)| *at = i * channel);
    if pixel <= channels[count - 1] {
        // Channels in planes (a transposed view): the row reader walks pixel by pixel and can't read that.
        return Err(what());
    }
    Ok((Layout::Packed { pixel, channels, count }, width as usize, height as usize, vec![plane]))
}

fn unreadable(what: &str) -> Failure {
    Failure::failed(format!(
        "can't make a picture of {what}; pictures are pixel formats of 8 and 16 bits, and uint8 tensors of \
         (height, width), (height, width, 1), (height, width, 3), (height, width, 4)"
    ))
}

/// BT.601, limited range: what V4L2 devices deliver unless they say otherwise.
fn rgb(luma: u8, cb: u8, cr: u8) -> [u8; 3] {
    let y = 298 * (i32::from(luma) - 16);
    let (cb, cr) = (i32::from(cb) - 128, i32::from(cr) - 128);
    [y + 409 * cr, y - 100 * cb - 208 * cr, y + 516 * cb]
        .map(|value| ((value + 128) >> 8).clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(offset: u64, width: u64, rows: u64) -> Plane {
        Plane { offset, stride: width, width, rows }
    }

    fn rows(fourcc: &str, planes: Vec<Plane>, bytes: &[u8]) -> Vec<Vec<u8>> {
        let (layout, width, height) = image_layout(fourcc, &planes).unwrap();
        let picture = Picture { layout, width, height, planes, bytes: bytes.into() };
        let row = |y| {
            let mut row = vec![0; width * picture.channels()];
            picture.row(y, &mut row).unwrap();
            row
        };
        (0..height).map(row).collect()
    }

    #[test]
    fn packed_formats() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(rows("RGB3", vec![plane(0, 6, 1)], &bytes), [[1, 2, 3, 4, 5, 6]]);
        assert_eq!(rows("BGR3", vec![plane(0, 6, 1)], &bytes), [[3, 2, 1, 6, 5, 4]]);
        assert_eq!(rows("GREY", vec![plane(0, 2, 2)], &bytes), [[1, 2], [3, 4]]);
        assert_eq!(rows("RGGB", vec![plane(0, 2, 2)], &bytes), [[1, 2], [3, 4]]);
        assert_eq!(rows("Y16", vec![plane(0, 4, 1)], &bytes), [[2, 4]]);
        assert_eq!(rows("AB24", vec![plane(0, 8, 1)], &bytes), [[1, 2, 3, 4, 5, 6, 7, 8]]);
        assert_eq!(rows("AR24", vec![plane(0, 8, 1)], &bytes), [[3, 2, 1, 4, 7, 6, 5, 8]]);
        assert_eq!(rows("BA24", vec![plane(0, 8, 1)], &bytes), [[2, 3, 4, 1, 6, 7, 8, 5]]);
        assert_eq!(rows("XB24", vec![plane(0, 8, 1)], &bytes), [[1, 2, 3, 5, 6, 7]]);
        assert_eq!(rows("XR24", vec![plane(0, 8, 1)], &bytes), [[3, 2, 1, 7, 6, 5]]);
        assert_eq!(rows("BX24", vec![plane(0, 8, 1)], &bytes), [[2, 3, 4, 6, 7, 8]]);
    }

    /// What a camera leaves in the alpha of its pixels is not what anybody wants to see, unless it is something.
    #[test]
    fn a_picture_that_would_be_invisible_has_no_alpha() {
        let of = |bytes: [u8; 8]| {
            let planes = vec![plane(0, 8, 1)];
            let (layout, width, height) = image_layout("AR24", &planes).unwrap();
            let mut picture = Picture { layout, width, height, planes, bytes: bytes.into() };
            picture.show_all();
            let mut row = vec![0; width * picture.channels()];
            picture.row(0, &mut row).unwrap();
            row
        };
        assert_eq!(of([1, 2, 3, 0, 5, 6, 7, 0]), [3, 2, 1, 7, 6, 5]);
        assert_eq!(of([1, 2, 3, 0, 5, 6, 7, 9]), [3, 2, 1, 0, 7, 6, 5, 9]);
    }

    /// A red pixel pair (BT.601: Y 81, Cb 90, Cr 240) beside a white one.
    #[test]
    fn yuv_formats() {
        let red_white = vec![255, 0, 0, 255, 0, 0, 255, 255, 255, 255, 255, 255];
        let expected = [red_white.clone(), red_white];
        let nv12 = [81, 81, 235, 235, 81, 81, 235, 235, 90, 240, 128, 128];
        assert_eq!(rows("NV12", vec![plane(0, 4, 2), plane(8, 4, 1)], &nv12), expected);
        let nv21 = [81, 81, 235, 235, 81, 81, 235, 235, 240, 90, 128, 128];
        assert_eq!(rows("NV21", vec![plane(0, 4, 2), plane(8, 4, 1)], &nv21), expected);
        let yv12 = [81, 81, 235, 235, 81, 81, 235, 235, 240, 128, 90, 128];
        assert_eq!(rows("YV12", vec![plane(0, 4, 2), plane(8, 2, 1), plane(10, 2, 1)], &yv12), expected);
        let nv16 = [81, 81, 235, 235, 81, 81, 235, 235, 90, 240, 128, 128, 90, 240, 128, 128];
        assert_eq!(rows("NV16", vec![plane(0, 4, 2), plane(8, 4, 2)], &nv16), expected);
        let yu12 = [81, 81, 235, 235, 81, 81, 235, 235, 90, 128, 240, 128];
        assert_eq!(rows("YU12", vec![plane(0, 4, 2), plane(8, 2, 1), plane(10, 2, 1)], &yu12), expected);
        let yuyv = [81, 90, 81, 240, 235, 128, 235, 128];
        assert_eq!(rows("YUYV", vec![plane(0, 8, 1)], &yuyv), expected[..1]);
        let yvyu = [81, 240, 81, 90, 235, 128, 235, 128];
        assert_eq!(rows("YVYU", vec![plane(0, 8, 1)], &yvyu), expected[..1]);
        let vyuy = [240, 81, 90, 81, 128, 235, 128, 235];
        assert_eq!(rows("VYUY", vec![plane(0, 8, 1)], &vyuy), expected[..1]);
        let uyvy = [90, 81, 240, 81, 128, 235, 128, 235];
        assert_eq!(rows("UYVY", vec![plane(0, 8, 1)], &uyvy), expected[..1]);
    }

    #[test]
    fn tensors() {
        let (layout, width, height, planes) = tensor_layout(DType::U8, &[2, 2, 3], &[8, 3, 1]).unwrap();
        let bytes = vec![1, 2, 3, 4, 5, 6, 0, 0, 7, 8, 9, 10, 11, 12, 0, 0];
        let picture = Picture { layout, width, height, planes, bytes };
        let mut row = [0; 6];
        picture.row(1, &mut row).unwrap();
        assert_eq!(row, [7, 8, 9, 10, 11, 12]);
        assert_eq!(tensor_layout(DType::U8, &[4, 5], &[5, 1]).unwrap().1, 5);
        assert!(tensor_layout(DType::U8, &[3, 4, 5], &[20, 5, 1]).is_err());
        assert!(tensor_layout(DType::F32, &[4, 4], &[16, 4]).is_err());
    }

    #[test]
    fn a_description_that_reaches_outside_is_an_error() {
        let planes = vec![Plane { offset: u64::MAX - 3, stride: 6, width: 6, rows: 1 }];
        let (layout, width, height) = image_layout("RGB3", &planes).unwrap();
        let picture = Picture { layout, width, height, planes, bytes: vec![0; 6] };
        assert!(picture.row(0, &mut [0; 6]).is_err());
    }
}
