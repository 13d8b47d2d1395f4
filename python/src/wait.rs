//! Waiting with the interpreter given up, in slices short enough that Ctrl-C is answered at once.

use crate::errors::OrRaise;
use bips::Wait;
use pyo3::prelude::*;
use std::time::{Duration, Instant};

/// How late Ctrl-C may be. The kernel wakes a sleeper on a signal, but a signal just before it sleeps wakes nobody.
const SLICE: Duration = Duration::from_millis(50);

/// Seconds as Python gives them: `None` is for ever, 0 is not at all.
pub(crate) fn parse(timeout: Option<f64>) -> PyResult<Wait> {
    Wait::seconds(timeout).or_raise()
}

/// Calls `attempt` until it gives something or `wait` is over, each time with how long it may wait itself.
///
/// # Errors
/// Whatever a signal handler raises, such as `KeyboardInterrupt`.
pub(crate) fn in_slices<T: Send>(
    py: Python<'_>,
    wait: Wait,
    mut attempt: impl FnMut(Duration) -> Option<T> + Send,
) -> PyResult<Option<T>> {
    let begin = Instant::now();
    loop {
        let left = match wait {
            Wait::Now => Duration::ZERO,
            Wait::For(time) => time.saturating_sub(begin.elapsed()),
            Wait::Forever => SLICE,
        };
        let slice = left.min(SLICE);
        if let Some(found) = py.detach(|| attempt(slice)) {
            return Ok(Some(found));
        }
        py.check_signals()?;
        if slice == left && !matches!(wait, Wait::Forever) {
            return Ok(None);
        }
    }
}

/// A slice as the core takes it.
pub(crate) fn slice(time: Duration) -> Wait {
    if time.is_zero() { Wait::Now } else { Wait::For(time) }
}
