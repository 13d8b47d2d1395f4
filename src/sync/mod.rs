//! Where the signaler gets its atomics: `std` in a program, `loom` in the model checker.
//!
//! With `--cfg bips_loom` the very same algorithm runs over loom's types, which explore every interleaving.
//! [`order`] names each memory ordering once, so that the code, the document and the lane that weakens each
//! ordering on purpose all speak of the same thing.

pub(crate) mod order;
mod word;

#[cfg(bips_loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64};
#[cfg(not(bips_loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64};

pub(crate) use word::Word;
