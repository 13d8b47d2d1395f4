//! `bips produce`: a stream of frames that can be checked.

use std::time::{Duration, Instant};

use bips::{AcquireError, Description, Fence, Fourcc, FrameMut, Producer, Wait};
use clap::ValueHint;
use serde_json::json;

use crate::args::{self, Place, Size};
use crate::exit::{Failure, Outcome};
use crate::interrupt::{Interrupt, SLICE};
use crate::output;
use crate::pattern::{Painter, Pattern};
use crate::progress::Progress;
use crate::publishing::{Publishing, joined};
use crate::stalls::Stalls;
use crate::testcard::TestCard;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Name of the stream, such as front-camera or robot/left
    #[arg(value_hint = ValueHint::Other)]
    name: String,
    /// Size of a frame
    #[arg(long, value_name = "WxH", default_value = "1920x1080", value_parser = args::size)]
    size: Size<u32>,
    /// Pixel format, a V4L2 code, such as RGB3, GREY, AR24, NV12 or YUYV; a wrong one lists all
    #[arg(long, value_name = "CODE", default_value = "RGB3", value_parser = args::fourcc)]
    format: Fourcc,
    /// Frames per second; 0 is as fast as possible
    #[arg(long, value_name = "N", default_value = "30", value_parser = args::fps)]
    fps: f64,
    /// Buffers in the pool, 1 to 64
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = args::whole(0u32..))]
    slots: u32,
    /// What the frames show; `consume --verify` recognises it
    #[arg(long, value_enum, default_value_t = Pattern::Noise)]
    pattern: Pattern,
    #[command(flatten)]
    publishing: Publishing,
}

pub(crate) fn run(args: &Args, place: &Place) -> Outcome {
    let interrupt = Interrupt::install()?;
    let mut painter = painter(args)?;
    let publishing = &args.publishing;
    let builder = publishing.builder(&args.name, place).slots(args.slots);
    let producer = builder.image(args.format, args.size.width, args.size.height).create()?;
    let mut progress = Progress::new();
    let mut published = 0;
    let mut elapsed = Duration::ZERO;
    if publishing.wait_for_consumers(&producer, &interrupt, &mut progress)? {
        let start = Instant::now();
        published = publish(args, &producer, &mut painter, &interrupt, &mut progress)?;
        elapsed = start.elapsed();
    }
    drop(progress);
    let stats = producer.stats()?;
    // Closing at once loses nothing: consumers drain what was published before they learn of the end.
    producer.close();
    let seconds = elapsed.as_secs_f64();
    // From the first frame to the last: as many periods as there are frames, less one.
    let fps = if published > 1 && seconds > 0.0 { (published - 1) as f64 / seconds } else { 0.0 };
    let shared = published * producer.content().nbytes();
    if publishing.json {
        output::json(&json!({
            "stream": args.name,
            "memory": producer.backend().kind,
            "frames": published,
            "seconds": seconds,
            "fps": fps,
            "frame_bytes": producer.content().nbytes(),
            "bytes": shared,
            "pool_bytes": stats.pool_bytes,
            "slots": producer.slots(),
            "consumers": stats.consumers.len(),
            "evicted": stats.evicted,
            "expelled": stats.expelled,
        }))?;
    } else {
        output::line(format!(
            "{published} frames in {seconds:.2} s ({fps:.1} fps), {} handed over from a pool of {} in {}",
            output::bytes(shared),
            output::bytes(stats.pool_bytes),
            producer.backend().kind,
        ))?;
    }
    if publishing.count > 0 && published < publishing.count {
        return Err(Failure::failed(format!(
            "ended by a signal after {published} of {} frames",
            publishing.count
        )));
    }
    Ok(())
}

fn painter(args: &Args) -> Outcome<Painter> {
    Ok(match args.pattern {
        Pattern::Noise => Painter::Noise,
        Pattern::None => Painter::Nothing,
        Pattern::Picture => {
            let content = bips::Content::image(args.format, args.size.width, args.size.height)?;
            let plane =
                content.planes().first().copied().ok_or_else(|| Failure::failed("the image has no plane"))?;
            Painter::Picture(Box::new(TestCard::new(Some(args.format), &plane)?))
        }
    })
}

/// Publishes until the count is reached or a signal comes; says how many frames that were.
fn publish(
    args: &Args,
    producer: &Producer,
    painter: &mut Painter,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Outcome<u64> {
    let nbytes = producer.content().nbytes() as usize;
    let description = Description::new().with_metadata(args.pattern.tag());
    let mut pace = Pace::new(args.fps);
    let Publishing { count, json, .. } = args.publishing;
    let mut stalls = Stalls::new(json);
    let mut sequence = 0;
    while count == 0 || sequence < count {
        if !pace.wait(interrupt) {
            break;
        }
        let Some(mut frame) = acquire(producer, interrupt, progress, &mut stalls, sequence)? else {
            break;
        };
        painter.paint(sequence, &mut frame.bytes_mut()[..nbytes]);
        let given = frame.publish(description, Fence::Signaled)?;
        if given != sequence {
            return Err(Failure::failed(format!("frame {sequence} was published as number {given}")));
        }
        sequence += 1;
        progress.tick(sequence, || format!("{} consumers", joined(producer)));
    }
    Ok(sequence)
}

/// None when a signal came first.
fn acquire(
    producer: &Producer,
    interrupt: &Interrupt,
    progress: &mut Progress,
    stalls: &mut Stalls,
    published: u64,
) -> Outcome<Option<FrameMut>> {
    while !interrupt.requested() {
        match producer.acquire(Wait::For(SLICE)) {
            Ok(frame) => {
                stalls.goes_on(producer)?;
                return Ok(Some(frame));
            }
            Err(AcquireError::Timeout) => {
                stalls.waits(producer, published)?;
                progress.tick(published, || producer.explain(AcquireError::Timeout).to_string());
            }
            Err(error) => return Err(producer.explain(error).into()),
        }
    }
    Ok(None)
}

/// Keeps a rate without ever hurrying to catch up: a late frame moves all later ones.
struct Pace {
    period: Option<Duration>,
    due: Option<Instant>,
}

impl Pace {
    fn new(fps: f64) -> Self {
        // Below one frame in a century the period doesn't fit a Duration; nobody waits for the second frame.
        let period = (fps > 0.0).then(|| Duration::try_from_secs_f64(1.0 / fps).unwrap_or(Duration::MAX / 4));
        Self { period, due: None }
    }

    /// Waits until the next frame is due; false when a signal came first.
    fn wait(&mut self, interrupt: &Interrupt) -> bool {
        let Some(period) = self.period else {
            return !interrupt.requested();
        };
        let now = Instant::now();
        let due = self.due.unwrap_or(now);
        let late = now.saturating_duration_since(due) > period;
        self.due = if late { now } else { due }.checked_add(period);
        interrupt.sleep(due.saturating_duration_since(now))
    }
}
