//! How what a camera delivers lies in a slot.

use crate::{Code, Mode};
use bips::{Content, Error, ErrorKind, Fourcc, Result};

/// What bips can say of a camera's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Pixels: bips's code of the layout. `planes` of them are in memory of their own.
    Pixels { fourcc: &'static str, planes: usize },
    /// Bytes, as many as the frame happens to have.
    Compressed,
}

const fn same(fourcc: &'static str) -> (&'static str, Known) {
    (fourcc, Known::Pixels { fourcc, planes: 1 })
}

const fn like(code: &'static str, fourcc: &'static str) -> (&'static str, Known) {
    (code, Known::Pixels { fourcc, planes: 1 })
}

const fn apart(code: &'static str, fourcc: &'static str, planes: usize) -> (&'static str, Known) {
    (code, Known::Pixels { fourcc, planes })
}

const fn compressed(code: &'static str) -> (&'static str, Known) {
    (code, Known::Compressed)
}

const KNOWN: &[(&str, Known)] = &[
    same("NV12"),
    same("NV21"),
    same("YU12"),
    same("YV12"),
    same("NV16"),
    same("NV61"),
    same("YUYV"),
    same("UYVY"),
    same("YVYU"),
    same("VYUY"),
    same("RGB3"),
    same("BGR3"),
    same("GREY"),
    same("Y10"),
    same("Y12"),
    same("Y16"),
    same("AB24"),
    same("AR24"),
    same("BA24"),
    same("XB24"),
    same("XR24"),
    same("BX24"),
    same("BA81"),
    same("GBRG"),
    same("GRBG"),
    same("RGGB"),
    same("BG10"),
    same("GB10"),
    same("BA10"),
    same("RG10"),
    same("BG12"),
    same("GB12"),
    same("BA12"),
    same("RG12"),
    same("BYR2"),
    same("GB16"),
    same("GR16"),
    same("RG16"),
    // The old codes leave open whether the fourth byte is anything.
    like("RGB4", "BX24"),
    like("BGR4", "XR24"),
    apart("NM12", "NV12", 2),
    apart("NM21", "NV21", 2),
    apart("NM16", "NV16", 2),
    apart("NM61", "NV61", 2),
    apart("YM12", "YU12", 3),
    apart("YM21", "YV12", 3),
    compressed("MJPG"),
    compressed("JPEG"),
    compressed("H264"),
    compressed("HEVC"),
    compressed("VP80"),
    compressed("VP90"),
];

/// Planes in memory of their own begin at a multiple of this: no two of them share a cache line, on any machine.
const ALIGN: u64 = 128;

fn known(code: Code) -> Option<Known> {
    KNOWN.iter().find(|(known, _)| Code::new(known) == Some(code)).map(|(_, known)| *known)
}

/// How a frame of some mode lies in a slot.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// What to make the stream of.
    pub content: Content,
    /// Whether frames are compressed: each has its own number of bytes, at most those of the content.
    pub compressed: bool,
    /// The camera's planes of memory: where each begins in the slot and how long it is. Most have one.
    pub memory: Vec<(u64, u32)>,
}

impl Code {
    /// Whether bips can describe frames of this format.
    pub fn is_known(self) -> bool {
        known(self).is_some()
    }

    /// Whether both are the same pixels, once in a slot.
    pub fn serves_as(self, other: Code) -> bool {
        let fourcc = |code| match known(code) {
            Some(Known::Pixels { fourcc, .. }) => Some(fourcc),
            _ => None,
        };
        self == other || fourcc(self).is_some_and(|ours| fourcc(other) == Some(ours))
    }

    /// Every format bips can describe.
    pub fn all_known() -> impl Iterator<Item = Code> {
        KNOWN.iter().filter_map(|(code, _)| Code::new(code))
    }
}

