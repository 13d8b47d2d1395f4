//! One producer, 1 to 32 consumers: what publishing costs, and when all of them have the frame.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bips::{Consumer, Description, Fence, Producer, ReceiveError, Registry, Wait};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::floor::{SharedPage, Word};
use super::link::{consume, produce};
use super::peer::{Peer, Task};
use super::private_directory;
use super::timing::clock_cost;
use crate::exit::{Failure, Outcome};
use crate::output::{self, Table};
use crate::stats::{median, monotonic_ns};

const CONSUMERS: [u32; 6] = [1, 2, 4, 8, 16, 32];
const AWAKE_FRAMES: u32 = 5000;
const ASLEEP_FRAMES: u32 = 150;
const PAYLOAD: u64 = 6 << 20;

/// What the other process does: so many consumers receive so many frames.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Gather {
    stream: String,
    consumers: u32,
    frames: u32,
    /// One thread for each consumer, asleep until a frame comes; else one thread looks at all in turn.
    asleep: bool,
}

#[derive(Default)]
struct Times {
    publish: f64,
    acquire: f64,
    all_received: f64,
}

pub(super) fn run(args: &super::Output) -> Outcome {
    let directory = private_directory()?;
    let mut peer = Peer::start(directory.path(), None)?;
    let mut rows = Vec::new();
    for consumers in CONSUMERS {
        let awake = measure(directory.path(), &mut peer, consumers, false, args.quick)?;
        let asleep = measure(directory.path(), &mut peer, consumers, true, args.quick)?;
        rows.push((consumers, awake, asleep));
    }
    if args.json {
        let times = |times: &Times| {
            json!({
                "publish_ns": times.publish,
                "acquire_ns": times.acquire,
                "all_received_ns": times.all_received,
            })
        };
        let rows: Vec<Value> = rows
            .iter()
            .map(|(n, awake, asleep)| json!({ "consumers": n, "awake": times(awake), "asleep": times(asleep) }))
            .collect();
        return output::json(&json!({ "bench": "scale", "payload_bytes": PAYLOAD, "rows": rows }));
    }
    output::line(format!(
        "one producer, N reliable consumers of {} frames (untouched), all in one other process, not pinned;\n\
         awake: one thread looks at all of them in turn; asleep: each sleeps in a thread of its own",
        output::bytes(PAYLOAD)
    ))?;
    let mut table = Table::new([
        "CONSUMERS",
        "PUBLISH",
        "ACQUIRE",
        "ALL HAVE IT",
        "ASLEEP: PUBLISH",
        "ACQUIRE",
        "ALL HAVE IT",
    ]);
    for (consumers, awake, asleep) in &rows {
        let ns = output::nanoseconds;
        table.row([
            consumers.to_string(),
            ns(awake.publish),
            ns(awake.acquire),
            ns(awake.all_received),
            ns(asleep.publish),
            ns(asleep.acquire),
            ns(asleep.all_received),
        ]);
    }
    table.print()
}

fn measure(directory: &Path, peer: &mut Peer, consumers: u32, asleep: bool, quick: bool) -> Outcome<Times> {
    let stream = "bench/scale".to_owned();
    let producer = produce(directory, &bips_backends::registry(), &stream, PAYLOAD).create()?;
    let frames = if asleep { ASLEEP_FRAMES } else { AWAKE_FRAMES } / if quick { 10 } else { 1 };
    peer.page().reset();
    peer.tell(&Task::Gather(Gather { stream, consumers, frames, asleep }))?;
    if let Err(error) = producer.wait_for_consumers(consumers, Wait::For(Duration::from_secs(20))) {
        // Closing frees the peer, whose own account says more than ours.
        producer.close();
        peer.answer()?;
        return Err(error.into());
    }
    let (publish, acquire, all_received) = publish_all(&producer, peer.page(), consumers, frames, asleep)?;
    let answer = peer.answer()?;
    let clock = clock_cost();
    let middle = |mut times: Vec<f64>| (median(&mut times) - clock).max(0.0);
    Ok(Times {
        publish: middle(publish),
        acquire: middle(acquire),
        // The sleepers note the time themselves: a publisher that spun for them would take a core away.
        all_received: answer["all_received_ns"].as_f64().unwrap_or_else(|| middle(all_received)),
    })
}

