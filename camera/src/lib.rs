//! Cameras (V4L2) that write straight into the slots of a bips stream.
//!
//! A [`Device`] is brought into a mode; [`Layout::of`] says how its frames lie in a slot, and with that the stream is made.
//! A [`Queue`] gives leased slots to the driver and takes them back filled: the camera's DMA, or its driver, is the only one
//! that writes them. Where a driver can't do that it is refused, with what could be used instead; nothing is copied.
//!
//! The kernel's interface is declared here, after its documentation (ADR 15).

#![deny(unsafe_code, reason = "only abi, sys, and what hands memory to a driver may, and say so")]

mod abi;
mod code;
mod control;
mod device;
mod heaps;
mod layout;
mod lend;
mod offers;
mod queue;
mod sys;
mod target;
mod trial;

pub use code::Code;
pub use control::ControlInfo;
pub use device::{Device, MemoryPlane, Mode};
pub use layout::Layout;
pub use lend::Lent;
pub use offers::{Offer, Sizes};
pub use queue::{Filled, Next, Queue, Ways};
pub use target::{Place, Slot, Slots, Target, Way};
pub use trial::CameraTrial;
