//! Ctrl-C and SIGTERM as a flag, so that a command leaves by its own door: frames released, the stream
//! closed, the summary printed. A signal that comes again later ends the process at once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::{Failure, Outcome};

/// The longest a command sleeps without looking whether it was asked to end.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

/// Signals this close together are one wish: `timeout` and some shells signal the process and then its group.
const ECHO: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    pub(crate) fn install() -> Outcome<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&asked);
        let mut first: Option<Instant> = None;
        on_signal(move |signal| {
            if first.is_some_and(|first| first.elapsed() > ECHO) {
                std::process::exit(128 + signal);
            }
            first.get_or_insert_with(Instant::now);
            flag.store(true, Ordering::Relaxed);
        })?;
        Ok(Self(asked))
    }

    pub(crate) fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sleeps in slices; false when it was cut short.
    pub(crate) fn sleep(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while !self.requested() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(SLICE));
        }
        false
    }
}

/// For work that can't look at a flag now and then: the first signal removes `directory` and ends the process.
pub(crate) fn remove_on_signal(directory: &Path) -> Outcome {
    let directory = directory.to_owned();
    on_signal(move |signal| {
        // Whether that works or not, the process is to end.
        let _ = std::fs::remove_dir_all(&directory);
        std::process::exit(128 + signal);
    })
}

/// Calls `act` in a thread of its own, so that it may do what a signal handler may not.
fn on_signal(mut act: impl FnMut(i32) + Send + 'static) -> Outcome {
    let failed = |error| Failure::system("install the handler for Ctrl-C", error);
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    let forever = move || signals.forever().for_each(&mut act);
    std::thread::Builder::new().name("signals".into()).spawn(forever).map_err(failed)?;
    Ok(())
}
