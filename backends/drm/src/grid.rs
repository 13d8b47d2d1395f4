//! How content becomes what a driver allocates: pixels in rows.

use bips::{Content, Error, ErrorKind, Fourcc, Result};
use drm::buffer::DrmFourcc;

/// Most rows of a grid for plain bytes, and most bytes of one row: no driver that is known allows less.
const ROWS: u64 = 8192;
const ROW_BYTES: u64 = 1 << 16;

/// Pixels to ask a driver for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Of a pixel.
    pub(crate) bits: u32,
    pub(crate) format: DrmFourcc,
    /// The content fills it from the start, over the ends of rows.
    pub(crate) run: bool,
}

/// The grids that hold the content, the one that says most about it first: an image's own pixels, its rows as rows of
/// 32-bit pixels, the one format that every driver has, and where rows can't lie apart, all of it as one run. Bytes,
/// tensors and what must lie exactly so are one run always.
pub(crate) fn grids(content: &Content, exact: bool) -> Result<Vec<Grid>> {
    let Some(fourcc) = content.fourcc().filter(|_| !exact) else { return Ok(vec![run(content.nbytes())?]) };
    // Planes lie below each other, each as wide as the first.
    let row = content.planes()[0].width;
    let rows = packed(content)?.nbytes() / row;
    let words = in_words(row, rows);
    let own = own_format(fourcc).map(|format| Grid {
        width: content.width(),
        bits: (8 * row / u64::from(content.width())) as u32,
        format,
        ..words
    });
    // Formats of planes: as bytes.
    let own = own.unwrap_or(Grid { width: row as u32, bits: 8, format: DrmFourcc::R8, ..words });
    let mut grids = vec![own];
    if own.bits != 32 {
        grids.push(words);
    }
    if content.planes().iter().any(|plane| plane.width < row) {
        grids.push(run(content.nbytes())?);
    }
    Ok(grids)
}

/// Rows of 4 KiB or more for so many bytes.
pub(crate) fn run(bytes: u64) -> Result<Grid> {
    let bytes = bytes.max(1);
    let mut row = 4096;
    while bytes.div_ceil(row) > ROWS && row < ROW_BYTES {
        row *= 2;
    }
    let rows = bytes.div_ceil(row);
    if rows > ROWS {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "a slot of {} MiB is more than a DRM driver's buffer can be relied on to have, {} MiB; use dma-heap",
                bytes.div_ceil(1 << 20),
                (ROWS * ROW_BYTES) >> 20
            ),
        ));
    }
    Ok(Grid { run: true, ..in_words(row, rows) })
}

/// Rows of 32-bit pixels. All lengths fit: rows of images have at most 2^19 bytes, and those of runs are given above.
fn in_words(row: u64, rows: u64) -> Grid {
    Grid {
        width: row.div_ceil(4) as u32,
        height: rows as u32,
        bits: 32,
        format: DrmFourcc::Xrgb8888,
        run: false,
    }
}

/// What DRM calls a format of V4L2, where pixels lie side by side in one plane.
fn own_format(fourcc: Fourcc) -> Option<DrmFourcc> {
    Some(match &fourcc.value().to_le_bytes() {
        // Named by V4L2 in the order of bytes, by DRM from the highest bits of a little-endian number.
        b"RGB3" => DrmFourcc::Bgr888,
        b"BGR3" => DrmFourcc::Rgb888,
        b"GREY" => DrmFourcc::R8,
        b"Y16 " => DrmFourcc::R16,
        b"AB24" => DrmFourcc::Abgr8888,
        b"AR24" => DrmFourcc::Argb8888,
        b"YUYV" => DrmFourcc::Yuyv,
        b"UYVY" => DrmFourcc::Uyvy,
        _ => return None,
    })
}

/// An image without room between its rows.
fn packed(content: &Content) -> Result<Content> {
    content.with_row_stride(content.planes()[0].width)
}