impl Layout {
    /// How frames of `mode` lie.
    ///
    /// # Errors
    /// `Unsupported` for formats that bips can't describe, and for fields that are no whole frames.
    pub fn of(mode: &Mode) -> Result<Self> {
        let unsupported = |text: String| Error::new(ErrorKind::Unsupported, text);
        let code = mode.code;
        let known = known(code).ok_or_else(|| {
            unsupported(format!("bips can't describe frames in {code}; use another --format"))
        })?;
        if !mode.whole_frames {
            return Err(unsupported(format!(
                "the camera delivers the two fields of a frame apart ({code} {}x{}); choose an input or a size that is \
                 not interlaced",
                mode.width, mode.height
            )));
        }
        let Known::Pixels { fourcc, planes } = known else {
            let bytes = mode.planes.first().map_or(0, |plane| plane.bytes);
            if mode.planes.len() != 1 || bytes == 0 {
                return Err(strange(mode));
            }
            let content = Content::bytes(bytes.into())?;
            return Ok(Self { content, compressed: true, memory: vec![(0, bytes)] });
        };
        if mode.planes.len() != planes {
            return Err(strange(mode));
        }
        let fourcc = Fourcc::parse(fourcc)?;
        let dense = Content::image(fourcc, mode.width, mode.height)?;
        let mut memory = Vec::new();
        let mut end = 0u64;
        for plane in &mode.planes {
            let begin = end.next_multiple_of(ALIGN);
            memory.push((begin, plane.bytes));
            end = begin + u64::from(plane.bytes);
        }
        let places: Vec<_> = match mode.planes.as_slice() {
            [only] => one_after_another(&dense, only.stride.into()),
            many => {
                memory.iter().zip(many).map(|((begin, _), plane)| (*begin, plane.stride.into())).collect()
            }
        };
        // Planes apart: none may be larger than its own memory.
        for ((place, plane), (begin, bytes)) in places.iter().zip(dense.planes()).zip(&memory) {
            if planes > 1 && place.1 * (plane.rows - 1) + plane.width > u64::from(*bytes) {
                return Err(strange(mode).with("plane at", begin));
            }
        }
        let content = Content::image_in_planes(fourcc, mode.width, mode.height, &places, end);
        let content = content.map_err(|error| strange(mode).with("reason", error))?;
        Ok(Self { content, compressed: false, memory })
    }
}

/// V4L2's rule for formats in one piece of memory: the planes follow each other, and the rows of chroma planes are as
/// much shorter, padding and all, as their pixels are fewer.
fn one_after_another(dense: &Content, stride: u64) -> Vec<(u64, u64)> {
    let width = dense.planes().first().map_or(0, |first| first.width);
    // Some drivers leave it 0 for the dense one.
    let stride = if stride == 0 { width } else { stride };
    let mut offset = 0;
    let place = |plane: &bips::Plane| {
        let here = (offset, stride * plane.width / width.max(1));
        offset += here.1 * plane.rows;
        here
    };
    dense.planes().iter().map(place).collect()
}

