//! Handles: what C holds instead of our objects.
//!
//! A handle is a key, not an address: into a table that says whether it is one, and still one. So a NULL, a number that
//! was never a handle, one of another type and one that has ended are errors, as is a call that another thread's call
//! excludes. Tables only grow, so looking something up takes no lock (ADR 13).

mod table;

use crate::status::{Failure, Outcome, invalid};
use bips::sys::process_number;
use bips::{Error, ErrorKind};
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::*;
use std::thread::LocalKey;
use std::time::Duration;
use table::Cell;
pub(crate) use table::{Spare, Table};

/// What C has handles of.
pub(crate) trait Handled: Sized + Send + Sync + 'static {
    /// The type of the pointers that C gets. They point nowhere.
    type Handle;
    /// In the upper bits of each handle. Not 0, so none is NULL.
    const KIND: u64;
    /// For messages, with its article.
    const NAME: &'static str;

    fn table() -> &'static Table<Self>;

    /// This thread's spare cell.
    fn spare() -> &'static LocalKey<Spare<Self>>;
}

/// Declares what C has handles of.
macro_rules! handled {
    ($type:ty, $handle:ident, $kind:literal, $name:literal) => {
        impl $crate::handle::Handled for $type {
            type Handle = $handle;
            const KIND: u64 = $kind;
            const NAME: &'static str = $name;

            fn table() -> &'static $crate::handle::Table<Self> {
                static TABLE: $crate::handle::Table<$type> = $crate::handle::Table::new();
                &TABLE
            }

            fn spare() -> &'static std::thread::LocalKey<$crate::handle::Spare<Self>> {
                thread_local! {
                    static SPARE: $crate::handle::Spare<$type> = const { $crate::handle::Spare::none() };
                }
                &SPARE
            }
        }
    };
}
pub(crate) use handled;

// A handle: 8 bits of kind, 32 of generation, 24 of index.
const KIND_SHIFT: u32 = 56;
const GENERATION_SHIFT: u32 = 24;
const INDEX: u64 = (1 << GENERATION_SHIFT) - 1;

/// In the lower half of a cell's state: one thread has it to itself.
const EXCLUSIVE: u32 = u32::MAX;

/// What a handle says.
struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    #[inline]
    fn of<T: Handled>(handle: *const T::Handle) -> Outcome<Self> {
        let handle = handle.addr() as u64;
        if handle >> KIND_SHIFT == T::KIND {
            return Ok(Self {
                index: (handle & INDEX) as u32,
                generation: (handle >> GENERATION_SHIFT) as u32,
            });
        }
        Err(no_handle::<T>(handle))
    }

    fn handle<T: Handled>(&self) -> *mut T::Handle {
        let generation = u64::from(self.generation) << GENERATION_SHIFT;
        ptr::without_provenance_mut((T::KIND << KIND_SHIFT | generation | u64::from(self.index)) as usize)
    }

    /// Of the state of a cell.
    fn fits(&self, state: u64) -> bool {
        (state >> 32) as u32 == self.generation
    }
}

/// Room for an object whose handle is known already, so that giving it out later costs nothing.
pub(crate) struct Room<T: Handled> {
    key: Key,
    cell: Option<&'static Cell<T>>,
}

impl<T: Handled> Room<T> {
    #[inline]
    pub(crate) fn reserve() -> Outcome<Self> {
        let Some((index, cell)) = Spare::<T>::take() else {
            return Err(invalid(format!(
                "there are 16 million handles of {}; end those not needed",
                T::NAME
            )));
        };
        let generation = (cell.state.load(Relaxed) >> 32) as u32 + 1; // even before: the cell was free
        Ok(Self { key: Key { index, generation }, cell: Some(cell) })
    }

    /// A new handle.
    #[inline]
    pub(crate) fn fill(mut self, value: T) -> *mut T::Handle {
        let cell = self.cell.take().expect("until it is filled");
        // SAFETY: the cell was free, and nobody else has its handle yet.
        unsafe { (*cell.value.get()).write(value) };
        cell.process.store(process_number(), Relaxed); // published with the object
        // ORDERING: publishes the object, pairs with the exchanges in `shared` and `exclusive`
        cell.state.store(u64::from(self.key.generation) << 32, Release);
        self.key.handle::<T>()
    }
}

