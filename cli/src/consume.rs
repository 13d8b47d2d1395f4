//! `bips consume`: receives a stream, checks it and measures it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bips::{Consumer, Ending, Frame, Policy, Wait};
use clap::ValueHint;
use serde_json::{Value, json};

use crate::args::{self, Place};
use crate::evidence::Evidence;
use crate::exit::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::output;
use crate::progress::Progress;
use crate::reception::{self, Next};
use crate::stats::{Histogram, monotonic_ns};
use crate::streams::content_text;
use crate::verify::{Order, Verifier};

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Name of the stream
    #[arg(value_hint = ValueHint::Other)]
    name: String,
    /// End after so many frames; 0 goes on until the stream ends
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = args::whole(0u64..))]
    count: u64,
    /// reliable, latest or keep-last:N
    #[arg(long, value_name = "P", default_value = "reliable", value_parser = args::policy)]
    policy: Policy,
    /// Check every byte of every frame (of `bips produce`) against its sequence number
    #[arg(long)]
    verify: bool,
    /// How long to wait for the stream to appear and for each frame, in seconds, or `forever`
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = args::wait)]
    wait: Wait,
    /// Keep so many frames leased at once, as a slow consumer does
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = args::whole(1..=64u32))]
    hold: u32,
    /// Go on with the next producer of this name when one ends
    #[arg(long)]
    reconnect: bool,
    /// What the producer and `bips info` call this consumer [default: the program's and the host's name]
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// What was seen of the stream.
#[derive(Default)]
struct Tally {
    frames: u64,
    first: Option<u64>,
    order: Order,
    generation: u32,
    stream: u128,
    latency: Histogram,
    evidence: Evidence,
    verifier: Option<Verifier>,
    start: Option<Instant>,
    elapsed: Duration,
    /// A frame was not what it should be; nothing else counts against the verification.
    wrong: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Count,
    Stream(Ending),
    Interrupted,
}

pub(crate) fn run(args: &Args, place: &Place) -> Outcome {
    let interrupt = Interrupt::install()?;
    let joining = reception::joining(place, &args.name, args.policy, args.wait).reconnect(args.reconnect);
    let joining = match &args.label {
        Some(label) => joining.label(label.as_str()),
        None => joining,
    };
    let mut consumer = reception::join(joining, &interrupt)?;
    if args.hold > consumer.max_held() {
        return Err(Failure::usage(format!(
            "--hold {} is more than the {} frames that {} lets a consumer lease; hold fewer, or give the producer \
             more slots",
            args.hold,
            consumer.max_held(),
            args.name
        )));
    }
    let stream = consumer.stream_id();
    let mut tally = Tally { stream, verifier: args.verify.then(Verifier::default), ..Tally::default() };
    let end = receive(args, &mut consumer, &interrupt, &mut tally);
    let verdict = end.as_ref().map_or_else(|_| Ok(()), |end| judge(args, *end, &tally));
    let failed = end.is_err() || verdict.is_err();
    // The summary is printed whatever happened: it is what one looks at when a check failed.
    summary(args, &consumer, &tally, end.as_ref().ok().copied(), failed)?;
    end.and(verdict)
}

fn receive(args: &Args, consumer: &mut Consumer, interrupt: &Interrupt, tally: &mut Tally) -> Outcome<End> {
    let mut progress = Progress::new();
    let mut held = VecDeque::new();
    while args.count == 0 || tally.frames < args.count {
        while held.len() >= args.hold as usize {
            held.pop_front();
        }
        let frames = tally.frames;
        let mut told = args.json || !args.reconnect;
        let frame = match reception::next(consumer, args.wait, interrupt, |consumer, ended| {
            progress.tick(frames, || "waiting".into());
            match ended {
                Some(ending) if !std::mem::replace(&mut told, true) => {
                    let said = reception::said(consumer.name(), ending);
                    output::line(format!("after {frames} frames {said} and the next producer is waited for"))
                }
                _ => Ok(()),
            }
        })? {
            Next::Frame(frame) => frame,
            Next::Ended(ending) => return Ok(End::Stream(ending)),
            Next::Interrupted => return Ok(End::Interrupted),
        };
        if frame.generation() != tally.generation {
            let same = tally.go_on_with(frame.generation(), consumer.stream_id());
            if !args.json {
                output::line(rejoined(args, consumer, &frame, frames, same))?;
            }
        }
        if let Err(failure) = tally.take(&frame) {
            tally.wrong = true;
            return Err(failure);
        }
        held.push_back(frame);
        progress.tick(tally.frames, || format!("{} missing", tally.order.missing));
    }
    Ok(End::Count)
}

/// Says that the stream is another one now, or the same again.
fn rejoined(args: &Args, consumer: &Consumer, frame: &Frame, frames: u64, same: bool) -> String {
    if same {
        return format!(
            "after {frames} frames put out for holding up {}, and in again from frame {}",
            args.name,
            frame.sequence()
        );
    }
    format!(
        "after {frames} frames another producer of {} (pid {}): {}, from frame {}",
        args.name,
        consumer.producer_pid(),
        content_text(frame.content()),
        frame.sequence()
    )
}

