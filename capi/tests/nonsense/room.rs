//! Places for structures, of sizes that may be wrong.

use crate::caller::Caller;

/// A structure whose `size` says anything, with as much room as may be believed. Nothing is written behind what it says.
pub(crate) struct Room {
    pub(crate) words: Vec<u64>,
    pub(crate) said: usize,
}

pub(crate) const ROOM: usize = 80_000;

impl Room {
    pub(crate) fn of<T: Copy>(caller: &mut Caller, value: T) -> Self {
        let mut words = vec![0_u64; ROOM / 8];
        let said = caller.size(size_of::<T>());
        let at: *mut T = words.as_mut_ptr().cast();
        // SAFETY: every structure of the interface is smaller than the room, and its alignment at most 8.
        unsafe { at.write(value) };
        words[0] = said as u64;
        if caller.noise.one_in(20) {
            words[size_of::<T>() / 8] = 1;
        }
        Self { words, said }
    }

    pub(crate) fn empty<T: Copy>(caller: &mut Caller) -> Self {
        // SAFETY: only structures of the interface are made so; zeros are a value of theirs.
        let zeros: T = unsafe { std::mem::zeroed() };
        let mut room = Self::of(caller, zeros);
        room.words[1..].fill(0);
        room
    }

    /// Whether the library could see so many bytes of it.
    pub(crate) fn has(&self, bytes: usize) -> bool {
        self.said >= bytes
    }

    pub(crate) fn at<T>(&mut self) -> *mut T {
        self.words.as_mut_ptr().cast()
    }

    /// After it was filled.
    pub(crate) fn check(&self) {
        let behind = self.said.div_ceil(8).min(self.words.len());
        assert!(
            self.words[behind.max(1)..].iter().all(|word| *word == 0),
            "written beyond a size of {}",
            self.said
        );
        assert_eq!(self.words[0], self.said as u64, "the size is the caller's");
    }
}
