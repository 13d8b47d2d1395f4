//! `bips ls` and `bips info`: what a producer tells anyone who may ask.

use std::time::Duration;

use bips::{ConsumerInfo, Content, ErrorKind, OnStall, StreamInfo};
use serde_json::{Value, json};

use crate::args::Place;
use crate::exit::{Failure, Outcome};
use crate::output::{self, Table};

#[derive(clap::Args, Debug)]
pub(crate) struct LsArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
pub(crate) struct InfoArgs {
    /// Name of the stream
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A producer that is there and tells nothing, for what it was asked.
pub(crate) struct Silent {
    name: String,
    error: bips::Error,
}

impl Silent {
    /// As it wrote into its lock, where we may read that.
    fn pid(&self) -> Option<u32> {
        let pid = self.error.context().find(|(key, _)| *key == "producer's pid");
        pid.and_then(|(_, pid)| pid.parse().ok())
    }

    /// Why in a few words, and whom to look at.
    pub(crate) fn remark(&self) -> &'static str {
        match self.error.kind() {
            ErrorKind::Timeout => "does not answer: stopped?",
            ErrorKind::AccessDenied => "is not for this user",
            _ => "can't be asked",
        }
    }

    /// For a table whose first column is the name and whose last is for remarks, with the column of the pid.
    pub(crate) fn row<const N: usize>(&self, pid: Option<usize>) -> [String; N] {
        std::array::from_fn(|column| match column {
            0 => self.name.clone(),
            column if Some(column) == pid => self.pid().map_or("-".into(), |pid| pid.to_string()),
            column if column == N - 1 => self.remark().into(),
            _ => "-".into(),
        })
    }

    fn json(&self) -> Value {
        json!({ "name": self.name, "pid": self.pid(), "error": self.error.to_string() })
    }
}

/// Every stream there is; one that ends while we ask is no longer there, and that is no error. One that does not answer
/// must not hide the others.
pub(crate) fn all(place: &Place) -> Outcome<(Vec<StreamInfo>, Vec<Silent>)> {
    let (mut streams, mut silent) = (Vec::new(), Vec::new());
    for name in bips::streams(place.path())? {
        match bips::query(&name, place.path()) {
            Ok(info) => streams.push(info),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => silent.push(Silent { name, error }),
        }
    }
    Ok((streams, silent))
}

/// Those that answer, then those that don't with the reason.
pub(crate) fn all_json(streams: &[StreamInfo], silent: &[Silent]) -> Value {
    streams.iter().map(info_json).chain(silent.iter().map(Silent::json)).collect()
}

pub(crate) fn ls(args: &LsArgs, place: &Place) -> Outcome {
    let (streams, silent) = all(place)?;
    if args.json {
        return output::json(&all_json(&streams, &silent));
    }
    if streams.is_empty() && silent.is_empty() {
        let directory = bips::runtime_dir(place.path())?;
        return output::line(format!(
            "no stream in {}; make one with `bips produce NAME`, or look elsewhere with --directory",
            directory.display()
        ));
    }
    let mut table = Table::new(["NAME", "CONTENT", "MEMORY", "SLOTS", "FRAMES", "CONSUMERS", "PID", ""]);
    for info in &streams {
        table.row([
            info.name.clone(),
            content_text(&info.content),
            info.memory.clone(),
            format!("{} x {}", info.slots, output::bytes(info.slot_bytes)),
            info.published.to_string(),
            info.consumers.len().to_string(),
            info.pid.to_string(),
            standstill(info).unwrap_or_default(),
        ]);
    }
    for silent in &silent {
        table.row(silent.row::<8>(Some(6)));
    }
    table.print()
}

pub(crate) fn info(args: &InfoArgs, place: &Place) -> Outcome {
    let info = &bips::query(&args.name, place.path()).map_err(Failure::from)?;
    if args.json {
        return output::json(&info_json(info));
    }
    let mut lines = vec![
        format!("stream     {}", info.name),
        format!(
            "content    {}, {} a frame",
            content_text(&info.content),
            output::bytes(info.content.nbytes())
        ),
        format!("memory     {}, {} slots of {}", info.memory, info.slots, output::bytes(info.slot_bytes)),
        format!("producer   pid {}", info.pid),
        format!(
            "rules      access {}, consumers may lease {} frames at once and {} write to them",
            info.access,
            info.max_held,
            match (info.writable, read_only_enforced(&info.memory)) {
                (true, _) => "MAY",
                (false, true) => "can't",
                (false, false) => "are not to (though whoever means to could)",
            }
        ),
        format!("published  {} frames; a new consumer {}", info.published, beginning(info.history)),
        format!("stalls     {}", stalls(info.on_stall, info.expelled)),
        format!("now        {}", standstill(info).unwrap_or_else(|| "goes on".into())),
        format!("consumers  {}", info.consumers.len()),
    ];
    if !info.consumers.is_empty() {
        let mut table = Table::new([
            "  PID", "UID", "POLICY", "HELD", "FOR", "UNREAD", "FOR", "RECEIVED", "MISSED", "LABEL", "",
        ]);
        for consumer in &info.consumers {
            table.row([
                format!("  {}", consumer.pid),
                consumer.uid.to_string(),
                consumer.policy.to_string(),
                consumer.held.to_string(),
                age(consumer.held, consumer.held_for),
                consumer.unread.to_string(),
                age(consumer.unread, consumer.unread_for),
                consumer.received.to_string(),
                consumer.missed.to_string(),
                label(consumer),
                remark(consumer),
            ]);
        }
        lines.push(table.render());
    }
    output::line(lines.join("\n"))
}

