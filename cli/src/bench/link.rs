//! Two streams between two processes, one each way.

use std::hint::{black_box, spin_loop};
use std::path::Path;
use std::time::Duration;

use bips::{
    Consumer, ConsumerBuilder, Description, Fence, Frame, FrameMut, Policy, Producer, ProducerBuilder,
    ReceiveError, Registry, Wait,
};
use serde::{Deserialize, Serialize};

use crate::exit::Outcome;

/// How the two sides wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Waiting {
    /// `receive(Wait::Now)` again and again.
    Spinning,
    /// The same with the processor's pause between two looks.
    Pausing,
    /// Asleep at once, without a moment of spinning before.
    Blocking,
}

/// When a side takes its next buffer and gives back what it received.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Upkeep {
    /// While the other side is at work, as a camera does.
    Aside,
    /// Between receipt and answer.
    OnPath,
}

pub(super) struct Link {
    producer: Producer,
    consumer: Consumer,
    waiting: Waiting,
    ahead: Option<FrameMut>,
    received: Option<Frame>,
}

/// A stream of plain bytes, waited for as its builder says.
pub(super) fn produce(directory: &Path, registry: &Registry, name: &str, bytes: u64) -> ProducerBuilder {
    Producer::builder(name)
        .registry(registry.clone())
        .memory("memfd")
        .bytes(bytes)
        .slots(8)
        .directory(directory)
}

pub(super) fn consume(directory: &Path, registry: &Registry, name: &str) -> ConsumerBuilder {
    Consumer::builder(name)
        .registry(registry.clone())
        .policy(Policy::Reliable)
        .directory(directory)
        .wait(Wait::For(Duration::from_secs(10)))
}

impl Link {
    /// Neither side spins by itself: it spins in `receive` below, or not at all.
    pub(super) fn producer(producer: ProducerBuilder) -> Outcome<Producer> {
        Ok(producer.spin(Duration::ZERO).create()?)
    }

    pub(super) fn new(producer: Producer, consumer: ConsumerBuilder, waiting: Waiting) -> Outcome<Self> {
        let consumer = consumer.spin(Duration::ZERO).connect()?;
        Ok(Self { producer, consumer, waiting, ahead: None, received: None })
    }

    /// One round trip, begun here.
    pub(super) fn ping(&mut self, upkeep: Upkeep) -> Outcome {
        self.send(upkeep)?;
        self.receive(upkeep)
    }

    /// One round trip, answered here.
    pub(super) fn pong(&mut self, upkeep: Upkeep) -> Outcome {
        self.receive(upkeep)?;
        self.send(upkeep)
    }

    fn send(&mut self, upkeep: Upkeep) -> Outcome {
        let frame = match self.ahead.take() {
            Some(frame) => frame,
            None => self.acquire()?,
        };
        frame.publish(Description::new(), Fence::Signaled)?;
        if upkeep == Upkeep::Aside {
            self.received = None;
            self.ahead = Some(self.acquire()?);
        }
        Ok(())
    }

    fn acquire(&self) -> Outcome<FrameMut> {
        self.producer.acquire(Wait::Forever).map_err(|error| self.producer.explain(error).into())
    }

    fn receive(&mut self, upkeep: Upkeep) -> Outcome {
        let wait = match self.waiting {
            Waiting::Spinning | Waiting::Pausing => Wait::Now,
            Waiting::Blocking => Wait::Forever,
        };
        let frame = loop {
            match self.consumer.receive(wait) {
                Ok(frame) => break frame,
                Err(ReceiveError::Timeout) if self.waiting == Waiting::Pausing => spin_loop(),
                Err(ReceiveError::Timeout) => {}
                Err(error) => return Err(self.consumer.explain(error).into()),
            }
        };
        let mut byte = [0];
        frame.copy_to(0, &mut byte);
        black_box(byte);
        self.received = (upkeep == Upkeep::Aside).then_some(frame);
        Ok(())
    }
}
