//! How a consumer finds a producer, is seated, and how both learn that the other is gone.

mod client;
mod codec;
mod message;
mod rendezvous;
mod server;

pub(crate) use client::{Attachment, BOARD_BYTES, SEAT_BYTES, attach};
pub use client::{query, streams};
pub use message::{ConsumerInfo, StreamInfo};
pub(crate) use message::{MemoryEntry, SlotEntry, Welcome};
pub(crate) use rendezvous::Claim;
pub(crate) use server::{Host, PollPort, Server};