impl<T: Handled> Drop for Room<T> {
    fn drop(&mut self) {
        if let Some(cell) = self.cell {
            Spare::give(self.key.index, cell);
        }
    }
}

/// A new handle.
pub(crate) fn insert<T: Handled>(value: T) -> Outcome<*mut T::Handle> {
    Ok(Room::reserve()?.fill(value))
}

/// The cell that a handle speaks of, whatever is in it now.
#[inline]
fn spoken_of<T: Handled>(handle: *const T::Handle) -> Outcome<(Key, &'static Cell<T>)> {
    let key = Key::of::<T>(handle)?;
    match T::table().cell(key.index) {
        // An even generation is that of a free cell.
        Some(cell) if key.generation % 2 == 1 => Ok((key, cell)),
        _ => Err(gone::<T>()),
    }
}

#[inline]
fn find<T: Handled>(handle: *const T::Handle) -> Outcome<(Key, &'static Cell<T>)> {
    let (key, cell) = spoken_of::<T>(handle)?;
    if cell.is_inherited() { Err(forked::<T>(&key, cell)) } else { Ok((key, cell)) }
}

/// Whether there is something behind a handle, in use or not.
pub(crate) fn is_valid<T: Handled>(handle: *const T::Handle) -> bool {
    find::<T>(handle).is_ok_and(|(key, cell)| key.fits(cell.state.load(Relaxed)))
}

/// An object in use by this thread, perhaps by others too.
pub(crate) struct Shared<T: Handled> {
    cell: &'static Cell<T>,
    value: NonNull<T>,
}

/// Waits for others in a call with the same handle, before that is an error: of objects that threads share, nobody has
/// them for long, unless the scheduler stops him in the middle.
struct Patience(u32);

impl Patience {
    const LOOKS: u32 = 10_000;
    const NAPS: u32 = 20_000;

    /// Whether it is worth another look.
    fn wait(&mut self) -> bool {
        self.0 += 1;
        if self.0 <= Self::LOOKS {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_micros(100));
        }
        self.0 <= Self::LOOKS + Self::NAPS
    }
}

/// What is behind a handle. It can't end while this lives.
#[inline]
pub(crate) fn shared<T: Handled>(handle: *const T::Handle) -> Outcome<Shared<T>> {
    let (key, cell) = find::<T>(handle)?;
    let (mut state, mut patience) = (cell.state.load(Relaxed), Patience(0));
    loop {
        if !key.fits(state) {
            return Err(gone::<T>());
        }
        if state as u32 >= EXCLUSIVE - 1 {
            if !patience.wait() {
                return Err(busy::<T>());
            }
            state = cell.state.load(Relaxed);
            continue;
        }
        // ORDERING: sees the object, pairs with the store in `Room::fill` and that of `Exclusive`'s end
        match cell.state.compare_exchange_weak(state, state + 1, Acquire, Relaxed) {
            Ok(_) => return Ok(Shared { cell, value: cell.value() }),
            Err(now) => state = now,
        }
    }
}

impl<T: Handled> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: there is an object as long as it is in use, and nobody has it to itself.
        unsafe { self.value.as_ref() }
    }
}

impl<T: Handled> Drop for Shared<T> {
    fn drop(&mut self) {
        self.cell.state.fetch_sub(1, Release); // ORDERING: pairs with the exchange in `exclusive`
    }
}

/// An object that this thread has to itself.
pub(crate) struct Exclusive<T: Handled> {
    key: Key,
    cell: &'static Cell<T>,
    value: NonNull<T>,
}

/// What is behind a handle, to change it or to end the handle. Other threads' calls are refused while this lives.
#[inline]
pub(crate) fn exclusive<T: Handled>(handle: *const T::Handle) -> Outcome<Exclusive<T>> {
    let (key, cell) = find::<T>(handle)?;
    match cell.seize(&key) {
        Ok(()) => Ok(Exclusive { key, cell, value: cell.value() }),
        Err(now) if key.fits(now) => Err(busy::<T>()),
        Err(_) => Err(gone::<T>()),
    }
}

/// The same, of an object that threads share: waits for those who use it just now.
#[inline]
pub(crate) fn exclusive_soon<T: Handled>(handle: *const T::Handle) -> Outcome<Exclusive<T>> {
    let (key, cell) = find::<T>(handle)?;
    let mut patience = Patience(0);
    loop {
        match cell.seize(&key) {
            Ok(()) => return Ok(Exclusive { key, cell, value: cell.value() }),
            Err(now) if !key.fits(now) => return Err(gone::<T>()),
            Err(_) if patience.wait() => {}
            Err(_) => return Err(busy::<T>()),
        }
    }
}

