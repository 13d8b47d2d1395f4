//! What it costs to join: time until the first frame is in hand, and memory beside the pool.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use bips::{Content, Description, Fence, Fourcc, Producer, Registry, Wait};
use serde_json::{Value, json};

use super::cores::{Cores, pin};
use super::link::consume;
use super::peer::{Peer, Task};
use super::private_directory;
use crate::exit::{Failure, Outcome};
use crate::output;
use crate::pattern::fill_noise;
use crate::stats::{median, quantile};

const SLOTS: u32 = 8;
const TIMES: usize = 20;
const PAGE: usize = 4096;
const TIME_GOAL_NS: f64 = 1e6;
const MEMORY_GOAL: u64 = 64 * 1024;

pub(super) fn run(args: &super::Pinned) -> Outcome {
    let cores = Cores::choose(args.cores)?;
    let directory = private_directory()?;
    pin(cores.0)?;
    let content = Content::image(Fourcc::parse("RGB3")?, 1920, 1080)?;
    let stream = "bench/attach".to_owned();
    let producer = Producer::builder(stream.as_str())
        .registry(bips_backends::registry())
        .memory("memfd")
        .content(content)
        .slots(SLOTS)
        .history(1)
        .directory(directory.path())
        .create()?;
    let mut frame = producer
        .acquire(Wait::For(Duration::from_secs(10)))
        .map_err(|error| Failure::from(producer.explain(error)))?;
    fill_noise(0, frame.bytes_mut());
    frame.publish(Description::new(), Fence::Signaled)?;
    let mut peer = Peer::start(directory.path(), Some(cores.1))?;
    let measured =
        peer.ask(&Task::Attach { stream, count: if args.output.quick { TIMES / 4 } else { TIMES } })?;
    let number = |key: &str| measured[key].as_f64().unwrap_or(f64::NAN);
    let control = measured["control_bytes"].as_u64();
    if args.output.json {
        return output::json(&json!({
            "bench": "attach",
            "slots": SLOTS,
            "slot_bytes": producer.slot_bytes(),
            "attach_ns": number("attach_ns"),
            "attach_p90_ns": number("attach_p90_ns"),
            "first_attach_ns": number("first_attach_ns"),
            "attach_goal_ns": TIME_GOAL_NS,
            "read_frame_ns": number("read_ns"),
            "leave_ns": number("leave_ns"),
            "pool_bytes": measured["pool_bytes"],
            "control_bytes": control,
            "control_goal_bytes": MEMORY_GOAL,
        }));
    }
    let ns = |key| output::nanoseconds(number(key));
    output::line(format!(
        "joining a pool of {SLOTS} x {}, until the first frame is in hand, {TIMES} times\n\
         attach            {} (goal ≤ {}), p90 {}, the very first {}\n\
         read each page    {} (the frame's {} for the first time)\n\
         leave             {}\n\
         control memory    {} mapped by a consumer beside the pool of {} (goal < {})",
        output::bytes(producer.slot_bytes()),
        ns("attach_ns"),
        output::nanoseconds(TIME_GOAL_NS),
        ns("attach_p90_ns"),
        ns("first_attach_ns"),
        ns("read_ns"),
        output::bytes(producer.content().nbytes()),
        ns("leave_ns"),
        control.map_or("?".into(), |bytes| format!("{bytes} B")),
        measured["pool_bytes"].as_u64().map_or("?".into(), output::bytes),
        MEMORY_GOAL,
    ))
}

/// The consumer's side, in the other process.
pub(super) fn measure(directory: &Path, registry: &Registry, stream: &str, count: usize) -> Outcome<Value> {
    let (mut attach, mut read, mut leave) = (Vec::new(), Vec::new(), Vec::new());
    let mut memory = None;
    for _ in 0..count.max(1) {
        let start = Instant::now();
        let mut consumer = consume(directory, registry, stream).connect()?;
        let frame = consumer
            .receive(Wait::For(Duration::from_secs(10)))
            .map_err(|error| Failure::from(consumer.explain(error)))?;
        attach.push(start.elapsed().as_nanos() as f64);
        let start = Instant::now();
        for offset in (0..frame.nbytes()).step_by(PAGE) {
            let mut byte = [0];
            frame.copy_to(offset, &mut byte);
            black_box(byte);
        }
        read.push(start.elapsed().as_nanos() as f64);
        memory = mapped(frame.as_ptr() as usize);
        let start = Instant::now();
        drop(frame);
        drop(consumer);
        leave.push(start.elapsed().as_nanos() as f64);
    }
    let first = attach[0];
    Ok(json!({
        "attach_ns": median(&mut attach),
        "attach_p90_ns": quantile(&mut attach, 0.9),
        "first_attach_ns": first,
        "read_ns": median(&mut read),
        "leave_ns": median(&mut leave),
        "pool_bytes": memory.map(|(pool, _)| pool),
        "control_bytes": memory.map(|(_, control)| control),
    }))
}

/// Bytes of the memory file that `pool` points into, and of all other memory files of bips, as mapped here.
fn mapped(pool: usize) -> Option<(u64, u64)> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let mut files: Vec<(&str, usize, usize)> = Vec::new();
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (from, to) = fields.next()?.split_once('-')?;
        let inode = fields.nth(3)?;
        let name = fields.next().unwrap_or("");
        // The page of the measurement itself is a memory file too, and no cost of a consumer.
        if name.starts_with("/memfd:") && !name.starts_with("/memfd:bips-bench") {
            files.push((inode, usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?));
        }
    }
    let of_pool = files.iter().find(|(_, from, to)| (*from..*to).contains(&pool))?.0;
    let sum = |pool: bool| -> u64 {
        files
            .iter()
            .filter(|(inode, ..)| (*inode == of_pool) == pool)
            .map(|(_, from, to)| (to - from) as u64)
            .sum()
    };
    Some((sum(true), sum(false)))
}
