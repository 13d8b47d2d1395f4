//! How a consumer finds a producer, is seated, and how both learn that the other is gone.

mod asking;
mod attachment;
mod codec;
mod listing;
mod message;
mod obituary;
mod pollable;
mod rendezvous;
mod server;
mod service;

pub(crate) use asking::{ANSWER, Patience};
pub(crate) use attachment::{Attachment, BOARD_BYTES, Joining, SEAT_BYTES};
pub use listing::{query, streams};
pub use message::{ConsumerInfo, StreamInfo};
pub(crate) use message::{MAX_LABEL, MAX_WANTED, SlotEntry, Welcome};
#[cfg(feature = "testing")]
pub(crate) use message::{Reply, Request};
pub(crate) use pollable::Pollable;
pub(crate) use rendezvous::Claim;
#[cfg(feature = "testing")]
pub(crate) use rendezvous::holder_in;
pub(crate) use server::{Cleanup, Contact, Host, Server};
pub use service::{Line, Service};
