//! How soon the death of a consumer is seen, and a producer that waits for its slots goes on.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use bips::{Description, Fence, Frame, Producer, Registry, Wait};
use nix::sys::prctl::set_thp_disable;
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use super::link::{consume, produce};
use super::peer::{Peer, Task};
use super::private_directory;
use crate::exit::{Failure, Outcome};
use crate::output;
use crate::stats::{median, quantile};

const SLOTS: u32 = 4;
const POOLS: [(u64, Pages); 3] =
    [(1 << 20, Pages::Small), (512 << 20, Pages::Huge), (512 << 20, Pages::Small)];
const TIMES: usize = 20;
const PAGE: usize = 4096;
const SEEN_GOAL_NS: f64 = 1e6;
const BACK_GOAL_NS: f64 = 2e6;

/// Of what a pool is made where the kernel can. Before Linux 6.1 it can't make huge ones of ours.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Pages {
    Small,
    Huge,
}

impl Pages {
    fn text(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Huge => "huge",
        }
    }
}

struct Row {
    pool: u64,
    pages: Pages,
    seen: Vec<f64>,
    back: Vec<f64>,
}

pub(super) fn run(args: &super::Output) -> Outcome {
    let times = if args.quick { TIMES / 4 } else { TIMES };
    let mut rows = Vec::new();
    for (pool, pages) in POOLS {
        let mut row = Row { pool, pages, seen: Vec::new(), back: Vec::new() };
        // The other process inherits it.
        set_thp_disable(pages == Pages::Small).map_err(|errno| Failure::system("prctl", errno))?;
        for _ in 0..times {
            row.seen.push(seen(pool)?);
            row.back.push(back(pool)?);
        }
        rows.push(row);
    }
    set_thp_disable(false).map_err(|errno| Failure::system("prctl", errno))?;
    if args.json {
        let rows: Vec<Value> = rows
            .iter_mut()
            .map(|row| {
                json!({
                    "bytes": row.pool,
                    "pages": row.pages.text(),
                    "seen_ns": median(&mut row.seen),
                    "seen_p90_ns": quantile(&mut row.seen, 0.9),
                    "slot_back_ns": median(&mut row.back),
                    "slot_back_p90_ns": quantile(&mut row.back, 0.9),
                })
            })
            .collect();
        return output::json(&json!({
            "bench": "death",
            "pools": rows,
            "seen_goal_ns": SEEN_GOAL_NS,
            "slot_back_goal_ns": BACK_GOAL_NS,
        }));
    }
    output::line(format!(
        "from kill -9 of a consumer that has the whole pool mapped and read, {times} times each (median, p90)"
    ))?;
    for row in &mut rows {
        output::line(format!(
            "pool {:>8}, {:<5} pages   death seen {} {} (goal ≤ {})   waiting producer has its slot {} {} (goal ≤ {})",
            output::bytes(row.pool),
            row.pages.text(),
            output::nanoseconds(median(&mut row.seen)),
            output::nanoseconds(quantile(&mut row.seen, 0.9)),
            output::nanoseconds(SEEN_GOAL_NS),
            output::nanoseconds(median(&mut row.back)),
            output::nanoseconds(quantile(&mut row.back, 0.9)),
            output::nanoseconds(BACK_GOAL_NS),
        ))?;
    }
    Ok(())
}

/// A stream all of whose slots are leased by the peer.
fn held(directory: &Path, pool: u64) -> Outcome<(Producer, Peer)> {
    let producer = produce(directory, &bips_backends::registry(), "bench/death", pool / u64::from(SLOTS))
        .slots(SLOTS)
        .max_held(SLOTS)
        .history(SLOTS - 1)
        .create()?;
    let mut peer = Peer::start(directory, None)?;
    peer.ask(&Task::Hold { stream: producer.name().to_owned(), count: 0 })?;
    for _ in 0..SLOTS {
        let frame = producer.acquire(Wait::For(Duration::from_secs(10)));
        frame
            .map_err(|error| Failure::from(producer.explain(error)))?
            .publish(Description::new(), Fence::Signaled)?;
    }
    peer.ask(&Task::Hold { stream: String::new(), count: SLOTS as usize })?;
    Ok((producer, peer))
}

/// From the kill until the producer counts no consumer.
fn seen(pool: u64) -> Outcome<f64> {
    let directory = private_directory()?;
    let (producer, peer) = held(directory.path(), pool)?;
    let start = kill_now(&peer)?;
    while !producer.stats()?.consumers.is_empty() {
        // Looking takes the lock that the monitor needs: not all the time.
        std::thread::sleep(Duration::from_micros(20));
    }
    Ok(start.elapsed().as_nanos() as f64)
}

/// From the kill until a producer asleep for a slot has one.
fn back(pool: u64) -> Outcome<f64> {
    let directory = private_directory()?;
    let (producer, peer) = held(directory.path(), pool)?;
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let frame = producer.acquire(Wait::For(Duration::from_secs(10)));
            (frame.map(drop), Instant::now())
        });
        std::thread::sleep(Duration::from_millis(20));
        let start = kill_now(&peer)?;
        let (frame, end) = waiting.join().map_err(|_| Failure::failed("the waiting thread panicked"))?;
        frame.map_err(|error| Failure::from(producer.explain(error)))?;
        Ok(end.duration_since(start).as_nanos() as f64)
    })
}

fn kill_now(peer: &Peer) -> Outcome<Instant> {
    let start = Instant::now();
    kill(peer.pid(), Signal::SIGKILL).map_err(|errno| Failure::system("kill the other process", errno))?;
    Ok(start)
}

/// The victim: joins, then leases and reads everything.
#[derive(Default)]
pub(super) struct Victim {
    consumer: Option<bips::Consumer>,
    frames: Vec<Frame>,
}

impl Victim {
    pub(super) fn work(
        &mut self,
        directory: &Path,
        registry: &Registry,
        stream: &str,
        count: usize,
    ) -> Outcome {
        if count == 0 {
            self.consumer = Some(consume(directory, registry, stream).connect()?);
        }
        let Some(consumer) = &mut self.consumer else { return Err(Failure::failed("no stream is joined")) };
        for _ in 0..count {
            let frame = consumer.receive(Wait::For(Duration::from_secs(10)));
            let frame = frame.map_err(|error| Failure::from(consumer.explain(error)))?;
            for offset in (0..frame.nbytes()).step_by(PAGE) {
                let mut byte = [0];
                frame.copy_to(offset, &mut byte);
                black_box(byte);
            }
            self.frames.push(frame);
        }
        Ok(())
    }
}
