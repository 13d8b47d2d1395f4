//! Where the signaler gets its atomics: `std` in a program, `loom` or `shuttle` in a model checker.
//!
//! With `--cfg bips_loom` the very same algorithm runs over loom's types, which explore every interleaving of little;
//! with `--cfg bips_shuttle` over shuttle's, which draw interleavings of much.
//! [`order`] names each memory ordering once, so that the code, the document and the lane that weakens each
//! ordering on purpose all speak of the same thing.

pub(crate) mod order;
mod word;

#[cfg(bips_loom)]
pub(crate) use loom as checker;
#[cfg(bips_shuttle)]
pub(crate) use shuttle as checker;

#[cfg(any(bips_loom, bips_shuttle))]
use checker::sync::atomic;
#[cfg(not(any(bips_loom, bips_shuttle)))]
use std::sync::atomic;

pub(crate) use atomic::{AtomicU32, AtomicU64};

pub(crate) use word::Word;
