//! `bips produce`: a stream of frames that can be checked.

use std::time::{Duration, Instant};

use bips::{
    AccessRule, AcquireError, Description, ErrorKind, Fence, Fourcc, FrameMut, OnStall, Producer, Wait,
};
use clap::ValueHint;
use serde_json::json;

use crate::args::{self, Patience, Place, Size};
use crate::exit::{Failure, Outcome};
use crate::interrupt::{Interrupt, SLICE};
use crate::output;
use crate::pattern::{Painter, Pattern};
use crate::progress::Progress;
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
    /// Pixel format, a V4L2 code: RGB3 BGR3 GREY Y16 AB24 AR24 NV12 YU12 YUYV UYVY
    #[arg(long, value_name = "CODE", default_value = "RGB3", value_parser = args::fourcc)]
    format: Fourcc,
    /// Memory to share: auto, or a kind that `bips doctor` shows as working
    #[arg(long, value_name = "KIND", default_value = "auto")]
    memory: String,
    /// Frames per second; 0 is as fast as possible
    #[arg(long, value_name = "N", default_value = "30", value_parser = args::fps)]
    fps: f64,
    /// End after so many frames; 0 goes on until Ctrl-C
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = args::whole(0u64..))]
    count: u64,
    /// Start publishing when so many consumers have joined
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = args::whole(0u32..))]
    consumers: u32,
    /// How long to wait for them, in seconds, or `forever`
    #[arg(long, value_name = "SECONDS", default_value = "forever", value_parser = args::wait)]
    wait: Wait,
    /// Buffers in the pool, 1 to 64
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = args::whole(0u32..))]
    slots: u32,
    /// Who may consume: owner, group:NAME (or its number) or directory
    #[arg(long, value_name = "RULE", default_value = "owner", value_parser = access)]
    access: AccessRule,
    /// What to do about consumers that hold the stream up: wait, or expel:SECONDS
    #[arg(long, value_name = "RULE", default_value = "wait", value_parser = on_stall)]
    on_stall: OnStall,
    /// Frames already published that a new consumer gets first
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = args::whole(0u32..))]
    history: u32,
    /// What the frames show; `consume --verify` recognises it
    #[arg(long, value_enum, default_value_t = Pattern::Noise)]
    pattern: Pattern,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

fn access(text: &str) -> Result<AccessRule, bips::Error> {
    AccessRule::parse(text)
}

fn on_stall(text: &str) -> Result<OnStall, bips::Error> {
    OnStall::parse(text)
}

pub(crate) fn run(args: &Args, place: &Place) -> Outcome {
    let interrupt = Interrupt::install()?;
    let mut painter = painter(args)?;
    let mut builder = Producer::builder(args.name.as_str())
        .registry(bips_backends::registry())
        .memory(args.memory.as_str())
        .image(args.format, args.size.width, args.size.height)
        .slots(args.slots)
        .access(args.access.clone())
        .on_stall(args.on_stall)
        .history(args.history);
    if let Some(directory) = place.path() {
        builder = builder.directory(directory);
    }
    let producer = builder.create()?;
    let mut progress = Progress::new();
    let mut published = 0;
    let mut elapsed = Duration::ZERO;
    if wait_for_consumers(args, &producer, &interrupt, &mut progress)? {
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
    if args.json {
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
    if args.count > 0 && published < args.count {
        return Err(Failure::failed(format!("ended by a signal after {published} of {} frames", args.count)));
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

/// False when a signal came first.
fn wait_for_consumers(
    args: &Args,
    producer: &Producer,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Outcome<bool> {
    let patience = Patience::new(args.wait);
    let mut slice = Some(Wait::Now);
    while let Some(wait) = slice {
        if interrupt.requested() {
            return Ok(false);
        }
        match producer.wait_for_consumers(args.consumers, wait) {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == ErrorKind::Timeout => {}
            Err(error) => return Err(error.into()),
        }
        progress.tick(0, || format!("waiting for {} consumers, {} joined", args.consumers, joined(producer)));
        slice = patience.slice(SLICE);
    }
    Err(Failure::timed_out(format!(
        "{} of {} consumers joined {} in time; start them with `bips consume {2}`, or wait longer with --wait",
        joined(producer),
        args.consumers,
        args.name
    )))
}

fn joined(producer: &Producer) -> usize {
    producer.stats().map_or(0, |stats| stats.consumers.len())
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
    let mut stalls = Stalls::new(args.json);
    let mut sequence = 0;
    while args.count == 0 || sequence < args.count {
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