impl Tally {
    /// It has joined anew; whether the same producer. Another one counts anew, and its frames may be of another size.
    fn go_on_with(&mut self, generation: u32, stream: u128) -> bool {
        self.generation = generation;
        let same = std::mem::replace(&mut self.stream, stream) == stream;
        if !same {
            self.order.restart();
            self.verifier = self.verifier.take().map(|_| Verifier::default());
        }
        same
    }

    fn take(&mut self, frame: &Frame) -> Outcome {
        self.latency.record(monotonic_ns().saturating_sub(frame.published()));
        let start = *self.start.get_or_insert_with(Instant::now);
        self.evidence.take(frame);
        self.first.get_or_insert(frame.sequence());
        self.frames += 1;
        self.order.take(frame.sequence())?;
        if let Some(verifier) = &mut self.verifier {
            verifier.check(frame)?;
        }
        self.elapsed = start.elapsed();
        Ok(())
    }

    /// Frames per second between the first frame and the last.
    fn fps(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if self.frames > 1 && seconds > 0.0 { (self.frames - 1) as f64 / seconds } else { 0.0 }
    }

    fn lost(&self, policy: Policy) -> u64 {
        if policy == Policy::Reliable { self.order.missing } else { 0 }
    }
}

fn judge(args: &Args, end: End, tally: &Tally) -> Outcome {
    let lost = tally.lost(args.policy);
    if lost > 0 {
        return Err(Failure::failed(format!(
            "{lost} frames of {} were lost in {} places although this consumer is reliable",
            args.name, tally.order.gaps
        )));
    }
    if tally.evidence.copied > 0 {
        return Err(Failure::failed(format!(
            "{} came from memory that can't be shown to be shared; see /proc/self/maps",
            output::bytes(tally.evidence.copied)
        )));
    }
    let missing = args.count.saturating_sub(tally.frames);
    match end {
        End::Stream(Ending::Expelled) if args.policy == Policy::Reliable => Err(Failure::failed(format!(
            "{} after {} frames; what came after that is lost",
            reception::said(&args.name, Ending::Expelled),
            tally.frames
        ))),
        End::Stream(ending) if missing > 0 => Err(Failure::failed(format!(
            "{} after {} of {} frames; leave out --count to take what comes",
            reception::said(&args.name, ending),
            tally.frames,
            args.count
        ))),
        End::Interrupted if missing > 0 => {
            Err(Failure::failed(format!("ended by a signal after {} of {} frames", tally.frames, args.count)))
        }
        _ => Ok(()),
    }
}

fn summary(args: &Args, consumer: &Consumer, tally: &Tally, end: Option<End>, failed: bool) -> Outcome {
    let lost = tally.lost(args.policy);
    if args.json {
        return output::json(&json!({
            "stream": args.name,
            "memory": consumer.backend().kind,
            "policy": args.policy.to_string(),
            "frames": tally.frames,
            "first": tally.first,
            "last": tally.order.last(),
            "lost": lost,
            "skipped": tally.order.missing - lost,
            "gaps": tally.order.gaps,
            "verified": if args.verify { Value::Bool(!tally.wrong) } else { Value::Null },
            "ok": !failed,
            "ended": match end {
                Some(End::Count) => "count",
                Some(End::Stream(ending)) => reception::word(ending),
                Some(End::Interrupted) => "interrupted",
                None => "error",
            },
            "seconds": tally.elapsed.as_secs_f64(),
            "fps": tally.fps(),
            "latency_ns": tally.latency.json(),
            "bytes": tally.evidence.shared + tally.evidence.copied,
            "bytes_copied_by_bips": tally.evidence.copied,
            "addresses": tally.evidence.addresses(),
            "slots": consumer.slots(),
            "reconnects": consumer.stats().reconnects,
        }));
    }
    let latency = |q| tally.latency.quantile(q).map_or("-".into(), |ns| output::nanoseconds(ns as f64));
    let joined = match consumer.stats().reconnects {
        0 => String::new(),
        1 => ", joined anew once".into(),
        many => format!(", joined anew {many} times"),
    };
    output::line(format!(
        "{} frames ({:.1} fps), {}, {}, latency p50 {} p99 {}, {} read in place, {} copied by bips{joined}",
        tally.frames,
        tally.fps(),
        match args.policy {
            Policy::Reliable => format!("{lost} lost"),
            _ => format!("{} skipped", tally.order.missing),
        },
        match (args.verify, tally.wrong) {
            (false, _) => "not verified",
            (true, false) => "every byte verified",
            (true, true) => "verification FAILED",
        },
        latency(0.5),
        latency(0.99),
        output::bytes(tally.evidence.shared),
        output::bytes(tally.evidence.copied),
    ))?;
    let ending = match end {
        Some(End::Stream(ending)) => Some(ending),
        _ => None,
    };
    reception::tell(&args.name, ending, tally.frames)
}
