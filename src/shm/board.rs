//! The board: written by the producer, mapped read-only by every consumer.

use super::Line;
use crate::sync::{AtomicU32, AtomicU64, Word};
use std::array;
use std::sync::atomic::Ordering::Relaxed;

/// Entries of the ring, which is also the most slots a pool can have. Tiny in a model
/// checker, to meet every wrap-around.
pub(crate) const RING: usize = if cfg!(bips_loom) {
    2
} else if cfg!(bips_shuttle) {
    8
} else {
    64
};

/// 64-bit words of a cold description.
pub(crate) const COLD_WORDS: usize = if cfg!(any(bips_loom, bips_shuttle)) { 1 } else { 64 };

/// A cold description as words.
pub(crate) type Cold = [u64; COLD_WORDS];

/// First word of a board: "bipsbord" in little-endian ASCII.
#[cfg(not(any(bips_loom, bips_shuttle)))]
const MAGIC: u64 = u64::from_le_bytes(*b"bipsbord");

/// Version of the layout of board, seat and bell.
#[cfg(not(any(bips_loom, bips_shuttle)))]
const VERSION: u32 = 2;

/// What the board says about the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Closed,
}

/// See `docs/protocol.md` for every byte.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Board {
    header: Line<Header>,
    state: Line<AtomicU32>,
    tail: Line<AtomicU64>,
    hungry: Line<AtomicU32>,
    readiness: [Word; RING],
    #[cfg(not(any(bips_loom, bips_shuttle)))]
    reserved: [Line<[AtomicU64; 16]>; 26],
    pub(crate) entries: [Entry; RING],
    frames: [[AtomicU64; COLD_WORDS]; RING],
}

#[repr(C)]
#[derive(Debug, Default)]
struct Header {
    magic: AtomicU64,
    version: AtomicU32,
    slots: AtomicU32,
    stream_id: [AtomicU64; 2],
}

/// One publication: the one line that a hand-over moves.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// Sequence + 1; 0 while the fields change.
    pub(crate) stamp: AtomicU64,
    pub(crate) slot: AtomicU32,
    /// Rises whenever the slot's cold description changes.
    pub(crate) version: AtomicU32,
    /// [`Entry::OPEN`].
    pub(crate) flags: AtomicU32,
    /// The processor the producer published from.
    pub(crate) cpu: AtomicU32,
    pub(crate) published: AtomicU64,
    pub(crate) captured: AtomicU64,
    pub(crate) spare: [AtomicU64; 3],
}

#[cfg(not(any(bips_loom, bips_shuttle)))]
const _: () = {
    assert!(size_of::<Entry>() == 64);
    assert!(std::mem::offset_of!(Board, state) == 128);
    assert!(std::mem::offset_of!(Board, tail) == 256);
    assert!(std::mem::offset_of!(Board, hungry) == 384);
    assert!(std::mem::offset_of!(Board, readiness) == 512);
    assert!(std::mem::offset_of!(Board, entries) == 4096);
    assert!(std::mem::offset_of!(Board, frames) == 8192);
    assert!(size_of::<Board>() == 40960);
};

impl Entry {
    /// Flag: a device still writes the frame, or did when it was published; its slot's [`Board::readiness`] says.
    pub(crate) const OPEN: u32 = 1;
}

impl Default for Board {
    fn default() -> Self {
        Self {
            header: Line::default(),
            state: Line::default(),
            tail: Line::default(),
            hungry: Line::default(),
            readiness: array::from_fn(|_| Word::default()),
            #[cfg(not(any(bips_loom, bips_shuttle)))]
            reserved: array::from_fn(|_| Line::default()),
            entries: array::from_fn(|_| Entry::default()),
            frames: array::from_fn(|_| array::from_fn(|_| AtomicU64::new(0))),
        }
    }
}

impl Board {
    /// Fills in the header of a fresh board, before anyone else can see it.
    #[cfg(not(any(bips_loom, bips_shuttle)))]
    pub(crate) fn introduce(&self, slots: u32, stream_id: [u64; 2]) {
        self.header.version.store(VERSION, Relaxed);
        self.header.slots.store(slots, Relaxed);
        for (to, id) in self.header.stream_id.iter().zip(stream_id) {
            to.store(id, Relaxed);
        }
        self.header.magic.store(MAGIC, Relaxed);
    }

    /// Whether the header is what the handshake said.
    #[cfg(not(any(bips_loom, bips_shuttle)))]
    pub(crate) fn matches(&self, slots: u32, stream_id: [u64; 2]) -> bool {
        let header = &self.header;
        header.magic.load(Relaxed) == MAGIC
            && header.version.load(Relaxed) == VERSION
            && header.slots.load(Relaxed) == slots
            && header.stream_id[0].load(Relaxed) == stream_id[0]
            && header.stream_id[1].load(Relaxed) == stream_id[1]
    }

    /// The entry in which this sequence is, was or will be published.
    #[inline]
    pub(crate) fn entry(&self, sequence: u64) -> &Entry {
        &self.entries[sequence as usize % RING]
    }

    #[inline]
    pub(crate) fn tail(&self) -> &AtomicU64 {
        &self.tail
    }

    /// How far the slot's last frame is that was published before its device was done with it.
    #[inline]
    pub(crate) fn readiness(&self, slot: u32) -> &Word {
        &self.readiness[slot as usize % RING]
    }

    /// Non-zero while the producer waits for a slot.
    #[inline]
    pub(crate) fn hungry(&self) -> &AtomicU32 {
        &self.hungry
    }

    pub(crate) fn set_state(&self, state: State, order: std::sync::atomic::Ordering) {
        self.state.store(if state == State::Open { 0 } else { 3 }, order);
    }

    /// Any value but Open reads as Closed: an unknown state is the end of what this version can follow.
    #[inline]
    pub(crate) fn state(&self, order: std::sync::atomic::Ordering) -> State {
        if self.state.load(order) == 0 { State::Open } else { State::Closed }
    }

    /// Writes a slot's cold description; only while nobody else may hold the slot.
    pub(crate) fn write_cold(&self, slot: u32, cold: &Cold) {
        for (to, word) in self.frames[slot as usize].iter().zip(cold) {
            to.store(*word, Relaxed);
        }
    }

    /// Copies a slot's cold description; stable only while the slot is held.
    pub(crate) fn read_cold(&self, slot: u32) -> Cold {
        let frame = &self.frames[slot as usize];
        array::from_fn(|i| frame[i].load(Relaxed))
    }
}
