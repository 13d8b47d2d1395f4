//! `bips.Consumer`: receives the frames of a stream.

use crate::args;
use crate::errors::{OrRaise, raise, unsupported};
use crate::export::Origin;
use crate::facts::{self, dict};
use crate::fork::Birth;
use crate::frame::Frame;
use crate::turn::Turn;
use crate::wait::{self, Raised, in_slices};
use bips::{ConsumerStats, Ending, Error, ErrorKind, Policy, ReceiveError, Wait};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Receives the frames that a bips.Producer of the same name publishes.
///
/// name: the stream. policy: "reliable" (the default) sees every frame and holds the producer back when slow;
/// "latest" and "keep-last:N" never do, and miss frames instead. timeout: seconds to wait for the producer to appear;
/// None (the default) and 0 don't wait, math.inf waits for ever. device: None or "cpu", where frames should be.
/// wanted: who will use the memory, such as ("cpu", "vulkan:0"); joining fails where it does not serve them. reconnect: go on with the next producer of this name when
/// this one ends. label: what the producer and `bips info` call this consumer, at most 64 bytes of text; None for the
/// script's and the host's name. strict: refuse DLPack callers that can't be told that memory is read-only. directory:
/// the runtime directory; None for the usual one.
///
/// Any thread may receive; threads that do so at the same time take turns.
///
/// Raises bips.NotFound (no such producer), bips.Timeout (it is there, but stopped or full), bips.InvalidArgument,
/// bips.AccessDenied, bips.ProtocolError, bips.Unsupported.
#[pyclass(frozen, weakref, module = "bips")]
pub(crate) struct Consumer {
    turn: Turn<bips::Consumer>,
    closing: AtomicBool,
    /// How the stream had ended when this consumer was closed, and what it had seen.
    left: OnceLock<(Option<Ending>, ConsumerStats)>,
    /// Whether an event loop watches it (`bips/_aio.py`).
    watched: AtomicBool,
    origin: Arc<Origin>,
    birth: Birth,
    /// "reliable", "latest" or "keep-last:N".
    #[pyo3(get)]
    policy: String,
}

/// One try at receiving.
enum Outcome {
    Frame(bips::Frame),
    Error(Error),
}

impl Consumer {
    fn closed_error(&self) -> Error {
        Error::new(
            ErrorKind::Closed,
            format!(
                "this consumer of {:?} was closed in this process; make a new bips.Consumer to go on",
                self.origin.name()
            ),
        )
    }

    fn receive_once(&self, consumer: &mut Option<bips::Consumer>, wait: Wait) -> Option<Outcome> {
        let Some(consumer) = consumer else {
            return Some(Outcome::Error(self.closed_error()));
        };
        match consumer.receive(wait) {
            Ok(frame) => Some(Outcome::Frame(frame)),
            Err(ReceiveError::Timeout) => None,
            Err(error) => Some(Outcome::Error(consumer.explain(error))),
        }
    }

    /// Without waiting. Mostly a frame is there, and nothing needs giving up to take it; giving the GIL up for every
    /// frame would mean to queue for it behind whatever else runs.
    fn receive_at_once(&self, py: Python<'_>, consumer: &mut Option<bips::Consumer>) -> Option<Outcome> {
        // After the end it may be about joining the next producer, and that takes as long as mapping its pool.
        if consumer.as_ref().is_some_and(|consumer| consumer.ending().is_some()) {
            return py.detach(|| self.receive_once(consumer, Wait::Now));
        }
        self.receive_once(consumer, Wait::Now)
    }

    /// One slice of waiting: first for the turn, then for a frame.
    fn receive_slice(&self, slice: Duration) -> Option<Outcome> {
        let begin = Instant::now();
        let mut consumer = self.turn.take(slice)?;
        if self.closing.load(Ordering::Relaxed) {
            return Some(Outcome::Error(self.closed_error()));
        }
        let outcome = self.receive_once(&mut consumer, wait::slice(slice.saturating_sub(begin.elapsed())));
        Turn::pass_on(consumer);
        outcome
    }

    fn receive_within(&self, py: Python<'_>, wait: Wait) -> PyResult<Option<Frame>> {
        self.birth.check()?;
        let at_once = self.turn.try_take().map(|mut consumer| self.receive_at_once(py, &mut consumer));
        let outcome = match at_once {
            Some(Some(outcome)) => Some(outcome),
            Some(None) if wait == Wait::Now => None,
            _ => in_slices(py, wait, |slice| self.receive_slice(slice))?,
        };
        match outcome {
            Some(Outcome::Frame(frame)) => Ok(Some(Frame::new(frame, &self.origin, self.birth))),
            Some(Outcome::Error(error)) => Err(raise(error)),
            None => Ok(None),
        }
    }

