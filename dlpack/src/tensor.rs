//! A piece of memory with its layout and whatever keeps it valid: the one thing every export is made from.

use bips::{Content, DType, Error, ErrorKind, Frame, Plane, Result};
use std::mem::{MaybeUninit, offset_of};
use std::sync::Arc;

/// Most dimensions a tensor has.
pub const MAX_DIMS: usize = bips::MAX_DIMS;

/// Callers of DLPack before 1.0 (TensorFlow) abort on memory aligned to less than this.
pub const ALIGNMENT: usize = 64;

/// Memory for a copy, with the alignment that frames have.
pub type Lines = Arc<Vec<Line>>;

/// [`ALIGNMENT`] bytes of it.
#[repr(C, align(64))]
pub struct Line([MaybeUninit<u8>; ALIGNMENT]);

/// Memory, its layout, and what keeps it valid, which is only ever cloned and dropped, on any thread.
#[derive(Clone, Debug)]
pub struct Tensor<H> {
    data: *mut u8,
    dtype: DType,
    ndim: usize,
    shape: [i64; MAX_DIMS],
    /// In bytes.
    strides: [i64; MAX_DIMS],
    writable: bool,
    hold: H,
}

// SAFETY: the pointer is an address inside memory that `hold`, which may go to any thread, keeps mapped. Reading
// and writing through it is up to those the tensor is exported to, as it is for memory shared between processes.
unsafe impl<H: Send> Send for Tensor<H> {}
// SAFETY: as above; a shared tensor only hands out copies of its fields.
unsafe impl<H: Sync> Sync for Tensor<H> {}

impl<H> Tensor<H> {
    /// Memory from `data` on.
    ///
    /// # Safety
    /// While `hold` or a clone of it lives, all elements from `data` on that `shape` and `strides` (in bytes) reach lie
    /// in memory that is mapped, writable if `writable`.
    pub unsafe fn new(
        data: *mut u8,
        dtype: DType,
        shape: &[u64],
        strides: &[i64],
        writable: bool,
        hold: H,
    ) -> Self {
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

    /// The memory of a received frame, of which `lease` is a hold.
    ///
    /// # Safety
    /// `frame` is not released while `lease` or a clone of it lives.
    pub unsafe fn of_frame(frame: &Frame, lease: H) -> Self {
        let (shape, strides, writable) = (frame.shape(), frame.strides(), !frame.readonly());
        // SAFETY: a frame's content lies in its slot, which is mapped as long as the frame is leased.
        unsafe { Self::new(frame.as_ptr().cast_mut(), frame.dtype(), shape, strides, writable, lease) }
    }

    /// Memory from `data` on that is laid out as `content` says.
    ///
    /// # Safety
    /// While `hold` or a clone of it lives, `content.nbytes()` bytes from `data` on are mapped and writable.
    pub unsafe fn of_content(data: *mut u8, content: &Content, hold: H) -> Self {
        // SAFETY: the elements of a content lie in its bytes.
        unsafe { Self::new(data, content.dtype(), content.shape(), content.strides(), true, hold) }
    }

    /// One of the planes of this image: rows x elements of a row. Of one plane, all of it.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no such plane.
    pub fn plane(self, planes: &[Plane], index: i64) -> Result<Self> {
        let plane = usize::try_from(index).ok().and_then(|index| planes.get(index)).ok_or_else(|| {
            let count = planes.len();
            Error::new(
                ErrorKind::InvalidArgument,
                format!("there is no plane {index}; this frame has {count}, the first is plane 0"),
            )
        })?;
        if planes.len() == 1 {
            return Ok(self);
        }
        let element = self.dtype.size() as u64;
        let data = self.data.wrapping_add(plane.offset as usize);
        let (shape, strides) =
            ([plane.rows, plane.width / element], [plane.stride.cast_signed(), element.cast_signed()]);
        // SAFETY: planes lie in their image's memory, which `hold` keeps.
        Ok(unsafe { Self::new(data, self.dtype, &shape, &strides, self.writable, self.hold) })
    }

    /// The same content, C-contiguous, in fresh memory of this process; `None` when there is no such memory.
    pub fn copy(&self) -> Option<Tensor<Lines>> {
        let nbytes = self.nbytes();
        let mut lines: Vec<Line> = Vec::new();
        lines.try_reserve_exact(nbytes.div_ceil(ALIGNMENT)).ok()?;
        let data: *mut u8 = lines.as_mut_ptr().cast();
        let mut copy = Tensor {
            data,
            dtype: self.dtype,
            ndim: self.ndim,
            shape: self.shape,
            strides: [0; MAX_DIMS],
            writable: true,
            hold: Arc::new(lines),
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

    /// Type of an element.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The first element.
    pub fn data(&self) -> *mut u8 {
        self.data
    }

    /// Lengths of the dimensions, in elements.
    pub fn shape(&self) -> &[i64] {
        &self.shape[..self.ndim]
    }

    /// In bytes.
    pub fn strides(&self) -> &[i64] {
        &self.strides[..self.ndim]
    }

    /// Whether it may be written to.
    pub fn writable(&self) -> bool {
        self.writable
    }

    /// Bytes of all elements, gaps not counted.
    pub fn nbytes(&self) -> usize {
        self.shape().iter().product::<i64>() as usize * self.dtype.size()
    }

    /// Whether the address suits callers that assume [`ALIGNMENT`].
    pub fn is_aligned(&self) -> bool {
        self.data.addr().is_multiple_of(ALIGNMENT) || self.nbytes() == 0
    }

    /// Whether the elements lie without gaps, the last dimension fastest.
    pub fn is_c_contiguous(&self) -> bool {
        self.is_contiguous(self.shape().iter().zip(self.strides()).rev())
    }

    /// Whether the elements lie without gaps, the first dimension fastest.
    pub fn is_f_contiguous(&self) -> bool {
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
    pub fn shape_in(this: *mut Self) -> *mut isize {
        this.wrapping_byte_add(offset_of!(Self, shape)).cast()
    }

    /// Where the strides, in bytes, lie in the tensor behind `this`.
    pub fn strides_in(this: *mut Self) -> *mut isize {
        this.wrapping_byte_add(offset_of!(Self, strides)).cast()
    }

    /// The same memory, kept valid by what `wrap` makes of its hold.
    pub fn held_by<K>(self, wrap: impl FnOnce(H) -> K) -> Tensor<K> {
        let Self { data, dtype, ndim, shape, strides, writable, hold } = self;
        Tensor { data, dtype, ndim, shape, strides, writable, hold: wrap(hold) }
    }

    /// What keeps it valid.
    pub(crate) fn into_hold(self) -> H {
        self.hold
    }
}
