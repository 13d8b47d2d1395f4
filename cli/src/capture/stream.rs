//! One pool, and the camera that fills it.

use std::time::{Duration, Instant};

use bips::{AcquireError, Description, ErrorKind, Fence, FrameMut, Producer, Shape, Wait};
use bips_v4l2::{Device, Filled, Layout, Lent, Mode, Next, Queue, Slot, Slots, Way, Ways};

use super::Args;
use super::tally::Tally;
use crate::args::Place;
use crate::exit::{Failure, Outcome};
use crate::interrupt::{Interrupt, SLICE};
use crate::progress::Progress;
use crate::publishing::joined;
use crate::stalls::Stalls;

/// After so long without a frame somebody should look at the camera.
const SILENCE: Duration = Duration::from_secs(5);

/// The memory kind by which the driver's own buffers are asked for.
const OWN: &str = "dma-buf";

/// A camera in its mode.
pub(super) struct Camera {
    pub(super) device: Device,
    pub(super) mode: Mode,
    pub(super) layout: Layout,
    pub(super) ways: Ways,
    pub(super) fps: Option<f64>,
}

pub(super) struct Stream {
    pub(super) producer: Producer,
    pub(super) layout: Layout,
    slots: Slots,
    stalls: Stalls,
    /// Bytes up to the last pixel.
    pixels: u64,
}

/// Why capturing ended.
pub(super) enum Ended {
    /// The count was reached, or a signal came.
    Done,
    /// The source has another size now.
    Changed(Device),
}

impl Stream {
    pub(super) fn open(args: &Args, name: &str, place: &Place, camera: &Camera) -> Outcome<Self> {
        let (layout, ways) = (&camera.layout, camera.ways);
        let auto = args.publishing.memory == "auto";
        // What the driver makes suits it, which a heap's memory may not: where that is in one piece.
        let prefers_own = !ways.has(Way::UserPtr) && ways.has(Way::Own) && layout.memory.len() == 1;
        if args.publishing.memory == OWN || auto && prefers_own {
            return Self::of_lent(args, name, place, camera);
        }
        if !ways.has(Way::UserPtr) && !ways.has(Way::DmaBuf) {
            return Err(Failure::failed(
                "the camera's driver takes nobody else's memory, it only lends its own buffers; use --memory dma-buf",
            ));
        }
        let mut builder = args.publishing.builder(name, place).slots(args.slots).content(layout.content);
        let only_dma_bufs = !ways.has(Way::UserPtr);
        if only_dma_bufs && auto {
            builder = builder.usage(bips::Usage::CPU | bips::Usage::CAMERA);
        }
        let producer = builder.create().map_err(|error| match error.kind() {
            ErrorKind::Unsupported if only_dma_bufs => Failure::failed(format!(
                "the camera's driver takes dma-bufs alone (--memory dma-heap): {error}"
            )),
            _ => error.into(),
        })?;
        let first = producer.acquire(Wait::Now).map_err(|error| producer.explain(error))?;
        let slots = Slots::new(&first, args.slots, layout)?;
        drop(first);
        if !ways.has(slots.way()) {
            let kind = &producer.backend().kind;
            let instead = if only_dma_bufs {
                "use --memory dma-heap, or dma-heap:linux,cma or dma-buf (its own) where it needs memory in one piece"
            } else {
                "use --memory memfd"
            };
            return Err(Failure::failed(format!(
                "the camera's driver can't write into {kind}: it does not take {}; {instead}",
                way_text(slots.way())
            )));
        }
        Ok(Self::new(args, producer, slots, layout))
    }

    /// The pool is what the driver made.
    fn of_lent(args: &Args, name: &str, place: &Place, camera: &Camera) -> Outcome<Self> {
        let Lent { buffers, slots } = camera.device.lend(&camera.layout, args.slots)?;
        let builder = args.publishing.adopter(name, buffers, place);
        let producer = builder.content(camera.layout.content).create()?;
        Ok(Self::new(args, producer, slots, &camera.layout))
    }

    fn new(args: &Args, producer: Producer, slots: Slots, layout: &Layout) -> Self {
        let end =
            |plane: &bips::Plane| plane.offset + plane.stride * plane.rows.saturating_sub(1) + plane.width;
        let pixels = match (layout.compressed, layout.memory.len()) {
            (false, 1) => layout.content.planes().iter().map(end).max().unwrap_or(0),
            _ => 1,
        };
        Self { producer, layout: layout.clone(), slots, stalls: Stalls::new(args.publishing.json), pixels }
    }

    /// Whether it can go on with a camera that was stopped. The driver's own buffers end with that.
    pub(super) fn serves(&self, camera: &Camera) -> bool {
        self.layout == camera.layout && self.slots.way() != Way::Own
    }