type Samples = Vec<f64>;

fn publish_all(
    producer: &Producer,
    page: &SharedPage,
    consumers: u32,
    frames: u32,
    asleep: bool,
) -> Outcome<(Samples, Samples, Samples)> {
    let (mut publish, mut acquire, mut all) = (Samples::new(), Samples::new(), Samples::new());
    for frame in 1..=frames {
        let start = Instant::now();
        let buffer = producer
            .acquire(Wait::For(Duration::from_secs(10)))
            .map_err(|error| Failure::from(producer.explain(error)))?;
        acquire.push(start.elapsed().as_nanos() as f64);
        let start = Instant::now();
        buffer.publish(Description::new(), Fence::Signaled)?;
        publish.push(start.elapsed().as_nanos() as f64);
        if asleep {
            let arrived = page.word(Word::Arrived);
            while arrived.load(Ordering::Acquire) < frame * consumers {
                std::thread::sleep(Duration::from_micros(200));
            }
            // The last one to arrive needs a moment to fall asleep again.
            std::thread::sleep(Duration::from_millis(1));
        } else {
            page.await_value(Word::Arrived, frame, true)?;
            all.push(start.elapsed().as_nanos() as f64);
        }
    }
    Ok((publish, acquire, all))
}

impl Gather {
    pub(super) fn run(
        &self,
        directory: &Path,
        registry: &Registry,
        page: &Arc<SharedPage>,
    ) -> Outcome<Value> {
        let join = |_| Ok(consume(directory, registry, &self.stream).connect()?);
        let consumers: Vec<Consumer> = (0..self.consumers).map(join).collect::<Outcome<_>>()?;
        if self.asleep { self.sleepers(consumers, page) } else { self.in_turn(consumers, page) }
    }

    fn in_turn(&self, mut consumers: Vec<Consumer>, page: &SharedPage) -> Outcome<Value> {
        for frame in 1..=self.frames {
            for consumer in &mut consumers {
                loop {
                    match consumer.receive(Wait::Now) {
                        Ok(frame) => break drop(frame),
                        Err(ReceiveError::Timeout) => std::hint::spin_loop(),
                        Err(error) => return Err(consumer.explain(error).into()),
                    }
                }
            }
            page.word(Word::Arrived).store(frame, Ordering::Release);
        }
        Ok(Value::Null)
    }

    fn sleepers(&self, consumers: Vec<Consumer>, page: &Arc<SharedPage>) -> Outcome<Value> {
        let latest: Arc<Vec<AtomicU64>> = Arc::new((0..self.frames).map(|_| AtomicU64::new(0)).collect());
        let threads: Vec<_> = consumers
            .into_iter()
            .map(|consumer| {
                let (latest, page) = (Arc::clone(&latest), Arc::clone(page));
                std::thread::spawn(move || sleeper(consumer, &latest, &page))
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| Failure::failed("a consumer's thread panicked"))??;
        }
        let mut latest: Vec<f64> = latest.iter().map(|ns| ns.load(Ordering::Relaxed) as f64).collect();
        Ok(json!({ "all_received_ns": median(&mut latest) }))
    }
}

/// Receives each frame asleep and notes how late the latest consumer of each was.
fn sleeper(mut consumer: Consumer, latest: &[AtomicU64], page: &SharedPage) -> Outcome {
    for latest in latest {
        let frame = consumer
            .receive(Wait::For(Duration::from_secs(20)))
            .map_err(|error| Failure::from(consumer.explain(error)))?;
        latest.fetch_max(monotonic_ns().saturating_sub(frame.published()), Ordering::Relaxed);
        drop(frame);
        page.word(Word::Arrived).fetch_add(1, Ordering::Release);
    }
    Ok(())
}