    /// Asks the open consumer something.
    fn ask<R: Send>(&self, py: Python<'_>, ask: impl FnOnce(&mut bips::Consumer) -> R + Send) -> PyResult<R> {
        self.birth.check()?;
        self.turn.with(py, |consumer| consumer.as_mut().map(ask)).ok_or_else(|| raise(self.closed_error()))
    }
}

#[pymethods]
impl Consumer {
    #[new]
    #[pyo3(
        signature = (name, *, policy=None, timeout=None, device=None, wanted=None, reconnect=false, label=None,
            strict=false, directory=None),
        text_signature = "(name, *, policy='reliable', timeout=None, device=None, wanted=(), reconnect=False, \
            label=None, strict=False, directory=None)"
    )]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of a Python constructor")]
    fn new(
        py: Python<'_>,
        name: String,
        policy: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
        device: Option<&str>,
        wanted: Option<&Bound<'_, PyAny>>,
        reconnect: bool,
        label: Option<String>,
        strict: bool,
        directory: Option<PathBuf>,
    ) -> PyResult<Self> {
        let policy = policy.map_or(Ok(Policy::Reliable), |policy| {
            let forms = "\"reliable\", \"latest\" or \"keep-last:N\"";
            Policy::parse(&args::word("policy", policy, forms)?).or_raise()
        })?;
        check_device(device)?;
        let wanted = wanted.map_or_else(|| Ok(Vec::new()), args::parties)?;
        let wait = wait::parse_joining(timeout)?;
        let raised = Raised::default();
        let interrupt = raised.clone();
        let mut builder = bips::Consumer::builder(name)
            .registry(bips_backends::registry())
            .policy(policy)
            .reconnect(reconnect)
            .label(label.map_or_else(|| usual_label(py), Ok)?)
            .wait(wait)
            .wanted(wanted)
            .interrupt(move || interrupt.now());
        if let Some(directory) = directory {
            builder = builder.directory(directory);
        }
        let connected = py.detach(|| builder.connect());
        if let Some(error) = raised.take() {
            return Err(error);
        }
        let consumer = connected
            .map_err(|error| match error.kind() {
                ErrorKind::NotFound if timeout.is_none() => {
                    error.hint("in Python, timeout=seconds waits for it")
                }
                _ => error,
            })
            .or_raise()?;
        Ok(Self {
            origin: Origin::new(consumer.name(), strict),
            policy: consumer.policy().to_string(),
            turn: Turn::new(consumer),
            closing: AtomicBool::new(false),
            left: OnceLock::new(),
            watched: AtomicBool::new(false),
            birth: Birth::now(),
        })
    }

    /// The next frame. Waits with the GIL released and answers Ctrl-C.
    ///
    /// timeout: seconds; None waits for ever, 0 doesn't wait.
    ///
    /// Raises bips.Timeout (nothing was published in time), bips.Closed (the producer ended and all its frames were
    /// received), bips.TooManyHeld (release frames first), bips.ProtocolError.
    #[pyo3(signature = (timeout=None))]
    fn receive(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Frame> {
        match self.receive_within(py, wait::parse(timeout)?)? {
            Some(frame) => Ok(frame),
            None => Err(raise(self.ask(py, |consumer| consumer.explain(ReceiveError::Timeout))?)),
        }
    }

    /// The next frame, or None when there is none yet. Raises what receive() raises, but never bips.Timeout.
    fn try_receive(&self, py: Python<'_>) -> PyResult<Option<Frame>> {
        self.receive_within(py, Wait::Now)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// The next frame, waiting for ever; ends when the producer has.
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Frame>> {
        match self.receive_within(py, Wait::Forever) {
            Err(error) if is_closed(py, &error) => Ok(None),
            outcome => outcome,
        }
    }

    /// Frames for `async for`; ends when the producer has. Waits in the running event loop, without threads.
    fn __aiter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static FRAMES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        slf.get().birth.check()?;
        slf.get().watched.store(true, Ordering::Relaxed);
        FRAMES.import(slf.py(), "bips._aio", "Frames")?.call1((slf,))
    }

    /// A descriptor that becomes readable when a frame may be there, for select, poll and event loops.
    ///
    /// Then call try_receive() until it returns None: only that makes the descriptor wait for the next frame. The
    /// descriptor belongs to the consumer: never read from it or close it.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        self.ask(py, bips::Consumer::poll_fd)?.or_raise()
    }

    /// Leaves the stream. Frames received before stay valid. Closing twice is fine.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        static FORGET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let (this, py) = (slf.get(), slf.py());
        this.birth.check()?;
        this.closing.store(true, Ordering::Relaxed);
        let consumer = this.turn.with(py, |consumer| {
            if let Some(consumer) = consumer {
                this.left.get_or_init(|| (consumer.ending(), consumer.stats()));
            }
            consumer.take()
        });
        if this.watched.swap(false, Ordering::Relaxed) {
            FORGET.import(py, "bips._aio", "forget")?.call1((slf,))?;
        }
        py.detach(|| drop(consumer));
        Ok(())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(slf: &Bound<'_, Self>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        Self::close(slf)
    }

    /// How frames lie in their slots, as a bips.types.Layout dictionary. One frame may have a smaller shape.
    #[getter]
    fn layout<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (content, slot_bytes) = self.ask(py, |consumer| (*consumer.content(), consumer.slot_bytes()))?;
        facts::layout(py, &content, slot_bytes)
    }

    /// Name of the stream.
    #[getter]
    fn name(&self) -> &str {
        self.origin.name()
    }

    /// What it calls itself to the producer.
    #[getter]
    fn label(&self, py: Python<'_>) -> PyResult<String> {
        self.ask(py, |consumer| consumer.label().to_owned())
    }

    /// Kind of memory, such as "memfd".
    #[getter]
    fn memory(&self, py: Python<'_>) -> PyResult<String> {
        self.ask(py, |consumer| consumer.backend().kind.clone())
    }

    /// Slots of the pool.
    #[getter]
    fn slots(&self, py: Python<'_>) -> PyResult<u32> {
        self.ask(py, |consumer| consumer.slots())
    }

    /// How many frames this consumer may hold at a time.
    #[getter]
    fn max_held(&self, py: Python<'_>) -> PyResult<u32> {
        self.ask(py, |consumer| consumer.max_held())
    }

    /// Whether the producer lets consumers write into frames.
    #[getter]
    fn writable(&self, py: Python<'_>) -> PyResult<bool> {
        self.ask(py, |consumer| consumer.writable())
    }

    /// Process id of the producer, as this process sees it.
    #[getter]
    fn producer_pid(&self, py: Python<'_>) -> PyResult<u32> {
        self.ask(py, |consumer| consumer.producer_pid())
    }

    /// How often it has joined anew (reconnect=True); frames say so too. With another producer layout, memory, slots and
    /// max_held may be others.
    #[getter]
    fn generation(&self, py: Python<'_>) -> PyResult<u32> {
        self.ask(py, |consumer| consumer.generation())
    }

    /// How the stream ended: "closed" by its producer; "died" with its producer; "expelled" when the producer put this
    /// consumer out because it held the stream up (on_stall); None while it goes on. Frames published
    /// before may still be there to receive.
    ///
    /// After close() it is what was known then. With reconnect=True it tells of the latest producer.
    #[getter]
    fn ending(&self, py: Python<'_>) -> PyResult<Option<&'static str>> {
        let ending = match self.left.get() {
            Some((ending, _)) => *ending,
            None => self.ask(py, |consumer| consumer.ending())?,
        };
        Ok(ending.map(|ending| match ending {
            Ending::Closed => "closed",
            Ending::Expelled => "expelled",
            _ => "died",
        }))
    }

    /// Counts, as a bips.types.ConsumerStats dictionary: received, missed, held, reconnects, control_bytes, and
    /// bytes_copied, the bytes that bips copied because copy(), copy=True or private() asked for it. After close() the others
    /// are what they were then.
    #[getter]
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = match self.left.get() {
            Some((_, stats)) => *stats,
            None => self.ask(py, |consumer| consumer.stats())?,
        };
        Ok(dict!(py,
            "received": stats.received,
            "missed": stats.missed,
            "held": stats.held,
            "reconnects": stats.reconnects,
            "control_bytes": stats.control_bytes,
            "bytes_copied": self.origin.copied(),
        ))
    }

    /// Whether close() was called.
    #[getter]
    fn closed(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    fn __repr__(&self) -> String {
        let state = if self.closing.load(Ordering::Relaxed) { ", closed" } else { "" };
        format!("<bips.Consumer of {:?}, {}{state}>", self.origin.name(), self.policy)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(format!(
            "a bips.Consumer belongs to its process and can't be pickled; send its name and call \
             bips.Consumer({:?}) in the other process",
            self.origin.name()
        )))
    }
}

fn is_closed(py: Python<'_>, error: &PyErr) -> bool {
    let kind = error.value(py).getattr(pyo3::intern!(py, "kind"));
    kind.and_then(|kind| kind.extract::<String>()).is_ok_and(|kind| kind == ErrorKind::Closed.name())
}

/// The script's and the host's name: the program of each is the interpreter.
fn usual_label(py: Python<'_>) -> PyResult<String> {
    static USUAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    USUAL.import(py, "bips._label", "usual")?.call0()?.extract()
}

/// Refuses devices that frames can't be on yet.
fn check_device(device: Option<&str>) -> PyResult<()> {
    if let Some(device) = device.filter(|device| *device != "cpu") {
        return Err(unsupported(format!(
            "frames can't be received on {device:?}; leave device=None and move them there, as in \
             frame.torch().to({device:?})"
        )));
    }
    Ok(())
}