    pub(super) fn way(&self) -> &'static str {
        way_text(self.slots.way())
    }

    pub(super) fn capture(
        &mut self,
        camera: Camera,
        depth: usize,
        count: u64,
        interrupt: &Interrupt,
        progress: &mut Progress,
        tally: &mut Tally,
    ) -> Outcome<Ended> {
        let code = camera.mode.code.to_string();
        let mut queue =
            Queue::new(camera.device, self.slots.way(), self.layout.memory.len(), self.producer.slots())?;
        self.refill(&mut queue, depth)?;
        queue.start()?;
        let mut last = Instant::now();
        while (count == 0 || tally.published < count) && !interrupt.requested() {
            self.refill(&mut queue, depth)?;
            if queue.queued() == 0 {
                self.wait_for_slot(&mut queue, progress, tally)?;
            }
            // Without buffers there are no frames, only news.
            let wait = if queue.queued() == 0 { Duration::ZERO } else { SLICE };
            match queue.next(wait)? {
                Next::Frame(filled) => {
                    last = Instant::now();
                    self.publish(filled, &code, tally)?;
                    progress.tick(tally.published, || {
                        format!(
                            "{} consumers, {} dropped by the camera",
                            joined(&self.producer),
                            tally.dropped
                        )
                    });
                }
                Next::Changed => return Ok(Ended::Changed(queue.stop()?)),
                Next::Nothing if queue.queued() > 0 && last.elapsed() > SILENCE => {
                    last = Instant::now();
                    tally.say(&format!(
                        "no frame came from the camera for {} s; look at its cable and source, or try another --fps or \
                         more --queued",
                        SILENCE.as_secs()
                    ))?;
                }
                Next::Nothing => {}
            }
        }
        queue.stop()?;
        Ok(Ended::Done)
    }

    /// Gives the camera free slots, up to what it may have.
    fn refill(&mut self, queue: &mut Queue<Slot>, depth: usize) -> Outcome {
        while queue.queued() < depth {
            match self.producer.acquire(Wait::Now) {
                Ok(frame) => self.give(queue, frame)?,
                Err(AcquireError::Timeout) => break,
                Err(error) => return Err(self.producer.explain(error).into()),
            }
        }
        Ok(())
    }

    fn give(&mut self, queue: &mut Queue<Slot>, mut frame: FrameMut) -> Outcome {
        frame.for_device()?;
        let slot = self.slots.target(frame)?;
        Ok(queue.queue(slot.index(), slot)?)
    }

    /// Consumers have all slots: the camera drops frames until one comes back.
    fn wait_for_slot(&mut self, queue: &mut Queue<Slot>, progress: &mut Progress, tally: &Tally) -> Outcome {
        match self.producer.acquire(Wait::For(SLICE)) {
            Ok(frame) => {
                self.stalls.goes_on(&self.producer)?;
                self.give(queue, frame)
            }
            Err(AcquireError::Timeout) => {
                self.stalls.waits(&self.producer, tally.published)?;
                progress.tick(tally.published, || self.producer.explain(AcquireError::Timeout).to_string());
                Ok(())
            }
            Err(error) => Err(self.producer.explain(error).into()),
        }
    }

    fn publish(&mut self, filled: Filled<Slot>, code: &str, tally: &mut Tally) -> Outcome {
        tally.came(filled.sequence);
        let most = self.layout.content.nbytes();
        if filled.error || filled.bytes_used < self.pixels || filled.bytes_used > most {
            tally.broken += 1;
            return Ok(()); // the slot goes back unseen
        }
        let mut description = Description { timestamp: filled.timestamp, ..Description::new() };
        if self.layout.compressed {
            description =
                description.with_shape(Shape::new(&[filled.bytes_used])?).with_metadata(code.as_bytes());
        }
        filled.target.into_frame().publish(description, Fence::Signaled)?;
        tally.published += 1;
        tally.bytes += if self.layout.compressed { filled.bytes_used } else { most };
        Ok(())
    }

    /// Ends the stream. Closing at once loses nothing: consumers drain what was published before they learn of the end.
    pub(super) fn close(&self, tally: &mut Tally) -> Outcome {
        tally.ends(&self.producer.stats()?, self.producer.backend());
        self.producer.close();
        Ok(())
    }
}

fn way_text(way: Way) -> &'static str {
    match way {
        Way::UserPtr => "memory by its address",
        Way::DmaBuf => "dma-bufs",
        Way::Own => "the driver's own buffers",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bips::{Consumer, Content};

    /// The virtual camera has no compressed formats: what a driver would give back is made up here.
    #[test]
    fn compressed_frames_have_their_own_length_and_broken_ones_stay_unseen() {
        let dir = tempfile::tempdir().unwrap();
        let registry = bips_backends::registry();
        let layout =
            Layout { content: Content::bytes(1000).unwrap(), compressed: true, memory: vec![(0, 1000)] };
        let builder = Producer::builder("cam").registry(registry.clone()).directory(dir.path());
        let producer = builder.content(layout.content).create().unwrap();
        let mut consumer =
            Consumer::builder("cam").registry(registry).directory(dir.path()).connect().unwrap();
        let slots = Slots::new(&producer.acquire(Wait::Now).unwrap(), 4, &layout).unwrap();
        let mut stream = Stream { producer, layout, slots, stalls: Stalls::new(true), pixels: 1 };
        let mut tally = Tally::new("cam", true);
        for (sequence, bytes_used, error) in
            [(0, 10, false), (1, 0, false), (2, 1001, false), (5, 10, true), (6, 1000, false)]
        {
            let frame = stream.producer.acquire(Wait::Now).unwrap();
            let target = stream.slots.target(frame).unwrap();
            let filled = Filled { target, sequence, timestamp: Some(42), bytes_used, error };
            stream.publish(filled, "MJPG", &mut tally).unwrap();
        }
        assert_eq!((tally.published, tally.broken, tally.dropped, tally.bytes), (2, 3, 2, 1010));
        for len in [10, 1000] {
            let frame = consumer.receive(Wait::Now).unwrap();
            assert_eq!((frame.shape(), frame.metadata()), (&[len][..], &b"MJPG"[..]));
            assert_eq!(frame.timestamp(), 42);
        }
        assert!(consumer.receive(Wait::Now).is_err());
    }
}
