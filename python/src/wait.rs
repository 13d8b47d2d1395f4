//! Waiting with the interpreter given up, and looking so often at signals that Ctrl-C is answered at once.

use crate::args;
use crate::errors::invalid;
use bips::Wait;
use parking_lot::Mutex;
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How late Ctrl-C may be. The kernel wakes a sleeper on a signal, but a signal just before it sleeps wakes nobody.
const SLICE: Duration = Duration::from_millis(50);

/// Seconds as Python gives them: `None` and `math.inf` are for ever, 0 is not at all.
pub(crate) fn parse(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Wait> {
    timeout.map_or(Ok(Wait::Forever), |timeout| seconds(timeout, "None to wait for ever"))
}

/// The same where nothing is waited for unless that is asked for: `None` is not at all.
pub(crate) fn parse_joining(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Wait> {
    timeout
        .map_or(Ok(Wait::Now), |timeout| seconds(timeout, "None not to wait, or math.inf to wait for ever"))
}

/// `none` says what else there is to give.
fn seconds(timeout: &Bound<'_, PyAny>, none: &str) -> PyResult<Wait> {
    let Ok(seconds) = timeout.extract::<f64>() else {
        return Err(args::wrong_type(
            "timeout",
            timeout,
            &format!("a number of seconds from 0 upwards, {none}"),
        ));
    };
    Wait::seconds(Some(seconds))
        .map_err(|_| invalid(format!("timeout={seconds} is none; give seconds from 0 upwards, {none}")))
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

/// What a signal handler raised during a wait that asks for it, such as `KeyboardInterrupt`.
#[derive(Clone, Default)]
pub(crate) struct Raised(Arc<Mutex<Option<PyErr>>>);

impl Raised {
    /// Lets Python's signal handlers run; whether one raised, which is a reason to stop waiting. To be called detached.
    pub(crate) fn now(&self) -> bool {
        // An interpreter that is ending attaches nobody, and takes this thread with it soon.
        let outcome = Python::try_attach(|py| py.check_signals());
        let Some(Err(error)) = outcome else { return false };
        *self.0.lock() = Some(error);
        true
    }

    pub(crate) fn take(&self) -> Option<PyErr> {
        self.0.lock().take()
    }
}
