//! Tensors over memory that somebody keeps, and DLPack's C structures made from them.
//!
//! What a [`Tensor`] is generic over keeps its memory valid: the lease of a frame, a slot being written. Packages that
//! hand frames to frameworks (Python, C) are built on this.

pub mod abi;
mod managed;
mod tensor;

pub use managed::{to_legacy, to_versioned};
pub use tensor::{ALIGNMENT, Lines, MAX_DIMS, Tensor};
