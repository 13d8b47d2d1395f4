//! What the roles have in common.

use crate::GENERATIONS;
use crate::common::process::Stage;
use bips::OnStall;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// The number in a frame: whose it is, and which.
pub(crate) fn number_of(generation: u64, sequence: u64) -> u64 {
    (generation % GENERATIONS) << 40 | sequence
}

/// What a producer does about consumers that stall. Three of four put them out, sooner than some of them are
/// stopped for.
pub(crate) fn on_stall(generation: u64) -> OnStall {
    if generation % 4 == 3 { OnStall::Wait } else { OnStall::Expel(Duration::from_millis(40)) }
}

/// The driver's words, heard while something else is done.
#[derive(Debug)]
pub(crate) struct Words {
    words: Receiver<String>,
    /// Words that were not heard yet.
    waiting: Arc<AtomicUsize>,
}

impl Words {
    pub(crate) fn listen(stage: &Stage) -> Self {
        let (sender, words) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (stage, count) = (stage.clone(), waiting.clone());
        std::thread::spawn(move || {
            loop {
                let word = stage.hear();
                let is_last = word.is_empty();
                count.fetch_add(1, SeqCst);
                if sender.send(word).is_err() || is_last {
                    return;
                }
            }
        });
        Self { words, waiting }
    }

    /// Whether the driver has said something that was not heard yet.
    pub(crate) fn are_waiting(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    /// The next word, if there is one; empty when the driver has hung up.
    pub(crate) fn next(&self) -> Option<String> {
        self.words.try_recv().ok().inspect(|_| self.heard())
    }

    /// The next word, waited for.
    pub(crate) fn wait(&self) -> String {
        self.words.recv().inspect(|_| self.heard()).unwrap_or_default()
    }

    fn heard(&self) {
        self.waiting.fetch_sub(1, SeqCst);
    }
}

/// Forks a child that has everything this process has, does nothing, and ends by itself. The driver, who adopts it,
/// must not take it for us.
pub(crate) fn orphan(lives: Duration) {
    // SAFETY: the child makes only async-signal-safe calls.
    match unsafe { nix::unistd::fork() }.expect("fork") {
        nix::unistd::ForkResult::Child => {
            let path = c"/dev/null".as_ptr();
            // SAFETY: a constant path.
            let null = unsafe { libc::open(path, libc::O_RDWR) };
            for fd in [0, 1] {
                // SAFETY: numbers; the pipes to the driver are this process's parent's.
                unsafe { libc::dup2(null, fd) };
            }
            // SAFETY: a plain number.
            unsafe { libc::alarm(lives.as_secs().max(1) as u32) };
            loop {
                // SAFETY: no arguments.
                unsafe { libc::pause() };
            }
        }
        nix::unistd::ForkResult::Parent { .. } => {}
    }
}
