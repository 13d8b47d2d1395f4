//! `bips.Producer`: owns a stream and publishes its frames.

use crate::args;
use crate::errors::{OrRaise, raise};
use crate::export::Origin;
use crate::facts::{self, dict};
use crate::fork::Birth;
use crate::wait::{self, in_slices};
use crate::writable::WritableFrame;
use bips::{AccessRule, AcquireError, Error, ErrorKind, FrameMut, Usage, Wait};
use parking_lot::Mutex;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// Publishes frames under a name, out of a fixed pool of slots that consumers map instead of copying.
///
/// name: 1 to 100 of letters, digits, ".", "_", "-", with "/" for nesting. What a slot holds is said by shape and
/// dtype (a tensor), by size=(width, height) and format="RGB3" (an image, V4L2 codes), or by size=number (bytes).
/// slots: 1 to 64. memory: kind of memory, or "auto". usage: who will use it, such as ("cpu", "vulkan:0", "camera:/dev/video0"). access: "owner",
/// "group:NAME" (or its number) or "directory" (whoever can reach the runtime directory). writable: let consumers write into frames.
/// reliable: admit consumers that may hold the producer back. max_held: frames a consumer may hold at a time; None
/// for slots - 2, at least 1. on_stall: what to do about consumers that hold the producer up: "wait" for them, or
/// "expel:SECONDS", from 0.001 to a year: while the producer waits for a slot, it puts out those that neither take nor
/// release a frame for so long. What they hold stays theirs until they release it or their process ends. history: frames
/// that a new consumer still gets. directory: the runtime directory; None for the usual one.
///
/// Close it, or use `with`: consumers then get the frames that are left, and learn that the stream ended.
///
/// Raises bips.NameTaken, bips.InvalidArgument, bips.OutOfMemory, bips.AccessDenied, bips.NotFound (no such
/// directory), bips.Unsupported.
#[pyclass(frozen, weakref, module = "bips")]
pub(crate) struct Producer {
    producer: Arc<bips::Producer>,
    closed: AtomicBool,
    origin: Arc<Origin>,
    birth: Birth,
}

/// Producers that may still be open, for [`_close_producers`].
static LIVE: Mutex<Vec<(Birth, Weak<bips::Producer>)>> = Mutex::new(Vec::new());

/// Closes what nobody closed; called when the interpreter ends, which doesn't destroy every object.
#[pyfunction]
pub(crate) fn _close_producers(py: Python<'_>) {
    // A child forked at a bad moment finds the lock taken for ever.
    let Some(mut live) = LIVE.try_lock() else { return };
    let live = std::mem::take(&mut *live);
    py.detach(|| {
        for (birth, producer) in live {
            if let (true, Some(producer)) = (birth.is_here(), producer.upgrade()) {
                producer.close();
            }
        }
    });
}

impl Producer {
    fn acquire_within(&self, py: Python<'_>, wait: Wait) -> PyResult<Option<WritableFrame>> {
        self.birth.check()?;
        let outcome = match self.acquire_once(Wait::Now) {
            None if wait == Wait::Now => None,
            None => in_slices(py, wait, |slice| self.acquire_once(wait::slice(slice)))?,
            outcome => outcome,
        };
        match outcome {
            Some(Ok(frame)) => Ok(Some(WritableFrame::new(frame, &self.origin, self.birth))),
            Some(Err(error)) => Err(raise(py.detach(|| self.producer.explain(error)))),
            None => Ok(None),
        }
    }

    fn acquire_once(&self, wait: Wait) -> Option<Result<FrameMut, AcquireError>> {
        match self.producer.acquire(wait) {
            Err(AcquireError::Timeout) => None,
            outcome => Some(outcome),
        }
    }
}

