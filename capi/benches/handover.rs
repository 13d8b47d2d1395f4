//! What a hand-over costs through the Rust crate; handover.cpp is the same through bips.hpp, step by step.
//!
//!     handover DIRECTORY awake|asleep ROUND_TRIPS    prints the nanoseconds of one way: half of the median round trip of 20 batches

use bips::{Consumer, Description, Fence, Frame, FrameMut, Producer, Wait};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use std::hint::black_box;
use std::time::{Duration, Instant};

const BATCHES: usize = 20;
/// Longer than any answer takes, so that nobody sleeps.
const AWAKE: Duration = Duration::from_millis(10);

/// After its side is made: who may run on one processor alone never spins.
fn pin(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor).expect("a processor");
    let _ = sched_setaffinity(Pid::this(), &set);
}

struct Side {
    producer: Producer,
    consumer: Consumer,
    ahead: Option<FrameMut>,
    received: Option<Frame>,
}

impl Side {
    fn at(directory: &str, spin: Duration, out: &str, from: &str) -> bips::Result<Self> {
        let memory = bips_backends::registry();
        let producer = Producer::builder(out).registry(memory.clone()).bytes(64).slots(8);
        let producer = producer.directory(directory).spin(spin).create()?;
        let consumer = Consumer::builder(from).registry(memory).directory(directory).spin(spin);
        let consumer = consumer.wait(Wait::For(Duration::from_secs(10))).connect()?;
        producer.wait_for_consumers(1, Wait::For(Duration::from_secs(10)))?;
        Ok(Self { producer, consumer, ahead: None, received: None })
    }

    fn send(&mut self) -> bips::Result<()> {
        let frame = match self.ahead.take() {
            Some(frame) => frame,
            None => self.acquire()?,
        };
        frame.publish(Description::new(), Fence::Signaled)?;
        self.received = None;
        self.ahead = Some(self.acquire()?);
        Ok(())
    }

    fn acquire(&self) -> bips::Result<FrameMut> {
        self.producer.acquire(Wait::Forever).map_err(|error| self.producer.explain(error))
    }

    fn receive(&mut self) -> bips::Result<()> {
        let frame = self.consumer.receive(Wait::Forever).map_err(|error| self.consumer.explain(error))?;
        let mut byte = [0];
        frame.copy_to(0, &mut byte);
        black_box(byte);
        self.received = Some(frame);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, mode, count] = &arguments[..] else {
        return Err("usage: handover DIRECTORY awake|asleep ROUND_TRIPS".into());
    };
    let spin = if mode == "awake" { AWAKE } else { Duration::ZERO };
    let count = count.parse::<usize>()? / BATCHES;
    // SAFETY: there is one thread so far.
    let child = match unsafe { fork() }? {
        ForkResult::Child => {
            let mut side = Side::at(directory, spin, "pong", "ping")?;
            pin(1);
            for _ in 0..count * (BATCHES + 1) {
                side.receive()?;
                side.send()?;
            }
            return Ok(());
        }
        ForkResult::Parent { child } => child,
    };
    let mut side = Side::at(directory, spin, "ping", "pong")?;
    pin(0);
    let mut batch = || -> bips::Result<f64> {
        let begin = Instant::now();
        for _ in 0..count {
            side.send()?;
            side.receive()?;
        }
        Ok(begin.elapsed().as_nanos() as f64 / count as f64 / 2.0)
    };
    batch()?; // once for nothing: caches, page tables
    let mut ways = Vec::new();
    for _ in 0..BATCHES {
        ways.push(batch()?);
    }
    ways.sort_by(f64::total_cmp);
    println!("{:.1}", ways[BATCHES / 2]);
    waitpid(child, None)?;
    Ok(())
}
