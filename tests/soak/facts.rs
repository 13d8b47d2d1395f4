//! What a process holds: descriptors, mappings, threads, memory.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Facts {
    pub(crate) descriptors: u64,
    pub(crate) mappings: u64,
    /// Those of the library's that come and go.
    pub(crate) threads: u64,
    /// Bytes resident of mappings that others may share.
    pub(crate) shared: u64,
    /// Bytes of its own: heap, stacks, what was written of private mappings.
    pub(crate) private: u64,
}

impl Facts {
    /// Line by line, so that looking needs no memory to speak of.
    pub(crate) fn now() -> Self {
        // glibc can't unmap the stack of a detached thread that is just ending; it does when the next is joined.
        std::thread::spawn(|| {}).join().expect("it does nothing");
        let mut facts = Self {
            descriptors: crate::common::descriptors() as u64,
            threads: crate::common::passing_threads() as u64,
            ..Self::default()
        };
        let mut is_shared = false;
        for line in BufReader::new(File::open("/proc/self/smaps").expect("procfs")).lines() {
            let line = line.expect("procfs");
            let mut words = line.split_whitespace();
            let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let bytes = || second.parse::<u64>().expect("a number of kB") << 10;
            match first {
                "Rss:" if is_shared => facts.shared += bytes(),
                "Anonymous:" if !is_shared => facts.private += bytes(),
                _ if first.ends_with(':') => {}
                _ => {
                    facts.mappings += 1;
                    is_shared = second.ends_with('s');
                }
            }
        }
        facts
    }

    /// What [`Facts::encode`] has made.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        let mut numbers = text.split(' ').map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self {
            descriptors: next()?,
            mappings: next()?,
            threads: next()?,
            shared: next()?,
            private: next()?,
        })
    }

    pub(crate) fn encode(&self) -> String {
        let Self { descriptors, mappings, threads, shared, private } = self;
        format!("{descriptors} {mappings} {threads} {shared} {private}")
    }

    /// What is there beyond `before`; of private memory beyond `slack` more.
    pub(crate) fn beyond(&self, before: &Self, slack: u64) -> Self {
        Self {
            descriptors: self.descriptors.saturating_sub(before.descriptors),
            mappings: self.mappings.saturating_sub(before.mappings),
            threads: self.threads.saturating_sub(before.threads),
            shared: self.shared.saturating_sub(before.shared),
            private: self.private.saturating_sub(before.private + slack),
        }
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} fds, {} mappings, {} threads, {} KiB shared, {} KiB private",
            self.descriptors,
            self.mappings,
            self.threads,
            self.shared >> 10,
            self.private >> 10
        )
    }
}
