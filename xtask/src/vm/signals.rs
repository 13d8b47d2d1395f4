//! Signals that tell this process to end, taken notice of instead, so that nothing of a machine is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use anyhow::Result;
use nix::sys::signal::{SigSet, Signal};

const END: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

pub(super) struct Signals(Arc<AtomicI32>);

impl Signals {
    /// To be called before there are other threads. Programs started later don't inherit it.
    pub(super) fn take() -> Result<Self> {
        let set = SigSet::from_iter(END);
        set.thread_block()?;
        let came = Arc::new(AtomicI32::new(0));
        let noted = Arc::clone(&came);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            while let Ok(signal) = set.wait() {
                noted.store(signal as i32, Ordering::Relaxed);
            }
        })?;
        Ok(Self(came))
    }

    /// The last one.
    pub(super) fn came(&self) -> Option<i32> {
        Some(self.0.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
    }
}
