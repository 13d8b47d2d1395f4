//! What a hand-over costs through the Rust crate; handover.cpp is the same through bips.hpp, step by step.
//!
//!     handover DIRECTORY ROUND_TRIPS    prints the nanoseconds of one way: half of the median round trip of 20 batches

use bips::{Consumer, Description, Fence, Frame, FrameMut, Producer, ReceiveError, Wait};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use std::hint::black_box;
use std::time::{Duration, Instant};

const BATCHES: usize = 20;

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
    fn at(directory: &str, out: &str, from: &str) -> bips::Result<Self> {
        let memory = bips_backends::registry();
        let producer = Producer::builder(out).registry(memory.clone()).bytes(64).slots(8);
        let producer = producer.directory(directory).spin(Duration::ZERO).create()?;
        let consumer = Consumer::builder(from).registry(memory).directory(directory).spin(Duration::ZERO);
        let consumer = consumer.wait(Wait::For(Duration::from_secs(10))).connect()?;
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
        let frame = loop {
            match self.consumer.receive(Wait::Now) {
                Ok(frame) => break frame,
                Err(ReceiveError::Timeout) => {}
                Err(error) => return Err(self.consumer.explain(error)),
            }
        };
        let mut byte = [0];
        frame.copy_to(0, &mut byte);
        black_box(byte);
        self.received = Some(frame);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, count] = &arguments[..] else {
        return Err("usage: handover DIRECTORY ROUND_TRIPS".into());
    };
    let count = count.parse::<usize>()? / BATCHES;
    // SAFETY: there is one thread so far.
    let child = match unsafe { fork() }? {
        ForkResult::Child => {
            pin(1);
            let mut side = Side::at(directory, "pong", "ping")?;
            for _ in 0..count * (BATCHES + 1) {
                side.receive()?;
                side.send()?;
            }
            return Ok(());
        }
        ForkResult::Parent { child } => child,
    };
    pin(0);
    let mut side = Side::at(directory, "ping", "pong")?;
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
