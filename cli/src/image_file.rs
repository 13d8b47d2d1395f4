//! PNG files, written whole or not at all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use png::{BitDepth, ColorType, Encoder};

use crate::exit::{Failure, Outcome};
use crate::picture::Picture;

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
