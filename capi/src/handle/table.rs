//! Where the objects behind handles are: cells that are used again and again, and never freed.

use super::{Handled, INDEX};
use std::cell::{Cell as Local, UnsafeCell};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::*};

/// Cells of the first chunk; each further one has as many as all before it.
const FIRST: u32 = 64;
/// So 2^24 cells at most.
const CHUNKS: usize = 19;

/// Objects and their generations. A cell is used again and again, with a generation of its own each time.
pub(crate) struct Table<T> {
    chunks: [AtomicPtr<Cell<T>>; CHUNKS],
    /// Cells made so far.
    pub(super) made: AtomicU32,
    /// The first free cell, as its index and 1, below a count against ABA.
    free: AtomicU64,
}

pub(super) struct Cell<T> {
    /// Generation in the upper half, odd while there is an object. How many threads use it in the lower.
    pub(super) state: AtomicU64,
    /// Of a free cell the next one, as its index and 1.
    next: AtomicU32,
    /// In which process the object was made.
    pub(super) process: AtomicU32,
    pub(super) value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: an object is reached by `Shared` and `Exclusive` only, which `Cell::state` keeps apart.
unsafe impl<T: Send + Sync> Sync for Cell<T> {}

impl<T> Table<T> {
    pub(crate) const fn new() -> Self {
        Self {
            chunks: [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS],
            made: AtomicU32::new(0),
            free: AtomicU64::new(0),
        }
    }

    /// The cell of an index, if it was ever made.
    #[inline]
    pub(super) fn cell(&self, index: u32) -> Option<&'static Cell<T>> {
        let (chunk, begin) = place(index);
        // ORDERING: sees the chunk whole, pairs with the exchange in `grow`
        let cells = self.chunks.get(chunk)?.load(Acquire);
        if cells.is_null() {
            return None;
        }
        // SAFETY: a chunk has as many cells as `place` counts in it, and is never freed.
        Some(unsafe { &*cells.wrapping_add((index - begin) as usize) })
    }

    /// A free cell: nobody else knows it.
    fn take(&self) -> Option<(u32, &'static Cell<T>)> {
        let mut head = self.free.load(Acquire); // ORDERING: sees `next`, pairs with the exchange in `give`
        while let Some(index) = (head as u32).checked_sub(1) {
            let cell = self.cell(index)?;
            let next = u64::from(cell.next.load(Relaxed)); // wrong only if the exchange fails
            let new = (head >> 32).wrapping_add(1) << 32 | next;
            match self.free.compare_exchange_weak(head, new, Acquire, Acquire) {
                Ok(_) => return Some((index, cell)),
                Err(now) => head = now,
            }
        }
        self.grow()
    }

    #[cold]
    fn grow(&self) -> Option<(u32, &'static Cell<T>)> {
        let index = self.made.fetch_add(1, Relaxed);
        if u64::from(index) >= INDEX {
            self.made.fetch_sub(1, Relaxed);
            return None;
        }
        let (chunk, _) = place(index);
        let slot = self.chunks.get(chunk)?;
        if slot.load(Acquire).is_null() {
            let count = if chunk == 0 { FIRST } else { FIRST << (chunk - 1) };
            let cells: Box<[Cell<T>]> = (0..count)
                .map(|_| Cell {
                    state: AtomicU64::new(0),
                    next: AtomicU32::new(0),
                    process: AtomicU32::new(0),
                    value: UnsafeCell::new(MaybeUninit::uninit()),
                })
                .collect();
            let cells = Box::into_raw(cells);
            // ORDERING: publishes the chunk whole, pairs with the load in `cell`
            if slot.compare_exchange(ptr::null_mut(), cells.cast(), AcqRel, Acquire).is_err() {
                // SAFETY: another thread was first; this chunk is ours alone and came from Box::into_raw.
                drop(unsafe { Box::from_raw(cells) });
            }
        }
        Some((index, self.cell(index)?))
    }

    /// Gives a cell back, in which there is no object any more.
    fn give(&self, index: u32, cell: &Cell<T>) {
        let mut head = self.free.load(Relaxed);
        loop {
            cell.next.store(head as u32, Relaxed);
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(index + 1);
            // ORDERING: publishes `next`, pairs with the load in `take`
            match self.free.compare_exchange_weak(head, new, Release, Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}

/// A free cell that a thread keeps for its next object: who takes and gives in turns then shares nothing with others.
pub(crate) struct Spare<T: Handled> {
    /// Its index and 1; 0: there is none.
    index: Local<u32>,
    of: PhantomData<T>,
}

impl<T: Handled> Spare<T> {
    pub(crate) const fn none() -> Self {
        Self { index: Local::new(0), of: PhantomData }
    }

    #[inline]
    pub(super) fn take() -> Option<(u32, &'static Cell<T>)> {
        // A thread that is ending has none.
        let spare = T::spare().try_with(|spare| spare.index.take()).unwrap_or(0);
        match spare.checked_sub(1) {
            Some(index) => Some((index, T::table().cell(index)?)),
            None => T::table().take(),
        }
    }

    #[inline]
    pub(super) fn give(index: u32, cell: &Cell<T>) {
        let kept = T::spare().try_with(|spare| {
            let free = spare.index.get() == 0;
            if free {
                spare.index.set(index + 1);
            }
            free
        });
        if !kept.unwrap_or(false) {
            T::table().give(index, cell);
        }
    }
}

impl<T: Handled> Drop for Spare<T> {
    fn drop(&mut self) {
        if let Some(index) = self.index.take().checked_sub(1)
            && let Some(cell) = T::table().cell(index)
        {
            T::table().give(index, cell);
        }
    }
}

/// The chunk of an index, and the first index in it.
#[inline]
fn place(index: u32) -> (usize, u32) {
    match (index / FIRST).checked_ilog2() {
        None => (0, 0),
        Some(power) => (power as usize + 1, FIRST << power),
    }
}
