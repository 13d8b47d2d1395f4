//! bips for C: the functions and structures of `include/bips.h`, which is made from these files.
//!
//! A function takes and checks what C passes (`args`), does its work inside `status::call`, which keeps panics and
//! errors on this side, and answers with a [`Status`]. A handle is a key into a table (`handle`): what is none, or was
//! one once, is an error and never followed.

#![allow(clippy::missing_safety_doc, reason = "the header's first lines say it for all functions")]

mod args;
mod consumer;
mod content;
mod doctor;
mod fence;
mod frame;
mod handle;
mod info;
mod options;
mod producer;
mod status;
mod tensor;
mod view;
mod writable_frame;

pub use consumer::*;
pub use content::*;
pub use doctor::*;
pub use fence::*;
pub use frame::*;
pub use info::*;
pub use options::*;
pub use producer::*;
pub use status::*;
pub use tensor::*;
pub use view::*;
pub use writable_frame::*;
