//! `bips.Frame`: one received frame, its facts and its memory.

use crate::errors::{OrRaise, invalid};
use crate::export::{self, Exports, Hold, Origin, Tensor, memory_methods};
use crate::fork::Birth;
use crate::view::View;
use parking_lot::Mutex;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use std::os::fd::{IntoRawFd, RawFd};
use std::sync::Arc;

/// One received frame. Its memory is the producer's own; nothing was copied.
///
/// Take it into a framework with np.from_dlpack(frame), frame.torch(), jax.dlpack.from_dlpack(frame),
/// tf.experimental.dlpack.from_dlpack(frame.__dlpack__()), or memoryview(frame). Every array, tensor and view made
/// from a frame keeps its slot taken: the slot goes back when the last of them dies, whatever release() did before.
///
/// The memory is mapped read-only unless the producer said writable=True. NumPy and JAX respect that; PyTorch does
/// not know it, so writing into such a tensor in place ends this process with SIGSEGV. Write into a copy
/// (frame.torch().clone(), frame.copy()) or into frame.private().
#[pyclass(frozen, weakref, module = "bips")]
pub(crate) struct Frame {
    lease: Mutex<Option<Arc<bips::Frame>>>,
    origin: Arc<Origin>,
    birth: Birth,
    /// Index of the slot the frame lies in.
    #[pyo3(get)]
    slot: u32,
    /// Number of the frame in its stream, counted from 0. Another producer counts anew: see generation.
    #[pyo3(get)]
    sequence: u64,
    /// How often its consumer (with reconnect=True) had joined anew before. With another producer sequences start again, and
    /// shape, format and memory may be others; with the same one, which had put it out, they go on, and stats["missed"]
    /// counts the gap.
    #[pyo3(get)]
    generation: u32,
    /// When the content was captured, in ns of CLOCK_MONOTONIC (time.monotonic_ns()); when it was published, if the
    /// producer didn't say.
    #[pyo3(get)]
    timestamp: u64,
    /// When the frame was published, in ns of CLOCK_MONOTONIC (time.monotonic_ns()).
    #[pyo3(get)]
    published: u64,
}

impl Frame {
    pub(crate) fn new(frame: bips::Frame, origin: &Arc<Origin>, birth: Birth) -> Self {
        Self {
            slot: frame.slot(),
            sequence: frame.sequence(),
            generation: frame.generation(),
            timestamp: frame.timestamp(),
            published: frame.published(),
            lease: Mutex::new(Some(Arc::new(frame))),
            origin: Arc::clone(origin),
            birth,
        }
    }

    fn lease(&self) -> PyResult<Arc<bips::Frame>> {
        self.birth.check()?;
        let lease = self.lease.lock().clone();
        // The lock is free again: making an exception may run anything.
        lease.ok_or_else(|| {
            invalid(format!(
                "frame {} is released and its slot may hold another picture by now; take arrays or facts from it \
                 before release(), or keep frame.copy()",
                self.sequence
            ))
        })
    }

    /// Gives the lease up; whether there was one.
    fn give_back(&self) -> bool {
        let lease = self.lease.lock().take();
        lease.is_some()
    }
}

impl Exports for Frame {
    fn tensor(&self) -> PyResult<Tensor> {
        Ok(Hold::frame(&self.lease()?))
    }
}

