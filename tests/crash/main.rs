//! Peers that are killed or stopped, at any moment: nobody else loses anything.

#![cfg(not(any(bips_loom, bips_shuttle)))]

#[path = "../common/mod.rs"]
mod common;
mod consumers;
mod forks;
mod leftovers;
mod producers;
mod watched;

const MIB: u64 = 1 << 20;

#[test]
fn child_process() {
    common::process::child(
        &[consumers::ROLES.as_slice(), &producers::ROLES, &forks::ROLES, &watched::ROLES].concat(),
    );
}
