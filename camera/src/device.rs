//! An open camera: what it is, and its mode.

use crate::abi::{self, Zeros};
use crate::{Code, sys};
use bips::{Error, ErrorKind, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A video capture device.
#[derive(Debug)]
pub struct Device {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    /// Type of its buffers: single-planar or multi-planar.
    pub(crate) kind: u32,
    card: String,
    driver: String,
    /// Inodes of the buffers of its own that the driver has made and lent, by index; see [`Device::lend`].
    lent: Mutex<Vec<u64>>,
}

/// What frames are like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mode {
    /// Pixel format.
    pub code: Code,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Whether a buffer holds a frame, rather than one of its two fields.
    pub whole_frames: bool,
    /// The pieces of memory it wants for a frame.
    pub planes: Vec<MemoryPlane>,
}

/// A piece of memory of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlane {
    /// How much the driver wants.
    pub bytes: u32,
    /// From one row to the next.
    pub stride: u32,
}

impl Device {
    /// Opens a camera by its path.
    ///
    /// # Errors
    /// `NotFound`, `AccessDenied`, and `InvalidArgument` for what is no camera that streams.
    pub fn open(path: &Path) -> Result<Self> {
        let at = path.display();
        let flags = OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = OpenOptions::new().read(true).write(true).custom_flags(flags.bits()).open(path);
        let file = opened.map_err(|error| {
            let hint = match error.raw_os_error() {
                Some(libc::EACCES | libc::EPERM) => {
                    "cameras usually belong to the group video: add the user to it (usermod -aG video USER) and log in \
                     anew; in a container also pass the device (--device)"
                }
                Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
                    "`bips capture --list` shows the cameras there are; in a container pass the device (--device)"
                }
                Some(libc::EBUSY) => "another program uses it; end that one",
                _ => "`bips capture --list` shows the cameras there are",
            };
            let kind = match error.raw_os_error() {
                Some(libc::ENODEV | libc::ENXIO) => Some(ErrorKind::NotFound),
                _ => None,
            };
            let doing = format!("can't open camera {at}");
            match kind {
                Some(kind) => Error::new(kind, format!("{doing}: {error}")).hint(hint),
                None => Error::system(&doing, error).hint(hint),
            }
        })?;
        let mut found = abi::Capability::zeros();
        let no_camera = |why: String| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "{at} is no camera that can be captured from: {why}; `bips capture --list` shows those there are"
                ),
            )
        };
        sys::capability(&file, &mut found).map_err(|error| match error {
            Errno::ENOTTY | Errno::EINVAL => no_camera("it is no video device (V4L2)".into()),
            other => Error::system(&format!("asking {at} what it is"), other),
        })?;
        let device_caps = found.capabilities & abi::CAP_DEVICE_CAPS != 0;
        let can = if device_caps { found.device_caps } else { found.capabilities };
        let kind = match can {
            can if can & abi::CAP_VIDEO_CAPTURE_MPLANE != 0 => abi::CAPTURE_MPLANE,
            can if can & abi::CAP_VIDEO_CAPTURE != 0 => abi::CAPTURE,
            _ => return Err(no_camera(format!("it is {} and captures no video", text(&found.card)))),
        };
        if can & abi::CAP_STREAMING == 0 {
            return Err(no_camera(format!(
                "{} can only be read from, which copies; bips wants drivers that fill buffers",
                text(&found.card)
            )));
        }
        Ok(Self {
            file,
            path: path.into(),
            kind,
            card: text(&found.card),
            driver: text(&found.driver),
            lent: Mutex::default(),
        })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name.
    pub fn card(&self) -> &str {
        &self.card
    }

    /// The name of its driver.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    pub(crate) fn lent(&self) -> MutexGuard<'_, Vec<u64>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn failed(&self, doing: &str, errno: Errno) -> Error {
        let at = self.path.display();
        match errno {
            Errno::ENODEV => gone(&self.path),
            Errno::EBUSY => Error::system(&format!("{doing} of {at}"), errno)
                .hint("another program captures from it; end that one, or let it publish the stream"),
            Errno::ENOMEM => Error::system(&format!("{doing} of {at}"), errno).hint(
                "its driver has no more memory for them: use fewer --slots or smaller frames, or give it more (`cma=` on the \
                 kernel's command line, where it needs memory in one piece)",
            ),
            _ => Error::system(&format!("{doing} of {at}"), errno),
        }
    }

    /// The mode it is in.
    ///
    /// # Errors
    /// What the driver reports.
    pub fn mode(&self) -> Result<Mode> {
        Ok(mode_of(&self.format()?))
    }

    fn format(&self) -> Result<abi::Format> {
        let mut format = abi::Format { kind: self.kind, ..abi::Format::zeros() };
        sys::get_format(&self.file, &mut format)
            .map_err(|errno| self.failed("asking for the format", errno))?;
        Ok(format)
    }

    /// Brings it into a mode, as near as the driver comes: says which one that is.
    ///
    /// # Errors
    /// What the driver reports.
    pub fn set_mode(&self, code: Code, size: Option<(u32, u32)>) -> Result<Mode> {
        let mut format = self.format()?;
        if self.kind == abi::CAPTURE_MPLANE {
            let old = format.mplane();
            let (width, height) = size.unwrap_or((old.width, old.height));
            // The rest zero: the driver's own strides, sizes and colours.
            let mplane = abi::Format::zeros().mplane();
            format = abi::Format::multi(abi::PixMplane {
                width,
                height,
                pixelformat: code.value(),
                field: abi::FIELD_ANY,
                ..mplane
            });
        } else {
            let old = format.pix();
            let (width, height) = size.unwrap_or((old.width, old.height));
            format = abi::Format::single(abi::Pix {
                width,
                height,
                pixelformat: code.value(),
                field: abi::FIELD_ANY,
                private: abi::PIX_FMT_PRIV_MAGIC,
                ..abi::Format::zeros().pix()
            });
        }
        sys::set_format(&self.file, &mut format).map_err(|errno| self.failed("setting the format", errno))?;
        Ok(mode_of(&format))
    }

    /// Sets the rate, as near as the driver comes: says which one that is.
    ///
    /// # Errors
    /// `Unsupported` where it can't be set.
    pub fn set_fps(&self, fps: f64) -> Result<f64> {
        let mut parameters = abi::StreamParm { kind: self.kind, ..abi::StreamParm::zeros() };
        let unsupported = || {
            Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the rate of {} can't be set; leave out --fps to take what comes",
                    self.path.display()
                ),
            )
        };
        let asked = sys::get_parameters(&self.file, &mut parameters);
        if asked.is_err() || parameters.capability & abi::CAP_TIMEPERFRAME == 0 {
            return Err(unsupported());
        }
        parameters.timeperframe = interval(fps);
        sys::set_parameters(&self.file, &mut parameters)
            .map_err(|errno| self.failed("setting the rate", errno))?;
        rate(parameters.timeperframe).ok_or_else(unsupported)
    }

    /// Frames per second, if the driver says so.
    pub fn fps(&self) -> Option<f64> {
        let mut parameters = abi::StreamParm { kind: self.kind, ..abi::StreamParm::zeros() };
        sys::get_parameters(&self.file, &mut parameters).ok()?;
        (parameters.capability & abi::CAP_TIMEPERFRAME != 0).then_some(parameters.timeperframe).and_then(rate)
    }

    /// Chooses one of several inputs.
    ///
    /// # Errors
    /// `InvalidArgument` where it has no such input.
    pub fn set_input(&self, input: u32) -> Result<()> {
        let mut index = input.cast_signed();
        sys::set_input(&self.file, &mut index).map_err(|errno| match errno {
            Errno::EINVAL | Errno::ENOTTY => Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "{} has no input {input}; `bips capture --list` shows its inputs",
                    self.path.display()
                ),
            ),
            other => self.failed("choosing the input", other),
        })
    }

    /// Its inputs by name; empty where it has none to choose from.
    pub fn inputs(&self) -> Vec<String> {
        let input = |index| {
            let mut input = abi::Input { index, ..abi::Input::zeros() };
            sys::enumerate_input(&self.file, &mut input).ok()?;
            Some(text(&input.name))
        };
        (0..64).map_while(input).collect()
    }

    /// The input it captures from.
    pub fn input(&self) -> u32 {
        let mut index = 0;
        match sys::get_input(&self.file, &mut index) {
            Ok(()) => index.cast_unsigned(),
            Err(_) => 0,
        }
    }

    /// Takes over the size and rate of the signal that comes in now, for inputs that have one (HDMI and its like).
    ///
    /// # Errors
    /// `Unsupported` while there is no signal, or one the driver can't take.
    pub fn follow_signal(&self) -> Result<()> {
        let mut input = abi::Input { index: self.input(), ..abi::Input::zeros() };
        let asked = sys::enumerate_input(&self.file, &mut input);
        if asked.is_err() || input.capabilities & abi::IN_CAP_DV_TIMINGS == 0 {
            return Ok(());
        }
        let mut timings = abi::DvTimings::zeros();
        sys::query_timings(&self.file, &mut timings).map_err(|errno| match errno {
            Errno::ENOLINK | Errno::ENOLCK | Errno::ERANGE | Errno::EINVAL => Error::new(
                ErrorKind::Unsupported,
                format!(
                    "there is no usable signal at input {} ({}) of {}: {errno}; look at the cable and the source",
                    input.index,
                    text(&input.name),
                    self.path.display()
                ),
            ),
            other => self.failed("asking for the signal", other),
        })?;
        sys::set_timings(&self.file, &mut timings).map_err(|errno| self.failed("following the signal", errno))
    }
}

