//! `bips snapshot`: a frame as a PNG, or a whole stream as one contact sheet.
//!
//! What is copied here is copied by this program, to look at it; bips itself hands over the pool's own memory.

use std::path::PathBuf;

use bips::{Ending, Policy, Wait};
use clap::ValueHint;
use serde_json::json;

use crate::args::{self, Place, Size};
use crate::evidence::Evidence;
use crate::exit::{Failure, Outcome};
use crate::image_file;
use crate::interrupt::Interrupt;
use crate::output;
use crate::picture::Picture;
use crate::progress::Progress;
use crate::reception::{self, Next};
use crate::sheet::Sheet;
use crate::stats::{Histogram, monotonic_ns};
use crate::verify::Order;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Name of the stream
    #[arg(value_hint = ValueHint::Other)]
    name: String,
    /// The PNG file to write
    out: PathBuf,
    /// Stay until the stream ends and write a contact sheet of so many tiles
    #[arg(long, value_name = "COLSxROWS", value_parser = args::grid)]
    sheet: Option<Size<usize>>,
    /// Take every N-th frame into the sheet; fewer when they would be too many
    #[arg(long, value_name = "N", default_value_t = 1, requires = "sheet",
          value_parser = args::whole(1u64..))]
    every: u64,
    /// How long to wait for the stream to appear and for each frame, in seconds, or `forever`
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = args::wait)]
    wait: Wait,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, place: &Place) -> Outcome {
    image_file::check(&args.out)?;
    match args.sheet {
        None => single(args, place),
        Some(grid) => sheet(args, place, grid),
    }
}

fn single(args: &Args, place: &Place) -> Outcome {
    let interrupt = Interrupt::install()?;
    let joining = reception::joining(place, &args.name, Policy::KeepLast(1), args.wait);
    let mut consumer = reception::join(joining, &interrupt)?;
    let frame = match reception::next(&mut consumer, args.wait, &interrupt, |_, _| Ok(()))? {
        Next::Frame(frame) => frame,
        Next::Ended(ending) => {
            return Err(Failure::failed(format!(
                "{} before a frame came; take the snapshot while it publishes",
                reception::said(&args.name, ending)
            )));
        }
        Next::Interrupted => return Err(Failure::failed("ended by a signal before a frame came")),
    };
    let sequence = frame.sequence();
    let picture = Picture::of(&frame, Vec::new())?;
    // Back to the pool before the slow part.
    drop(frame);
    image_file::write_picture(&args.out, &picture)?;
    if args.json {
        return output::json(&json!({
            "stream": args.name,
            "sequence": sequence,
            "width": picture.width,
            "height": picture.height,
            "channels": picture.channels(),
            "path": args.out,
        }));
    }
    output::line(format!("frame {sequence}, {}x{}, in {}", picture.width, picture.height, args.out.display()))
}

fn sheet(args: &Args, place: &Place, grid: Size<usize>) -> Outcome {
    let interrupt = Interrupt::install()?;
    let joining = reception::joining(place, &args.name, Policy::Reliable, args.wait);
    let mut consumer = reception::join(joining, &interrupt)?;
    let mut progress = Progress::new();
    let mut sheet = Sheet::new(grid.width, grid.height, args.every);
    let mut order = Order::default();
    let mut evidence = Evidence::default();
    let mut latency = Histogram::default();
    let mut frames = 0;
    let mut buffer = Vec::new();
    // A stream that ends, a signal and a time-out all leave the tiles gathered so far worth writing.
    let end = loop {
        let frame = match reception::next(&mut consumer, args.wait, &interrupt, |_, _| {
            progress.tick(frames, || "waiting".into());
            Ok(())
        }) {
            Ok(Next::Frame(frame)) => frame,
            Ok(Next::Ended(ending)) => break Ok(Some(ending)),
            Ok(Next::Interrupted) => break Ok(None),
            Err(failure) => break Err(failure),
        };
        latency.record(monotonic_ns().saturating_sub(frame.published()));
        frames += 1;
        order.take(frame.sequence())?;
        evidence.take(&frame);
        if sheet.wants_next() {
            let sequence = frame.sequence();
            let picture = Picture::of(&frame, buffer)?;
            drop(frame);
            sheet.add(sequence, &picture)?;
            buffer = picture.into_buffer();
        }
        progress.tick(frames, || format!("{} tiles", sheet.tiles().len()));
    };
    drop(progress);
    if frames == 0 {
        let ending = end?.map_or("a signal came".into(), |ending| reception::said(&args.name, ending));
        return Err(Failure::failed(format!(
            "{ending} before a frame came; start the sheet before the producer does"
        )));
    }
    let (size, pixels) = sheet.compose();
    image_file::write_rgb(&args.out, size, &pixels)?;
    report(args, &sheet, frames, &order, &evidence, &latency, end.as_ref().ok().copied().flatten())?;
    match end {
        Err(failure) => Err(failure.at("the sheet is written, but the stream did not end")),
        Ok(_) if order.missing > 0 => Err(Failure::failed(format!("{} frames were lost", order.missing))),
        Ok(_) => Ok(()),
    }
}

fn report(
    args: &Args,
    sheet: &Sheet,
    frames: u64,
    order: &Order,
    evidence: &Evidence,
    latency: &Histogram,
    ending: Option<Ending>,
) -> Outcome {
    let tiles: Vec<u64> = sheet.tiles().iter().map(|tile| tile.sequence).collect();
    if args.json {
        return output::json(&json!({
            "stream": args.name,
            "frames": frames,
            "tiles": tiles.len(),
            "sequences": tiles,
            "every": sheet.every(),
            "lost": order.missing,
            "ended": ending.map(reception::word),
            "latency_ns": latency.json(),
            "bytes": evidence.shared + evidence.copied,
            "bytes_copied_by_bips": evidence.copied,
            "addresses": evidence.addresses(),
            "path": args.out,
        }));
    }
    output::line(format!(
        "{frames} frames, every {}th of them a tile ({} tiles), {} lost, {} copied by bips; the sheet is {}",
        sheet.every(),
        tiles.len(),
        order.missing,
        output::bytes(evidence.copied),
        args.out.display()
    ))?;
    reception::tell(&args.name, ending, frames)
}