#[pymethods]
impl Producer {
    #[new]
    #[pyo3(
        signature = (name, *, shape=None, dtype=None, size=None, format=None, slots=4, memory="auto", usage=None,
            access=None, writable=false, reliable=true, max_held=None, on_stall=None, history=0, directory=None),
        text_signature = "(name, *, shape=None, dtype='uint8', size=None, format=None, slots=4, memory='auto', \
            usage=(), access='owner', writable=False, reliable=True, max_held=None, on_stall='wait', history=0, \
            directory=None)"
    )]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of a Python constructor")]
    fn new(
        py: Python<'_>,
        name: String,
        shape: Option<&Bound<'_, PyAny>>,
        dtype: Option<&Bound<'_, PyAny>>,
        size: Option<&Bound<'_, PyAny>>,
        format: Option<&str>,
        slots: i64,
        memory: &str,
        usage: Option<&Bound<'_, PyAny>>,
        access: Option<&Bound<'_, PyAny>>,
        writable: bool,
        reliable: bool,
        max_held: Option<i64>,
        on_stall: Option<&Bound<'_, PyAny>>,
        history: i64,
        directory: Option<PathBuf>,
    ) -> PyResult<Self> {
        let content = args::content(shape, dtype, size, format)?;
        let builder =
            bips::Producer::builder(name).registry(bips_backends::registry_in(directory.as_deref()));
        let builder = match content.fourcc() {
            Some(fourcc) => builder.image(fourcc, content.width(), content.height()),
            None => builder.content(content),
        };
        let mut builder = builder
            .slots(args::count("slots", slots)?)
            .memory(memory)
            .writable(writable)
            .reliable(reliable)
            .history(args::count("history", history)?);
        if let Some(access) = access {
            let forms = "\"owner\", \"group:NAME\" (or its number) or \"directory\"";
            builder = builder.access(AccessRule::parse(&args::word("access", access, forms)?).or_raise()?);
        }
        if let Some(on_stall) = on_stall {
            builder = builder.on_stall(args::on_stall(on_stall)?);
        }
        if let Some(usage) = usage {
            builder = builder.usage(Usage::empty()).parties(args::parties(usage)?);
        }
        if let Some(max_held) = max_held {
            builder = builder.max_held(args::count("max_held", max_held)?);
        }
        if let Some(directory) = directory {
            builder = builder.directory(directory);
        }
        let producer = py.detach(|| builder.create()).or_raise()?;
        let producer = Arc::new(producer);
        let (origin, birth) = (Origin::new(producer.name(), false), Birth::now());
        let mut live = LIVE.lock();
        live.retain(|(_, producer)| producer.strong_count() > 0);
        live.push((birth, Arc::downgrade(&producer)));
        Ok(Self { producer, closed: AtomicBool::new(false), origin, birth })
    }

    /// A slot to write the next frame into. Waits with the GIL released and answers Ctrl-C.
    ///
    /// timeout: seconds; None waits for ever, 0 doesn't wait.
    ///
    /// Raises bips.Timeout, naming who holds which slots, and bips.Closed.
    #[pyo3(signature = (timeout=None))]
    fn acquire(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<WritableFrame> {
        let frame = self.acquire_within(py, wait::parse(timeout)?)?;
        frame.ok_or_else(|| raise(py.detach(|| self.producer.explain(AcquireError::Timeout))))
    }

    /// A slot to write the next frame into, or None when all are taken. Raises bips.Closed.
    fn try_acquire(&self, py: Python<'_>) -> PyResult<Option<WritableFrame>> {
        self.acquire_within(py, Wait::Now)
    }

    /// Waits until n consumers have joined. Answers Ctrl-C.
    ///
    /// timeout: seconds; None waits for ever. Raises bips.Timeout and bips.Closed.
    #[pyo3(signature = (n, timeout=None))]
    fn wait_for_consumers(&self, py: Python<'_>, n: i64, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        self.birth.check()?;
        let n = args::count("n", n)?;
        let mut late = None;
        let joined = in_slices(py, wait::parse(timeout)?, |slice| {
            match self.producer.wait_for_consumers(n, wait::slice(slice)) {
                Err(error) if error.kind() == ErrorKind::Timeout => {
                    late = Some(error);
                    None
                }
                outcome => Some(outcome),
            }
        })?;
        let nobody =
            || Error::new(ErrorKind::Timeout, format!("fewer than {n} consumers joined; start them"));
        joined.unwrap_or_else(|| Err(late.unwrap_or_else(nobody))).or_raise()
    }

    /// Ends the stream: consumers get the frames that are left, then bips.Closed. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.birth.check()?;
        self.closed.store(true, Ordering::Relaxed);
        py.detach(|| self.producer.close());
        Ok(())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    /// Name of the stream.
    #[getter]
    fn name(&self) -> &str {
        self.producer.name()
    }

    /// Kind of memory the slots are, such as "memfd".
    #[getter]
    fn memory(&self) -> &str {
        &self.producer.backend().kind
    }

    /// Slots of the pool.
    #[getter]
    fn slots(&self) -> u32 {
        self.producer.slots()
    }

    /// Whether consumers may write into frames.
    #[getter]
    fn writable(&self) -> bool {
        self.producer.writable()
    }

    /// How many frames one consumer may hold at a time.
    #[getter]
    fn max_held(&self) -> u32 {
        self.producer.max_held()
    }

    /// What it does about consumers that hold it up: "wait" or "expel:SECONDS".
    #[getter]
    fn on_stall(&self) -> String {
        self.producer.on_stall().to_string()
    }

    /// How frames lie in their slots, as a bips.types.Layout dictionary.
    #[getter]
    fn layout<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        facts::layout(py, self.producer.content(), self.producer.slot_bytes())
    }

    /// Counts, as a bips.types.ProducerStats dictionary: published, pool_bytes, evicted, expelled,
    /// stalled_for, consumers, and bytes_copied, the bytes that bips copied because copy=True asked for it.
    #[getter]
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.birth.check()?;
        let stats = py.detach(|| self.producer.stats()).or_raise()?;
        Ok(dict!(py,
            "published": stats.published,
            "pool_bytes": stats.pool_bytes,
            "evicted": stats.evicted,
            "expelled": stats.expelled,
            "stalled_for": stats.stalled_for.map(|time| time.as_secs_f64()),
            "consumers": facts::consumers(py, &stats.consumers)?,
            "bytes_copied": self.origin.copied(),
        ))
    }

    /// For whom consumers said that they want the memory (`wanted`), those too that were refused since it does not serve them:
    /// what to give as `usage` to the stream's next producer.
    #[getter]
    fn announced(&self) -> Vec<String> {
        self.producer.announced().iter().map(ToString::to_string).collect()
    }

    /// Whether close() was called.
    #[getter]
    fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn __repr__(&self) -> String {
        let state = if self.closed.load(Ordering::Relaxed) { ", closed" } else { "" };
        let (slots, bytes) = (self.producer.slots(), self.producer.slot_bytes());
        format!(
            "<bips.Producer of {:?}: {slots} slots of {bytes} bytes, {}{state}>",
            self.name(),
            self.memory()
        )
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(format!(
            "a bips.Producer belongs to its process and can't be pickled; the other process receives its frames with \
             bips.Consumer({:?})",
            self.name()
        )))
    }
}