/// The camera has gone while it was used.
pub(crate) fn gone(path: &Path) -> Error {
    Error::new(
        ErrorKind::Closed,
        format!("the camera at {} is gone; plug it in again and start the capture anew", path.display()),
    )
}

/// The letters before the first zero.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn mode_of(format: &abi::Format) -> Mode {
    let whole = |field| field == abi::FIELD_NONE || abi::FIELD_INTERLACED.contains(&field);
    if format.kind == abi::CAPTURE_MPLANE {
        let found = format.mplane();
        let count = usize::from(found.num_planes).min(abi::MAX_PLANES);
        let plane =
            |plane: &abi::PlanePix| MemoryPlane { bytes: plane.sizeimage, stride: plane.bytesperline };
        return Mode {
            code: Code::of(found.pixelformat),
            width: found.width,
            height: found.height,
            whole_frames: whole(found.field),
            planes: found.planes[..count].iter().map(plane).collect(),
        };
    }
    let found = format.pix();
    Mode {
        code: Code::of(found.pixelformat),
        width: found.width,
        height: found.height,
        whole_frames: whole(found.field),
        planes: vec![MemoryPlane { bytes: found.sizeimage, stride: found.bytesperline }],
    }
}

/// The time of a frame: a fraction that also says 29.97 well.
fn interval(fps: f64) -> abi::Fraction {
    if fps.fract() == 0.0 && fps >= 1.0 {
        return abi::Fraction { numerator: 1, denominator: fps as u32 };
    }
    abi::Fraction { numerator: 1000, denominator: (fps * 1000.0).round().max(1.0) as u32 }
}