fn strange(mode: &Mode) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "the driver says of {} {}x{} what can't be: {} pieces of memory of {:?} bytes; use another --format",
            mode.code,
            mode.width,
            mode.height,
            mode.planes.len(),
            mode.planes.iter().map(|plane| (plane.bytes, plane.stride)).collect::<Vec<_>>()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryPlane;

    fn mode(code: &str, width: u32, height: u32, planes: &[(u32, u32)]) -> Mode {
        let planes =
            planes.iter().map(|(bytes, stride)| MemoryPlane { bytes: *bytes, stride: *stride }).collect();
        Mode { code: Code::new(code).unwrap(), width, height, whole_frames: true, planes }
    }

    fn layout(code: &str, planes: &[(u32, u32)]) -> Layout {
        Layout::of(&mode(code, 64, 48, planes)).unwrap()
    }

    #[test]
    fn every_layout_is_one_that_the_core_knows() {
        for (code, known) in KNOWN {
            let code = Code::new(code).expect("four letters at most");
            assert!(code.is_known() && code.serves_as(code), "{code}");
            if let Known::Pixels { fourcc, planes } = known {
                let dense = Content::image(Fourcc::parse(fourcc).unwrap(), 64, 48).unwrap();
                assert!([1, dense.planes().len()].contains(planes), "{code}");
            }
        }
    }

    #[test]
    fn dense_formats_are_the_images_of_their_name() {
        for (code, fourcc, bytes, stride) in [
            ("NV12", "NV12", 4608, 64),
            ("YU12", "YU12", 4608, 64),
            ("YV12", "YV12", 4608, 64),
            ("NV16", "NV16", 6144, 64),
            ("RGGB", "RGGB", 3072, 64),
            ("RG10", "RG10", 6144, 128),
            ("YUYV", "YUYV", 6144, 128),
            ("UYVY", "UYVY", 6144, 128),
            ("RGB3", "RGB3", 9216, 192),
            ("BGR3", "BGR3", 9216, 192),
            ("GREY", "GREY", 3072, 64),
            ("GREY", "GREY", 3072, 0),
            ("Y16", "Y16", 6144, 128),
            ("RGB4", "BX24", 12288, 256),
            ("BGR4", "XR24", 12288, 256),
            ("AR24", "AR24", 12288, 256),
        ] {
            let expected = Content::image(Fourcc::parse(fourcc).unwrap(), 64, 48).unwrap();
            let layout = layout(code, &[(bytes, stride)]);
            assert_eq!(layout.content, expected, "{code}");
            assert_eq!(layout.memory, [(0, bytes)]);
        }
    }

    #[test]
    fn a_driver_has_strides_and_sizes_of_its_own() {
        let padded = layout("RGB3", &[(65536, 256)]).content;
        assert_eq!((padded.nbytes(), padded.strides()), (65536, &[256, 3, 1][..]));
        let nv12 = layout("NV12", &[(8192, 96)]).content;
        let places: Vec<_> = nv12.planes().iter().map(|plane| (plane.offset, plane.stride)).collect();
        assert_eq!(places, [(0, 96), (96 * 48, 96)]);
        assert_eq!((nv12.shape(), nv12.strides()), (&[72, 64][..], &[96, 1][..]));
        let yu12 = layout("YU12", &[(8192, 96)]).content;
        let places: Vec<_> = yu12.planes().iter().map(|plane| (plane.offset, plane.stride)).collect();
        assert_eq!(places, [(0, 96), (96 * 48, 48), (96 * 48 + 48 * 24, 48)]);
    }

    #[test]
    fn planes_apart_come_together_in_a_slot() {
        let whole = layout("NM12", &[(3072, 64), (1536, 64)]);
        assert_eq!(whole.content, Content::image(Fourcc::parse("NV12").unwrap(), 64, 48).unwrap());
        assert_eq!(whole.memory, [(0, 3072), (3072, 1536)]);
        let loose = layout("YM12", &[(3080, 64), (800, 32), (800, 32)]);
        assert_eq!(loose.memory, [(0, 3080), (3200, 800), (4096, 800)]);
        assert_eq!(loose.content.planes()[2].offset, 4096);
        assert_eq!(loose.content.nbytes(), 4896);
    }

    #[test]
    fn compressed_frames_are_bytes() {
        let layout = layout("MJPG", &[(20_000, 0)]);
        assert!(layout.compressed);
        assert_eq!((layout.content.shape(), layout.content.fourcc()), (&[20_000][..], None));
    }

    #[test]
    fn what_a_driver_says_is_checked() {
        let refused = |mode: &Mode| Layout::of(mode).unwrap_err().to_string();
        assert!(refused(&mode("pBAA", 64, 48, &[(4000, 80)])).contains("can't describe frames in pBAA"));
        assert!(refused(&mode("RGB3", 64, 48, &[(9215, 192)])).contains("what can't be"));
        assert!(refused(&mode("RGB3", 64, 48, &[(9216, 191)])).contains("what can't be"));
        assert!(refused(&mode("NM12", 64, 48, &[(4608, 64)])).contains("what can't be"));
        assert!(refused(&mode("NM12", 64, 48, &[(3071, 64), (1536, 64)])).contains("what can't be"));
        assert!(refused(&mode("MJPG", 64, 48, &[(0, 0)])).contains("what can't be"));
        assert!(refused(&mode("NV12", 63, 48, &[(4608, 64)])).contains("multiple of 2"));
        let fields = Mode { whole_frames: false, ..mode("RGB3", 64, 48, &[(9216, 192)]) };
        assert!(refused(&fields).contains("interlaced"));
    }

    #[test]
    fn codes_are_read_and_written() {
        assert_eq!(Code::new("Y16").unwrap().to_string(), "Y16");
        assert_eq!(Code::new("Y16").unwrap(), Code(*b"Y16 "));
        assert_eq!(Code::of(u32::from_le_bytes(*b"Y16 ") | 1 << 31).to_string(), "Y16-BE");
        for bad in ["", "RGB24", "é", "a\nb"] {
            assert_eq!(Code::new(bad), None, "{bad:?}");
        }
        let code = |text| Code::new(text).unwrap();
        assert!(code("NM12").serves_as(code("NV12")) && code("BGR4").serves_as(code("XR24")));
        assert!(!code("MJPG").serves_as(code("JPEG")) && !code("NV12").serves_as(code("NV21")));
    }
}
