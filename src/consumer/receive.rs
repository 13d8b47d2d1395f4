//! Receiving: look, spin, sleep, lease, and going on with a new producer.

use super::Consumer;
use crate::Wait;
use crate::describe::Described;
use crate::error::ReceiveError;
use crate::frame::{DEVICE_RECHECK, Frame, SlotInfo};
use crate::session::{Joining, Patience, Pollable};
use crate::signaler::{Readiness, TakeError, Taken};
use crate::step::{Step, reach};
use crate::sys::{current_cpu, fork};
use crate::wait::Deadline;
use std::hint;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl From<TakeError> for ReceiveError {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::TooManyHeld => Self::TooManyHeld,
            TakeError::Protocol => Self::Protocol,
        }
    }
}

impl Consumer {
    /// Leases the next frame, waiting for one as long as `wait` says.
    ///
    /// Without a wait it makes no system call, unless a poll descriptor was asked for or the consumer looks for a new
    /// producer. Every frame published before the producer ended is received before `Closed`.
    ///
    /// # Errors
    /// See [`ReceiveError`]; [`Consumer::explain`] makes words of it.
    #[inline]
    pub fn receive(&mut self, wait: Wait) -> Result<Frame, ReceiveError> {
        if !self.closing.is_closed()
            && let Some(frame) = self.unfinished.take()
        {
            return self.begin_or_go_on(frame, wait.deadline());
        }
        match self.look() {
            Ok(Some(taken)) => {
                let frame = self.lease(taken)?;
                if self.is_at_hand(taken) { Ok(frame) } else { self.begin_or_go_on(frame, wait.deadline()) }
            }
            Ok(None) if wait == Wait::Now && !self.upkeep => Err(ReceiveError::Timeout),
            Ok(None) => self.receive_slowly(wait.deadline()).map_err(|error| self.failed(error)),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// One look; `Err(Closed)` only once everything has been received.
    #[inline]
    fn look(&self) -> Result<Option<Taken>, ReceiveError> {
        if self.process != fork::process_number() {
            return Err(ReceiveError::Forked);
        }
        if self.closing.is_closed() {
            return self.resign();
        }
        match self.attachment.subscriber.take() {
            Ok(Some(taken)) => Ok(Some(taken)),
            Ok(None) if !self.attachment.has_ended() => Ok(None),
            Ok(None) => self.look_last(),
            Err(error) => Err(error.into()),
        }
    }

    /// The producer has ended. What it published before can have come after the look that found nothing.
    #[cold]
    fn look_last(&self) -> Result<Option<Taken>, ReceiveError> {
        match self.attachment.subscriber.take()? {
            None if !self.reconnect => Err(ReceiveError::Closed),
            taken => Ok(taken),
        }
    }

    /// Closed by its own program. The thread that receives is the one to say that it reads no further: beside a take of
    /// its own that word could be lost.
    #[cold]
    fn resign(&self) -> Result<Option<Taken>, ReceiveError> {
        self.closing.resign(&self.attachment);
        Err(ReceiveError::Closed)
    }

    /// A frame that may be lost: then the next one.
    #[cold]
    fn begin_or_go_on(&mut self, frame: Frame, deadline: Deadline) -> Result<Frame, ReceiveError> {
        match self.begin(frame, deadline)? {
            Some(frame) => Ok(frame),
            None => self.receive_slowly(deadline).map_err(|error| self.failed(error)),
        }
    }

    /// What an error leaves behind: who was closed asks for no further seat, and waits for no device.
    #[cold]
    fn failed(&mut self, error: ReceiveError) -> ReceiveError {
        if self.closing.is_closed() && self.process == fork::process_number() {
            (self.joining, self.unfinished) = (None, None);
        }
        error
    }

    #[cold]
    fn receive_slowly(&mut self, deadline: Deadline) -> Result<Frame, ReceiveError> {
        loop {
            let mut found = None;
            if self.reconnect && self.attachment.has_ended() {
                // Nothing can come from here any more once this finds nothing.
                found = self.look()?;
                if found.is_none() {
                    self.rejoin(deadline)?;
                }
            }
            let left = deadline.left();
            if found.is_none() {
                found = self.spin(deadline)?;
            }
            if found.is_none() {
                self.pause(left);
                found = self.look()?;
            }
            if let Some(taken) = found {
                let frame = self.lease(taken)?;
                if self.is_at_hand(taken) {
                    return Ok(frame);
                }
                if let Some(frame) = self.begin(frame, deadline)? {
                    return Ok(frame);
                }
            }
            if left.is_none() {
                return Err(ReceiveError::Timeout);
            }
        }
    }

    /// Sleeps until something may have happened, or `left` is over: `None` is not at all. A poll descriptor is
    /// afterwards readable, or its signal announced.
    fn pause(&self, left: Option<Option<Duration>>) {
        let attachment = &self.attachment;
        let gone = || attachment.is_gone() || self.closing.is_closed();
        match attachment.poll() {
            Some(poll) => self.quieten(poll, left, || attachment.subscriber.arm(gone).is_some()),
            None => {
                if let Some(left) = left {
                    attachment.subscriber.park(left, gone);
                }
            }
        }
    }

    /// Makes a poll descriptor unreadable until something happens of which `quiet` announces that it is waited for, and
    /// waits for it so long.
    fn quieten(&self, poll: &Pollable, left: Option<Option<Duration>>, quiet: impl Fn() -> bool) {
        // Announce, empty, announce again: what came in between had its signal thrown away.
        if quiet() {
            poll.drain();
            reach(Step::PollDrained);
            match left {
                _ if !quiet() => poll.ring(),
                Some(left) => poll.wait(left),
                None => {}
            }
        }
    }

    /// Looks for a short while before sleeping, unless the producer would need this processor.
    fn spin(&self, deadline: Deadline) -> Result<Option<Taken>, ReceiveError> {
        let Some(limit) = deadline.left_at_most(self.spin) else {
            return Ok(None);
        };
        if limit.is_zero() || current_cpu() == self.published_on {
            return Ok(None);
        }
        let begin = Instant::now();
        while begin.elapsed() < limit {
            for _ in 0..16 {
                if let Some(taken) = self.look()? {
                    return Ok(Some(taken));
                }
                hint::spin_loop();
            }
        }
        Ok(None)
    }

    /// Whether a frame is received by being leased: no device is to be waited for, or told.
    #[inline]
    fn is_at_hand(&self, taken: Taken) -> bool {
        !taken.open && !self.attachment.pool.is_announced()
    }

    /// Makes a frame of what was taken. Unless that [is all](Consumer::is_at_hand), [`Consumer::begin`] comes next.
    #[inline]
    fn lease(&mut self, taken: Taken) -> Result<Frame, ReceiveError> {
        let slot = match &self.cache[taken.slot as usize] {
            Some((version, slot)) if *version == taken.version => slot.clone(),
            _ => self.describe(taken)?,
        };
        let missed = self.expected.map_or(0, |expected| taken.sequence.saturating_sub(expected));
        self.expected = Some(taken.sequence.wrapping_add(1));
        self.published_on = taken.cpu;
        self.stats.missed = self.stats.missed.wrapping_add(missed);
        let received = u64::from(self.is_at_hand(taken));
        self.stats.received += received;
        self.attachment.subscriber.count(received, missed);
        reach(Step::Leased);
        Ok(Frame::new(slot, taken))
    }

    /// Waits until a device has written a frame, and begins the CPU's access in memory that must be told. One that a device
    /// still writes at the deadline is the next receive's. None, if the device failed.
    #[cold]
    fn begin(&mut self, mut frame: Frame, deadline: Deadline) -> Result<Option<Frame>, ReceiveError> {
        if self.process != fork::process_number() {
            return Err(ReceiveError::Forked);
        }
        // In parts: nobody can wake whoever waits for a device.
        let begun = loop {
            let left = deadline.left_at_most(DEVICE_RECHECK);
            let limit = left.unwrap_or_default();
            let waits = frame.is_open() && !self.explicit_sync;
            let begun = match waits.then(|| frame.wait_ready(limit)) {
                Some(Readiness::Lost) => {
                    self.stats.missed = self.stats.missed.wrapping_add(1);
                    self.attachment.subscriber.count(0, 1);
                    return Ok(None);
                }
                Some(Readiness::Open) => Ok(false),
                Some(Readiness::Whole) | None => frame.begin(Some(limit)),
            };
            match begun {
                Ok(false) if self.closing.is_closed() => {
                    self.closing.resign(&self.attachment);
                    return Err(ReceiveError::Closed);
                }
                Ok(false) if left.is_some() => {}
                begun => break begun,
            }
        };
        match begun {
            Ok(true) => {
                self.stats.received += 1;
                self.attachment.subscriber.count(1, 0);
                Ok(Some(frame))
            }
            Ok(false) => {
                if let Some(poll) = self.attachment.poll() {
                    let there = || frame.is_settled() || self.closing.is_closed();
                    match frame.is_open() {
                        // The producer wakes whoever waits for this.
                        true => self
                            .quieten(poll, None, || self.attachment.subscriber.arm_unless(there).is_some()),
                        // Nobody will announce that it is done.
                        false => poll.ring(),
                    }
                }
                self.unfinished = Some(frame);
                Err(ReceiveError::Timeout)
            }
            Err(_) => Err(ReceiveError::Memory),
        }
    }

    /// Reads and checks the description of a slot just leased.
    #[cold]
    fn describe(&mut self, taken: Taken) -> Result<Arc<SlotInfo>, ReceiveError> {
        let words = self.attachment.subscriber.read_cold(taken.slot);
        let described = Described::decode(&words, self.attachment.pool.slot_bytes).map_err(|_| {
            self.attachment.subscriber.release(taken.slot);
            ReceiveError::Protocol
        })?;
        let cached = &mut self.cache[taken.slot as usize];
        // The slot's last frame is gone, so usually nobody else has its description: no allocation then.
        match cached.as_mut().and_then(|(version, shared)| Some((version, Arc::get_mut(shared)?))) {
            Some((version, place)) => {
                *version = taken.version;
                place.described = described;
            }
            None => {
                let attachment = self.attachment.clone();
                *cached = Some((taken.version, Arc::new(SlotInfo { attachment, described })));
            }
        }
        Ok(cached.as_ref().expect("set above").1.clone())
    }

    /// Goes on with the next producer of the name. Frames of the old pool stay valid. What is not done when time is
    /// up goes on in the next call.
    fn rejoin(&mut self, deadline: Deadline) -> Result<(), ReceiveError> {
        let root = self.directory.as_deref();
        let joining = self
            .joining
            .get_or_insert_with(|| Joining::new(root, &self.name, self.policy, &self.label, &self.wanted));
        let closing = self.closing.clone();
        let closed = || closing.is_closed();
        let patience = Patience { deadline, answer: Duration::ZERO, interrupt: Some(&closed) };
        let mut attachment = match joining.advance(&self.registry, &patience) {
            Ok(Some(attachment)) => attachment,
            Ok(None) if closed() => return Err(ReceiveError::Closed),
            Ok(None) => return Err(ReceiveError::Timeout),
            Err(error) => {
                self.joining = None;
                self.refusal = Some(error);
                return Err(ReceiveError::Refused);
            }
        };
        self.joining = None;
        reach(Step::RejoinDone);
        self.attachment.subscriber.resign();
        self.cache = vec![None; attachment.pool.len() as usize];
        attachment.generation = self.attachment.generation + 1;
        tracing::info!(
            stream = %self.name,
            pid = attachment.welcome.pid,
            generation = attachment.generation,
            "joined anew"
        );
        // The same producer counts on: what came while we were out is missed.
        if attachment.welcome.stream_id != self.attachment.welcome.stream_id {
            self.expected = None;
        }
        self.attachment = Arc::new(attachment);
        self.closing.moved(&self.attachment);
        Ok(())
    }
}