pub(crate) fn rate(interval: abi::Fraction) -> Option<f64> {
    let sane = interval.numerator > 0 && interval.denominator > 0;
    sane.then(|| f64::from(interval.denominator) / f64::from(interval.numerator))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_fractions() {
        let told = |fps| rate(interval(fps));
        for fps in [30.0, 29.97, 0.5, 120.0, 0.001] {
            assert!((told(fps).unwrap() - fps).abs() < 1e-9, "{fps}");
        }
        assert_eq!(rate(abi::Fraction { numerator: 0, denominator: 30 }), None);
        assert_eq!(rate(abi::Fraction { numerator: 1, denominator: 0 }), None);
    }

    #[test]
    fn modes_are_read_from_both_kinds_of_format() {
        let pix = abi::Pix {
            width: 64,
            height: 48,
            pixelformat: u32::from_le_bytes(*b"YUYV"),
            field: abi::FIELD_NONE,
            bytesperline: 128,
            sizeimage: 6144,
            ..abi::Format::zeros().pix()
        };
        let mode = mode_of(&abi::Format::single(pix));
        assert_eq!((mode.code, mode.width, mode.height), (Code(*b"YUYV"), 64, 48));
        assert!(mode.whole_frames);
        assert_eq!(mode.planes, [MemoryPlane { bytes: 6144, stride: 128 }]);

        let mut mplane = abi::Format::zeros().mplane();
        mplane.pixelformat = u32::from_le_bytes(*b"NM12");
        mplane.field = 7;
        mplane.num_planes = 2;
        mplane.planes[0].sizeimage = 3072;
        mplane.planes[1].sizeimage = 1536;
        let mode = mode_of(&abi::Format::multi(mplane));
        assert_eq!(mode.planes.iter().map(|plane| plane.bytes).collect::<Vec<_>>(), [3072, 1536]);
        assert!(!mode.whole_frames, "fields that alternate");
        mplane.num_planes = 200;
        assert_eq!(mode_of(&abi::Format::multi(mplane)).planes.len(), abi::MAX_PLANES);
    }

    #[test]
    fn names_end_at_their_zero() {
        assert_eq!(text(b"vivid\0\0rest"), "vivid");
        assert_eq!(text(b"full"), "full");
    }
}
