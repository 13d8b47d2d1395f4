//! What a producer's person should hear of stalls: one line when one begins, when somebody is put out, when it goes on.

use std::time::{Duration, Instant};

use bips::{Producer, ProducerStats};

use crate::exit::Outcome;
use crate::output;
use crate::streams::culprits;

/// A stream that waits for less is merely held back by a slow consumer.
const NOTICE: Duration = Duration::from_millis(500);

/// How soon after one stall the next is told of.
const REST: Duration = Duration::from_secs(5);

/// How often to look whether somebody was put out, while there are slots.
const LOOK: Duration = Duration::from_millis(200);

pub(crate) struct Stalls {
    quiet: bool,
    looked: Instant,
    /// When the last stall was told of, and whether its end is still to be told.
    told: Option<Instant>,
    since: Option<Instant>,
    expelled: u64,
    /// Whom it waited for last: who was put out and held nothing is no longer listed.
    suspects: Option<String>,
}

impl Stalls {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, looked: Instant::now(), told: None, since: None, expelled: 0, suspects: None }
    }

    /// There was no slot again.
    pub(crate) fn waits(&mut self, producer: &Producer, published: u64) -> Outcome {
        if self.quiet {
            return Ok(());
        }
        let stats = producer.stats()?;
        self.look(producer, &stats)?;
        let Some(time) = stats.stalled_for else { return Ok(()) };
        let who = culprits(&stats.consumers);
        let rests = self.told.is_some_and(|told| told.elapsed() < REST);
        if time >= NOTICE && self.since.is_none() && !rests {
            self.told = Some(Instant::now());
            self.since = Instant::now().checked_sub(time);
            output::line(format!(
                "{} stands still after {published} frames: no slot is free, because of {who}",
                producer.name()
            ))?;
        }
        self.suspects = Some(who);
        Ok(())
    }

    /// There was a slot.
    pub(crate) fn goes_on(&mut self, producer: &Producer) -> Outcome {
        if self.quiet || (self.since.is_none() && self.looked.elapsed() < LOOK) {
            return Ok(());
        }
        self.look(producer, &producer.stats()?)?;
        match self.since.take() {
            Some(since) => output::line(format!(
                "{} goes on after {:.1} s",
                producer.name(),
                since.elapsed().as_secs_f64()
            )),
            None => Ok(()),
        }
    }

    fn look(&mut self, producer: &Producer, stats: &ProducerStats) -> Outcome {
        self.looked = Instant::now();
        let more = stats.expelled - std::mem::replace(&mut self.expelled, stats.expelled);
        if more == 0 {
            return Ok(());
        }
        let there: Vec<String> = stats
            .consumers
            .iter()
            .filter(|consumer| consumer.expelled)
            .map(bips::ConsumerInfo::who)
            .collect();
        let who = match self.suspects.take() {
            _ if !there.is_empty() => there.join(", "),
            Some(suspects) => suspects,
            None => format!("{more} of its consumers"),
        };
        output::line(format!(
            "{} put out {who}, which held it up ({} so far)",
            producer.name(),
            stats.expelled
        ))
    }
}
