//! Handles: what C holds instead of our objects.
//!
//! A handle is a key, not an address: into a table that says whether it is one, and still one. So a NULL, a number that
//! was never a handle, one of another type and one that was destroyed are errors, also while other threads use the
//! object: it goes when the last of their calls returns (ADR 13).

use crate::status::{Outcome, invalid};
use sharded_slab::{Config, Entry, OwnedEntry, Slab};
use std::sync::Arc;

/// Leaves the key's upper four bits to [`Handled::KIND`], and 30 for how often a place in the table was used.
pub(crate) struct Keys;

impl Config for Keys {
    const RESERVED_BITS: usize = 4;
    /// Of twice the size of the one before, from 32 on: 131,040 handles that one thread made.
    const MAX_PAGES: usize = 12;
}

const KIND_SHIFT: u32 = usize::BITS - 4;

pub(crate) type Table<T> = Arc<Slab<T, Keys>>;

/// What C has handles of.
pub(crate) trait Handled: Sized + Send + Sync + 'static {
    /// The type of the pointers that C gets. They point nowhere.
    type Handle;
    /// In the upper bits of each handle. Not 0, so none is NULL.
    const KIND: usize;
    /// For messages, with its article.
    const NAME: &'static str;

    fn table() -> &'static Table<Self>;
}

/// Declares what C has handles of.
macro_rules! handled {
    ($type:ty, $handle:ident, $kind:literal, $name:literal) => {
        impl $crate::handle::Handled for $type {
            type Handle = $handle;
            const KIND: usize = $kind;
            const NAME: &'static str = $name;

            fn table() -> &'static $crate::handle::Table<Self> {
                static TABLE: std::sync::LazyLock<$crate::handle::Table<$type>> =
                    std::sync::LazyLock::new(|| std::sync::Arc::new(sharded_slab::Slab::new_with_config()));
                &TABLE
            }
        }
    };
}
pub(crate) use handled;

/// A new handle.
pub(crate) fn insert<T: Handled>(value: T) -> Outcome<*mut T::Handle> {
    match T::table().insert(value) {
        Some(key) => Ok(std::ptr::without_provenance_mut(key | T::KIND << KIND_SHIFT)),
        None => {
            Err(invalid(format!("this thread has no room for {} more; destroy those not needed", T::NAME)))
        }
    }
}

/// What is behind a handle, which stays while the result lives.
pub(crate) fn get<T: Handled>(handle: *const T::Handle) -> Outcome<Entry<'static, T, Keys>> {
    T::table().get(key::<T>(handle)?).ok_or_else(gone::<T>)
}

/// The same, to be kept.
pub(crate) fn get_owned<T: Handled>(handle: *const T::Handle) -> Outcome<OwnedEntry<T, Keys>> {
    T::table().clone().get_owned(key::<T>(handle)?).ok_or_else(gone::<T>)
}

/// Ends a handle. What is behind it is dropped when nobody uses it any more.
pub(crate) fn remove<T: Handled>(handle: *const T::Handle) -> Outcome {
    if T::table().remove(key::<T>(handle)?) { Ok(()) } else { Err(gone::<T>()) }
}

fn key<T: Handled>(handle: *const T::Handle) -> Outcome<usize> {
    let key = handle.addr();
    if key >> KIND_SHIFT == T::KIND {
        return Ok(key & !(T::KIND << KIND_SHIFT));
    }
    let name = T::NAME;
    Err(invalid(match key {
        0 => format!("NULL instead of {name}; was the status of the call that makes it checked?"),
        _ => format!("this is no handle of {name}; pass the pointer that bips gave, as it is"),
    }))
}

fn gone<T: Handled>() -> crate::status::Failure {
    invalid(format!("this handle of {} is not valid any more: it was destroyed, or given back", T::NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Cat(u32);
    struct CatHandle;
    handled!(Cat, CatHandle, 3, "a cat");

    #[test]
    fn a_handle_is_good_until_it_is_removed() {
        let first = insert(Cat(1)).ok().unwrap();
        let second = insert(Cat(2)).ok().unwrap();
        assert_eq!((get::<Cat>(first).ok().unwrap().0, get::<Cat>(second).ok().unwrap().0), (1, 2));
        assert!(remove::<Cat>(first).is_ok());
        assert!(remove::<Cat>(first).is_err());
        assert!(get::<Cat>(first).is_err());
        let third = insert(Cat(3)).ok().unwrap();
        assert_ne!(first, third);
        assert!(get::<Cat>(first).is_err(), "its place was used again");
        assert_eq!(get::<Cat>(third).ok().unwrap().0, 3);
    }

    #[test]
    fn who_uses_it_keeps_it() {
        let cat = insert(Cat(7)).ok().unwrap();
        let (used, kept) = (get::<Cat>(cat).ok().unwrap(), get_owned::<Cat>(cat).ok().unwrap());
        assert!(remove::<Cat>(cat).is_ok());
        assert!(get::<Cat>(cat).is_err());
        assert_eq!((used.0, kept.0), (7, 7));
    }

    #[test]
    fn any_number_may_come() {
        let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..1_000_000 {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            let number = if round % 2 == 0 { noise as usize } else { 3 << KIND_SHIFT | noise as usize >> 4 };
            let _ = get::<Cat>(std::ptr::without_provenance(number)).map(|cat| assert!(cat.0 < 9));
        }
    }
}
