//! Peers that break every rule, on either side. A consumer wastes its own seat, a producer its own frames; nobody else
//! notices more than the time that takes.
//!
//! `cargo xtask test hostile` runs this with the scribbler, whose numbers it shows; see `scribbler/` for a long run.

#![cfg(not(any(bips_loom, bips_shuttle)))]

mod bells;
mod boards;
#[path = "../common/mod.rs"]
mod common;
mod flow;
mod futex;
mod impostors;
mod pages;
mod producers;
mod scribbler;
mod seats;
mod sockets;

#[test]
fn child_process() {
    let roles =
        [pages::ROLES.as_slice(), &producers::ROLES, &impostors::ROLES, &boards::ROLES, &scribbler::ROLES]
            .concat();
    common::process::child(&roles);
}
