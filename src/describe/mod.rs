//! What lies in a slot: element type, shape, strides, image format, planes, metadata.

mod content;
mod dtype;
mod image;
mod wire;

pub use content::{Content, Description, MAX_DIMS, MAX_METADATA, Shape};
pub use dtype::DType;
pub use image::{Fourcc, MAX_PLANES, Plane};
pub(crate) use wire::{Described, WORDS as DESCRIPTION_WORDS};
