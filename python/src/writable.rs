//! `bips.WritableFrame`: a slot being written.

use crate::args;
use crate::errors::{OrRaise, invalid, raise};
use crate::export::{Exports, Hold, Origin, Tensor, memory_methods};
use crate::fork::Birth;
use crate::view::View;
use crate::wait;
use bips::{Content, Description, Fence, FrameMut, MAX_METADATA, Shape, Wait};
use parking_lot::Mutex;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use std::os::fd::{IntoRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// A slot to write the next frame into; it becomes a frame by publish().
///
/// Write through np.from_dlpack(slot), slot.torch(), or memoryview(slot): all are writable and all are the slot's own
/// memory. `with producer.acquire() as slot:` publishes at the end of the block and cancels when it raises.
///
/// Arrays made from it may outlive publish(). The slot isn't taken for another frame while one lives, but do not write
/// through them then: consumers are reading.
#[pyclass(frozen, weakref, module = "bips")]
pub(crate) struct WritableFrame {
    frame: Mutex<Option<FrameMut>>,
    origin: Arc<Origin>,
    birth: Birth,
    /// Index of the slot.
    #[pyo3(get)]
    slot: u32,
    /// Bytes of the slot.
    #[pyo3(get)]
    slot_bytes: u64,
}

impl WritableFrame {
    pub(crate) fn new(frame: FrameMut, origin: &Arc<Origin>, birth: Birth) -> Self {
        Self {
            slot: frame.slot(),
            slot_bytes: frame.len() as u64,
            frame: Mutex::new(Some(frame)),
            origin: Arc::clone(origin),
            birth,
        }
    }

    /// Runs `call`, which touches no Python object, on the slot, if it is still there.
    fn with<R>(&self, call: impl FnOnce(&FrameMut) -> R) -> PyResult<R> {
        self.birth.check()?;
        let outcome = self.frame.lock().as_ref().map(call);
        // The lock is free again: making an exception may run anything.
        outcome.ok_or_else(|| self.gone())
    }

    fn content(&self) -> PyResult<Content> {
        self.with(|frame| *frame.content())
    }

    fn take(&self) -> PyResult<FrameMut> {
        self.birth.check()?;
        let frame = self.frame.lock().take();
        frame.ok_or_else(|| self.gone())
    }

    /// Publishes. While a device still writes, the interpreter is given up; of a signal handler that raises meanwhile the
    /// caller gets the frame back.
    fn publish_settled(
        &self,
        py: Python<'_>,
        mut frame: FrameMut,
        description: Description<'_>,
    ) -> Result<PyResult<u64>, (FrameMut, PyErr)> {
        let mut settle = |time| frame.settle(time).map(|settled| settled.then_some(())).transpose();
        let settled = match settle(Duration::ZERO) {
            None => wait::in_slices(py, Wait::Forever, &mut settle),
            settled => Ok(settled),
        };
        match settled {
            Ok(Some(Err(error))) => Ok(Err(raise(error))),
            Ok(_) => Ok(frame.publish(description, Fence::Signaled).or_raise()),
            Err(raised) => Err((frame, raised)),
        }
    }

    fn gone(&self) -> PyErr {
        invalid(format!(
            "slot {} is already published or cancelled, or another thread publishes it; call producer.acquire() for the \
             next frame",
            self.slot
        ))
    }

    fn shape_of(&self, shape: &Bound<'_, PyAny>) -> PyResult<Shape> {
        let shape = args::shape(shape)?;
        // Checked before the slot is given up, so that a mistake loses nothing.
        self.with(|frame| frame.content().reshaped(&shape, self.slot_bytes).map(drop))?.or_raise()?;
        Ok(shape)
    }
}

impl Exports for WritableFrame {
    fn tensor(&self) -> PyResult<Tensor> {
        self.with(|frame| Hold::slot(frame.hold(), frame.content()))
    }
}

memory_methods! {
    impl WritableFrame;

    /// Plane i of the image, as (rows, elements of a row); of frames with one plane, plane 0 is all of the slot.
    ///
    /// Raises bips.InvalidArgument when there is no such plane.
    fn plane(&self, i: i64) -> PyResult<View> {
        let tensor = self.tensor()?.plane(self.content()?.planes(), i).or_raise()?;
        Ok(View::new(tensor, &self.origin, self.birth))
    }

    /// Makes the slot a frame that consumers receive, and returns its sequence number.
    ///
    /// shape: of this frame, in elements, when it is smaller than the stream's. timestamp: when the content was
    /// captured, in ns of time.monotonic_ns(). metadata: up to 256 bytes for the consumers. stream: must be None.
    /// Waits for a device that still writes to the slot, until the producer is closed; Ctrl-C leaves the slot as it is
    /// here, and a `with` block cancels it.
    ///
    /// Raises bips.InvalidArgument for a shape that doesn't fit the slot or metadata that is too long; the slot can
    /// be published still. Raises it too when the slot is published or cancelled already.
    #[pyo3(
        signature = (*, shape=None, timestamp=None, metadata=None, stream=None),
        text_signature = "($self, /, *, shape=None, timestamp=None, metadata=b'', stream=None)"
    )]
    fn publish(
        &self,
        py: Python<'_>,
        shape: Option<&Bound<'_, PyAny>>,
        timestamp: Option<i128>,
        metadata: Option<&[u8]>,
        stream: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        args::no_stream(stream)?;
        let metadata = metadata.unwrap_or_default();
        if metadata.len() > MAX_METADATA {
            return Err(invalid(format!(
                "{} bytes of metadata are too many, a frame carries {MAX_METADATA}; put more into the frame itself",
                metadata.len()
            )));
        }
        let timestamp = timestamp.map(u64::try_from).transpose().map_err(|_| {
            invalid("the timestamp is out of range; give ns of time.monotonic_ns(), a whole number from 0 to 2**64 - 1")
        })?;
        let shape = shape.map(|shape| self.shape_of(shape)).transpose()?;
        let description = Description { shape, timestamp, metadata };
        self.publish_settled(py, self.take()?, description).unwrap_or_else(|(frame, raised)| {
            *self.frame.lock() = Some(frame);
            Err(raised)
        })
    }

    /// A file descriptor of the memory by which devices write to the slot, and where in it the slot begins: (fd, offset in
    /// bytes). A dma-buf where the memory has one. Never hand it to a consumer: it may allow more than theirs.
    ///
    /// The descriptor is yours: close it with os.close(fd). It doesn't keep the slot; the writable frame does. Raises
    /// bips.Unsupported where the memory has none to give.
    fn fd(&self) -> PyResult<(RawFd, u64)> {
        self.birth.check()?;
        let (fd, offset) = self.with(FrameMut::fd)?.or_raise()?;
        Ok((fd.into_raw_fd(), offset))
    }

    /// Gives the slot to a device, which writes the frame instead of the CPU: don't touch its bytes, nor tensors over them,
    /// from here until it is published. Where devices and CPUs must be told of each other, they are told now and not at the
    /// end, when the CPU's caches would come after what the device wrote. For other memory it is nothing.
    ///
    /// Raises bips.InvalidArgument when published or cancelled already, and what the system reports.
    fn for_device(&self) -> PyResult<()> {
        self.birth.check()?;
        let outcome = self.frame.lock().as_mut().map(FrameMut::for_device);
        outcome.ok_or_else(|| self.gone())?.or_raise()
    }

    /// Gives the slot back unpublished. Raises bips.InvalidArgument when published or cancelled already.
    fn cancel(&self) -> PyResult<()> {
        self.take()?.cancel();
        Ok(())
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().with(|_| ())?;
        Ok(slf)
    }

    #[pyo3(signature = (kind, _value, _traceback))]
    fn __exit__(
        &self,
        kind: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let Some(frame) = self.frame.lock().take() else {
            return Ok(());
        };
        if kind.is_none() {
            self.birth.check()?;
            // What raises here ends the block as what raises in it.
            let outcome = self.publish_settled(kind.py(), frame, Description::new());
            outcome.unwrap_or_else(|(_cancelled, raised)| Err(raised))?;
        } else {
            frame.cancel();
        }
        Ok(())
    }

    /// Pixel format as a V4L2 code, such as "RGB3"; None for plain tensors.
    #[getter]
    fn format(&self) -> PyResult<Option<String>> {
        Ok(self.content()?.fourcc().map(|fourcc| fourcc.to_string()))
    }

    /// How the pixels lie in each plane, as DRM numbers it; 0 is row by row, as for all plain tensors.
    #[getter]
    fn modifier(&self) -> PyResult<u64> {
        Ok(self.content()?.modifier())
    }

    /// Bytes a frame of the stream's own shape uses.
    #[getter]
    fn nbytes(&self) -> PyResult<u64> {
        Ok(self.content()?.nbytes())
    }

    fn __repr__(&self) -> String {
        match self.content() {
            Ok(content) => {
                format!("<bips.WritableFrame {} {:?}, slot {}>", content.dtype(), content.shape(), self.slot)
            }
            Err(_) => format!("<bips.WritableFrame, slot {}, published or cancelled>", self.slot),
        }
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a bips.WritableFrame is a slot only this process may write and can't be pickled; publish() it, and open \
             the stream in the other process with bips.Consumer(name)",
        ))
    }
}