impl<T: Handled> Exclusive<T> {
    /// Ends the handle.
    pub(crate) fn into_inner(self) -> T {
        self.into_parts().0
    }

    /// Ends the handle. Its cell can be used again after what comes second, which may wait until nobody is in a hurry.
    #[inline]
    pub(crate) fn into_parts(self) -> (T, Vacated<T>) {
        // SAFETY: there is an object, which nobody can reach any more after the store below.
        let value = unsafe { self.value.read() };
        let next = u64::from(self.key.generation.wrapping_add(1)) << 32;
        self.cell.state.store(next, Relaxed); // ordered by `give`, or taken by this thread again
        let vacated = Vacated { index: self.key.index, cell: self.cell };
        std::mem::forget(self);
        (value, vacated)
    }
}

/// A cell whose object has gone.
pub(crate) struct Vacated<T: Handled> {
    index: u32,
    cell: &'static Cell<T>,
}

impl<T: Handled> Drop for Vacated<T> {
    fn drop(&mut self) {
        Spare::give(self.index, self.cell);
    }
}

impl<T: Handled> Deref for Exclusive<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: there is an object, and this thread has it to itself.
        unsafe { self.value.as_ref() }
    }
}

impl<T: Handled> DerefMut for Exclusive<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { self.value.as_mut() }
    }
}

impl<T: Handled> Drop for Exclusive<T> {
    fn drop(&mut self) {
        // ORDERING: pairs with the exchanges in `shared` and `exclusive`
        self.cell.state.store(u64::from(self.key.generation) << 32, Release);
    }
}

impl<T> Cell<T> {
    /// Whether its object was made before a fork, which this process came from. Nobody here uses it, whatever its state
    /// says: that is of threads that the parent has.
    #[inline]
    fn is_inherited(&self) -> bool {
        self.process.load(Relaxed) != process_number() // written before the fork, or by who made the handle known here
    }

    /// Has the object to itself from now on, or else says in what state the cell is.
    #[inline]
    fn seize(&self, key: &Key) -> Result<(), u64> {
        let free = u64::from(key.generation) << 32;
        // ORDERING: sees the object and what was done to it, pairs with the stores and subtractions that end a use
        self.state.compare_exchange(free, free | u64::from(EXCLUSIVE), Acquire, Relaxed).map(|_| ())
    }

    #[inline]
    fn value(&self) -> NonNull<T> {
        NonNull::new(self.value.get().cast()).expect("a field of a cell")
    }
}

/// Ends a handle, and with it what is behind it.
pub(crate) fn remove<T: Handled>(handle: *const T::Handle) -> Outcome {
    let (key, cell) = spoken_of::<T>(handle)?;
    if cell.is_inherited() {
        return cell.disown(key);
    }
    drop(exclusive_soon::<T>(handle)?.into_inner());
    Ok(())
}

impl<T: Handled> Cell<T> {
    /// Ends the handle of an object that a fork left here.
    fn disown(&'static self, key: Key) -> Outcome {
        let state = self.state.load(Relaxed);
        let next = u64::from(key.generation.wrapping_add(1)) << 32;
        // ORDERING: as `seize`; of the child's own threads one does it
        if !key.fits(state) || self.state.compare_exchange(state, next, Acquire, Relaxed).is_err() {
            return Err(gone::<T>());
        }
        // In the middle of a call of a thread that is not here the object may be in two pieces, or locked for ever: then
        // it stays where it is, as memory that nobody uses.
        if state as u32 == 0 {
            // SAFETY: there was an object, and nobody can reach it any more after the exchange above.
            drop(unsafe { self.value().read() });
        }
        drop(Vacated { index: key.index, cell: self });
        Ok(())
    }
}

#[cold]
fn no_handle<T: Handled>(handle: u64) -> Failure {
    let name = T::NAME;
    invalid(match handle {
        0 => format!("NULL instead of {name}; was the status of the call that makes it checked?"),
        _ => format!("this is no handle of {name}; pass the pointer that bips gave, as it is"),
    })
}