/// The content with its rows as a driver gave them, `stride` bytes apart in a buffer of `len`.
pub(crate) fn laid_out(content: &Content, grid: &Grid, stride: u64, len: u64) -> Result<Content> {
    let laid = if grid.run {
        *content
    } else {
        content.with_row_stride(stride).map_err(|error| {
            let why = error.message().to_string();
            Error::new(ErrorKind::Unsupported, format!("the driver's rows don't suit the image: {why}"))
        })?
    };
    if laid.nbytes() > len {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the driver gave {len} bytes for {} in rows of {stride}; use another node",
                laid.nbytes()
            ),
        ));
    }
    Ok(laid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(code: &str, width: u32, height: u32) -> Content {
        Content::image(Fourcc::parse(code).unwrap(), width, height).unwrap()
    }

    #[test]
    fn bytes_become_rows() {
        let one = |bytes| match grids(&Content::bytes(bytes).unwrap(), false).unwrap()[..] {
            [grid] => (grid.width * 4, grid.height),
            ref grids => panic!("{grids:?}"),
        };
        assert_eq!(one(0), (4096, 1));
        assert_eq!(one(4097), (4096, 2));
        assert_eq!(one(32 << 20), (4096, 8192));
        assert_eq!(one((32 << 20) + 1), (8192, 4097));
        assert_eq!(one(512 << 20), (65536, 8192));
        let error = grids(&Content::bytes((512 << 20) + 1).unwrap(), false).unwrap_err();
        assert!(error.to_string().contains("512 MiB; use dma-heap"), "{error}");
    }

    #[test]
    fn images_are_asked_for_as_they_are_then_as_words() {
        let of = |code, width, height| {
            let grids = grids(&image(code, width, height), false).unwrap();
            grids.iter().map(|grid| (grid.width, grid.height, grid.bits, grid.format)).collect::<Vec<_>>()
        };
        assert_eq!(of("AR24", 640, 480), [(640, 480, 32, DrmFourcc::Argb8888)]);
        let words = |width, height| (width, height, 32, DrmFourcc::Xrgb8888);
        assert_eq!(of("RGB3", 641, 480), [(641, 480, 24, DrmFourcc::Bgr888), words(481, 480)]);
        assert_eq!(of("YUYV", 642, 480), [(642, 480, 16, DrmFourcc::Yuyv), words(321, 480)]);
        assert_eq!(of("NV12", 640, 480), [(640, 720, 8, DrmFourcc::R8), words(160, 720)]);
        let run = words(1024, 113);
        assert_eq!(of("YU12", 642, 480), [(642, 720, 8, DrmFourcc::R8), words(161, 720), run]);
    }

    #[test]
    fn a_drivers_rows_become_the_images() {
        let first = |content: &Content, stride, len| {
            laid_out(content, &grids(content, false).unwrap()[0], stride, len)
        };
        let laid = first(&image("NV12", 640, 480), 768, 768 * 720).unwrap();
        assert_eq!((laid.strides(), laid.planes()[1].offset), (&[768, 1][..], 768 * 480));
        // What a plan gave is planned alike.
        assert_eq!(first(&laid, 768, 768 * 720).unwrap(), laid);
        assert_eq!(first(&laid, 640, 768 * 720).unwrap(), image("NV12", 640, 480));
        assert_eq!(first(&Content::bytes(5000).unwrap(), 4352, 8704).unwrap().nbytes(), 5000);
        let yu12 = image("YU12", 642, 480);
        assert_eq!(laid_out(&yu12, &grids(&yu12, false).unwrap()[2], 4096, 1 << 20).unwrap(), yu12);
        // As a camera writes it: not to be laid another way.
        let planes = [(0, 656), (656 * 480, 328), (656 * 600, 328)];
        let own =
            Content::image_in_planes(Fourcc::parse("YU12").unwrap(), 642, 480, &planes, 1 << 19).unwrap();
        let [run] = grids(&own, true).unwrap()[..] else { panic!("one run") };
        assert_eq!((run.width, run.height), (1024, 128));
        assert_eq!(laid_out(&own, &run, 4352, 1 << 20).unwrap(), own);
        for (content, stride, len) in [
            (image("YU12", 642, 480), 644, 1 << 20),
            (image("GREY", 640, 480), 600, 1 << 20),
            (image("GREY", 640, 480), 768, 640 * 480),
        ] {
            let error = first(&content, stride, len).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        }
    }
}