/// What it calls itself, with what would upset a table escaped.
pub(crate) fn label(consumer: &ConsumerInfo) -> String {
    consumer.label.escape_debug().to_string()
}

/// For how long at most, where there is anything.
pub(crate) fn age(frames: u32, oldest: Duration) -> String {
    match frames {
        0 => "-".into(),
        _ => format!("{:.1} s", oldest.as_secs_f64()),
    }
}

/// What is to be said of a consumer beside its numbers.
pub(crate) fn remark(consumer: &ConsumerInfo) -> String {
    let remarks = [(consumer.expelled, "put out, not gone"), (consumer.in_the_way, "in the way")].into_iter();
    remarks.filter_map(|(is, text)| is.then_some(text)).collect::<Vec<_>>().join(", ")
}

/// Whether the kernel keeps consumers of this memory from writing, whatever they try: what is sent to them is a memfd that is
/// sealed against it. What a broker gave is not said.
fn read_only_enforced(kind: &str) -> bool {
    ["memfd", "udmabuf", "broker:udmabuf"].contains(&kind)
}

/// That the stream stands still now, for how long, and because of whom.
pub(crate) fn standstill(info: &StreamInfo) -> Option<String> {
    let time = info.stalled_for?.as_secs_f64();
    Some(format!("stands still for {time:.1} s: no slot is free, because of {}", culprits(&info.consumers)))
}

/// Whom a stream that stands still waits for.
pub(crate) fn culprits(consumers: &[ConsumerInfo]) -> String {
    let mut names: Vec<String> =
        consumers.iter().filter(|consumer| consumer.in_the_way).map(ConsumerInfo::who).collect();
    let more = names.len().saturating_sub(3);
    names.truncate(3);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    if names.is_empty() { "the producer itself, which holds them".into() } else { names.join(", ") }
}

fn stalls(on_stall: OnStall, expelled: u64) -> String {
    match on_stall {
        OnStall::Wait => "are waited out".into(),
        OnStall::Expel(after) => {
            format!("of {} s end with expulsion: {expelled} so far", after.as_secs_f64())
        }
    }
}

fn beginning(history: u32) -> String {
    match history {
        0 => "begins with the next one".into(),
        1 => "gets the last one first".into(),
        many => format!("gets the last {many} first"),
    }
}

fn info_json(info: &StreamInfo) -> Value {
    let content = &info.content;
    json!({
        "name": info.name,
        "pid": info.pid,
        "memory": info.memory,
        "slots": info.slots,
        "slot_bytes": info.slot_bytes,
        "frame_bytes": content.nbytes(),
        "format": content.fourcc().map(|fourcc| fourcc.to_string()),
        "width": content.fourcc().map(|_| content.width()),
        "height": content.fourcc().map(|_| content.height()),
        "dtype": content.dtype().name(),
        "shape": content.shape().to_vec(),
        "published": info.published,
        "evicted": info.evicted,
        "expelled": info.expelled,
        "on_stall": info.on_stall.to_string(),
        "stalled_for": info.stalled_for.map(|time| time.as_secs_f64()),
        "reliable": info.reliable,
        "writable": info.writable,
        "read_only_enforced": !info.writable && read_only_enforced(&info.memory),
        "access": info.access,
        "max_held": info.max_held,
        "history": info.history,
        "consumers": info.consumers.iter().map(consumer_json).collect::<Vec<_>>(),
    })
}

fn consumer_json(consumer: &ConsumerInfo) -> Value {
    json!({
        "pid": consumer.pid,
        "label": consumer.label,
        "uid": consumer.uid,
        "policy": consumer.policy.to_string(),
        "held": consumer.held,
        "held_for": consumer.held_for.as_secs_f64(),
        "unread": consumer.unread,
        "unread_for": consumer.unread_for.as_secs_f64(),
        "received": consumer.received,
        "missed": consumer.missed,
        "expelled": consumer.expelled,
        "in_the_way": consumer.in_the_way,
    })
}

/// `RGB3 1920x1080` or `float32 (3, 224, 224)`.
pub(crate) fn content_text(content: &Content) -> String {
    match content.fourcc() {
        Some(fourcc) => format!("{fourcc} {}x{}", content.width(), content.height()),
        None => {
            let shape: Vec<String> = content.shape().iter().map(ToString::to_string).collect();
            format!("{} ({})", content.dtype().name(), shape.join(", "))
        }
    }
}
