//! `bips capture`: a camera writes straight into the slots of a stream.

mod list;
mod mode;
mod stream;
mod tally;

use std::path::PathBuf;

use bips_v4l2::{Code, Device};
use clap::ValueHint;

use crate::args::{self, Place, Size};
use crate::exit::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::publishing::Publishing;
use stream::{Camera, Ended, Stream};
use tally::Tally;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The camera, such as /dev/video0; `--list` shows those there are
    #[arg(required_unless_present = "list", value_hint = ValueHint::FilePath)]
    device: Option<PathBuf>,
    /// Name of the stream, such as front-camera or robot/left
    #[arg(required_unless_present = "list", value_hint = ValueHint::Other)]
    name: Option<String>,
    /// Show the cameras (or only the one named), their formats and sizes, and end
    #[arg(long)]
    list: bool,
    /// Size of a frame; the camera's present one if left out
    #[arg(long, value_name = "WxH", value_parser = args::size)]
    size: Option<Size<u32>>,
    /// Pixel format, a V4L2 code such as NV12, YUYV or MJPG; the camera's present one if left out and possible
    #[arg(long, value_name = "CODE", value_parser = code)]
    format: Option<Code>,
    /// Frames per second; the camera's present rate if left out
    #[arg(long, value_name = "N", value_parser = rate)]
    fps: Option<f64>,
    /// Input of the camera, where it has several
    #[arg(long, value_name = "N", value_parser = args::whole(0u32..=63))]
    input: Option<u32>,
    /// Buffers in the pool, 2 to 32
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = args::whole(2u32..=32))]
    slots: u32,
    /// Slots the camera may have at a time; half of them if left out. The others are for consumers
    #[arg(long, value_name = "N", value_parser = args::whole(1u32..=31))]
    queued: Option<u32>,
    #[command(flatten)]
    publishing: Publishing,
}

fn code(text: &str) -> Result<Code, String> {
    let known = |wanted: &dyn Fn(&str) -> bool| Code::all_known().find(|code| wanted(&code.to_string()));
    if let Some(code) = known(&|code| code == text) {
        return Ok(code);
    }
    let meant = known(&|code| code.eq_ignore_ascii_case(text));
    let meant = meant.map_or_else(String::new, |meant| format!("did you mean {meant}? If not, "));
    let all: Vec<_> = Code::all_known().map(|code| code.to_string()).collect();
    Err(format!("{meant}use one of {}", all.join(", ")))
}

fn rate(text: &str) -> Result<f64, String> {
    args::fps(text).ok().filter(|fps| *fps >= 0.001).ok_or_else(|| {
        "give frames per second, such as 29.97, or leave it out for the camera's own".to_owned()
    })
}

impl Args {
    /// How many slots the camera may have: enough to go on while frames are read, few enough to leave some for that.
    fn depth(&self) -> Outcome<usize> {
        // One is being read, and those that late joiners get are taken too.
        let most = self.slots.saturating_sub(1 + self.publishing.history);
        if most == 0 {
            return Err(Failure::usage(format!(
                "--history {} leaves the camera no slot to write to; use more --slots than {}",
                self.publishing.history, self.slots
            )));
        }
        match self.queued {
            Some(queued) if queued > most => Err(Failure::usage(format!(
                "--queued {queued} leaves consumers nothing to read; with --slots {} use 1 to {most}",
                self.slots
            ))),
            Some(queued) => Ok(queued as usize),
            None => Ok((self.slots / 2).min(most) as usize),
        }
    }
}

pub(crate) fn run(args: &Args, place: &Place) -> Outcome {
    let (Some(path), Some(name), false) = (&args.device, &args.name, args.list) else {
        return list::run(args.device.as_deref(), args.publishing.json);
    };
    let interrupt = Interrupt::install()?;
    let depth = args.depth()?;
    let device = Device::open(path)?;
    if let Some(input) = args.input {
        device.set_input(input)?;
    }
    device.follow_signal()?;
    let mut camera =
        Camera::prepare(device, args.format, args.size.map(|size| (size.width, size.height)), args.fps)?;
    let mut stream = Stream::open(args, name, place, &camera)?;
    let mut tally = Tally::new(name, args.publishing.json);
    tally.begins(&camera, &stream)?;

    let mut progress = Progress::new();
    if args.publishing.wait_for_consumers(&stream.producer, &interrupt, &mut progress)? {
        loop {
            match stream.capture(
                camera,
                depth,
                args.publishing.count,
                &interrupt,
                &mut progress,
                &mut tally,
            )? {
                Ended::Done => break,
                Ended::Changed(device) => {
                    let Some(next) = mode::again(device, args, &interrupt, &mut tally)? else { break };
                    camera = next;
                    if !stream.serves(&camera) {
                        // A pool never changes: the old one ends, and consumers that reconnect find the next.
                        stream.close(&mut tally)?;
                        stream = Stream::open(args, name, place, &camera)?;
                    }
                    tally.begins(&camera, &stream)?;
                }
            }
        }
    }
    drop(progress);
    stream.close(&mut tally)?;
    tally.tell(args.publishing.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_v4l2_codes() {
        assert_eq!(code("Y16").unwrap().to_string(), "Y16");
        assert_eq!(code("NM12").unwrap().to_string(), "NM12");
        assert!(code("mjpg").unwrap_err().contains("did you mean MJPG?"));
        assert!(code("RGB24").unwrap_err().starts_with("use one of NV12"));
    }

    #[test]
    fn a_camera_leaves_slots_for_readers() {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let depth = |words: &str| {
            let words = format!("capture /dev/video0 cam {words}");
            Line::parse_from(words.split_whitespace()).args.depth()
        };
        assert_eq!(depth("").unwrap(), 4);
        assert_eq!(depth("--slots 2").unwrap(), 1);
        assert_eq!(depth("--slots 8 --queued 7").unwrap(), 7);
        assert_eq!(depth("--slots 8 --history 5").unwrap(), 2);
        assert!(depth("--slots 8 --queued 8").unwrap_err().into_message().contains("1 to 7"));
        assert!(depth("--slots 3 --history 2").unwrap_err().into_message().contains("no slot"));
    }
}
