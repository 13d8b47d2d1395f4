//! Choices, and the handles that they fall on.

use std::collections::VecDeque;
use std::ptr::without_provenance_mut;
use std::sync::{Arc, Mutex, MutexGuard};

/// xorshift64*.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.word() % limit
    }

    pub(crate) fn one_in(&mut self, chance: u64) -> bool {
        self.below(chance) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// The handles that calls gave, of whatever type, to whatever thread.
#[derive(Default, Clone)]
pub(crate) struct Handles(Arc<Mutex<Known>>);

#[derive(Default)]
pub(crate) struct Known {
    /// Not ended, as far as anybody noted.
    pub(crate) alive: Vec<usize>,
    /// Of those that have ended the last ones.
    pub(crate) gone: VecDeque<usize>,
}

impl Handles {
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap()
    }

    pub(crate) fn alive(&self) -> usize {
        self.known().alive.len()
    }

    /// What a call gave, if it did.
    pub(crate) fn keep<T>(&self, handle: *mut T) {
        if !handle.is_null() {
            self.known().alive.push(handle.addr());
        }
    }

    /// What a call has ended.
    pub(crate) fn end<T>(&self, handle: *mut T) {
        let mut known = self.known();
        known.alive.retain(|alive| *alive != handle.addr());
        known.gone.push_back(handle.addr());
        if known.gone.len() > 100 {
            known.gone.pop_front();
        }
    }

    /// One of them, mostly of the right type, alive, and of those given last; sometimes a number that is near one, or any.
    pub(crate) fn any<T>(&self, noise: &mut Noise) -> *mut T {
        const TYPES: [&str; 6] = [
            "bips_producer",
            "bips_consumer",
            "bips_writable_frame",
            "bips_frame",
            "bips_timeline",
            "bips_private_view",
        ];
        let name = std::any::type_name::<T>();
        let kind =
            TYPES.iter().position(|known| name.ends_with(&format!("::{known}"))).expect("a handle") + 1;
        let known = self.known();
        let of_kind = |handle: &&usize| **handle >> 56 == kind;
        let (alive, gone) = (known.alive.iter().rev().filter(of_kind), known.gone.iter().filter(of_kind));
        let number = match noise.below(24) {
            0 => 0,
            1 => noise.word() as usize,
            2 if !known.alive.is_empty() => noise.of(&known.alive) ^ (1 << noise.below(64)),
            3 if !known.alive.is_empty() => noise.of(&known.alive),
            4..6 => gone.copied().nth(noise.below(10) as usize).unwrap_or(0),
            6..9 => alive.copied().nth(noise.below(30) as usize).unwrap_or(0),
            _ => alive.copied().take(noise.below(3) as usize + 1).last().unwrap_or(0),
        };
        without_provenance_mut(number)
    }
}
