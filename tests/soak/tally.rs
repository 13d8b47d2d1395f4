//! What happened so far, and what it comes to.

use std::fmt;

/// A thing that must not be.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) wrong: Wrong,
    pub(crate) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wrong {
    pub(crate) torn: u64,
    pub(crate) lost: u64,
    pub(crate) slots: u64,
    pub(crate) descriptors: u64,
    pub(crate) mappings: u64,
    pub(crate) threads: u64,
    pub(crate) bytes: u64,
}

impl Finding {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { wrong: Wrong::default(), text: text.into() }
    }

    /// A process that failed and said why.
    pub(crate) fn failed(who: &str, why: &str) -> Self {
        let begins = |words: &[&str]| u64::from(words.iter().any(|word| why.contains(word)));
        let wrong =
            Wrong { torn: begins(&["torn"]), lost: begins(&["lost:", "repeated:"]), ..Wrong::default() };
        Self { wrong, text: format!("{who}: {why}") }
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kills {
    /// Consumers, at a random time, at a step, with frames in hand.
    pub(crate) random: u64,
    pub(crate) step: u64,
    pub(crate) abort: u64,
    pub(crate) producers: u64,
    pub(crate) producers_at_step: u64,
}

impl Kills {
    fn all(self) -> u64 {
        self.random + self.step + self.abort + self.producers + self.producers_at_step
    }
}

impl fmt::Display for Kills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (consumers: {} at random, {} at a step, {} holding frames; producers: {} at random, {} at a step)",
            self.all(),
            self.random,
            self.step,
            self.abort,
            self.producers,
            self.producers_at_step
        )
    }
}

#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// As the processes said before they died: a little less than they did.
    pub(crate) published: u64,
    pub(crate) received: u64,
    pub(crate) reconnects: u64,
    /// By policy: reliable, latest, keep-last.
    pub(crate) joins: [u64; 3],
    /// Visits to a watched pool.
    pub(crate) watched: u64,
    pub(crate) leaves: u64,
    /// Consumers that saw their producer's end.
    pub(crate) closed: u64,
    pub(crate) stops: u64,
    /// Consumers that their producer put out.
    pub(crate) expelled: u64,
    pub(crate) forks: u64,
    pub(crate) kills: Kills,
    pub(crate) producers: u64,
    pub(crate) quiet: u64,
    /// Most private memory that a producer, and the consumer that stays, had beyond its beginning.
    pub(crate) slack: (u64, u64),
}

impl Tally {
    pub(crate) fn joined(&mut self, policy: &str) {
        let policies = ["reliable", "latest"];
        self.joins[policies.iter().position(|known| *known == policy).unwrap_or(policies.len())] += 1;
    }

    /// What a run must have seen to mean anything.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        let Kills { random, step, abort, producers, producers_at_step } = self.kills;
        [
            (self.published, "a frame published"),
            (self.received, "a frame received"),
            (self.joins[0], "a reliable consumer"),
            (self.joins[1], "a consumer of the latest frame"),
            (self.joins[2], "a consumer of the last few frames"),
            (self.watched, "a consumer of a watched pool"),
            (self.leaves, "an orderly leave"),
            (random, "a consumer killed at random"),
            (step, "a consumer killed at a step"),
            (abort, "a consumer aborted with frames in hand"),
            (producers + producers_at_step, "a producer killed"),
            (self.closed, "a consumer that saw its producer's end"),
            (self.reconnects, "a consumer that went on with the next producer"),
            (self.stops, "a stopped consumer"),
            (self.expelled, "a consumer put out"),
            (self.forks, "a forked child"),
            (self.quiet, "a quiet point"),
        ]
        .into_iter()
        .find_map(|(count, what)| (count == 0).then_some(what))
    }

    pub(crate) fn verdict(&self, seed: u64, seconds: f64, finding: Option<&Finding>) -> String {
        let wrong = finding.map(|finding| finding.wrong).unwrap_or_default();
        let (kib, rate) = (|bytes: u64| bytes >> 10, self.kills.all() as f64 / seconds);
        let [reliable, latest, keep_last] = self.joins;
        let rows = [
            ("seed", seed.to_string()),
            ("minutes", format!("{:.1}", seconds / 60.0)),
            ("frames", format!("{} published, {} received", self.published, self.received)),
            (
                "producers",
                format!("{}, and {} times a consumer went on with the next", self.producers, self.reconnects),
            ),
            (
                "consumers",
                format!(
                    "{reliable} reliable, {latest} latest, {keep_last} keep-last joined, {} said in their seats that they live; {} left, {} saw an end, {} were stopped for a while, {} put out, {} forked",
                    self.watched, self.leaves, self.closed, self.stops, self.expelled, self.forks
                ),
            ),
            ("kills", self.kills.to_string()),
            ("kills per second", format!("{rate:.1}")),
            ("quiet points", self.quiet.to_string()),
            ("leaked slots", wrong.slots.to_string()),
            ("leaked fds", wrong.descriptors.to_string()),
            ("leaked mappings", wrong.mappings.to_string()),
            ("leaked threads", wrong.threads.to_string()),
            (
                "leaked bytes",
                format!(
                    "{} (of the allocator's slack: {} KiB by a producer, {} KiB by the consumer that stays, {} KiB allowed)",
                    wrong.bytes,
                    kib(self.slack.0),
                    kib(self.slack.1),
                    kib(crate::quiet::SLACK)
                ),
            ),
            ("torn frames", wrong.torn.to_string()),
            ("lost frames", wrong.lost.to_string()),
            ("verdict", if finding.is_none() { "PASSED" } else { "FAILED" }.to_owned()),
        ];
        rows.iter().map(|(name, value)| format!("  {name:<17} {value}\n")).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} published, {} received; {} joins, {} leaves, {} ends seen; kills {}",
            self.published,
            self.received,
            self.joins.iter().sum::<u64>(),
            self.leaves,
            self.closed,
            self.kills
        )
    }
}
