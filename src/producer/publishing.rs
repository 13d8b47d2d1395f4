//! Publishing what this process has acquired, whole or before its device is done.

use super::inner::{Inner, State};
use crate::describe::{DESCRIPTION_WORDS, Described};
use crate::fence::Fence;
use crate::signaler::{self, Hot, bit};
use crate::sys::Clock;
use crate::{Description, Error, ErrorKind, Result};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

impl Inner {
    /// Publishes a slot this process has acquired. The writing hold ends, also on error.
    #[inline]
    pub(super) fn publish(&self, slot: u32, description: &Description<'_>, open: bool) -> Result<u64> {
        if description.shape.is_some() || !description.metadata.is_empty() {
            return self.publish_described(slot, description, open);
        }
        let mut state = self.lock();
        if state.publisher.is_closed() || state.plain & bit(slot) == 0 {
            return self.publish_anew(state, slot, description, open, None);
        }
        let State { publisher, clock, .. } = &mut *state;
        Ok(publisher.publish(slot, || hot(clock, description, open), None))
    }

    /// With a description of the frame's own.
    fn publish_described(&self, slot: u32, description: &Description<'_>, open: bool) -> Result<u64> {
        let words = self.describe(description);
        let state = self.lock();
        match words {
            Ok(words) => self.publish_anew(state, slot, description, open, Some(&words)),
            Err(error) => {
                let mut state = state;
                state.publisher.unhold(slot);
                Err(error)
            }
        }
    }

    /// Brings the slot's cold description up to date first. `None` is the stream's own content, no metadata.
    #[cold]
    fn publish_anew(
        &self,
        mut state: MutexGuard<'_, State>,
        slot: u32,
        description: &Description<'_>,
        open: bool,
        words: Option<&[u64; DESCRIPTION_WORDS]>,
    ) -> Result<u64> {
        let state = &mut *state;
        if state.publisher.is_closed() {
            state.publisher.unhold(slot);
            return Err(self.not_published());
        }
        let State { publisher, clock, .. } = state;
        let hot = || hot(clock, description, open);
        let Some(words) = words else {
            state.plain |= bit(slot);
            return Ok(publisher.publish(slot, hot, Some(&self.plain)));
        };
        let last = &mut state.special[slot as usize];
        let known = state.plain & bit(slot) == 0 && last.as_deref() == Some(words);
        if !known {
            state.plain &= !bit(slot);
            match last {
                Some(last) => **last = *words,
                None => *last = Some(Box::new(*words)),
            }
        }
        Ok(publisher.publish(slot, hot, (!known).then_some(words)))
    }

    /// Publishes it before `ready`. The slot is nobody's to write until then, whoever reads it or not.
    #[cold]
    pub(super) fn publish_open(
        self: &Arc<Self>,
        slot: u32,
        description: &Description<'_>,
        ready: Fence,
    ) -> Result<u64> {
        // Before it is out: whoever closes the producer then waits for it.
        let mut state = self.lock();
        state.publisher.hold(slot);
        state.open += 1;
        drop(state);
        let sequence = self.publish(slot, description, true).inspect_err(|_| self.device_left(slot))?;
        let inner = self.clone();
        ready.then(move |done| inner.settle(slot, sequence, done));
        Ok(sequence)
    }

    fn settle(&self, slot: u32, sequence: u64, done: Result<()>) {
        if let Err(error) = &done {
            tracing::warn!(stream = %self.name, %error, sequence, "a device failed with a frame under way; it is lost");
        }
        signaler::settle(&self.board, slot, sequence, done.is_ok());
        self.lock().publisher.wake(); // who waits for it by a descriptor sleeps as for a frame
        self.device_left(slot);
    }

    /// No device is at work on it any more, or never was.
    fn device_left(&self, slot: u32) {
        let mut state = self.lock();
        state.publisher.unhold(slot);
        state.open -= 1;
        drop(state);
        self.settled.notify_all();
    }

    /// Waits until no device is at work on what was published, at most `patience`.
    pub(super) fn await_devices(&self, patience: Duration) {
        let state = self.lock();
        let at_work = |state: &mut State| state.open > 0;
        drop(
            self.settled.wait_timeout_while(state, patience, at_work).unwrap_or_else(PoisonError::into_inner),
        );
    }

    /// For whoever waits before it publishes.
    pub(super) fn refuse_closed(&self) -> Result<()> {
        if self.lock().publisher.is_closed() { Err(self.not_published()) } else { Ok(()) }
    }

    fn not_published(&self) -> Error {
        Error::new(
            ErrorKind::Closed,
            format!("the producer of {} is closed; the frame was not published", self.name),
        )
    }

    /// The words of a description that isn't the stream's own.
    fn describe(&self, description: &Description<'_>) -> Result<[u64; DESCRIPTION_WORDS]> {
        let content = match &description.shape {
            Some(shape) => self.content.reshaped(shape, self.pool.slot_bytes)?,
            None => self.content,
        };
        Ok(Described::new(content, description.metadata)?.encode())
    }
}

/// What changes with every frame, as of now.
#[inline]
fn hot(clock: &mut Clock, description: &Description<'_>, open: bool) -> Hot {
    let published = clock.now();
    Hot { published, captured: description.timestamp.unwrap_or(published), cpu: clock.cpu(), open }
}
