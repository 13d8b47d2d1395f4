//! As many frames as go through, from one producer to one consumer.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bips::{Consumer, Description, Fence, ReceiveError, Wait};
use serde_json::{Value, json};

use super::cores::{Cores, pin};
use super::link::produce;
use super::peer::{Peer, Task};
use super::private_directory;
use crate::exit::{Failure, Outcome};
use crate::output::{self, Table};
use crate::pattern::fill_noise;

const SIZES: [u64; 4] = [64, 64 << 10, 1 << 20, 6 << 20];
const TIME: Duration = Duration::from_millis(700);
const QUICK_TIME: Duration = Duration::from_millis(100);

struct Row {
    bytes: u64,
    untouched: f64,
    touched: f64,
}

pub(super) fn run(args: &super::Pinned) -> Outcome {
    let cores = Cores::choose(args.cores)?;
    let directory = private_directory()?;
    pin(cores.0)?;
    let mut peer = Peer::start(directory.path(), Some(cores.1))?;
    let time = if args.output.quick { QUICK_TIME } else { TIME };
    let mut rows = Vec::new();
    for bytes in SIZES {
        let untouched = measure(directory.path(), &mut peer, bytes, false, time)?;
        let touched = measure(directory.path(), &mut peer, bytes, true, time)?;
        rows.push(Row { bytes, untouched, touched });
    }
    if args.output.json {
        let row = |row: &Row| {
            json!({
                "bytes": row.bytes,
                "frames_per_s": row.untouched,
                "touched_frames_per_s": row.touched,
                "touched_bytes_per_s": row.touched * row.bytes as f64,
            })
        };
        let sizes: Vec<Value> = rows.iter().map(row).collect();
        return output::json(&json!({ "bench": "throughput", "cores": [cores.0, cores.1], "sizes": sizes }));
    }
    output::line(format!(
        "one producer on core {}, one reliable consumer on core {}, 4 slots; touched: every byte written and read",
        cores.0, cores.1
    ))?;
    let mut table = Table::new(["PAYLOAD", "FRAMES/S", "FRAMES/S TOUCHED", "BYTES/S TOUCHED"]);
    for row in &rows {
        table.row([
            output::bytes(row.bytes),
            format!("{:.0}", row.untouched),
            format!("{:.0}", row.touched),
            output::bytes((row.touched * row.bytes as f64) as u64),
        ]);
    }
    table.print()
}

/// Frames per second until the consumer has the last of them.
fn measure(
    directory: &std::path::Path,
    peer: &mut Peer,
    bytes: u64,
    touch: bool,
    time: Duration,
) -> Outcome<f64> {
    let stream = "bench/throughput".to_owned();
    let producer = produce(directory, &bips_backends::registry(), &stream, bytes).create()?;
    peer.tell(&Task::Drain { stream, touch })?;
    producer.wait_for_consumers(1, Wait::For(Duration::from_secs(10)))?;
    let start = Instant::now();
    let mut sequence = 0;
    while start.elapsed() < time {
        // The clock is read once in a while, or small frames would be measured by it.
        for _ in 0..if bytes > 4096 { 1 } else { 64 } {
            let mut frame = producer
                .acquire(Wait::For(Duration::from_secs(10)))
                .map_err(|error| Failure::from(producer.explain(error)))?;
            if touch {
                fill_noise(sequence, &mut frame.bytes_mut()[..bytes as usize]);
            }
            sequence = frame.publish(Description::new(), Fence::Signaled)? + 1;
        }
    }
    producer.close();
    let answer = peer.answer()?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(answer["frames"].as_u64().unwrap_or(0) as f64 / seconds)
}

/// The consumer's side, in the other process.
pub(super) fn drain(mut consumer: Consumer, touch: bool) -> Outcome<Value> {
    let mut frames = 0u64;
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match consumer.receive(Wait::For(Duration::from_secs(10))) {
            Ok(frame) => {
                frames += 1;
                for offset in (0..if touch { frame.nbytes() } else { 0 }).step_by(chunk.len()) {
                    let chunk = &mut chunk[..(frame.nbytes() - offset).min(64 * 1024)];
                    frame.copy_to(offset, chunk);
                    black_box(chunk);
                }
            }
            Err(ReceiveError::Closed) => return Ok(json!({ "frames": frames })),
            Err(error) => return Err(consumer.explain(error).into()),
        }
    }
}
