//! Buffers for processes that may not open a device node: a broker that may makes them and hands them over.
//!
//! A [`Broker`] answers under a name in the runtime directory; [`Brokered`] (kind `broker`) asks it when a pool is made, and
//! never again. The broker keeps no descriptor of what it gave away, so nobody needs it to live on. ADR 17.

mod client;
mod ledger;
mod message;
mod server;
mod source;
#[cfg(test)]
mod tests;

pub use client::Brokered;
pub use ledger::Limits;
pub use server::{Broker, OnServed, Served};
pub use source::{Devices, Source};

/// Under which it listens.
const SERVICE: &str = "broker";