#[cold]
fn gone<T: Handled>() -> Failure {
    invalid(format!(
        "this handle of {} is not valid any more: it was destroyed, published or released",
        T::NAME
    ))
}

#[cold]
fn forked<T: Handled>(key: &Key, cell: &Cell<T>) -> Failure {
    if !key.fits(cell.state.load(Relaxed)) {
        return gone::<T>();
    }
    Failure::Told(Error::new(
        ErrorKind::Forked,
        format!(
            "this handle of {} is the parent's, from before a fork; end it here, and make one in the child",
            T::NAME
        ),
    ))
}

#[cold]
fn busy<T: Handled>() -> Failure {
    invalid(format!(
        "another thread is in a call with this handle of {}, which this call can't share; wait until that has returned",
        T::NAME
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    struct Cat(usize);
    struct CatHandle;
    handled!(Cat, CatHandle, 99, "a cat");

    #[test]
    fn a_handle_is_good_until_it_ends() {
        let first = insert(Cat(1)).ok().unwrap();
        let second = insert(Cat(2)).ok().unwrap();
        assert_eq!((shared::<Cat>(first).ok().unwrap().0, shared::<Cat>(second).ok().unwrap().0), (1, 2));
        assert!(remove::<Cat>(first).is_ok());
        assert!(remove::<Cat>(first).is_err());
        assert!(shared::<Cat>(first).is_err());
        let third = insert(Cat(3)).ok().unwrap();
        assert_ne!(first, third);
        assert!(shared::<Cat>(first).is_err(), "its place may be used again");
        assert_eq!(shared::<Cat>(third).ok().unwrap().0, 3);
    }

    #[test]
    fn who_uses_it_excludes_others() {
        let cat = insert(Cat(7)).ok().unwrap();
        let (one, two) = (shared::<Cat>(cat).ok().unwrap(), shared::<Cat>(cat).ok().unwrap());
        assert!(exclusive::<Cat>(cat).is_err() && remove::<Cat>(cat).is_err());
        drop((one, two));
        let mut alone = exclusive::<Cat>(cat).ok().unwrap();
        alone.0 += 1;
        assert!(shared::<Cat>(cat).is_err() && exclusive::<Cat>(cat).is_err());
        assert_eq!(alone.into_inner().0, 8);
        assert!(shared::<Cat>(cat).is_err());
    }

    #[test]
    fn any_number_may_come() {
        let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..1_000_000 {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            let number = match round % 3 {
                0 => noise,
                1 => Cat::KIND << KIND_SHIFT | noise >> 8,
                _ => Cat::KIND << KIND_SHIFT | (noise >> 60) << GENERATION_SHIFT | noise & 127,
            };
            let handle = ptr::without_provenance(number as usize);
            let _ = shared::<Cat>(handle).map(|cat| assert!(cat.0 < 9));
            let _ = exclusive::<Cat>(handle).map(|cat| assert!(cat.0 < 9));
        }
    }

    /// Of all handles, threads end each once, and what is behind it goes once.
    #[test]
    fn threads_share_a_table() {
        static ALIVE: AtomicUsize = AtomicUsize::new(0);
        struct Dog;
        struct DogHandle;
        handled!(Dog, DogHandle, 98, "a dog");
        impl Drop for Dog {
            fn drop(&mut self) {
                ALIVE.fetch_sub(1, Relaxed);
            }
        }
        let shelf: [AtomicUsize; 16] = Default::default();
        let ended = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (shelf, ended) = (&shelf, &ended);
                scope.spawn(move || {
                    for round in 0..20_000 {
                        ALIVE.fetch_add(1, Relaxed);
                        let mine = insert(Dog).ok().unwrap();
                        let old = shelf[(round * 7 + thread) % 16].swap(mine.addr(), AcqRel);
                        let _ = shared::<Dog>(ptr::without_provenance(shelf[round % 16].load(Acquire)));
                        while old != 0 && remove::<Dog>(ptr::without_provenance(old)).is_err() {
                            std::hint::spin_loop(); // somebody looks at it
                        }
                        ended.fetch_add(usize::from(old != 0), Relaxed);
                    }
                });
            }
        });
        assert_eq!(ended.load(Relaxed) + ALIVE.load(Relaxed), 80_000);
        assert!(ALIVE.load(Relaxed) <= 16);
        assert!(Dog::table().made.load(Relaxed) <= 32, "cells are used again");
    }
}
