//! PNG files, written whole or not at all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use png::{BitDepth, ColorType, Encoder};

use crate::exit::{Failure, Outcome};
use crate::picture::Picture;

/// Names that promise another format.
const NOT_PNG: [&str; 9] = ["jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "ppm", "mp4"];

/// Whether a picture can be written there. To be asked before a stream is waited for: a wrong path should not cost the
/// frame.
pub(crate) fn check(path: &Path) -> Outcome {
    if path
        .extension()
        .is_some_and(|extension| NOT_PNG.iter().any(|other| extension.eq_ignore_ascii_case(other)))
    {
        let png = path.with_extension("png");
        return Err(Failure::usage(format!("only PNG is written; name the file {}", png.display())));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        return Err(Failure::failed(format!(
            "{} is no directory; make it, or write elsewhere",
            parent.display()
        )));
    }
    if path.is_dir() {
        return Err(Failure::failed(format!("{} is a directory; name a file in it", path.display())));
    }
    let (_, unfinished) = begin(path)?;
    std::fs::remove_file(&unfinished).map_err(|error| Failure::system(unfinished.display(), error))
}

/// The frame as it is, row by row.
pub(crate) fn write_picture(path: &Path, picture: &Picture) -> Outcome {
    let mut row = vec![0; picture.width * picture.channels()];
    write(path, (picture.width, picture.height), picture.channels(), |stream| {
        for y in 0..picture.height {
            picture.row(y, &mut row)?;
            stream.write_all(&row).map_err(|error| Failure::system(path.display(), error))?;
        }
        Ok(())
    })
}

/// Pixels that are already RGB.
pub(crate) fn write_rgb(path: &Path, size: (usize, usize), pixels: &[u8]) -> Outcome {
    write(path, size, 3, |stream| {
        stream.write_all(pixels).map_err(|error| Failure::system(path.display(), error))
    })
}

fn write(
    path: &Path,
    (width, height): (usize, usize),
    channels: usize,
    rows: impl FnOnce(&mut dyn Write) -> Outcome,
) -> Outcome {
    // Beside the target, so that the last step is a rename: whoever watches the file never sees half of it.
    let (file, unfinished) = begin(path)?;
    let failed = |error: png::EncodingError| Failure::system(path.display(), error);
    let mut encoder = Encoder::new(BufWriter::new(&file), width as u32, height as u32);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_color(match channels {
        1 => ColorType::Grayscale,
        4 => ColorType::Rgba,
        _ => ColorType::Rgb,
    });
    let written = (|| {
        let mut writer = encoder.write_header().map_err(failed)?;
        let mut stream = writer.stream_writer().map_err(failed)?;
        rows(&mut stream)?;
        stream.finish().map_err(failed)?;
        writer.finish().map_err(failed)?;
        std::fs::rename(&unfinished, path).map_err(|error| Failure::system(path.display(), error))
    })();
    if written.is_err() {
        // The error to tell is the one above; a leftover that can't be removed adds nothing.
        let _ = std::fs::remove_file(&unfinished);
    }
    written
}

fn begin(path: &Path) -> Outcome<(File, PathBuf)> {
    let Some(name) = path.file_name() else {
        return Err(Failure::usage(format!(
            "{} is no file name; give one such as frame.png",
            path.display()
        )));
    };
    let unfinished = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let file = File::create(&unfinished).map_err(|error| {
        Failure::failed(format!(
            "can't write {}: {error}; give a path in a directory that exists and is writable",
            path.display()
        ))
    })?;
    Ok((file, unfinished))
}
