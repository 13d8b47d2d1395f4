//! Every memory kind this build has, in one registry. The CLI, Python, C and GStreamer use this one.

mod doctor;

pub use doctor::{Check, Report, Status, doctor};

use bips::Registry;

/// All memory kinds, in the order in which `auto` prefers them.
pub fn registry() -> Registry {
    let registry = Registry::new();
    #[cfg(feature = "memfd")]
    let registry = registry.with(std::sync::Arc::new(bips_memfd::Memfd::new()));
    registry
}
