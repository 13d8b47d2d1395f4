//! A piece of memory with its layout and whatever keeps it valid: the one thing every export is made from.

use crate::errors::invalid;
use bips::{Content, DType, Plane};
use pyo3::PyResult;
use std::mem::{MaybeUninit, offset_of};
use std::sync::Arc;

pub(crate) const MAX_DIMS: usize = bips::MAX_DIMS;

/// Callers of DLPack before 1.0 (TensorFlow) abort on memory aligned to less than this.
pub(crate) const ALIGNMENT: usize = 64;

type PrivateView = bips::PrivateView<Arc<bips::Frame>>;

/// What keeps the memory of a [`Tensor`] valid. It is only ever cloned and dropped, on any thread, without the
/// interpreter.
#[derive(Clone)]
pub(crate) enum Hold {
    /// The lease of a received frame.
    Frame(#[allow(dead_code, reason = "held for its drop")] Arc<bips::Frame>),
    /// A slot being written, or written and published.
    Slot(#[allow(dead_code, reason = "held for its drop")] bips::SlotHold),
    /// A copy-on-write view of a frame, which holds the lease itself.
    Private(#[allow(dead_code, reason = "held for its drop")] Arc<PrivateView>),
    /// A copy in this process's own memory.
    Owned(#[allow(dead_code, reason = "held for its drop")] Arc<Vec<Line>>),
}

/// Gives copies the alignment frames have.
#[repr(C, align(64))]
pub(crate) struct Line([MaybeUninit<u8>; ALIGNMENT]);

/// Memory, its layout, and its [`Hold`].
#[derive(Clone)]
pub(crate) struct Tensor {
    data: *mut u8,
    dtype: DType,
    ndim: usize,
    shape: [i64; MAX_DIMS],
    /// In bytes.
    strides: [i64; MAX_DIMS],
    writable: bool,
    hold: Hold,
}

// SAFETY: the pointer is an address inside memory that `hold`, which may go to any thread, keeps mapped. Reading
// and writing through it is up to those the tensor is exported to, as it is for memory shared between processes.
unsafe impl Send for Tensor {}
// SAFETY: as above; a shared tensor only hands out copies of its fields.
unsafe impl Sync for Tensor {}

impl Tensor {
    fn new(data: *mut u8, dtype: DType, shape: &[u64], strides: &[i64], writable: bool, hold: Hold) -> Self {
        let mut tensor = Self {
            data,
            dtype,
            ndim: shape.len().min(MAX_DIMS),
            shape: [0; MAX_DIMS],
            strides: [0; MAX_DIMS],
            writable,
            hold,
        };
        for (to, from) in tensor.shape.iter_mut().zip(shape) {
            *to = from.cast_signed();
        }
        for (to, from) in tensor.strides.iter_mut().zip(strides) {
            *to = *from;
        }
        tensor
    }

    /// The memory of a received frame.
    pub(crate) fn frame(frame: &Arc<bips::Frame>) -> Self {
        Self::new(
            frame.as_ptr().cast_mut(),
            frame.dtype(),
            frame.shape(),
            frame.strides(),
            !frame.readonly(),
            Hold::Frame(Arc::clone(frame)),
        )
    }

    /// The memory of a slot that is being written; `content` is what the stream's frames hold.
    pub(crate) fn slot(hold: bips::SlotHold, content: &Content) -> Self {
        Self::new(
            hold.as_mut_ptr(),
            content.dtype(),
            content.shape(),
            content.strides(),
            true,
            Hold::Slot(hold),
        )
    }

    /// A copy-on-write view of a frame, laid out as the frame is.
    ///
    /// # Errors
    /// `Unsupported` by memory that has none, `InvalidArgument` while the frame has one already.
    pub(crate) fn private(frame: Arc<bips::Frame>) -> bips::Result<Self> {
        let view = Arc::new(PrivateView::of(frame)?);
        let (data, frame, hold) = (view.as_mut_ptr(), view.frame(), Hold::Private(Arc::clone(&view)));
        Ok(Self::new(data, frame.dtype(), frame.shape(), frame.strides(), true, hold))
    }

    /// One of the planes of this image: rows x elements of a row. Of one plane, all of it.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no such plane.
    pub(crate) fn plane(self, planes: &[Plane], index: i64) -> PyResult<Self> {
        let plane = usize::try_from(index).ok().and_then(|index| planes.get(index)).ok_or_else(|| {
            let count = planes.len();
            invalid(format!("there is no plane {index}; this frame has {count}, the first is plane 0"))
        })?;
        if planes.len() == 1 {
            return Ok(self);
        }
        let element = self.dtype.size() as u64;
        Ok(Self::new(
            self.data.wrapping_add(plane.offset as usize),
            self.dtype,
            &[plane.rows, plane.width / element],
            &[plane.stride.cast_signed(), element.cast_signed()],
            self.writable,
            self.hold,
        ))
    }

    /// The same content, C-contiguous, in fresh memory of this process; `None` when there is no such memory.
    pub(crate) fn copy(&self) -> Option<Self> {
        let nbytes = self.nbytes();
        let mut lines: Vec<Line> = Vec::new();
        lines.try_reserve_exact(nbytes.div_ceil(ALIGNMENT)).ok()?;
        let data: *mut u8 = lines.as_mut_ptr().cast();
        let mut copy = Self {
            data,
            strides: [0; MAX_DIMS],
            writable: true,
            hold: Hold::Owned(Arc::new(lines)),
            ..self.clone()
        };
        let mut stride = self.dtype.size().cast_signed() as i64;
        for (to, length) in copy.strides.iter_mut().zip(self.shape()).rev() {
            *to = stride;
            stride *= (*length).max(1);
        }
        if nbytes > 0 {
            self.copy_blocks(data);
        }
        Some(copy)
    }

    /// Copies block by block, a block being the trailing dimensions that lie without gaps.
    fn copy_blocks(&self, to: *mut u8) {
        let mut block = self.dtype.size();
        let mut outer = self.ndim;
        while outer > 0 && self.strides[outer - 1] == block as i64 {
            outer -= 1;
            block *= self.shape[outer] as usize;
        }
        let mut index = [0i64; MAX_DIMS];
        let mut done = 0;
        loop {
            let offset: i64 = index.iter().zip(&self.strides).take(outer).map(|(i, stride)| i * stride).sum();
            let from = self.data.wrapping_offset(offset as isize);
            // SAFETY: `from` is an element of this tensor, whose memory `hold` keeps mapped; `block` bytes from
            // there belong to its trailing dimensions. `to` has room for all elements, `done` counts those written.
            unsafe { std::ptr::copy_nonoverlapping(from, to.wrapping_add(done), block) };
            done += block;
            let Some(next) = (0..outer).rev().find(|dim| index[*dim] + 1 < self.shape[*dim]) else {
                return;
            };
            index[next] += 1;
            index[next + 1..].fill(0);
        }
    }

    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    pub(crate) fn data(&self) -> *mut u8 {
        self.data
    }

    pub(crate) fn shape(&self) -> &[i64] {
        &self.shape[..self.ndim]
    }

    /// In bytes.
    pub(crate) fn strides(&self) -> &[i64] {
        &self.strides[..self.ndim]
    }

    pub(crate) fn writable(&self) -> bool {
        self.writable
    }

    /// Bytes of all elements, gaps not counted.
    pub(crate) fn nbytes(&self) -> usize {
        self.shape().iter().product::<i64>() as usize * self.dtype.size()
    }

    /// Whether the address suits callers that assume [`ALIGNMENT`].
    pub(crate) fn is_aligned(&self) -> bool {
        self.data.addr().is_multiple_of(ALIGNMENT) || self.nbytes() == 0
    }

    /// Whether the elements lie without gaps, the last dimension fastest.
    pub(crate) fn is_c_contiguous(&self) -> bool {
        self.is_contiguous(self.shape().iter().zip(self.strides()).rev())
    }

    /// Whether the elements lie without gaps, the first dimension fastest.
    pub(crate) fn is_f_contiguous(&self) -> bool {
        self.is_contiguous(self.shape().iter().zip(self.strides()))
    }

    fn is_contiguous<'a>(&self, fastest_first: impl Iterator<Item = (&'a i64, &'a i64)>) -> bool {
        let mut expected = self.dtype.size() as i64;
        self.nbytes() == 0
            || fastest_first.filter(|(length, _)| **length != 1).all(|(length, stride)| {
                let fits = *stride == expected;
                expected *= length;
                fits
            })
    }

    /// Where the lengths lie in the tensor behind `this`.
    pub(super) fn shape_in(this: *mut Self) -> *mut isize {
        this.wrapping_byte_add(offset_of!(Self, shape)).cast()
    }

    /// Where the strides, in bytes, lie in the tensor behind `this`.
    pub(super) fn strides_in(this: *mut Self) -> *mut isize {
        this.wrapping_byte_add(offset_of!(Self, strides)).cast()
    }

    pub(super) fn into_hold(self) -> Hold {
        self.hold
    }
}
