//! The kernel's virtual camera, for tests: one at a time, showing what is known.
#![allow(dead_code, unreachable_pub)] // each test file uses its share

#[path = "../../../tests/common/skip.rs"]
pub(crate) mod skip;

use bips_v4l2::{Code, Device};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

/// The size most tests use: small, since the pictures are painted and compared by a processor that may be emulated.
pub const SIZE: (u32, u32) = (320, 180);

/// The camera, nobody else's as long as this lives.
pub struct Vivid {
    pub path: PathBuf,
    _turn: Flock<File>,
}

/// The camera, showing a still picture of bars. Without one the calling test is skipped.
#[track_caller]
pub fn vivid() -> Option<Vivid> {
    let Some(path) = find() else {
        skip::without(
            "camera",
            "no virtual camera here: load the kernel's module vivid, as in the lane for virtual machines",
        );
        return None;
    };
    let turn =
        File::create(std::env::temp_dir().join("bips-vivid.lock")).expect("temporary files can be made");
    let turn =
        Flock::lock(turn, FlockArg::LockExclusive).map_err(|(_, errno)| errno).expect("a lock can be had");
    let vivid = Vivid { path, _turn: turn };
    let camera = vivid.open();
    for (control, value) in [
        ("Test Pattern", 1),  // bars, all colours at 100 %
        ("OSD Text Mode", 2), // no text
        ("Horizontal Movement", 3),
        ("Vertical Movement", 3),
        ("Percentage of Dropped Buffers", 0),
    ] {
        camera.set_control(control, value).expect("vivid has it");
    }
    Some(vivid)
}

/// The camera, if it writes to memory in many pieces: heaps give a small frame one piece at times, by luck.
#[track_caller]
pub fn streaming() -> Option<Vivid> {
    if needs_one_piece() {
        skip::without("camera", "this camera was loaded to need memory in one piece");
        return None;
    }
    vivid()
}

fn find() -> Option<PathBuf> {
    let nodes = fs::read_dir("/dev").ok()?.flatten().map(|entry| entry.path());
    let mut nodes: Vec<_> = nodes.filter(|path| path.to_string_lossy().starts_with("/dev/video")).collect();
    nodes.sort();
    nodes.into_iter().find(|path| Device::open(path).is_ok_and(|camera| camera.driver() == "vivid"))
}

impl Vivid {
    #[track_caller]
    pub fn open(&self) -> Device {
        Device::open(&self.path).expect("found a moment ago")
    }

    #[track_caller]
    pub fn set(&self, control: &str, value: i32) {
        self.open().set_control(control, value).expect("vivid has it");
    }

    /// What the camera shows, by another way than ours: read(2), which copies.
    #[track_caller]
    pub fn read(&self, code: Code, size: (u32, u32)) -> Vec<u8> {
        let mode = self.open().set_mode(code, Some(size)).expect("a mode it offers");
        assert_eq!((mode.code, mode.width, mode.height), (code, size.0, size.1));
        assert_eq!(mode.planes.len(), 1, "frames in several pieces can't be read");
        let mut bytes = vec![0; mode.planes[0].bytes as usize];
        let read =
            File::open(&self.path).and_then(|mut file| file.read(&mut bytes)).expect("vivid can be read");
        assert_eq!(read, bytes.len());
        bytes
    }
}

pub fn code(text: &str) -> Code {
    Code::new(text).expect("a code")
}

/// Which allocator the driver was loaded with: 1 needs memory in one piece.
pub fn needs_one_piece() -> bool {
    let parameters = fs::read_to_string("/sys/module/vivid/parameters/allocators").unwrap_or_default();
    parameters.starts_with('1')
}

/// Whether red, green and blue are those of the bars at this place of a picture in RGB3.
#[track_caller]
pub fn assert_bars(pixels: &[u8], (width, height): (u32, u32), what: &str) {
    const BARS: [[i32; 3]; 8] = [
        [255, 255, 255],
        [255, 255, 0],
        [0, 255, 255],
        [0, 255, 0],
        [255, 0, 255],
        [255, 0, 0],
        [0, 0, 255],
        [0, 0, 0],
    ];
    let (width, height) = (width as usize, height as usize);
    assert_eq!(pixels.len(), width * height * 3, "{what}");
    for y in (0..height).step_by(7) {
        for (bar, expected) in BARS.iter().enumerate() {
            // The middle of each: edges are filtered.
            let x = (2 * bar + 1) * width / 16;
            let pixel: Vec<i32> =
                pixels[(y * width + x) * 3..][..3].iter().map(|value| i32::from(*value)).collect();
            let near = pixel.iter().zip(expected).all(|(have, want)| (have - want).abs() <= 4);
            assert!(near, "{what}: bar {bar} at {x},{y} is {pixel:?}, not {expected:?}");
        }
    }
}
