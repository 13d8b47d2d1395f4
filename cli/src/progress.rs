//! One line on stderr, rewritten four times a second, only where a person looks at it.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(250);

pub(crate) struct Progress {
    terminal: bool,
    shown: bool,
    last: Instant,
    frames: u64,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), shown: false, last: Instant::now(), frames: 0 }
    }

    /// Cheap unless a rewrite is due; `more` is asked only then.
    pub(crate) fn tick(&mut self, frames: u64, more: impl FnOnce() -> String) {
        if !self.terminal {
            return;
        }
        let since = self.last.elapsed();
        if since < EVERY {
            return;
        }
        let fps = frames.saturating_sub(self.frames) as f64 / since.as_secs_f64();
        self.last = Instant::now();
        self.frames = frames;
        self.shown = true;
        // Progress is a courtesy: a stderr that can't be written to changes nothing.
        let _ = write!(std::io::stderr(), "\r\x1b[K{frames} frames  {fps:.1} fps  {}", more());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