memory_methods! {
    impl Frame;

    /// A copy in this process's own memory: writable, laid out without gaps, valid for ever. Counted in
    /// consumer.stats["bytes_copied"].
    fn copy(&self, py: Python<'_>) -> PyResult<View> {
        let tensor = export::copy(py, &self.tensor()?, &self.origin)?;
        Ok(View::new(tensor, &self.origin, self.birth))
    }

    /// A copy-on-write view: writable, and what is written stays in this process. Pages not written to are the
    /// frame's own. It keeps the frame's slot taken while it lives.
    ///
    /// consumer.stats["bytes_copied"] counts all of it, since which pages get written isn't known.
    fn private(&self) -> PyResult<View> {
        let tensor = Hold::private(self.lease()?).or_raise()?;
        self.origin.count(tensor.nbytes());
        Ok(View::new(tensor, &self.origin, self.birth))
    }

    /// Plane i of the image, as (rows, elements of a row); of frames with one plane, plane 0 is all of the frame.
    ///
    /// Raises bips.InvalidArgument when there is no such plane.
    fn plane(&self, i: i64) -> PyResult<View> {
        let lease = self.lease()?;
        let tensor = Hold::frame(&lease).plane(lease.planes(), i).or_raise()?;
        Ok(View::new(tensor, &self.origin, self.birth))
    }

    /// A file descriptor of the frame's memory, and where in it the frame begins: (fd, offset in bytes).
    ///
    /// The descriptor is yours: close it with os.close(fd). It doesn't keep the slot taken; the frame does.
    fn fd(&self) -> PyResult<(RawFd, u64)> {
        let (fd, offset) = self.lease()?.fd().or_raise()?;
        Ok((fd.into_raw_fd(), offset))
    }

    /// Drops the frame's own hold on its slot. Arrays, tensors and views made from it stay valid and keep the slot.
    ///
    /// stream: must be None for memory of the CPU. Raises bips.InvalidArgument when released before.
    #[pyo3(signature = (stream=None))]
    fn release(&self, stream: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        self.birth.check()?;
        crate::args::no_stream(stream)?;
        if self.give_back() {
            return Ok(());
        }
        Err(invalid(format!(
            "frame {} is already released, once is enough; `with consumer.receive() as frame:` releases by itself",
            self.sequence
        )))
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().lease()?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) {
        self.give_back();
    }

    /// Pixel format as a V4L2 code, such as "RGB3" or "NV12"; None for plain tensors.
    #[getter]
    fn format(&self) -> PyResult<Option<String>> {
        Ok(self.lease()?.fourcc().map(|fourcc| fourcc.to_string()))
    }

    /// How the pixels lie in each plane, as DRM numbers it; 0 is row by row, as for all plain tensors.
    #[getter]
    fn modifier(&self) -> PyResult<u64> {
        Ok(self.lease()?.content().modifier())
    }

    /// What the producer attached, up to 256 bytes.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, self.lease()?.metadata()))
    }

    /// Kind of memory, such as "memfd".
    #[getter]
    fn memory(&self) -> PyResult<String> {
        Ok(self.lease()?.memory().kind.clone())
    }

    /// Name of the stream the frame came from.
    #[getter]
    fn stream(&self) -> &str {
        self.origin.name()
    }

    /// Whether the memory is mapped read-only here.
    #[getter]
    fn readonly(&self) -> PyResult<bool> {
        Ok(self.lease()?.readonly())
    }

    /// Bytes the frame uses of its slot.
    #[getter]
    fn nbytes(&self) -> PyResult<usize> {
        Ok(self.lease()?.nbytes())
    }

    /// Bytes of the whole slot.
    #[getter]
    fn slot_bytes(&self) -> PyResult<usize> {
        Ok(self.lease()?.slot_bytes())
    }

    /// Whether release() or the end of `with` gave up the frame's own hold.
    #[getter]
    fn released(&self) -> bool {
        self.lease.lock().is_none()
    }

    fn __repr__(&self) -> String {
        let name = self.origin.name();
        if !self.birth.is_here() {
            return format!("<bips.Frame {} of {name:?}, of the parent process>", self.sequence);
        }
        match self.lease.lock().as_deref() {
            Some(lease) => format!(
                "<bips.Frame {} of {name:?}: {} {:?}, slot {}>",
                self.sequence,
                lease.dtype(),
                lease.shape(),
                self.slot
            ),
            None => format!("<bips.Frame {} of {name:?}, released>", self.sequence),
        }
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a bips.Frame is a lease on shared memory and can't be pickled; send bytes(frame.copy()), or let the \
             other process open the stream with bips.Consumer(name)",
        ))
    }
}
