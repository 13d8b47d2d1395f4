//! Peers that break every rule, on either side. A consumer wastes its own seat, a producer its own frames; nobody else
//! notices more than the time that takes.
//!
//! `cargo xtask test hostile` runs this with the scribbler, whose numbers it shows; see `scribbler.rs` for a long run.

#![cfg(not(bips_loom))]

mod bells;
#[path = "../common/mod.rs"]
mod common;
mod flow;
mod futex;
mod pages;
mod scribbler;
mod seats;
mod sockets;

#[test]
fn child_process() {
    let roles: Vec<_> = pages::ROLES.into_iter().chain(scribbler::ROLES).collect();
    common::process::child(&roles);
}
